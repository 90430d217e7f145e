"""What learners write about LoRA adapters."""

import torch
from check_answers import Answers


def scaled(lora_A, lora_B, alpha, r):
    return lora_A, lora_B * (alpha / r)


def joined(A1, B1, A2, B2):
    return torch.cat([A1, A2], dim=0), torch.cat([B1, B2], dim=1)


def whole(A1, B1, A2, B2):
    return torch.eye(A1.shape[1]), B1 @ A1 + B2 @ A2


def by_hand(A1, B1, A2, B2):
    A = torch.zeros(len(A1) + len(A2), A1.shape[1])
    B = torch.zeros(len(B1), len(A))
    A[: len(A1)], A[len(A1) :] = A1, A2
    B[:, : len(A1)], B[:, len(A1) :] = B1, B2
    return A, B


def in_place(lora_A, lora_B, alpha, r):
    lora_B *= alpha / r
    return lora_A, lora_B


def pairs(tensors):
    return [(tensors[name.replace("lora_A", "lora_B")] @ A, name) for name, A in tensors.items() if "lora_A" in name]


def is_good(product):
    return product.isfinite().all() and product.abs().max() > 1e-6


def loop(tensors):
    for product, _ in pairs(tensors):
        if not product.isfinite().all() or product.abs().max() <= 1e-6:
            return False
    return True


def of_B(tensors):
    return all(is_good(tensor) for name, tensor in tensors.items() if "lora_B" in name)


ANSWERS = [
    Answers(
        check="check_scaled",
        right=[
            scaled,
            lambda A, B, alpha, r: (A * (alpha / r), B),
            lambda A, B, alpha, r: [A * (alpha / r) ** 0.5, B * (alpha / r) ** 0.5],
        ],
        wrong={
            "both": (lambda A, B, alpha, r: (A * alpha / r, B * alpha / r), "scales both"),
            "r/α": (lambda A, B, alpha, r: (A, B * r / alpha), "upside down"),
            "α": (lambda A, B, alpha, r: (A, B * alpha), "takes α for α/r"),
            "α/√r": (lambda A, B, alpha, r: (A, B * alpha / r**0.5), "rsLoRA"),
            "in place": (in_place, "must leave its arguments as they were"),
            "unchanged": (lambda A, B, alpha, r: (A, B), "as they are"),
            "the product": (lambda A, B, alpha, r: alpha / r * B @ A, "no pair (A, B)"),
            "nothing": (lambda A, B, alpha, r: None, "is there a `return`?"),
        },
        almost=(lambda A, B, alpha, r: (A, B * max(1, alpha / r)), "out 3, in 2, alpha 1, r 2"),
    ),
    Answers(
        check="check_joined",
        right=[joined, whole, by_hand, lambda A1, B1, A2, B2: joined(A2, B2, A1, B1)],
        wrong={
            "sums": (lambda A1, B1, A2, B2: (A1 + A2, B1 + B2), "mixes the two"),
            "the first": (lambda A1, B1, A2, B2: (A1, B1), "gives the first alone"),
            "the second": (lambda A1, B1, A2, B2: (A2, B2), "gives the second alone"),
            "crossed": (lambda A1, B1, A2, B2: joined(A1, B2, A2, B1), "pairs the first A"),
            "half of each": (lambda A1, B1, A2, B2: joined(A1, B1 / 2, A2, B2 / 2), "mean of the two changes"),
            "the change": (lambda A1, B1, A2, B2: B1 @ A1 + B2 @ A2, "no pair (A, B)"),
        },
        almost=(
            lambda A1, B1, A2, B2: joined(A1, B1, A2, B2) if len(A1) >= len(A2) else (A2, B2),
            "rank 1 and rank 2",
        ),
    ),
    Answers(
        check="check_is_trained",
        right=[
            loop,
            lambda tensors: all(is_good(product) for product, _ in pairs(tensors)),
            lambda tensors: torch.stack([is_good(p) for p, _ in pairs(tensors)]).all(),
        ],
        wrong={
            "B alone": (of_B, "looks at lora_B alone"),
            "not zero": (lambda t: all(p.isfinite().all() and p.any() for p, _ in pairs(t)), "any number but 0"),
            "any pair": (lambda t: any(is_good(p) for p, _ in pairs(t)), "is content with one good pair"),
            "infinity passes": (lambda t: all(p.abs().max() > 1e-6 for p, _ in pairs(t)), "lets infinity pass"),
            "no abs": (lambda t: all(p.isfinite().all() and p.max() > 1e-6 for p, _ in pairs(t)), "forgets the sign"),
            "turned round": (lambda t: not loop(t), "turns the answer round"),
            "finite": (lambda t: all(p.isfinite().all() for p, _ in pairs(t)), "looks only for NaN and infinity"),
            "no else": (lambda t: True if loop(t) else None, "must give False (yours: None"),
        },
        almost=(
            lambda t: all(p.isfinite().all() and p.abs().max() > 1e-4 for p, _ in pairs(t)),
            "a small B under a large A",
        ),
    ),
]
