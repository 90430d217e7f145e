"""Exercises about a training loop with one part changed: what is masked, what a reward is compared with."""

import torch

from grpo_nb import advantages
from grpo_nb.checks import loop
from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_strict_mask(your_strict_mask):
    """Whether `your_strict_mask` is `mask`, but 0 throughout for a completion that never ends.

    Args:
        your_strict_mask: f(completions [N, T], eos) -> mask [N, T].
    See: notebook 06, exercise 6.1. TRL: `mask_truncated_completions`.
    """
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
        loop.ENDS,
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
            others(r, G).view(-1, G) / (r.view(-1, G).std(1, keepdim=True) + advantages.TINY)
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
