"""A loop that runs while some of its five parts are still open: the learner's where they are right, else ours."""

import contextlib
import functools
import io
from collections.abc import Callable
from types import SimpleNamespace

from grpo_nb.checks import blanks, loop
from grpo_nb.checks.exercises import plain
from grpo_nb.checks.group_scores import check_advantages

CHECKS = {
    "mask": (blanks.check_mask, loop.mask),
    "advantages": (check_advantages, loop.advantages),
    "logps": (blanks.check_logps, loop.logps),
    "loss": (blanks.check_loss, loop.loss),
    "step": (blanks.check_step, loop.step),
}


def filled(**yours: Callable) -> SimpleNamespace:
    """The five parts: the learner's where it passes its check, the package's where it is open or wrong; says which.

    Args:
        yours: the learner's functions, by the name of their part.
    Returns: a namespace with `mask`, `advantages`, `logps`, `loss` and `step`.
    Raises: TypeError for a part that there is not.

    >>> parts = filled(mask=loop.mask, step=lambda loss, optimizer, parameters: None)
    yours: mask · ours, while yours is open or wrong: advantages, logps, loss, step
    """
    if unknown := sorted(yours.keys() - CHECKS.keys()):
        raise TypeError(f"a part must be one of {', '.join(CHECKS)} (got {', '.join(unknown)}). Rename it.")
    with contextlib.redirect_stdout(io.StringIO()):  # each verdict was read below its own blank
        passed = [name for name, (check, _) in CHECKS.items() if name in yours and _passes(check, yours[name])]
    others = [name for name in CHECKS if name not in passed]
    said = [("yours", passed), ("ours, while yours is open or wrong", others)]
    print(" · ".join(f"{who}: {', '.join(names)}" for who, names in said if names))
    return SimpleNamespace(
        **{name: _tensors(yours[name]) if name in passed else ours for name, (_, ours) in CHECKS.items()}
    )


def _passes(check: Callable, yours: object) -> bool:
    """Whether a check passes; a part that raises is wrong, as its own cell has shown."""
    try:
        return bool(check(yours))
    except Exception:
        return False


def _tensors(function: Callable) -> Callable:
    """A part whose lists and arrays, which pass their check, are tensors in the loop, and whose arguments stay."""

    import torch

    @functools.wraps(function)
    def part(*given):
        value = function(*(item.clone() if isinstance(item, torch.Tensor) else item for item in given))
        value = value if value is None or isinstance(value, torch.Tensor) else torch.as_tensor(plain(value))
        return value.long() if getattr(value, "dtype", None) is torch.bool else value  # 1 − mask, for one

    return part
