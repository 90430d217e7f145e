"""What a reward reads: TRL hands it prompts, completions and every other column, all by name."""

import inspect
from collections import Counter
from collections.abc import Callable, Sequence

from grpo_nb.preflight import columns
from grpo_nb.rewards import contract

ALWAYS_GIVEN = ("prompts", "completions", "completion_ids", "trainer_state", "log_extra", "log_metric")
KEPT_BY_TRL = {"prompt", "completion", "completion_ids"}  # columns of these names reach no reward
# What other tutorials call a parameter → TRL's name.
OTHER_NAMES = {
    **dict.fromkeys(
        ("completion", "responses", "response", "solutions", "outputs", "generations", "texts", "samples"),
        "completions",
    ),
    **dict.fromkeys(("prompt", "queries", "questions", "inputs"), "prompts"),
}


def check_rewards(rewards: Sequence[Callable], rows: Sequence[dict]) -> None:
    """Refuse rewards that TRL could not call on these rows.

    Args:
        rewards: functions in TRL's contract; a reward model (a `torch.nn.Module`) is not looked into.
        rows: at least one.
    Raises: ValueError naming the reward and the parameter or column.
    """
    if not isinstance(rewards, Sequence) or isinstance(rewards, str | bytes):
        got = contract.name_of(rewards) if callable(rewards) else contract.shown(rewards)
        advice = f"Write [{got}]" if callable(rewards) else "Write a list of functions, such as [rewards.check_answer]"
        raise ValueError(f"rewards must be a list (got {got}). {advice}.")
    if not len(rewards):
        raise ValueError("rewards must hold at least one function (got none). Try [rewards.check_answer].")
    for reward in rewards:
        if not callable(reward):
            raise ValueError(
                f"a reward must be a function (got {contract.shown(reward)}). Write def, and pass its name without ()."
            )
        if inspect.isclass(reward):
            raise ValueError(
                f"a reward must be a function, or an object that can be called (got the class {reward.__name__}). "
                "Pass a function, or make an object of the class."
            )
    names = Counter(map(contract.name_of, rewards))
    if len(names) < len(rewards):
        twice = next(name for name, times in names.items() if times > 1)
        raise ValueError(
            f"rewards must have different names, or TRL logs them as one (got {twice} {names[twice]} times). "
            "Give each its own def."
        )
    _check_reserved(rows)
    for reward in rewards:
        if not hasattr(reward, "forward"):
            _check_signature(reward, rows)


def _check_reserved(rows: Sequence[dict]) -> None:
    taken = [name for name in rows[0] if name in contract.GIVEN_BY_TRL]
    if taken:
        raise ValueError(
            f"a column must not have the name of what TRL itself hands to the rewards (got {', '.join(taken)}). "
            f"Rename it, for example to my_{taken[0]}."
        )


def _check_signature(reward: Callable, rows: Sequence[dict]) -> None:
    """Refuse parameters that nobody fills, and functions that do not take all that TRL passes."""
    try:
        parameters = inspect.signature(reward).parameters.values()
    except ValueError:  # written in C: it does not say what it takes, the dry run will
        return
    by_name = [p for p in parameters if p.kind in (p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]
    needed = [p.name for p in by_name if p.default is p.empty and p.name not in ALWAYS_GIVEN]
    why = f"the reward {contract.name_of(reward)}"
    for name in needed:
        if name in OTHER_NAMES and (name not in rows[0] or name in KEPT_BY_TRL):
            raise ValueError(
                f"{why} must name what TRL hands it: prompts, completions, and columns of the data set (got {name}). "
                f"Write {OTHER_NAMES[name]} instead of {name}."
            )
    columns.check_columns(rows, needed, why=why)
    columns.check_filled(rows, needed, why=why)
    passed = {*ALWAYS_GIVEN, *rows[0]} - KEPT_BY_TRL | {"completion_ids"}
    refused = sorted(passed - {p.name for p in by_name})
    if refused and not any(p.kind is p.VAR_KEYWORD for p in parameters):
        raise ValueError(
            f"{why} must take everything that TRL hands it by name (got no room for {', '.join(refused)}). "
            "End its parameters with **columns."
        )
