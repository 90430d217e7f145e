"""Values, each alone: what TRL, transformers and torch punish late, silently or not at all."""

import dataclasses
import difflib
import enum
import math
import numbers
import reprlib
import typing
from collections.abc import Sequence
from types import NoneType, UnionType

from grpo_nb.batchflow import arithmetic
from grpo_nb.preflight import bounds, evaluations, keys, rehearsals, rules

LENGTH = "max_completion_length"
KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text", list: "a list", dict: "a dict"}

PATHS = ("deepspeed", "accelerator_config", "fsdp_config")  # a dict, its JSON, or the name of a file
STRICT = ("use_cache", "dataloader_drop_last")  # 0 is no False there
POINTS = ("temperature", "repetition_penalty", "adam_beta1", "adam_beta2")  # 2 is no 2.0 there, though 1 is 1.0

# Settings that TRL types as text and compares in mid-run, see `choices`.
CHOICES = {
    "scale_rewards": ("group", "batch", "none", True, False),
    "importance_sampling_level": ("token", "sequence"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "vllm_mode": ("colocate", "server"),
    "vllm_importance_sampling_mode": ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}
# Of PEFT's LoraConfig, which takes any number.
LORA = {
    "r": bounds.Bound(at_least=1),
    "lora_alpha": bounds.Bound(above=0),
    "lora_dropout": bounds.Bound(at_least=0, below=1),
}


class Setting(typing.NamedTuple):
    """A field of a config class: the types that it may have, a value that is always legal, and its bound."""

    name: str
    kinds: tuple
    default: object
    bound: bounds.Bound | None


def check_values(
    settings: dict, config_class: type, *, context: int | None = None, has_eval_data: bool = False
) -> None:
    """Refuse values that cannot be meant.

    Args:
        settings: keys of `config_class`, as `check_keys` left them.
        config_class: `trl.GRPOConfig` or `SFTConfig`; its annotations say which kind of value each key takes.
        context: tokens that the policy can hold; None if unknown.
        has_eval_data: whether the trainer will have rows to evaluate on.
    Raises: ValueError for the first of them, with the nearest valid value.
    """
    fields = dataclasses.fields(config_class)
    defaults = {field.name: keys.default(field) for field in fields}
    samples = LENGTH in defaults  # GRPO does, SFT does not
    if samples:
        settings = {LENGTH: defaults[LENGTH], **settings}
    defaults["learning_rate"] = 1e-5  # for LoRA; TRL's own default, 1e-6, is for all weights
    defaults |= dict.fromkeys(rules.OFF, False)  # the trainer turns the NaN filter off, which TRL has on
    ranges = dict(bounds.RANGES)
    if context is not None and samples:
        why = f"to leave room for the prompt in max_seq_length = {context}"
        ranges[LENGTH] = bounds.Bound(at_least=1, below=context, why=why)
        defaults[LENGTH] = min(defaults[LENGTH], context // 2)
    known = {f.name: Setting(f.name, _kinds(f.type), defaults[f.name], ranges.get(f.name)) for f in fields}
    _check_left_out(settings)
    for key, value in settings.items():
        _check_plain(key, value)
        if not samples or key not in arithmetic.KEYS:  # `arithmetic` has judged those
            _check_kind(known[key], value)
        _check_choice(known[key], value)
        _check_range(known[key], value)
    full = keys.completed({**defaults, **settings}, config_class)
    if samples:
        rules.check_together(full)
    evaluations.check_strategy(full, has_eval_data=has_eval_data)
    rehearsals.check_taken(settings, config_class)


def _kinds(annotation) -> tuple:
    """The alternatives of an annotation: those of `int | None`, and `list[str]` alone."""
    is_union = typing.get_origin(annotation) in (typing.Union, UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _check_left_out(settings: dict) -> None:
    for key in ("output_dir", "run_name"):
        if key in settings:
            raise ValueError(
                f"{key} must be left to the run (got {reprlib.repr(settings[key])}). Drop it; "
                "tracking.Run(name, profile) names the folder, and GRPO_NB_OUTPUTS the disk."
            )
    if settings.get("model_init_kwargs") is not None:
        raise ValueError(
            "model_init_kwargs must be None, for the policy is loaded before there is a trainer "
            f"(got {reprlib.repr(settings['model_init_kwargs'])}). Try model_init_kwargs = None."
        )
    if settings.get("deepspeed") is not None and not rules.has_package("deepspeed"):
        raise ValueError(
            f"deepspeed must find the package deepspeed (got {reprlib.repr(settings['deepspeed'])}). "
            "Try deepspeed = None."
        )
    order, steps = [key for key in settings if key in ("max_steps", "num_train_epochs")], settings.get("max_steps")
    if order == ["max_steps", "num_train_epochs"] and arithmetic.is_count(steps):  # else a limit was put to epochs
        raise ValueError(
            "max_steps must be -1 where num_train_epochs is set after it, or nobody counts epochs "
            f"(got {steps} and {reprlib.repr(settings['num_train_epochs'])}). Try max_steps = -1."
        )


def _check_plain(key: str, value) -> None:
    """Refuse numpy's numbers, which neither a seed, a sampler nor JSON takes."""
    if type(value).__module__ == "numpy" and getattr(value, "ndim", None) == 0:
        raise ValueError(f"{key} must be a value of Python's (got {value!r}). Try {key} = {value.item()!r}.")


def _check_kind(setting: Setting, value) -> None:
    """Refuse text where a number must be, a fraction where a count must be, None where nothing takes its place."""
    if choices(setting.name):
        return  # judged there
    kinds = [typing.get_origin(kind) or kind for kind in setting.kinds]
    wanted = [kind for kind in kinds if kind in KINDS]
    if value is None:
        is_right = NoneType in kinds and (setting.default is None or setting.name == rules.HIGH)
    else:
        others = [kind for kind in kinds if kind not in KINDS]
        if dict in wanted and setting.name not in PATHS:
            wanted = [kind for kind in wanted if kind is not str]
        is_json = isinstance(value, str) and dict in wanted and value.startswith("{")
        is_right = (
            is_json or _is_one_of(value, wanted) or any(not isinstance(k, type) or isinstance(value, k) for k in others)
        )
    if not is_right or (setting.name in STRICT and not isinstance(value, bool)):
        kind = "" if value is None else f", {type(value).__name__}"
        seen = "a secret" if setting.name.endswith("_token") and value is not None else reprlib.repr(value)
        raise ValueError(
            f"{setting.name} must be {' or '.join(KINDS[kind] for kind in wanted) or 'given'} "
            f"(got {seen}{kind}). Try {setting.name} = {_meant(value, wanted, setting)!r}."
        )


def _is_one_of(value, kinds: Sequence[type]) -> bool:
    if isinstance(value, bool):
        return bool in kinds
    if isinstance(value, numbers.Integral):
        return int in kinds or float in kinds or (bool in kinds and value in (0, 1))
    if isinstance(value, numbers.Real):
        return float in kinds
    return any(isinstance(value, (list, tuple) if kind is list else kind) for kind in kinds)


def _meant(value, kinds: Sequence[type], setting: Setting):
    """The value that was probably meant: "1e-5" is 1e-05, 4.0 is 4; the default where that cannot be said."""
    words = str(value).strip().lower()
    if bool in kinds:
        is_free = setting.name not in (*rules.OFF, *evaluations.QUIET)
        return words == "true" if words in ("true", "false") and is_free else setting.default
    if not {int, float} & {*kinds}:
        return setting.default
    try:
        number = float(words) if float in kinds else round(float(words))
    except (ValueError, OverflowError):
        return _nearest(setting)
    return number if setting.bound is None or setting.bound.holds(number) else _nearest(setting)


def _check_choice(setting: Setting, value) -> None:
    """Refuse names that are none of those which TRL or transformers knows, with the nearest that is."""
    members = [kind for kind in setting.kinds if isinstance(kind, type) and issubclass(kind, enum.Enum)]
    known = choices(setting.name) or [member.value for kind in members for member in kind]
    if not known or isinstance(value, enum.Enum) or (isinstance(value, str | int) and value in known):
        return
    usable = [
        c
        for c in known
        if isinstance(c, str) and (rules.has_package("bitsandbytes") or not rules.needs_bitsandbytes(c))
    ]
    near = [*difflib.get_close_matches(str(value)[:99], usable, n=1), setting.default][0]
    among = f"{len(known)} names that transformers knows" if members else ", ".join(map(str, known))
    raise ValueError(
        f"{setting.name} must be one of {among} (got {reprlib.repr(value)}). Try {setting.name} = {near!r}."
    )


def choices(name: str) -> tuple:
    """The names that a setting may be; empty where it is no name, or where the config class has an enumeration."""
    if name == "loss_type":
        from grpo_nb import losses  # loads torch

        return losses.LOSS_TYPES
    return CHOICES.get(name, ())


def _check_range(setting: Setting, value) -> None:
    if not isinstance(value, numbers.Real):
        return
    if not bounds.fits(value) and (isinstance(value, numbers.Integral) or setting.bound is None):
        raise ValueError(
            f"{setting.name} must be a finite number of at most 64 bits (got {reprlib.repr(value)}). "
            f"Try {setting.name} = {_nearest(setting)!r}."
        )
    if setting.bound is None:
        return
    if not setting.bound.holds(value):
        raise ValueError(
            f"{setting.name} must be {setting.bound} (got {value}). Try {setting.name} = {_nearest(setting)!r}."
        )
    if setting.name in POINTS and isinstance(value, int) and value != 1:
        raise ValueError(
            f"{setting.name} must be written with a point, or it is refused in the first step (got {value}). "
            f"Try {setting.name} = {float(value)}."
        )
    if setting.name in ("logging_steps", "save_steps", "eval_steps") and value > 1 and value != int(value):
        raise ValueError(
            f"{setting.name} must be whole, or a share below 1 (got {value}). Try {setting.name} = {round(value)}."
        )


def _nearest(setting: Setting):
    """TRL's default; where that is None, the least value that the key's bound allows."""
    return setting.bound.at_least if setting.default is None and setting.bound else setting.default


def check_lora(lora: dict, *, is_unsloths: bool = False) -> None:
    """Refuse settings of an adapter that cannot be meant.

    Args:
        lora: of a profile.
        is_unsloths: whether Unsloth makes it, which takes keys of its own.
    Raises: ValueError for the first of them, with a value that is legal.
    """
    from peft import LoraConfig

    if not is_unsloths:
        keys.check_keys(lora, LoraConfig)
    named = lora.get("target_modules")  # without it PEFT chooses, by the model's name
    is_list = isinstance(named, str | list | tuple)
    if not named or not is_list or not all(isinstance(name, str) for name in named):
        raise ValueError(
            f"target_modules must name the layers to adapt (got {named!r}). Try target_modules = 'all-linear'."
        )
    kinds = typing.get_type_hints(LoraConfig)
    for field in dataclasses.fields(LoraConfig):
        if field.name not in lora:
            continue
        value, names = lora[field.name], typing.get_args(kinds[field.name])
        if typing.get_origin(kinds[field.name]) is typing.Literal and value not in names:
            among = ", ".join(map(repr, names))
            raise ValueError(
                f"{field.name} must be one of {among} (got {value!r}). Try {field.name} = {field.default!r}."
            )
        setting = Setting(field.name, _kinds(kinds[field.name]), keys.default(field), LORA.get(field.name))
        _check_kind(setting, value)
        _check_range(setting, value)
    if "task_type" in lora:
        raise ValueError(f"task_type must be left to models.add_lora (got {lora['task_type']!r}). Drop task_type.")


def check_weights(weights: Sequence[float] | None, rewards: int) -> None:
    """Refuse reward weights that are not one finite number for each reward, or all zero."""
    if weights is None:
        return
    is_list = isinstance(weights, Sequence) and not isinstance(weights, str)
    if not is_list or len(weights) != rewards or not all(_is_one_of(w, [float]) and math.isfinite(w) for w in weights):
        raise ValueError(
            f"reward_weights must be one finite number for each of {rewards} reward{'s' if rewards > 1 else ''} "
            f"(got {weights!r}). Try reward_weights = {[1.0] * rewards}."
        )
    if not any(weights):
        raise ValueError(
            f"reward_weights must not all be 0: no completion would be better than another (got {weights!r}). "
            f"Try reward_weights = {[1.0] * rewards}."
        )
