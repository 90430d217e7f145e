"""What learners write about the loss."""

import math

import torch
from check_answers import Answers

from grpo_nb import losses


def push(ratio, advantage, epsilon):
    if advantage > 0:
        return 1 if ratio < 1 + epsilon else 0
    return -1 if advantage < 0 and ratio > 1 - epsilon else 0


def by_autograd(ratio, advantage, epsilon):
    logp = torch.tensor(math.log(ratio), requires_grad=True)
    inside = logp.exp().clamp(1 - epsilon, 1 + epsilon)
    torch.min(logp.exp() * advantage, inside * advantage).backward()
    return torch.sign(logp.grad)


def name(lengths, weights, limit):
    if max(weights) - min(weights) > 1e-9:
        return "grpo"
    divisors = {sum(lengths): "bnpo", len(lengths): "luspo", len(lengths) * limit: "dr_grpo"}
    return divisors[round(1 / weights[0])]


def by_trying(lengths, weights, limit):
    mask = (torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]).double()
    for loss_type in ("grpo", "bnpo", "luspo", "dr_grpo"):
        found = losses.token_weights(mask, loss_type=loss_type, max_completion_length=limit)[:, 0]
        if torch.allclose(found, torch.tensor(weights, dtype=torch.float64)):
            return loss_type


def is_flat(weights):
    return max(weights) - min(weights) < 1e-9


ANSWERS = [
    Answers(
        check="check_push",
        right=[push, by_autograd, lambda r, a, e: [float((a > 0 and r < 1 + e) - (a < 0 and r > 1 - e))]],
        wrong={
            "no clip": (lambda r, a, e: (a > 0) - (a < 0), "forgets the clip"),
            "no min": (lambda r, a, e: (1 - e < r < 1 + e) * ((a > 0) - (a < 0)), "clips without the min"),
            "of the loss": (lambda r, a, e: -push(r, a, e), "the sign of the gradient"),
            "back to 1": (lambda r, a, e: (r < 1) - (r > 1), "brings the ratio back to 1"),
            "above only": (lambda r, a, e: (r < 1 + e) * ((a > 0) - (a < 0)), "clips above only"),
            "max for min": (
                lambda r, a, e: ((a > 0) * (r > 1 - e) or -((a < 0) * (r < 1 + e))) * 1,
                "clips the other side",
            ),
        },
        almost=(lambda r, a, e: push(r, a, 0.2), "a wider interval"),
    ),
    Answers(
        check="check_loss_type",
        right=[name, by_trying, lambda lengths, weights, limit: {"type": name(lengths, weights, limit)}["type"]],
        wrong={
            "equal is grpo": (lambda n, w, limit: "grpo" if is_flat(w) else "bnpo", "equal weights for grpo"),
            "equal is bnpo": (lambda n, w, limit: "bnpo" if is_flat(w) else "grpo", "stops at equal weights"),
            "no luspo": (
                lambda n, w, limit: "grpo" if not is_flat(w) else "bnpo" if round(1 / w[0]) == sum(n) else "dr_grpo",
                "forgets luspo",
            ),
            "the limit alone": (
                lambda n, w, limit: (
                    "grpo" if not is_flat(w) else {sum(n): "bnpo", limit: "dr_grpo"}.get(round(1 / w[0]), "luspo")
                ),
                "leaves the number of answers out of dr_grpo",
            ),
            "a number": (lambda n, w, limit: 1 / w[0], "must give 'grpo' (yours: 4)"),
            "dapo": (lambda n, w, limit: name(n, w, limit).replace("bnpo", "dapo"), "(yours: 'dapo')"),
        },
        almost=(
            lambda n, w, limit: (
                "grpo" if w[0] != w[1] else {sum(n): "bnpo", len(n): "luspo"}.get(round(1 / w[0]), "dr_grpo")
            ),
            "3 answers",
        ),
    ),
    Answers(
        check="check_kl_estimate",
        right=[
            lambda p, q: ((p - q).exp() * (p - q)).mean(),
            lambda p, q: ((p - q).exp() * ((q - p).exp() - (q - p) - 1)).mean(),  # k3 under the weight
            lambda p, q: sum(math.exp(a - b) * (a - b) for a, b in zip(p.tolist(), q.tolist(), strict=True)) / len(p),
        ],
        wrong={
            "k1": (lambda p, q: (p - q).mean(), "takes the tokens for the policy's own"),
            "the other way": (lambda p, q: (q - p).mean(), "takes the KL the wrong way round"),
            "k3": (lambda p, q: ((q - p).exp() - (q - p) - 1).mean(), "takes k3"),
            "π_ref/π": (lambda p, q: ((q - p).exp() * (p - q)).mean(), "turns the weight round"),
            "the sum": (lambda p, q: ((p - q).exp() * (p - q)).sum(), "adds up"),
            "one for each token": (lambda p, q: (p - q).exp() * (p - q), "of shape [10]"),
        },
        almost=(lambda p, q: ((p - q).exp().clamp(max=5) * (p - q)).mean(), "a policy that left the reference"),
    ),
]
