"""Exercises about the loss: where the clip stops a token, what a token weighs, a KL."""

import math

from grpo_nb.checks.exercises import exercise, judge

TOKENS = [
    ("on policy", (1.0, 2.0, 0.2)),
    ("inside the interval", (1.1, -1.0, 0.2)),
    ("good, and far enough up", (1.5, 1.0, 0.2)),
    ("good, but it went down", (0.5, 1.0, 0.2)),
    ("bad, and far enough down", (0.5, -1.0, 0.2)),
    ("bad, but it went up", (1.5, -1.0, 0.2)),
    ("a wider interval", (1.25, 0.5, 0.3)),
    ("a narrower interval", (0.95, -3.0, 0.04)),
    ("no advantage", (0.9, 0.0, 0.2)),
]
NAMES = ("grpo", "bnpo", "dr_grpo", "luspo")
SIZES = [([2, 8], 10), ([5, 5, 9], 16), ([1, 2, 5, 2], 8), ([3, 7, 6], 7)]  # lengths, max_completion_length
SAMPLES = {  # policy and reference over four answers; tokens in tenths of the reference, so that their mean is exact
    "a policy that left the reference": ([0.2, 0.6, 0.1, 0.1], [5, 1, 3, 1]),
    "a policy that came near": ([0.4, 0.2, 0.3, 0.1], [5, 1, 3, 1]),
    "the reference itself": ([0.3, 0.3, 0.2, 0.2], [3, 3, 2, 2]),
}


@exercise
def check_push(your_push):
    """Whether `your_push` is the way in which a step on the clipped surrogate moves a token's log π: 1, −1 or 0.

    Args:
        your_push: f(ratio, advantage, epsilon) -> number.
    See: notebook 01, exercise 1.2; `losses.clipped_surrogate`.

    >>> check_push(lambda ratio, advantage, epsilon: 0 if abs(ratio - 1) > epsilon else (advantage > 0) * 2 - 1)
    check_push: good, but it went down, ratio = 0.5, advantage = 1, epsilon = 0.2: must give 1 (yours: 0).
    False
    """
    return judge(
        your_push,
        TOKENS,
        right=_push,
        usual={
            "forgets the clip": lambda ratio, advantage, epsilon: _sign(advantage),
            "clips without the min, on both sides": lambda ratio, advantage, epsilon: (
                _sign(advantage) * (abs(ratio - 1) < epsilon)
            ),
            "clips the other side": lambda ratio, advantage, epsilon: _push(2 - ratio, advantage, epsilon),
            "clips above only, as if every advantage were positive": lambda ratio, advantage, epsilon: (
                _sign(advantage) * (ratio < 1 + epsilon)
            ),
            "gives the sign of the gradient, not of the step against it": lambda *given: -_push(*given),
            "brings the ratio back to 1": lambda ratio, advantage, epsilon: _sign(1 - ratio),
        },
    )


def _push(ratio: float, advantage: float, epsilon: float) -> int:
    import torch

    from grpo_nb import losses

    log_ratio = torch.tensor([[math.log(ratio)]], dtype=torch.float64, requires_grad=True)
    advantages = torch.tensor([[advantage]], dtype=torch.float64)
    loss = losses.clipped_surrogate(log_ratio.exp(), advantages, epsilon=epsilon)
    return -_sign(torch.autograd.grad(loss.sum(), log_ratio)[0].item())


def _sign(number: float) -> int:
    return (number > 0) - (number < 0)


@exercise
def check_loss_type(your_loss_type):
    """Whether `your_loss_type` names the loss by the weights of its tokens: grpo, bnpo, dr_grpo or luspo.

    Args:
        your_loss_type: f(lengths, weights, max_completion_length) -> str; a weight for each answer's tokens.
    See: notebook 08, exercise 8.1; `losses.token_weights`.
    """
    cases = [
        (f"{len(lengths)} answers", (lengths, _weights(lengths, name, limit), limit))
        for lengths, limit in SIZES
        for name in NAMES
    ]
    return judge(
        your_loss_type,
        cases,
        right=_loss_type,
        usual={
            "takes equal weights for grpo": lambda lengths, weights, limit: "grpo" if _divisor(weights) else "bnpo",
            "stops at equal weights": lambda lengths, weights, limit: "bnpo" if _divisor(weights) else "grpo",
            "forgets luspo": lambda lengths, weights, limit: _named(weights, {sum(lengths): "bnpo"}, "dr_grpo"),
            "leaves the number of answers out of dr_grpo": lambda lengths, weights, limit: _named(
                weights, {sum(lengths): "bnpo", limit: "dr_grpo"}, "luspo"
            ),
            "takes the longest answer for all tokens": lambda lengths, weights, limit: _named(
                weights, {max(lengths): "bnpo", len(lengths): "luspo"}, "dr_grpo"
            ),
        },
    )


def _weights(lengths: list[int], loss_type: str, limit: int) -> list[float]:
    """The weight of the first token of each answer; the micro-batch is the whole update."""
    import torch

    from grpo_nb import losses

    mask = (torch.arange(max(lengths)) < torch.tensor(lengths).unsqueeze(1)).double()
    return losses.token_weights(mask, loss_type=loss_type, max_completion_length=limit)[:, 0].tolist()


def _loss_type(lengths: list[int], weights: list[float], max_completion_length: int) -> str:
    def apart(name: str) -> float:
        ours = _weights(lengths, name, max_completion_length)
        return max(abs(one - other) for one, other in zip(ours, weights, strict=True))

    return min(NAMES, key=apart)


def _divisor(weights: list[float]) -> int:
    """One over a token's weight; 0 where the answers' tokens weigh differently."""
    return 0 if max(weights) - min(weights) > 1e-9 else round(1 / weights[0])


def _named(weights: list[float], divisors: dict[int, str], otherwise: str) -> str:
    divisor = _divisor(weights)
    return divisors.get(divisor, otherwise) if divisor else "grpo"


@exercise
def check_kl_estimate(your_kl):
    """Whether `your_kl` estimates KL(π ‖ π_ref), in nats, from tokens that the reference sampled.

    Args:
        your_kl: f(logps, ref_logps) -> number, of two tensors [tokens].
    See: notebook 08, exercise 8.3.
    """
    import torch

    from grpo_nb.losses import kl_k1, kl_k2, kl_k3

    cases = []
    for name, (policy, tenths) in SAMPLES.items():
        tokens = [token for token, count in enumerate(tenths) for _ in range(count)]
        logps = torch.tensor([math.log(policy[token]) for token in tokens], dtype=torch.float64)
        ref_logps = torch.tensor([math.log(tenths[token] / 10) for token in tokens], dtype=torch.float64)
        cases.append((name, (logps, ref_logps)))
    return judge(
        your_kl,
        cases,
        right=lambda logps, ref_logps: ((logps - ref_logps).exp() * kl_k1(logps, ref_logps)).mean(),
        usual={
            "takes the tokens for the policy's own": lambda p, ref: kl_k1(p, ref).mean(),
            "takes the KL the wrong way round": lambda p, ref: kl_k1(ref, p).mean(),
            "takes k2, which wants tokens of the policy": lambda p, ref: kl_k2(p, ref).mean(),
            "takes k3, which wants tokens of the policy": lambda p, ref: kl_k3(p, ref).mean(),
            "turns the weight round": lambda p, ref: ((ref - p).exp() * kl_k1(p, ref)).mean(),
            "adds up where the mean is asked for": lambda p, ref: ((p - ref).exp() * kl_k1(p, ref)).sum(),
        },
    )
