"""What learners write into a training loop, and what runs in the place of what they have not written yet."""

import math

import pytest
import torch
from check_answers import Answers
from torch.nn import functional

from grpo_nb import checks
from grpo_nb.checks import filling, loop


def rows(function):
    """A mask row by row: f(ids of one completion, eos) -> list of 0 and 1."""
    return lambda completions, eos: torch.tensor([function(row, eos) for row in completions.tolist()])


def length(row, eos):
    return row.index(eos) + 1 if eos in row else len(row)


def picked(values, ids):
    return values.gather(-1, ids.unsqueeze(-1)).squeeze(-1)


def by_cross_entropy(logits, ids, width):
    told, asked = logits[:, width - 1 : -1], ids[:, width:]
    return -functional.cross_entropy(told.flatten(0, 1), asked.flatten(), reduction="none").view_as(asked)


def dapo(logps, old_logps, advantages, mask, *, best=torch.min, low=0.8, high=1.2):
    ratio, A = torch.exp(logps - old_logps), advantages[:, None]
    return -(best(ratio * A, ratio.clamp(low, high) * A) * mask).sum() / mask.sum()


def by_where(logps, old_logps, advantages, mask):
    ratio, A = (logps - old_logps).exp(), advantages.unsqueeze(1).expand_as(logps)
    is_flat = ((A > 0) & (ratio > 1.2)) | ((A < 0) & (ratio < 0.8))
    return -torch.where(is_flat, ratio.clamp(0.8, 1.2) * A, ratio * A)[mask.bool()].mean()


def one_by_one(logps, old_logps, advantages, mask):
    total = 0
    for row in range(len(mask)):
        for t in range(mask.shape[1]):
            if mask[row, t]:
                ratio = torch.exp(logps[row, t] - old_logps[row, t])
                total = total - torch.min(ratio * advantages[row], ratio.clamp(0.8, 1.2) * advantages[row])
    return total / mask.sum()


def step(loss, optimizer, parameters, *, empty=True, cut=1.0):
    if empty:
        optimizer.zero_grad()
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, cut)
    optimizer.step()


def emptied_afterwards(loss, optimizer, parameters):
    loss.backward()
    torch.nn.utils.clip_grad_norm_(parameters, max_norm=1.0)
    optimizer.step()
    optimizer.zero_grad(set_to_none=False)


def cut_by_hand(loss, optimizer, parameters):
    gradients = torch.autograd.grad(loss, parameters)
    length = math.sqrt(sum(float((g**2).sum()) for g in gradients))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient / max(1.0, length)
    optimizer.step()


def late(loss, optimizer, parameters):
    loss.backward()
    optimizer.zero_grad()
    optimizer.step()


def past_the_optimizer(loss, optimizer, parameters):
    gradients = torch.autograd.grad(loss, parameters)
    size = math.sqrt(sum(float(gradient**2) for gradient in gradients))
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.data -= gradient / max(1.0, size)


