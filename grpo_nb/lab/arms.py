"""An arm of an experiment: a dict of differences from a profile → the run that it asks for, and a name for that run."""

import copy
import dataclasses
import hashlib
import json
import re
import reprlib
import sys
from collections.abc import Callable, Mapping, Sequence
from types import SimpleNamespace

from grpo_nb import profiles, rewards, train
from grpo_nb.batchflow import limits
from grpo_nb.preflight import keys
from grpo_nb.rewards import contract
from grpo_nb.runs import fingerprints

OWN = ("rewards", "loss", "num_train", "lora", "kernels", "dtype")  # keys of an arm that are none of GRPOConfig
DTYPES = ("float32", "bfloat16", "float16")
ELSEWHERE = {  # what the bench itself decides: key → where
    "seed": "seeds=(0, 1) in the call",
    "output_dir": "GRPO_NB_OUTPUTS",
    "eval_strategy": "nowhere: held-out problems are asked at the end",
}
OF_NO_EFFECT = tuple(start for start in fingerprints.OF_NO_EFFECT if start != "save_")  # each step goes into the curve
# What a policy's answers depend on, besides its settings; see `fingerprints.sources`.
SOURCES = "advantages losses kernels rewards data models templates guards train evaluate lab".split()


@dataclasses.dataclass
class Arm:
    """One way to train.

    Attributes:
        label: its differences from the profile, in words.
        profile: the profile with the differences in it.
        start: the profile as it was: the warm start's.
        rows: training rows, as `data.grpo_rows` makes them.
        dtype: of all weights while it trains, Adam's moments included. Where it is coarser than float32, TRL's own head
            scores the tokens, unless `kernels` is given.
    """

    label: str
    profile: SimpleNamespace
    start: SimpleNamespace
    rows: Sequence[dict]
    rewards: list[Callable]
    loss: Callable | None
    dtype: str

    def asked(self, seed: int) -> str:
        """A digest of what is asked for: equal for equal settings, rows, rewards, start and seed, on any machine.

        TRL's defaults count as left out. Functions of this package count by name, the reader's own by their code.
        """
        sections = {key: vars(self.profile)[key] for key in ("lora", "kernels", "evaluate")}
        start = {key: vars(self.start)[key] for key in ("task", "policy", "lora", "sft")}
        told = [*map(_told, self.rewards), None if self.loss is None else _told(self.loss)]
        rows = hashlib.sha256(json.dumps(list(self.rows)).encode()).hexdigest()
        return _digest([_settings(self.profile.grpo), sections, start, told, rows, self.dtype, seed])

    def key(self, seed: int) -> str:
        """A digest of all that the outcome depends on: what is asked, libraries, code, and the warm start."""
        code = [fingerprints.code_of(f) for f in [*self.rewards, *([self.loss] if self.loss else [])]]
        start = train.warm_start_path(self.start, train.trace_rows(self.start)).name
        return _digest([self.asked(seed), fingerprints.versions(), fingerprints.sources(*SOURCES), code, start])

    def check(self, policy=None, tokenizer=None) -> None:
        """Refuse a run that cannot be meant.

        Args:
            policy, tokenizer: where there are some already; with them the trainer is assembled, and does not train.
        Raises: ValueError, which names the arm.
        """
        try:
            if policy is None:
                train.check_grpo(self.rows, self.rewards, self.profile, loss=self.loss)
            else:
                train.grpo_trainer(policy, tokenizer, self.rows, self.rewards, self.profile, loss=self.loss)
        except ValueError as error:
            raise ValueError(f"arm {self.label}: {error}") from error


