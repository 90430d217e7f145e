"""Values, each alone: what TRL, transformers and torch punish late, silently or not at all."""

import dataclasses
import difflib
import enum
import math
import numbers
import operator
import typing
from collections.abc import Sequence
from types import NoneType, UnionType

from grpo_nb.preflight import processes, rules

# What a number must be → the keys of which that holds.
BOUNDS = {
    "above 0 and at most 0.01": "learning_rate",
    "above 0": "temperature epsilon epsilon_high delta repetition_penalty num_train_epochs logging_steps save_steps "
    "eval_steps off_policy_mask_threshold sapo_temperature_neg sapo_temperature_pos",
    "above 0 and at most 1": "top_p top_entropy_quantile vllm_gpu_memory_utilization",
    "at least 0": "beta weight_decay max_grad_norm warmup_steps adam_epsilon",
    "at least 0 and at most 1": "min_p ref_model_mixup_alpha",
    "at least 0 and below 1": "adam_beta1 adam_beta2",
    "at least 0 and at most 4294967295": "seed data_seed",
    "at least 1": "max_completion_length num_iterations ref_model_sync_steps",
    "at least 2, or the old checkpoint is deleted before the new one is sealed": "save_total_limit",
    "-1 or at least 1, for 0 means num_train_epochs": "max_steps",
    "0 or at least 2, for with 1 all completions of a prompt are the same": "top_k",
}
RANGES = {key: rule for rule, keys in BOUNDS.items() for key in keys.split()}
LENGTH = "max_completion_length"
COMPARE = {"above": operator.gt, "at least": operator.ge, "at most": operator.le, "below": operator.lt, "": operator.eq}
KINDS = {int: "a whole number", float: "a number", bool: "True or False", str: "text", list: "a list", dict: "a dict"}

# Settings that TRL types as text and compares in mid-run; the enumerations are read from the config class.
CHOICES = {
    "loss_type": ("grpo", "dr_grpo", "dapo", "bnpo", "cispo", "sapo", "luspo", "vespo"),
    "scale_rewards": ("group", "batch", "none", True, False),
    "importance_sampling_level": ("token", "sequence"),
    "multi_objective_aggregation": ("sum_then_normalize", "normalize_then_sum"),
    "vllm_mode": ("colocate", "server"),
    "vllm_importance_sampling_mode": ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask"),
}