ANSWERS = [
    Answers(
        check="check_mask",
        right=[
            lambda ids, eos: (ids == eos).cumsum(1) - (ids == eos).int() == 0,
            rows(lambda row, eos: [int(t < length(row, eos)) for t in range(len(row))]),
            lambda ids, eos: (functional.pad((ids == eos).float(), (1, -1)).cummax(1).values == 0).float(),
        ],
        wrong={
            "all": (lambda ids, eos: torch.ones_like(ids), "counts everything"),
            "≠ eos": (lambda ids, eos: ids != eos, "leaves out the end tokens"),
            "before eos": (
                rows(lambda row, eos: [int(eos not in row[: t + 1]) for t in range(len(row))]),
                "stops before",
            ),
            "≠ 0": (lambda ids, eos: (ids > 0).int(), "every id that is no padding"),
            "argmax": (
                lambda ids, eos: torch.arange(ids.shape[1]) <= (ids == eos).int().argmax(1)[:, None],
                "one token to a completion that never ends",
            ),
            "0 for the endless": (
                rows(lambda row, eos: [int(eos in row and t < length(row, eos)) for t in range(len(row))]),
                "gives nothing to a completion that never ends",
            ),
            "always 9": (lambda ids, eos: loop.mask(ids, 9), "another end token"),
            "lengths": (lambda ids, eos: [length(row, eos) for row in ids.tolist()], "of shape [2, 4]"),
        },
        almost=(
            lambda ids, eos: torch.where(ids[:, :1] == eos, 0, (ids == eos).cumsum(1) - (ids == eos).int() == 0),
            "ends at the last place, or at the first",
        ),
    ),
    Answers(
        check="check_logps",
        right=[
            lambda logits, ids, width: picked(logits[:, :-1].log_softmax(-1), ids[:, 1:])[:, width - 1 :],
            by_cross_entropy,
            lambda logits, ids, width: (
                picked(logits[:, width - 1 : -1], ids[:, width:]) - logits[:, width - 1 : -1].logsumexp(-1)
            ),
        ],
        wrong={
            "no shift": (
                lambda logits, ids, width: picked(logits.log_softmax(-1), ids)[:, width:],
                "asks each place for its own token",
            ),
            "logits": (
                lambda logits, ids, width: picked(logits[:, width - 1 : -1], ids[:, width:]),
                "without the softmax",
            ),
            "softmax": (
                lambda logits, ids, width: picked(logits[:, width - 1 : -1].softmax(-1), ids[:, width:]),
                "without the logarithm",
            ),
            "wrong axis": (
                lambda logits, ids, width: picked(logits[:, width - 1 : -1].log_softmax(1), ids[:, width:]),
                "normalises over the places",
            ),
            "the prompt too": (
                lambda logits, ids, width: picked(logits[:, :-1].log_softmax(-1), ids[:, 1:]),
                "counts the prompt's tokens as well",
            ),
            "no gradient": (lambda *given: torch.tensor(by_cross_entropy(*given).tolist()), "loses the gradient"),
            "surprise": (lambda *given: -by_cross_entropy(*given), "turns the sign"),
        },
        almost=(lambda *given: by_cross_entropy(*given).round(decimals=2), "carries the gradient"),
    ),
    Answers(
        check="check_loss",
        right=[dapo, by_where, one_by_one],
        wrong={
            "no minus": (lambda *given: -dapo(*given), "forgets the minus sign"),
            "no clip": (lambda *given: dapo(*given, low=0.0, high=9.0), "does not clip"),
            "no min": (lambda *given: dapo(*given, best=lambda plain, clipped: clipped), "clips without the min"),
            "max": (lambda *given: dapo(*given, best=torch.max), "the max in place of the min"),
            "padding": (lambda a, b, A, mask: dapo(a, b, A, torch.ones_like(mask)), "counts the padding"),
            "mean of means": (
                lambda a, b, A, mask: (dapo(a[:1], b[:1], A[:1], mask[:1]) + dapo(a[1:], b[1:], A[1:], mask[1:])) / 2,
                "mean of each completion first",
            ),
            "wrong axis": (
                lambda a, b, A, mask: (
                    -(torch.min((a - b).exp() * A, (a - b).exp().clamp(0.8, 1.2) * A) * mask).sum() / mask.sum()
                ),
                "lacks an unsqueeze",
            ),
            "a number": (lambda *given: dapo(*given).item(), "loses the gradient"),
            "per token": (lambda a, b, A, mask: -(a - b).exp() * A[:, None] * mask, "'loss': [["),
        },
        almost=(lambda *given: dapo(*given, high=1.3), "good, and too likely already"),
    ),
    Answers(
        check="check_step",
        right=[step, emptied_afterwards, cut_by_hand],
        wrong={
            "never empty": (lambda *given: step(*given, empty=False), "does not empty the gradients"),
            "never cut": (lambda *given: step(*given, cut=math.inf), "does not cut the gradient"),
            "number by number": (
                lambda loss, optimizer, parameters: [
                    optimizer.zero_grad(),
                    loss.backward(),
                    torch.nn.utils.clip_grad_value_(parameters, 1.0),
                    optimizer.step(),
                ],
                "each number of the gradient by itself",
            ),
            "too late": (late, "behind backward()"),
            "by itself": (past_the_optimizer, "past the optimizer and its learning rate"),
            "uphill": (lambda loss, *given: step(-loss, *given), "goes uphill"),
            "only backward": (lambda loss, optimizer, parameters: loss.backward(), "or never steps"),
        },
        almost=(lambda *given: step(*given, cut=2.0), "a gradient of length 5"),
    ),
]


