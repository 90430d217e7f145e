"""What learners write about the loss head."""

import math

import torch
from check_answers import Answers


def entropy(first, second):
    top = max(first[0], second[0])
    halves = [(math.exp(m - top), s, t) for m, s, t in (first, second) if s]
    total = sum(scale * s for scale, s, _ in halves)
    return top + math.log(total) - sum(scale * t for scale, _, t in halves) / total


def by_log_sums(first, second):
    """Each half weighs what its log-sum says."""
    sums = [m + math.log(s) if s else -math.inf for m, s, _ in (first, second)]
    weights = torch.tensor(sums, dtype=torch.float64).softmax(0)
    means = torch.tensor([t / s if s else 0.0 for _, s, t in (first, second)], dtype=torch.float64)
    return torch.tensor(sums, dtype=torch.float64).logsumexp(0) - weights @ means


def by_mixture(first, second):
    """A half is chosen, then a word of it: entropies of mixtures add up."""
    parts = [part for part in (first, second) if part[1]]
    sums = [m + math.log(s) for m, s, _ in parts]
    top = max(sums)
    shares = [math.exp(one - top) for one in sums]
    shares = [share / sum(shares) for share in shares]
    inner = [one - t / s for one, (_, s, t) in zip(sums, parts, strict=True)]
    return [sum(p * (h - (math.log(p) if p else 0.0)) for p, h in zip(shares, inner, strict=True))]


def without_m(first, second):
    return entropy(first, second) - max(first[0], second[0])


def overflowing(first, second):
    s, t = (sum(math.exp(part[0]) * part[i] for part in (first, second)) for i in (1, 2))
    return math.log(s) - t / s


def pulls(advantage, ratio, epsilon, beta):
    if beta > 0:
        return True
    return advantage != 0 and not (ratio > 1 + epsilon if advantage > 0 else ratio < 1 - epsilon)


def pulls_by_min(advantage, ratio, epsilon, beta):
    clipped = max(1 - epsilon, min(ratio, 1 + epsilon))
    return bool(beta) or (advantage != 0 and ratio * advantage <= clipped * advantage)


def pulls_by_gradient(advantage, ratio, epsilon, beta):
    x = torch.tensor(ratio, dtype=torch.float64, requires_grad=True)
    loss = -torch.minimum(x * advantage, x.clamp(1 - epsilon, 1 + epsilon) * advantage) + beta * x
    return torch.autograd.grad(loss, x)[0] != 0


ANSWERS = [
    Answers(
        check="check_tokens_that_fit",
        right=[
            lambda free_gib, words: int(free_gib * 2**30 // (3 * words * 4)),
            lambda free_gib, words: torch.tensor(math.floor(free_gib * 1024**3 / words / 12)),
            lambda free_gib, words: divmod(free_gib * 2**28, 3 * words)[0],
        ],
        wrong={
            "one tensor": (lambda free_gib, words: int(free_gib * 2**30 / (words * 4)), "counts one tensor of logits"),
            "two": (lambda free_gib, words: int(free_gib * 2**30 / (2 * words * 4)), "of the forward pass"),
            "16 bits": (lambda free_gib, words: int(free_gib * 2**30 / (3 * words * 2)), "2 bytes for a number"),
            "GB": (lambda free_gib, words: int(free_gib * 1e9 / (3 * words * 4)), "takes GB for GiB"),
            "up": (lambda free_gib, words: math.ceil(free_gib * 2**30 / (3 * words * 4)), "rounds up"),
            "a share": (lambda free_gib, words: free_gib * 2**30 / (3 * words * 4), "must give 2730 (yours: 2731)"),
        },
        almost=(lambda free_gib, words: max(1, int(free_gib * 2**30 / (3 * words * 4))), "no token"),
    ),
    Answers(
        check="check_merged_entropy",
        right=[entropy, by_log_sums, by_mixture],
        wrong={
            "sums added": (
                lambda a, b: max(a[0], b[0]) + math.log(a[1] + b[1]) - (a[2] + b[2]) / (a[1] + b[1]),
                "adds up the sums",
            ),
            "no m": (without_m, "forgets to add m"),
            "bits": (lambda *given: entropy(*given) / math.log(2), "takes bits for nats"),
            "halves added": (
                lambda *given: sum(m + math.log(s) - t / s for m, s, t in given if s),
                "adds up the entropies",
            ),
            "the log-sum": (
                lambda a, b: torch.logsumexp(torch.tensor([m + math.log(s) for m, s, _ in (a, b) if s]), 0),
                "gives the log-sum",
            ),
            "too large": (overflowing, "a gap that exp cannot take"),
            "a triple": (lambda *given: (0.0, 1.0, entropy(*given)), "of shape [3]"),
        },
        almost=(lambda a, b: entropy(a, b) if a[1] and b[1] else 0.0, "nothing first"),
    ),
    Answers(
        check="check_pulls",
        right=[pulls, pulls_by_min, pulls_by_gradient],
        wrong={
            "both sides": (
                lambda advantage, ratio, epsilon, beta: beta > 0 or (advantage != 0 and abs(ratio - 1) <= epsilon),
                "clips on both sides",
            ),
            "turned": (lambda advantage, *given: pulls(-advantage, *given), "turns the sides"),
            "dead": (lambda advantage, *given: advantage == 0 or pulls(advantage, *given), "forgets the dead groups"),
            "no clip": (lambda advantage, ratio, epsilon, beta: advantage != 0 or beta > 0, "forgets the clip"),
            "no KL": (lambda *given: pulls(*given[:3], 0.0), "forgets the KL term"),
            "not": (lambda *given: not pulls(*given), "tells which tokens need none"),
            "a number": (lambda advantage, ratio, epsilon, beta: ratio * advantage, "(yours: "),
        },
        almost=(
            lambda advantage, ratio, epsilon, beta: pulls(advantage, ratio, 0.2, beta),
            "a wide clip, advantage = 1, ratio = 1.5, epsilon = 0.6",
        ),
    ),
]
