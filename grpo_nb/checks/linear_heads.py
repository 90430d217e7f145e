"""Exercises about the loss head: how many tokens fit, an entropy in two halves, and which tokens pull at all."""

import math

from grpo_nb.checks.exercises import exercise, judge

GIB, GB = 2**30, 10**9


@exercise
def check_tokens_that_fit(your_tokens):
    """Whether `your_tokens` is how many tokens a head on full logits can take, forward and backward, in float32.

    Args:
        your_tokens: f(free_gib, words) -> a count: three tensors of so many rows of `words` numbers must fit.
    See: `memory.logits_bytes`, `memory.loss_bytes`.

    >>> check_tokens_that_fit(lambda free_gib, words: free_gib * 2**30 // (4 * words))
    check_tokens_that_fit: a GiB: your numbers are those of one who counts one tensor of logits, where three are held at
    once. With free_gib = 1, words = 32768 it must give 2730 (yours: 8192).
    False
    """
    cases = [
        ("a GiB", (1, 32_768)),
        ("a small card", (6, 151_936)),
        ("few words", (0.5, 320)),
        ("no token", (0.001, 128_256)),
        ("a large card", (60, 128_256)),
    ]

    def fitting(*, tensors=3, width=4, unit=GIB, whole=math.floor):
        return lambda free_gib, words: whole(free_gib * unit / (tensors * words * width))

    usual = {
        "counts one tensor of logits, where three are held at once": fitting(tensors=1),
        "counts the two tensors of the forward pass": fitting(tensors=2),
        "takes 2 bytes for a number of float32": fitting(width=2),
        "takes GB for GiB": fitting(unit=GB),
        "rounds up: the last token does not fit": fitting(whole=math.ceil),
        "rounds to the nearest": fitting(whole=round),
        "counts tokens of one byte each": fitting(tensors=1, width=1),
    }
    return judge(your_tokens, cases, right=fitting(), usual=usual)


@exercise
def check_merged_entropy(your_entropy):
    """Whether `your_entropy` makes of the sums over two parts of a vocabulary the entropy over both, in nats.

    Args:
        your_entropy: f(first, second) -> float, of triples (m, s, t): largest logit, Σ exp(z − m), Σ z · exp(z − m);
            (−∞, 0, 0) for a part without words.
    See: `kernels.rows.fold`.

    >>> check_merged_entropy(lambda first, second: 0.0)
    check_merged_entropy: equal halves, first = [0, 2, 0], second = [0, 2, 0]: must give 1.386 (yours: 0).
    False
    """
    nothing = (-math.inf, 0.0, 0.0)
    cases = [
        ("equal halves", (_sums(0.0, 0.0), _sums(0.0, 0.0))),
        ("the larger first", (_sums(2.0, 0.0, 1.0), _sums(0.0, 1.0))),
        ("the larger second", (_sums(-1.0, 0.5), _sums(3.0, 2.0, -1.0))),
        ("negative all", (_sums(-3.0, -2.0), _sums(-2.5, -7.0))),
        ("a gap that exp cannot take", (_sums(1000.0, 999.0), _sums(0.0, 5.0))),
        ("the same, turned", (_sums(0.0, 5.0), _sums(1000.0, 999.0))),
        ("nothing first", (nothing, _sums(4.0, 2.0))),
        ("nothing second", (_sums(4.0, 2.0), nothing)),
    ]
    usual = {
        "adds up the sums, though each is relative to its own m": _entropy(scale=lambda m, top: 1.0),
        "brings s to one m, but not t": _entropy(scale_t=lambda m, top: 1.0),
        "multiplies by e^(new m − own m): the wrong way round": _entropy(scale=lambda m, top: math.exp(top - m)),
        "forgets to add m to log s": _entropy(top_counts=0.0),
        "adds t / s instead of subtracting it": _entropy(sign=1.0),
        "gives the log-sum, the mean of z not yet subtracted": _entropy(sign=0.0),
        "adds up the entropies of the halves": lambda first, second: sum(map(_alone, (first, second))),
        "takes the mean of the halves' entropies": lambda first, second: sum(map(_alone, (first, second))) / 2,
        "takes bits for nats": lambda first, second: _entropy()(first, second) / math.log(2),
    }
    return judge(your_entropy, cases, right=_entropy(), usual=usual)