def read(given: Mapping, everywhere: Mapping, start: SimpleNamespace, rows: Sequence[dict]) -> Arm:
    """The arm that a dict of differences describes.

    Args:
        given: keys of `GRPOConfig`, and those of `OWN`.
        everywhere: the same, of all arms; the arm's own come first.
        start: the profile.
        rows: all training rows; `num_train` takes the first of them.
    Raises: ValueError for what is no dict, and for a value of `OWN` that cannot be meant.
    """
    if not isinstance(given, Mapping) or not all(isinstance(key, str) for key in given):
        raise ValueError(
            f"an arm must be a dict of settings (got {given!r:.80}). Write {{'num_generations': 4}}, or {{}} for the "
            "profile as it is."
        )
    name, given = label(given), {**everywhere, **given}
    for key in given:
        if key in ELSEWHERE or key.startswith(OF_NO_EFFECT):
            where = ELSEWHERE.get(key, "nowhere: it changes nothing that is learned, and the bench shows every step")
            raise ValueError(f"an arm must leave out {key} (got {_word(given[key])}). It is set elsewhere: {where}.")
    own = {key: given[key] for key in OWN if key in given}
    profile = copy.deepcopy(start)
    profile.grpo.update({key: value for key, value in given.items() if key not in OWN})
    for section in ("lora", "kernels"):
        if not isinstance(own.get(section, {}), Mapping):
            raise ValueError(
                f"{section} must be a dict of settings (got {own[section]!r:.80}). Try {example(section)}."
            )
        vars(profile)[section].update(own.get(section, {}))
    limits.check_whole(num_train=(many := own.get("num_train", len(rows))))
    if many > len(rows):
        raise ValueError(f"num_train must be at most the {len(rows)} rows of the task (got {many}). Try {len(rows)}.")
    if not isinstance(dtype := own.get("dtype", "float32"), str) or dtype not in DTYPES:
        raise ValueError(f"dtype must be one of {', '.join(DTYPES)} (got {dtype!r:.40}). Try 'bfloat16'.")
    if (dtype != "float32" or profile.grpo.get("bf16")) and "kernels" not in own and any(profile.kernels.values()):
        profile.kernels.update(linear_head=False, shared_prefix=False)  # these are held to the rounding of float32
    scored = own.get("rewards", list(rewards.FOUR))
    if callable(scored) or isinstance(scored, str) or not isinstance(scored, Sequence):
        raise ValueError(f"rewards must be a list of functions (got {scored!r:.80}). Write [f], in brackets.")
    return Arm(name, profile, start, rows[:many], list(scored), own.get("loss"), dtype)


def example(section: str) -> dict:
    """A difference that may be meant.

    >>> example("lora")
    {'lora': {'r': 8}}
    """
    return {section: {"lora": {"r": 8}, "kernels": {"own_loss": False}}[section]}


def label(given: Mapping) -> str:
    """A dict of differences in words; functions by their names.

    >>> label({"num_generations": 4, "rewards": [max, min]}), label({})
    ('num_generations=4, rewards=max+min', 'the profile')
    """
    return ", ".join(f"{key}={_word(value)}" for key, value in given.items()) or "the profile"


def _word(value) -> str:
    if isinstance(value, Mapping):
        return "(" + (", ".join(f"{key}={_short(item)}" for key, item in value.items()) or "the profile") + ")"
    if isinstance(value, (list, tuple)):
        return "+".join(map(_short, value))
    return _short(value)


def _short(value) -> str:
    """One value in a few letters, whatever it is: a function by its name, which tells no address."""
    if isinstance(value, float):
        return f"{value:g}"
    if callable(value):
        return contract.name_of(value)
    return value[:40] if isinstance(value, str) else reprlib.repr(value)[:40]


def _settings(grpo: Mapping) -> dict:
    """The settings that change what is learned and are not TRL's defaults; whole numbers are ints, as 0.0 is 0."""
    from trl import GRPOConfig

    usual = keys.completed({}, GRPOConfig)
    kept = {k: v for k, v in grpo.items() if not k.startswith(fingerprints.OF_NO_EFFECT)}
    different = {k: v for k, v in kept.items() if k not in usual or usual[k] != v}
    return {k: int(v) if isinstance(v, float) and v.is_integer() else v for k, v in different.items()}


def _told(function: Callable) -> str:
    """A function of this package by its name, which stays the same from Python to Python; others with their code."""
    module, name = getattr(function, "__module__", ""), getattr(function, "__qualname__", type(function).__name__)
    if re.match(r"grpo_nb\.", module or "") and getattr(sys.modules[module], name, None) is function:
        return f"{module}.{name}"
    return f"{module}.{name} {fingerprints.code_of(function)}"


def _digest(plain: Sequence) -> str:
    text = json.dumps(plain, sort_keys=True, default=repr)
    return hashlib.sha256(text.encode("utf8", "surrogatepass")).hexdigest()[:12]


def profile_of(given: str | SimpleNamespace | None) -> SimpleNamespace:
    """A private copy of the profile of an experiment; None: ci, whatever the notebooks run in.

    Raises: ValueError for what is no profile, and for a policy that Unsloth loads: a card has room for one, and arms
        need a fresh one each.
    """
    profile = profiles.current(given or "ci") if given is None or isinstance(given, str) else copy.deepcopy(given)
    if not vars(profiles.current("ci")).keys() <= getattr(profile, "__dict__", {}).keys():
        raise ValueError(f"profile must be a profile, or its name (got {given!r:.80}). Try profile='ci'.")
    if profile.policy["backend"] == "unsloth":
        raise ValueError(
            f"an experiment must train a small policy, a fresh copy for each arm (got the profile {profile.name}, "
            "which fills a card with one). Try profile='ci'."
        )
    return profile