def test_what_is_open_or_wrong_is_replaced_and_said(capsys):
    def your_mask(completions, eos):
        raise NotImplementedError

    parts = filling.filled(mask=your_mask, logps=by_cross_entropy, loss=lambda *given: -dapo(*given), step=step)
    assert capsys.readouterr().out == (
        "yours: logps, step · ours, while yours is open or wrong: mask, advantages, loss\n"
    )
    assert (parts.logps.__wrapped__, parts.step.__wrapped__) == (by_cross_entropy, step)
    assert (parts.mask, parts.advantages, parts.loss) == (loop.mask, loop.advantages, loop.loss)


def test_all_yours_and_nothing_else_is_said(capsys):
    right = {answers.check.removeprefix("check_"): answers.right[0] for answers in ANSWERS[:4]}
    parts = checks.filled(**right, advantages=loop.advantages)
    assert capsys.readouterr().out == "yours: mask, advantages, logps, loss, step\n"
    assert {name: part.__wrapped__ for name, part in vars(parts).items()} == {**right, "advantages": loop.advantages}


def test_lists_that_pass_are_tensors_in_the_loop():
    parts = filling.filled(
        mask=lambda *given: loop.mask(*given).tolist(), advantages=lambda *given: loop.advantages(*given).numpy()
    )
    assert parts.mask(torch.tensor([[9, 0]]), 9).tolist() == [[1, 0]]
    assert parts.advantages(torch.tensor([1.0, 1.0]), 2).dtype == torch.float32


def masked_in_place(completions, eos):
    return completions.copy_(loop.mask(completions, eos))


def rated_in_place(rewards, num_generations):
    return rewards.copy_(loop.advantages(rewards, num_generations))


def logps_in_place(logits, ids, width):
    told = logits[:, width - 1 : -1]
    told -= told.logsumexp(-1, keepdim=True)
    return picked(told, ids[:, width:])


def loss_in_place(logps, old_logps, advantages, mask):
    logps -= old_logps
    return dapo(logps, torch.zeros(()), advantages, mask)


@pytest.mark.parametrize(
    ("name", "yours", "given"),
    [
        ("mask", lambda ids, eos: [*loop.mask(ids, eos)], (torch.tensor([[4, 9, 0], [9, 0, 0]]), 9)),
        ("mask", lambda ids, eos: (row.tolist() for row in loop.mask(ids, eos)), (torch.tensor([[4, 9, 0]]), 9)),
        ("mask", lambda ids, eos: map(list, loop.mask(ids, eos).tolist()), (torch.tensor([[4, 9, 0]]), 9)),
        ("mask", masked_in_place, (torch.tensor([[4, 9, 0], [9, 0, 0]]), 9)),
        ("mask", lambda ids, eos: loop.mask(ids, eos).bool(), (torch.tensor([[4, 9, 0]]), 9)),
        ("advantages", lambda *given: iter(loop.advantages(*given)), (torch.tensor([0.0, 2, 1, 1]), 2)),
        ("advantages", rated_in_place, (torch.tensor([0.0, 2, 1, 1]), 2)),
        ("logps", logps_in_place, (torch.randn(2, 4, 5), torch.randint(5, (2, 4)), 2)),
        ("loss", loss_in_place, (torch.zeros(2, 2), torch.ones(2, 2), torch.tensor([1.0, -1]), torch.ones(2, 2))),
    ],
)
def test_what_passes_its_check_runs_in_the_loop(name, yours, given):
    before = [getattr(item, "clone", lambda item=item: item)() for item in given]
    parts = filling.filled(**{name: yours})
    assert getattr(parts, name).__wrapped__ is yours
    torch.testing.assert_close(getattr(parts, name)(*given), getattr(loop, name)(*before))
    for item, copy in zip(given, before, strict=True):
        assert item is copy or item.equal(copy), "the loop needs its batch again"


def test_a_part_that_raises_is_replaced(capsys):
    parts = filling.filled(mask=lambda completions, eos: completions[9], step=lambda *given: given[2][0].grad.zero_())
    assert (parts.mask, parts.step) == (loop.mask, loop.step) and "yours:" not in capsys.readouterr().out


@pytest.mark.parametrize("name", ["score", "your_mask"])
def test_a_part_of_another_name_is_refused(name):
    with pytest.raises(TypeError, match=rf"must be one of mask, .* \(got {name}\)\. Rename it"):
        filling.filled(**{name: step})
