"""What learners write about the loss head."""

import math

import numpy as np
import torch
from check_answers import Answers


def merged(first, second):
    top = max(first[0], second[0])
    return top, sum(total * math.exp(peak - top) for peak, total in (first, second) if total)


def guarded(first, second):
    top = max(first[0], second[0])
    if top == -math.inf:
        return top, 0.0
    return [top, first[1] * math.exp(first[0] - top) + second[1] * math.exp(second[0] - top)]


def two_ways(first, second):
    if first[0] < second[0]:
        first, second = second, first
    return np.array([first[0], first[1] + (second[1] * math.exp(second[0] - first[0]) if second[1] else 0.0)])


def scaled(factor):
    def compute(first, second):
        top = max(first[0], second[0])
        return top, sum(total * factor(peak, top) for peak, total in (first, second) if total)

    return compute


def einsum(weight, p, target):
    return torch.einsum("v,vh->h", torch.nn.functional.one_hot(torch.tensor(target), len(p)) - p, weight)


def by_autograd(weight, p, target):
    h = torch.zeros(weight.shape[1], requires_grad=True)
    logps = (weight @ h + p.log().clamp(min=-1e4)).log_softmax(-1)
    return torch.autograd.grad(logps[target], h)[0]


ANSWERS = [
    Answers(
        check="check_merged_sums",
        right=[merged, guarded, two_ways, lambda *given: torch.tensor(merged(*given), dtype=torch.float64)],
        wrong={
            "sums added": (scaled(lambda peak, top: 1.0), "adds up the sums"),
            "wrong way round": (scaled(lambda peak, top: math.exp(top - peak)), "the wrong way round"),
            "own tops": (scaled(lambda peak, top: math.exp(peak)), "relative to no new top"),
            "no exponential": (scaled(lambda peak, top: peak - top), "without the exponential"),
            "too large": (
                lambda a, b: (max(a[0], b[0]), math.exp(-max(a[0], b[0])) * sum(s * math.exp(t) for t, s in (a, b))),
                "take, first = [1000, 1], second = [0, 5]: must give [1000, 1] (yours raises OverflowE",
            ),
            "−∞ − (−∞)": (
                lambda a, b: (max(a[0], b[0]), sum(s * torch.tensor(t - max(a[0], b[0])).exp() for t, s in (a, b))),
                "nothing twice, first = [-inf, 0], second = [-inf, 0]: must give [-inf, 0] (yours: [-inf, nan])",
            ),
            "the total": (lambda *given: merged(*given)[1], "of shape [2] (yours: 2.5, one number)"),
        },
        almost=(
            lambda a, b: merged(a, b) if math.isfinite(a[0] + b[0]) else (0.0, 2.0),
            "nothing first, first = [-inf, 0], second = [4, 2]: must give [4, 2] (yours: [0, 2])",
        ),
    ),
    Answers(
        check="check_direction",
        right=[lambda weight, p, target: weight[target] - p @ weight, einsum, by_autograd],
        wrong={
            "the sign": (lambda weight, p, target: p @ weight - weight[target], "turns the sign"),
            "the row": (lambda weight, p, target: weight[target], "leaves out the others' pull"),
            "1 − p": (lambda weight, p, target: (1 - p[target]) * weight[target], "the target's own share only"),
            "equal weights": (lambda weight, p, target: weight[target] - weight.mean(0), "for as likely as the next"),
            "of p": (lambda weight, p, target: p[target] * (weight[target] - p @ weight), "of p, not of log p"),
            "a number": (lambda weight, p, target: (weight[target] - p @ weight).sum(), "(yours: 0, one number)"),
            "the others": (lambda weight, p, target: -p @ weight, "gives the others' pull alone"),
            "two numbers": (lambda weight, p, target: (weight[target] - p @ weight)[:2], "four words, H = 3"),
        },
        almost=(  # among the others, but divided by nothing
            lambda weight, p, target: weight[target] - p @ weight / (1 - p[target]) * (1 - p[target]),
            "certain already",
        ),
    ),
]
