"""Exercises about the loss: the clipped surrogate of a token, and what a token weighs."""

from grpo_nb import losses
from grpo_nb.checks.exercises import exercise, judge


def _clip(number: float, low: float, high: float) -> float:
    return max(low, min(number, high))


@exercise
def check_surrogate(your_surrogate):
    """Whether `your_surrogate` is −min(ρA, clip(ρ, 1−ε, 1+ε_high)A) of one token.

    Args:
        your_surrogate: f(ratio, advantage, epsilon, epsilon_high) -> float.
    See: `losses.clipped_surrogate`.

    >>> check_surrogate(lambda ratio, advantage, epsilon, epsilon_high: -ratio * advantage)
    check_surrogate: too likely already: your numbers are those of one who does not clip. With ratio = 1.5,
    advantage = 1, epsilon = 0.2, epsilon_high = 0.2 it must give -1.2 (yours: -1.5).
    False
    """
    import torch

    cases = [
        ("on policy", (1.0, 2.0, 0.2, 0.2)),
        ("inside the interval", (1.1, 1.0, 0.2, 0.2)),
        ("too likely already", (1.5, 1.0, 0.2, 0.2)),
        ("good, but less likely than before", (0.5, 1.0, 0.2, 0.2)),
        ("bad, and less likely already", (0.5, -1.0, 0.2, 0.2)),
        ("bad, but more likely than before", (1.5, -1.0, 0.2, 0.2)),
        ("a higher upper end", (1.5, 2.0, 0.2, 0.25)),
        ("a wider lower end", (0.5, -2.0, 0.25, 0.5)),
        ("no advantage", (3.0, 0.0, 0.2, 0.2)),
    ]

    def right(ratio, advantage, epsilon, epsilon_high):
        each = (torch.tensor([[number]], dtype=torch.float64) for number in (ratio, advantage))
        return losses.clipped_surrogate(*each, epsilon=epsilon, epsilon_high=epsilon_high).item()

    usual = {
        "does not clip": lambda ratio, A, low, high: -ratio * A,
        "clips, and takes no min of the two": lambda ratio, A, low, high: -_clip(ratio, 1 - low, 1 + high) * A,
        "takes the max for the min": lambda ratio, A, low, high: -max(ratio * A, _clip(ratio, 1 - low, 1 + high) * A),
        "forgets the minus": lambda ratio, A, low, high: min(ratio * A, _clip(ratio, 1 - low, 1 + high) * A),
        "takes ε for both ends": lambda ratio, A, low, high: -min(ratio * A, _clip(ratio, 1 - low, 1 + low) * A),
        "changes the two ends": lambda ratio, A, low, high: -min(ratio * A, _clip(ratio, 1 - high, 1 + low) * A),
        "clips ρA, and not ρ": lambda ratio, A, low, high: -min(ratio * A, _clip(ratio * A, 1 - low, 1 + high)),
        "clips to −ε … ε, around 0": lambda ratio, A, low, high: -min(ratio * A, _clip(ratio, -low, high) * A),
        "clips above only": lambda ratio, A, low, high: -min(ratio * A, min(ratio, 1 + high) * A),
    }
    return judge(your_surrogate, cases, right=right, usual=usual)


@exercise
def check_token_weights(your_weights):
    """Whether `your_weights` is what one token of each answer weighs under grpo, bnpo and dr_grpo.

    Args:
        your_weights: f(lengths, loss_type, max_completion_length) -> list of floats, one for each answer.
    See: `losses.token_weights`.

    >>> check_token_weights(lambda lengths, loss_type, max_completion_length: [1 / sum(lengths)] * len(lengths))
    check_token_weights: two answers: your numbers are those of one who divides by all tokens under every loss
    type. With lengths = [2, 8], loss_type = 'grpo', max_completion_length = 10 it must give [0.25, 0.0625]
    (yours: [0.1, 0.1]).
    False
    """
    import torch

    answers = [("two answers", [2, 8], 10), ("a single one", [5], 20), ("four answers", [1, 2, 5, 2], 8)]
    types = ("grpo", "bnpo", "dr_grpo")
    cases = [(name, (lengths, loss_type, limit)) for name, lengths, limit in answers for loss_type in types]

    def right(lengths, loss_type, max_completion_length):
        mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).double()
        options = {"loss_type": loss_type, "max_completion_length": max_completion_length}
        return losses.token_weights(mask, **options)[:, 0].tolist()

    def off(**divisors):
        """The right weights, but for some loss types' divisors, of (lengths, length, limit)."""

        def compute(lengths, loss_type, limit):
            if loss_type not in divisors:
                return right(lengths, loss_type, limit)
            return [1 / divisors[loss_type](lengths, length, limit) for length in lengths]

        return compute

    def padded(lengths, length, limit):
        return len(lengths) * max(lengths)

    usual = {
        "divides by all tokens under every loss type": off(
            grpo=lambda lengths, length, limit: sum(lengths), dr_grpo=lambda lengths, length, limit: sum(lengths)
        ),
        "divides by an answer's own length under every loss type": off(
            bnpo=lambda lengths, length, limit: len(lengths) * length,
            dr_grpo=lambda lengths, length, limit: len(lengths) * length,
        ),
        "forgets the number of answers under grpo": off(grpo=lambda lengths, length, limit: length),
        "forgets the number of answers under dr_grpo": off(dr_grpo=lambda lengths, length, limit: limit),
        "forgets the number of answers under grpo and dr_grpo": off(
            grpo=lambda lengths, length, limit: length, dr_grpo=lambda lengths, length, limit: limit
        ),
        "takes the longest answer for max_completion_length under dr_grpo": off(dr_grpo=padded),
        "counts the padding under bnpo": off(bnpo=padded),
        "averages over answers first under bnpo": off(bnpo=lambda lengths, length, limit: len(lengths) * length),
        "gives the weight of the whole answer": lambda lengths, loss_type, limit: [
            length * weight for length, weight in zip(lengths, right(lengths, loss_type, limit), strict=True)
        ],
    }
    return judge(your_weights, cases, right=right, usual=usual)