def _sums(*logits: float) -> tuple[float, float, float]:
    """(m, s, t) of some logits."""
    top = max(logits)
    weights = [math.exp(z - top) for z in logits]
    return top, sum(weights), sum(z * weight for z, weight in zip(logits, weights, strict=True))


def _entropy(*, scale=lambda m, top: math.exp(m - top), scale_t=None, top_counts: float = 1.0, sign: float = -1.0):
    """The entropy over two parts, with one thing off."""

    def compute(first, second):
        top = max(first[0], second[0])
        parts = [part for part in (first, second) if part[1]]
        total = sum(scale(m, top) * s for m, s, _ in parts)
        weighted = sum((scale_t or scale)(m, top) * t for m, _, t in parts)
        return top_counts * top + math.log(total) + sign * weighted / total

    return compute


def _alone(part: tuple[float, float, float]) -> float:
    return part[0] + math.log(part[1]) - part[2] / part[1] if part[1] else 0.0


@exercise
def check_pulls(your_pulls):
    """Whether `your_pulls` tells the tokens whose loss has a gradient from those that need no backward product.

    Args:
        your_pulls: f(advantage, ratio, epsilon, beta) -> bool; ratio of the new to the old probability, beta the weight
            of the KL term, which pulls at every token.
    See: `losses.clipped_surrogate`.

    >>> check_pulls(lambda advantage, ratio, epsilon, beta: 1 - epsilon <= ratio <= 1 + epsilon)
    check_pulls: a bad answer, too likely already, advantage = -1, ratio = 1.5, epsilon = 0.2, beta = 0: must give True
    (yours: False).
    False
    """
    cases = [
        ("a good answer", (1.0, 1.0, 0.2, 0.0)),
        ("a good answer, raised enough", (1.0, 1.5, 0.2, 0.0)),
        ("a bad answer, too likely already", (-1.0, 1.5, 0.2, 0.0)),
        ("a good answer, less likely than before", (1.0, 0.5, 0.2, 0.0)),
        ("a bad answer, lowered enough", (-1.0, 0.5, 0.2, 0.0)),
        ("a dead group", (0.0, 1.1, 0.2, 0.0)),
        ("a dead group under a KL term", (0.0, 1.1, 0.2, 0.04)),
        ("raised enough, under a KL term", (1.0, 1.5, 0.2, 0.04)),
        ("a wide clip", (1.0, 1.5, 0.6, 0.0)),
    ]

    def right(advantage, ratio, epsilon, beta):
        import torch

        from grpo_nb import losses

        moved = torch.tensor([[ratio]], requires_grad=True)
        loss = losses.clipped_surrogate(moved, torch.tensor([[advantage]]), epsilon=epsilon)
        return beta > 0 or bool(torch.autograd.grad(loss.sum(), moved)[0].any())

    def inside(ratio, epsilon):
        return 1 - epsilon <= ratio <= 1 + epsilon

    usual = {
        "clips on both sides, whatever the sign of the advantage": lambda advantage, ratio, epsilon, beta: (
            beta > 0 or (advantage != 0 and inside(ratio, epsilon))
        ),
        "turns the sides of the clip": lambda advantage, ratio, epsilon, beta: right(-advantage, ratio, epsilon, beta),
        "forgets the dead groups, A = 0": lambda advantage, ratio, epsilon, beta: (
            advantage == 0 or right(advantage, ratio, epsilon, beta)
        ),
        "forgets the clip": lambda advantage, ratio, epsilon, beta: advantage != 0 or beta > 0,
        "forgets the KL term": lambda advantage, ratio, epsilon, beta: right(advantage, ratio, epsilon, 0.0),
        "lets the KL term pull in dead groups only": lambda advantage, ratio, epsilon, beta: right(
            advantage, ratio, epsilon, 0.0 if advantage else beta
        ),
        "tells which tokens need none": lambda *given: not right(*given),
    }
    return judge(your_pulls, cases, right=right, usual=usual)
