"""What learners write about LoRA adapters."""

import torch
from check_answers import Answers


def merge(weight, lora_A, lora_B, alpha, r):
    return weight + alpha / r * lora_B @ lora_A


def copied(weight, lora_A, lora_B, alpha, r):
    merged = weight.clone()
    merged += (lora_B @ lora_A) * (alpha / r)
    return merged


def adding(weight, lora_A, lora_B, alpha, r):
    weight += alpha / r * lora_B @ lora_A
    return weight


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
        check="check_merge",
        right=[merge, copied, lambda *given: merge(*given).tolist(), lambda *given: merge(*given).numpy()],
        wrong={
            "no α/r": (lambda W, A, B, alpha, r: W + B @ A, "leaves out α/r"),
            "r/α": (lambda W, A, B, alpha, r: W + r / alpha * B @ A, "turns α/r upside down"),
            "α": (lambda W, A, B, alpha, r: W + alpha * B @ A, "takes α for α/r"),
            "α // r": (lambda W, A, B, alpha, r: W + alpha // r * B @ A, "rounds α/r down"),
            "the product": (lambda W, A, B, alpha, r: alpha / r * B @ A, "gives the product alone"),
            "A·B": (lambda W, A, B, alpha, r: W + alpha / r * A @ B, "two by two, weight"),
            "in place": (adding, "must leave its arguments as they were (yours changes them)"),
            "subtracted": (lambda W, A, B, alpha, r: W - alpha / r * B @ A, "subtracts the product"),
            "nothing": (lambda *given: None, "is there a `return`?"),
        },
        almost=(lambda W, A, B, alpha, r: W + max(1, alpha / r) * B @ A, "out 3, in 2, alpha 1, r 2"),
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
