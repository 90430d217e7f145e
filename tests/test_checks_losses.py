"""What learners write about the clip and the weights of tokens."""

import numpy as np
import torch
from check_answers import Answers


def clip(ratio, low, high):
    return max(1 - low, min(ratio, 1 + high))


def surrogate(ratio, A, low, high):
    return -min(ratio * A, clip(ratio, low, high) * A)


def by_cases(ratio, advantage, epsilon, epsilon_high):
    if advantage > 0:
        return -advantage * min(ratio, 1 + epsilon_high)
    return -advantage * max(ratio, 1 - epsilon)


def in_torch(ratio, advantage, epsilon, epsilon_high):
    rho = torch.tensor(ratio)
    return -torch.minimum(rho * advantage, rho.clamp(1 - epsilon, 1 + epsilon_high) * advantage)


def weights(lengths, loss_type, limit):
    rows = len(lengths)
    whole = {"bnpo": sum(lengths), "dr_grpo": rows * limit}
    return [1 / whole.get(loss_type, rows * length) for length in lengths]


def in_numpy(lengths, loss_type, max_completion_length):
    lengths = np.array(lengths)
    if loss_type == "grpo":
        return 1 / lengths / len(lengths)
    return np.ones(len(lengths)) / (lengths.sum() if loss_type == "bnpo" else len(lengths) * max_completion_length)


def off(**divisors):
    def compute(lengths, loss_type, limit):
        if loss_type not in divisors:
            return weights(lengths, loss_type, limit)
        return [1 / divisors[loss_type](lengths, length, limit) for length in lengths]

    return compute


ANSWERS = [
    Answers(
        check="check_surrogate",
        right=[surrogate, by_cases, in_torch, lambda *given: np.float32(surrogate(*given))],
        wrong={
            "no clip": (lambda ratio, A, low, high: -ratio * A, "does not clip"),
            "no min": (lambda ratio, A, low, high: -clip(ratio, low, high) * A, "clips, and takes no min"),
            "max": (
                lambda ratio, A, low, high: -max(ratio * A, clip(ratio, low, high) * A),
                "takes the max for the min",
            ),
            "no minus": (lambda *given: -surrogate(*given), "forgets the minus"),
            "one ε": (lambda ratio, A, low, high: surrogate(ratio, A, low, low), "takes ε for both ends"),
            "ends changed": (lambda ratio, A, low, high: surrogate(ratio, A, high, low), "changes the two ends"),
            "ρA clipped": (
                lambda ratio, A, low, high: -min(ratio * A, clip(ratio * A, low, high)),
                "clips ρA, and not ρ",
            ),
            "a pair": (
                lambda ratio, A, low, high: (ratio * A, clip(ratio, low, high) * A),
                "one number (yours: [2, 2], of shape",
            ),
        },
        almost=(lambda ratio, A, low, high: -A * min(ratio, 1 + high) if A > 0 else -A * ratio, "clips above only"),
    ),
    Answers(
        check="check_token_weights",
        right=[weights, in_numpy, lambda *given: torch.tensor(weights(*given))],
        wrong={
            "all tokens": (
                lambda lengths, *rest: [1 / sum(lengths)] * len(lengths),
                "all tokens under every loss type",
            ),
            "own length": (
                lambda lengths, *rest: [1 / len(lengths) / length for length in lengths],
                "own length under every loss type",
            ),
            "no rows": (
                off(grpo=lambda lengths, length, limit: length, dr_grpo=lambda lengths, length, limit: limit),
                "forgets the number of answers under grpo and dr_grpo",
            ),
            "the longest": (
                off(dr_grpo=lambda lengths, length, limit: len(lengths) * max(lengths)),
                "the longest answer",
            ),
            "padding": (off(bnpo=lambda lengths, length, limit: len(lengths) * max(lengths)), "counts the padding"),
            "of the answer": (
                lambda lengths, *rest: [n * w for n, w in zip(lengths, weights(lengths, *rest), strict=True)],
                "the whole answer",
            ),
            "a mask": (
                lambda lengths, *rest: [[w] * n for n, w in zip(lengths, weights(lengths, *rest), strict=True)],
                "must give [0.25, 0.0625] (yours: [[0.25, 0.25], [0.0625",
            ),
            "the sum": (lambda *given: sum(weights(*given)), "(yours: 0.3125, one number)"),
        },
        almost=(off(dr_grpo=lambda lengths, length, limit: len(lengths) * (limit + 1)), "loss_type = 'dr_grpo'"),
    ),
]
