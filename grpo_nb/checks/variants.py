"""Exercises about a training loop that is changed: what is masked, what a reward is compared with, what it costs."""

import functools

from grpo_nb.checks import blanks, loop
from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_strict_mask(your_strict_mask):
    """Whether `your_strict_mask` is `mask`, but 0 throughout for a completion that never ends.

    Args:
        your_strict_mask: f(completions [N, T], eos) -> mask [N, T].
    See: notebook 06, exercise 6.1. TRL: `mask_truncated_completions`.
    """
    import torch

    usual = {
        "keeps what was cut off": loop.mask,
        "keeps only what was cut off": lambda ids, eos: loop.mask(ids, eos) * (1 - loop.has_ended(ids, eos)),
        "drops every completion that does not end at the last place": lambda ids, eos: (
            loop.mask(ids, eos) * (ids[:, -1:] == eos)
        ),
        "counts the padding of completions that end": lambda ids, eos: loop.has_ended(ids, eos).expand_as(ids),
        "stops before the end token": lambda ids, eos: ((ids == eos).cumsum(1) == 0).int() * loop.has_ended(ids, eos),
        "drops the last token of what was cut off, not all of it": lambda ids, eos: torch.where(
            (torch.arange(ids.shape[1]) == ids.shape[1] - 1) & (loop.has_ended(ids, eos) == 0), 0, loop.mask(ids, eos)
        ),
    }
    return judge(
        your_strict_mask,
        blanks.ends(),
        right=lambda completions, eos: loop.mask(completions, eos) * loop.has_ended(completions, eos),
        usual=usual,
    )


@exercise
def check_leave_one_out(your_leave_one_out):
    """Whether `your_leave_one_out` is each reward minus the mean of the *others* of its group.

    Args:
        your_leave_one_out: f(rewards [N], num_generations) -> advantages [N].
    See: notebook 06, exercise 6.2; RLOO, Ahmadian et al. 2024, arXiv:2402.14740.
    """
    import torch

    cases = [
        ("one group, one hit in four", (torch.tensor([0.0, 0.0, 1.0, 0.0]), 4)),
        ("two groups on different levels", (torch.tensor([0.0, 2.0, 100.0, 98.0]), 2)),
        ("a dead group beside a live one", (torch.tensor([3.0, 3.0, 3.0, 0.0, 2.0, 7.0]), 3)),
    ]

    def others(rewards, num_generations):
        groups = rewards.view(-1, num_generations)
        return (groups - (groups.sum(1, keepdim=True) - groups) / (num_generations - 1)).flatten()

    def centred(rewards, num_generations):
        groups = rewards.view(-1, num_generations)
        return (groups - groups.mean(1, keepdim=True)).flatten()

    def in_columns(rewards, num_generations):
        groups = rewards.view(num_generations, -1)
        return (groups - (groups.sum(0) - groups) / (num_generations - 1)).flatten()

    usual = {
        "counts the completion itself in its mean": centred,
        "counts itself, and divides by the deviation: GRPO's advantage": loop.advantages,
        "divides by the deviation as well": lambda r, G: (
            others(r, G).view(-1, G) / (r.view(-1, G).std(1, keepdim=True) + 1e-4)
        ).flatten(),
        "compares with all others of the batch": lambda r, G: r - (r.sum() - r) / (len(r) - 1),
        "puts the groups into the columns": in_columns,
        "adds the others up and divides by G": lambda r, G: (
            r.view(-1, G) - (r.view(-1, G).sum(1, keepdim=True) - r.view(-1, G)) / G
        ).flatten(),
        "shrinks by (G − 1) / G where it must grow by G / (G − 1)": lambda r, G: centred(r, G) * (G - 1) / G,
        "turns the sign": lambda r, G: -others(r, G),
    }
    return judge(your_leave_one_out, cases, right=others, usual=usual)


PASSES = [{"num_iterations": number} for number in (1, 2, 4)]  # optimizer steps from each generated batch
Measured = tuple[str, float, float, float]  # an arm: label, tokens sampled, ends of its interval against the first


@functools.cache
def passes() -> list[Measured]:
    """What the bench measured of `PASSES`."""
    from grpo_nb import lab

    result = lab.experiment(*PASSES, seeds=(0, 1, 2))
    ends = [(0.0, 0.0), *(result.difference(i)[1:3] for i in range(1, len(PASSES)))]
    return [(arm.label, arm.mean("tokens"), *end) for arm, end in zip(result.outcomes, ends, strict=True)]


@exercise
def check_cheapest(your_cheapest):
    """Whether `your_cheapest` names the arm with the fewest tokens of those that are not measurably worse.

    Args:
        your_cheapest: f(arms) -> label; an arm is (label, tokens, low, high), low and high the ends of the interval of
            its accuracy minus the first arm's.
    See: notebook 06, exercise 6.3; `lab.experiment`.

    >>> check_cheapest(lambda arms: min(arms, key=lambda arm: arm[1])[0])
    check_cheapest: cheaper, but measurably worse: your answers are those of one who takes the fewest tokens, however
    much worse. With arms = [['A', 100, 0, 0], ['B', 50, -0.09, -0.01]] it must give 'A' (yours: 'B').
    False
    """
    first = ("A", 100.0, 0.0, 0.0)
    cases = [
        ("cheaper, and noise", [first, ("B", 50.0, -0.02, 0.03)]),
        ("cheaper, but measurably worse", [first, ("B", 50.0, -0.09, -0.01)]),
        ("cheaper, and noise with a mean below 0", [first, ("B", 60.0, -0.06, 0.01)]),
        ("better, but dearer", [first, ("B", 400.0, 0.01, 0.05), ("C", 70.0, -0.01, 0.01)]),
        ("better, and a little cheaper", [first, ("B", 20.0, -0.2, -0.1), ("C", 80.0, 0.02, 0.05)]),
        ("the recorded arms", passes()),
    ]

    def chosen(will_do, by=lambda arm: arm[1], pick=min):
        return lambda arms: pick([arms[0], *(arm for arm in arms[1:] if will_do(arm))], key=by)[0]

    usual = {
        "takes the fewest tokens, however much worse": chosen(lambda arm: True),
        "takes the best mean, whatever it costs": chosen(lambda arm: True, by=lambda arm: arm[2] + arm[3], pick=max),
        "takes noise for a loss": chosen(lambda arm: arm[2] > 0),
        "looks at the middle of the interval, not at its upper end": chosen(lambda arm: arm[2] + arm[3] >= 0),
        "takes the dearest of those that will do": chosen(lambda arm: arm[3] >= 0, pick=max),
        "stays with the first": lambda arms: arms[0][0],
    }
    right = chosen(lambda arm: arm[3] >= 0)
    return judge(your_cheapest, [(name, (arms,)) for name, arms in cases], right=lambda arms: right(arms), usual=usual)
