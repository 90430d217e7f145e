"""The letters of the shapes, and `shaped`, which checks them at every call.

| letter | what it counts                                     |
|--------|----------------------------------------------------|
| P      | prompts                                            |
| G      | completions of each prompt, TRL's `num_generations` |
| N      | completions, P·G                                   |
| T      | tokens of the longest completion                   |
| K      | reward functions                                   |
| V, H   | vocabulary, hidden size                            |

A letter has one value within a call. The bug that this stops is silent: advantages of shape [N] broadcast against
log-probs [N, T] wherever N = T, and every token is paid with another completion's reward.
"""

import functools
import inspect
import types
import typing
from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

import torch
from jaxtyping import AbstractArray, jaxtyped

Given = ParamSpec("Given")
Result = TypeVar("Result")


def shaped(function: Callable[Given, Result]) -> Callable[Given, Result]:
    """The function, with every tensor whose annotation is a shape checked before the call, and its result after it.

    Raises: TypeError for what is no tensor or of another dtype, ValueError for another shape, on the caller's side.

    >>> from jaxtyping import Float
    >>> @shaped
    ... def paid(logps: Float[torch.Tensor, "N T"], advantages: Float[torch.Tensor, " N"]):
    ...     return logps * advantages.unsqueeze(1)
    >>> paid(torch.zeros(2, 2), torch.zeros(2, 1))
    Traceback (most recent call last):
        ...
    ValueError: advantages must be of shape [N] (got [2, 1]; logps [N T] is [2, 2]). Reshape it; grpo_nb.shapes says ...
    """
    signature = inspect.signature(function)
    hints = {name: hint for name, hint in function.__annotations__.items() if _shapes_in(hint)}

    @functools.wraps(function)
    def checked(*args: Given.args, **kwargs: Given.kwargs) -> Result:
        try:
            given = signature.bind(*args, **kwargs).arguments
        except TypeError:  # an argument too many or too few: Python's own words name the function
            return function(*args, **kwargs)
        tensors = [(name, given[name], hint) for name, hint in hints.items() if name in given]
        _check(tensors)
        result = function(*args, **kwargs)
        if "return" in hints:
            _check([*tensors, (f"the result of {function.__name__}", result, hints["return"])])
        return result

    return checked


def _check(tensors: list[tuple[str, Any, Any]]) -> None:
    """Raise for the first (name, value, annotation) that does not fit those before it."""
    with jaxtyped("context"):  # the letters hold within it; an error raised in it would be told with jaxtyping's notes
        wrong = next((i for i, (_, value, hint) in enumerate(tensors) if not isinstance(value, hint)), None)
    if wrong is not None:
        raise _refusal(*tensors[wrong], beside=tensors[:wrong])


def _shapes_in(hint: Any) -> list:
    """The jaxtyping classes of an annotation, alone or beside None."""
    parts = typing.get_args(hint) if isinstance(hint, types.UnionType) else [hint]
    return [part for part in parts if isinstance(part, type) and issubclass(part, AbstractArray)]


def _refusal(name: str, value: object, hint: Any, beside: list[tuple[str, Any, Any]]) -> Exception:
    shape = _shapes_in(hint)[0]
    if not isinstance(value, torch.Tensor):
        return TypeError(
            f"{name} must be a tensor [{shape.dim_str}] (got {type(value).__name__}). Use torch.tensor(…)."
        )
    kind = shape.__name__.partition("[")[0].lower()
    if kind != "shaped" and str(value.dtype).removeprefix("torch.") not in shape.dtypes:
        wanted = {"bool": "bool", "int": "long"}.get(kind, "float")
        return TypeError(f"{name} must be a tensor of {kind} values (got {value.dtype}). Use .{wanted}().")
    others = "".join(
        f"; {other} [{_shapes_in(its)[0].dim_str}] is {list(seen.shape)}"
        for other, seen, its in beside
        if isinstance(seen, torch.Tensor)
    )
    return ValueError(
        f"{name} must be of shape [{shape.dim_str}] (got {list(value.shape)}{others}). "
        "Reshape it; grpo_nb.shapes says what the letters count."
    )