class Setting(typing.NamedTuple):
    """A field of a config class: the types that it may have, a value that is always legal, and its rule in words."""

    name: str
    kinds: tuple
    default: object
    rule: str | None


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
    defaults = {f.name: f.default if f.default_factory is dataclasses.MISSING else f.default_factory() for f in fields}
    samples = LENGTH in defaults  # GRPO does, SFT does not
    if samples:
        settings = {LENGTH: defaults[LENGTH], **settings}
    defaults["learning_rate"] = 1e-5  # for LoRA; TRL's own default, 1e-6, is for all weights
    defaults |= dict.fromkeys(rules.OFF, False)  # the trainer turns the NaN filter off, which TRL has on
    bounds = dict(RANGES)
    if context is not None and samples:
        bounds[LENGTH] = f"at least 1 and below {context}, to leave room for the prompt in max_seq_length = {context}"
        defaults[LENGTH] = min(defaults[LENGTH], context // 2)
    known = {f.name: Setting(f.name, _kinds(f.type), defaults[f.name], bounds.get(f.name)) for f in fields}
    _check_left_to_the_run(settings)
    for key, value in settings.items():
        _check_kind(known[key], value)
        _check_choice(known[key], value)
        _check_range(known[key], value)
    if samples:
        full = {key: v.value if isinstance(v, enum.Enum) else v for key, v in {**defaults, **settings}.items()}
        rules.check_together(full, has_eval_data=has_eval_data)


def _kinds(annotation) -> tuple:
    """The alternatives of an annotation: those of `int | None`, and `list[str]` alone."""
    is_union = typing.get_origin(annotation) in (typing.Union, UnionType)
    return typing.get_args(annotation) if is_union else (annotation,)


def _check_left_to_the_run(settings: dict) -> None:
    for key in ("output_dir", "run_name"):
        if key in settings:
            raise ValueError(
                f"{key} must be left to the run (got {settings[key]!r}). Drop it; tracking.Run(name, profile) names "
                "the folder, and GRPO_NB_OUTPUTS the disk."
            )


def _check_kind(setting: Setting, value) -> None:
    """Refuse text where a number must be, a fraction where a count must be, None where nothing takes its place."""
    if setting.name in CHOICES or setting.name in processes.KEYS:
        return  # judged there
    kinds = [typing.get_origin(kind) or kind for kind in setting.kinds]
    wanted = [kind for kind in kinds if kind in KINDS]
    if value is None:
        is_right = NoneType in kinds and (setting.default is None or setting.name == rules.HIGH)
    else:
        others = [kind for kind in kinds if kind not in KINDS]
        is_right = _is_one_of(value, wanted) or any(not isinstance(k, type) or isinstance(value, k) for k in others)
    if not is_right:
        kind = "" if value is None else f", {type(value).__name__}"
        raise ValueError(
            f"{setting.name} must be {' or '.join(KINDS[kind] for kind in wanted) or 'given'} (got {value!r}{kind}). "
            f"Try {setting.name} = {_meant(value, wanted, setting)!r}."
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
        return words == "true" if words in ("true", "false") and setting.name not in rules.OFF else setting.default
    if not {int, float} & {*kinds}:
        return setting.default
    try:
        number = float(words) if float in kinds else round(float(words))
    except (ValueError, OverflowError):
        return _nearest(setting)
    return number if _holds(number, setting.rule) else _nearest(setting)


def _check_choice(setting: Setting, value) -> None:
    """Refuse names that are none of those which TRL or transformers knows, with the nearest that is."""
    members = [kind for kind in setting.kinds if isinstance(kind, type) and issubclass(kind, enum.Enum)]
    choices = CHOICES.get(setting.name) or [member.value for kind in members for member in kind]
    if not choices or value in choices or isinstance(value, enum.Enum):
        return
    usable = [
        c
        for c in choices
        if isinstance(c, str) and (rules.has_package("bitsandbytes") or not rules.needs_bitsandbytes(c))
    ]
    near = [*difflib.get_close_matches(str(value), usable, n=1), setting.default][0]
    among = ", ".join(map(str, choices)) if len(choices) < 10 else f"{len(choices)} names that transformers knows"
    raise ValueError(f"{setting.name} must be one of {among} (got {value!r}). Try {setting.name} = {near!r}.")


def _check_range(setting: Setting, value) -> None:
    if value is None or setting.rule is None:
        return
    if not _holds(value, setting.rule):
        raise ValueError(
            f"{setting.name} must be {setting.rule} (got {value}). Try {setting.name} = {_nearest(setting)!r}."
        )
    if setting.name in ("logging_steps", "save_steps", "eval_steps") and value > 1 and value != int(value):
        raise ValueError(
            f"{setting.name} must be whole, or a share below 1 (got {value}). Try {setting.name} = {round(value)}."
        )


def _holds(value: float, rule: str | None) -> bool:
    """Whether a number obeys a rule in words.

    >>> _holds(0.5, "above 0 and at most 1"), _holds(0, "-1 or at least 1"), _holds(float("nan"), "at least 0")
    (True, False, False)
    """
    if rule is None:
        return True
    options = [[clause.rpartition(" ") for clause in o.split(" and ")] for o in rule.partition(",")[0].split(" or ")]
    return math.isfinite(value) and any(
        all(COMPARE[compare](value, float(bound)) for compare, _, bound in option) for option in options
    )


def _nearest(setting: Setting):
    """TRL's default; where that is None, the least value that the key's rule allows."""
    least = (setting.rule or "").partition(",")[0].rpartition("at least ")[2]
    return int(least) if setting.default is None and least.isdigit() else setting.default


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
