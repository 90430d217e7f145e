"""Wrong shapes are refused in a sentence; right ones pass, at every function of the mathematics."""

import inspect
import re
import typing

import pytest
import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor

from grpo_nb import advantages, losses, paradigms, shapes

LOGPS, MASK, ADVANTAGES = -torch.ones(3, 3), torch.ones(3, 3), torch.tensor([1.0, 0.0, -1.0])


# Golden: the bug that this is for. With N = T, [N, 1] or [N] in the wrong place broadcasts without a word.
def test_advantages_cannot_broadcast_along_the_tokens():
    with pytest.raises(
        ValueError, match=re.escape("advantages must be of shape [N] (got [3, 1]; logps [N T] is [3, 3]). Reshape it")
    ):
        losses.grpo_loss(LOGPS, ADVANTAGES.unsqueeze(1), MASK)
    with pytest.raises(ValueError, match=re.escape("advantages must be of shape [N 1] (got [1, 3]; ratio [N T] is")):
        losses.clipped_surrogate(LOGPS.exp(), ADVANTAGES.unsqueeze(0))


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            {"mask": torch.ones(3, 4)},
            "mask must be of shape [N T] (got [3, 4]; logps [N T] is [3, 3]; advantages [N] is [3])",
        ),
        ({"old_logps": torch.zeros(3)}, "old_logps must be of shape [N T] (got [3]"),
        ({"old_logps": 0.0}, "old_logps must be a tensor [N T] (got float). Use torch.tensor(…)."),
        ({"advantages": [1.0, 0.0, -1.0]}, "advantages must be a tensor [N] (got list). Use torch.tensor(…)."),
        (
            {"advantages": torch.tensor([1, 0, -1])},
            "advantages must be a tensor of float values (got torch.int64). Use .float().",
        ),
    ],
)
def test_a_sentence_for_each_kind_of_mistake(arguments, sentence):
    with pytest.raises((ValueError, TypeError), match=re.escape(sentence)):
        losses.grpo_loss(**{"logps": LOGPS, "advantages": ADVANTAGES, "mask": MASK} | arguments)


# Law.
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_every_float_passes_and_any_mask(dtype):
    for mask in (MASK, MASK.bool(), MASK.long()):
        loss = losses.grpo_loss(LOGPS.to(dtype), ADVANTAGES.to(dtype), mask).loss
        assert loss.dim() == 0


def test_optional_tensors_may_be_none_and_letters_end_with_the_call():
    losses.grpo_loss(LOGPS, ADVANTAGES, MASK, old_logps=None)
    losses.grpo_loss(LOGPS[:2], ADVANTAGES[:2], MASK[:2])


def test_a_wrong_result_is_refused_too():
    @shapes.shaped
    def mean(values: Float[Tensor, "N T"]) -> Float[Tensor, " N"]:
        return values.mean(dim=0)

    assert mean(torch.ones(2, 2)).tolist() == [1, 1]
    with pytest.raises(
        ValueError, match=re.escape("the result of mean must be of shape [N] (got [3]; values [N T] is")
    ):
        mean(torch.ones(2, 3))


def test_an_error_of_the_function_itself_comes_through_unchanged():
    with pytest.raises(ValueError) as error:
        losses.grpo_loss(LOGPS, ADVANTAGES, MASK, loss_type="ppo")
    assert "jaxtyping" not in str(error.value) and not getattr(error.value, "__notes__", [])


def test_the_gradient_passes_through():
    logps = LOGPS.clone().requires_grad_()
    losses.grpo_loss(logps, ADVANTAGES, MASK).loss.backward()
    assert logps.grad.abs().sum() > 0


def has_shape(hint) -> bool:
    return any("jaxtyping" in type(part).__module__ for part in [hint, *typing.get_args(hint)])


@pytest.mark.parametrize("module", [advantages, losses, paradigms], ids=lambda module: module.__name__)
def test_every_public_function_with_a_shape_in_its_signature_is_checked(module):
    functions = [f for _, f in inspect.getmembers(module, inspect.isfunction) if f.__module__.startswith("grpo_nb")]
    with_shapes = [f for f in functions if any(has_shape(hint) for hint in f.__annotations__.values())]
    assert len(with_shapes) >= 2
    assert [f.__name__ for f in with_shapes if not hasattr(f, "__wrapped__")] == []


def test_shaped_leaves_name_and_documentation():
    @shapes.shaped
    def kept(mask: Shaped[Tensor, "N T"], right: Bool[Tensor, " N"] | None = None):
        """What it does."""

    assert (kept.__name__, kept.__doc__) == ("kept", "What it does.")
    assert kept(torch.ones(2, 1)) is None


def test_a_missing_argument_is_told_in_pythons_words():
    with pytest.raises(TypeError, match=r"grpo_loss\(\) missing 1 required positional argument: 'mask'"):
        losses.grpo_loss(LOGPS, ADVANTAGES)


def test_a_mask_of_numbers_is_no_answer_to_yes_or_no():
    @shapes.shaped
    def without(mask: Shaped[Tensor, "N T"], is_truncated: Bool[Tensor, " N"]):
        raise AssertionError("it was called")

    with pytest.raises(
        TypeError, match=re.escape("is_truncated must be a tensor of bool values (got torch.int64). Use .bool()")
    ):
        without(MASK, torch.tensor([1, 0, 0]))
