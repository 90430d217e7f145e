"""A micro-batch as a tree: each distinct beginning once, without padding and without repetition.

TRL's micro-batch holds a prompt once for each of its completions, and completions of one prompt begin alike: a policy
that is sure of its words writes the same ones again. A token's hidden state depends on what stands before it and on
nothing else, so tokens with the same beginning (in the same columns) are one token. A tree of n tokens takes the place
of B · L; the last token of a completion predicts nothing that is scored and is left out.

The letters: B rows of L tokens, T of them of the completion; R distinct prompts of P places, D distinct completions of
T′ = T − 1 places; n tokens of the tree.
"""

from typing import NamedTuple

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from grpo_nb import shapes

LARGEST_MASK = 2**28  # bytes; an additive mask of float32 takes four times as much
WORTH = 0.9  # of the tokens of TRL's layout


class Layout(NamedTuple):
    """The tree's tokens in a row, distinct prompts first, and where each token of TRL's layout stands in it.

    Attributes:
        ids, positions: of the row, [n]; a position is the column in TRL's layout.
        prompts: place in the row of each token of the prompts, [R, P]; any place for padding.
        completions: the same of the completions, [D, T′].
        unpadded: of [R·P + D·T′] places one behind the other, the first of each token of the row, [n].
        group: which prompt a completion answers, [D].
        prompt_mask, completion_mask: what may attend to what, [R, 1, P, P] and [D, 1, T′, P + T′].
        scored, targets: a place, and a token that comes next there, [m]: each pair once.
        answers: which of these pairs each token of TRL's completions is, row by row.
    """

    ids: Int[Tensor, " n"]
    positions: Int[Tensor, " n"]
    prompts: Int[Tensor, "R P"]
    completions: Int[Tensor, "D T"]
    unpadded: Int[Tensor, " n"]
    group: Int[Tensor, " D"]
    prompt_mask: Bool[Tensor, "R 1 P P"]
    completion_mask: Bool[Tensor, "D 1 T S"]
    scored: Int[Tensor, " m"]
    targets: Int[Tensor, " m"]
    answers: Int[Tensor, " M"]


@shapes.shaped
def layout(
    input_ids: Int[Tensor, "B L"], attention_mask: Int[Tensor, "B L"], width: int, *, worth: float = WORTH
) -> Layout | None:
    """The tree of a micro-batch: prompts padded on the left, completions on the right, `width` places for these.

    Args:
        worth: how many tokens the tree may have, as a share of those that it replaces.
    Returns: `Layout`; None if a mask has holes, a prompt is empty, no completion has two tokens, a mask would be too
        large, or the tree has hardly fewer tokens than what it replaces.
    """
    in_prompt, in_completion = attention_mask[:, :-width].bool(), attention_mask[:, -width:].bool()
    span, steps = in_prompt.shape[1], int(in_completion.sum(1).max()) - 1
    if steps < 1 or not _is_dense(in_prompt, in_completion):
        return None
    needed = torch.cat([in_prompt, in_completion[:, 1 : steps + 1]], dim=1)  # a token that another one follows
    rows, which = torch.where(needed, input_ids[:, : span + steps], -1).unique(dim=0, return_inverse=True)
    is_first = first_of_their_kind(rows)  # [D, P + T′]
    begins = is_first[:, span - 1]  # rows with a new prompt, [D]
    firsts = _in_a_row(is_first, begins, span)
    masked = int(begins.sum()) * span * span + len(rows) * steps * (span + steps)  # bytes of both masks
    if firsts.sum() > worth * input_ids[:, :-1].numel() or masked > LARGEST_MASK:
        return None
    columns = torch.arange(span + steps, device=rows.device).expand_as(rows)
    prompts, completions = _places(firsts, int(begins.sum()), span, steps)
    group = begins.cumsum(0) - 1
    predictors = torch.cat([prompts[group, -1:], completions], dim=1)[which]  # [B, T′ + 1]
    is_scored = in_completion[:, : steps + 1]
    scored, targets, answers = _pairs(predictors[is_scored], input_ids[:, span : span + steps + 1][is_scored])
    return Layout(
        ids=_in_a_row(rows, begins, span)[firsts],
        positions=_in_a_row(columns, begins, span)[firsts],
        prompts=prompts,
        completions=completions,
        unpadded=firsts.nonzero().flatten(),
        group=group,
        prompt_mask=_causal_mask(rows[begins, :span] >= 0, span),
        completion_mask=_causal_mask(rows >= 0, steps),
        scored=scored,
        targets=targets,
        answers=answers,
    )


def first_of_their_kind(rows: Int[Tensor, "D L"]) -> Bool[Tensor, "D L"]:
    """True for each token that no earlier row has with the same beginning; rows must be sorted, −1 is padding.

    >>> first_of_their_kind(torch.tensor([[5, 1, 2], [5, 1, 3], [5, 4, 3]])).int()
    tensor([[1, 1, 1],
            [0, 0, 1],
            [0, 1, 1]], dtype=torch.int32)
    """
    differs = (rows[1:] != rows[:-1]).cumsum(1) > 0
    return torch.cat([torch.ones_like(rows[:1], dtype=torch.bool), differs]) & (rows >= 0)


def _in_a_row(values: Tensor, begins: Tensor, span: int) -> Tensor:
    """Of [D, P + T′] the distinct prompts' part, then that of all completions, one behind the other, [R·P + D·T′]."""
    return torch.cat([values[begins, :span].flatten(), values[:, span:].flatten()])


def _places(firsts: Tensor, prompts: int, span: int, steps: int) -> tuple[Tensor, Tensor]:
    """Place in the tree's row of each token of the prompts [R, P] and the completions [D, T′].

    A token that is not the first of its kind is where the last first one above it is: rows are sorted.
    """
    numbers = torch.where(firsts, firsts.cumsum(0) - 1, -1)
    of_prompts, of_completions = (
        part.cummax(0).values.clamp(min=0)
        for part in (numbers[: prompts * span].view(-1, span), numbers[prompts * span :].view(-1, steps))
    )
    return of_prompts, of_completions


def _pairs(places: Tensor, targets: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(places, targets) of the distinct pairs, and which of these each pair is."""
    count = int(targets.max()) + 1
    pairs, answers = (places * count + targets).unique(return_inverse=True)
    return pairs // count, pairs % count, answers


def _is_dense(in_prompt: Tensor, in_completion: Tensor) -> bool:
    """Whether all padding is left of the prompts and right of the completions, and no prompt is empty."""
    if not in_prompt.shape[1] or not in_prompt[:, -1].all():
        return False
    return not ((in_prompt[:, :-1] & ~in_prompt[:, 1:]).any() or (~in_completion[:, :-1] & in_completion[:, 1:]).any())


def _causal_mask(keys: Tensor, queries: int) -> Tensor:
    """The last `queries` places of a row see those keys up to themselves; and themselves, or padding would be NaN."""
    own = torch.eye(keys.shape[1], dtype=torch.bool, device=keys.device)[-queries:]
    return ((keys.unsqueeze(1) & torch.ones_like(own).tril(keys.shape[1] - queries)) | own).unsqueeze(1)
