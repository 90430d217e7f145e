"""Exercises about LoRA adapters: merging one, and telling a trained from an untrained one."""

from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_merge(your_merge):
    """Whether `your_merge` folds a LoRA pair into its weight, W + (α/r)·BA, and leaves `weight` as it was.

    Args:
        your_merge: f(weight [out, in], lora_A [r, in], lora_B [out, r], alpha, r) -> tensor [out, in].

    >>> check_merge(lambda weight, lora_A, lora_B, alpha, r: weight + lora_B @ lora_A)
    check_merge: two by two: your numbers are those of one who leaves out α/r. With weight = [[1, 2], [3, 4]],
    lora_A = [[1, -1]], lora_B = [[0.5], [0]], alpha = 2, r = 1 it must give [[2, 1], [3, 4]] (yours: [[1.5,
    1.5], [3, 4]]).
    False
    """
    from torch import tensor

    square, ones, swap = tensor([[1.0, 2.0], [3.0, 4.0]]), tensor([[1.0, 1.0]] * 3), tensor([[0.0, 1.0], [1.0, 0.0]])
    row, tall = tensor([[1.0, -1.0]]), tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])  # B; times swap: columns change
    cases = [
        ("a fresh adapter", (square, row, tensor([[0.0], [0.0]]), 2, 1)),
        ("two by two", (square, row, tensor([[0.5], [0.0]]), 2, 1)),
        ("out 3, in 2, alpha 4, r 2", (ones, swap, tall, 4, 2)),
        ("out 3, in 2, alpha 1, r 2", (ones, swap, tall, 1, 2)),
    ]

    def scaled(factor, *, of_weight=1):
        return lambda weight, A, B, alpha, r: of_weight * weight + factor(alpha, r) * B @ A

    def right(weight, lora_A, lora_B, alpha, r):
        return weight + alpha / r * lora_B @ lora_A

    usual = {
        "leaves out α/r": scaled(lambda alpha, r: 1),
        "turns α/r upside down": scaled(lambda alpha, r: r / alpha),
        "takes α for α/r": scaled(lambda alpha, r: alpha),
        "takes 1/r for α/r": scaled(lambda alpha, r: 1 / r),
        "takes α/√r, as rsLoRA does": scaled(lambda alpha, r: alpha / r**0.5),
        "rounds α/r down": scaled(lambda alpha, r: alpha // r),
        "subtracts the product": scaled(lambda alpha, r: -alpha / r),
        "gives the product alone": scaled(lambda alpha, r: alpha / r, of_weight=0),
        "merges twice": scaled(lambda alpha, r: 2 * alpha / r),
    }
    return judge(your_merge, cases, right=right, usual=usual, keeps=True)


@exercise
def check_is_trained(your_is_trained):
    """Whether `your_is_trained` judges an adapter by its products B·A: all finite, none smaller than 10⁻⁶ everywhere.

    Args:
        your_is_trained: f({name: tensor}) -> bool.

    >>> check_is_trained(lambda tensors: all(tensor.any() for tensor in tensors.values()))
    check_is_trained: noise of 1e-12 in lora_B: must give False (yours: True).
    False
    """
    import torch

    def adapter(*values_of_B: float, of_A: float = 1.0) -> dict:
        """One pair for each value: A of ones, B of ones but for its first number."""
        pairs = {}
        for i, value in enumerate(values_of_B):
            pairs[f"layers.{i}.lora_A.weight"] = torch.full((2, 4), of_A)
            pairs[f"layers.{i}.lora_B.weight"] = torch.full((3, 2), value if 0 <= value < 1 else 1.0)
            pairs[f"layers.{i}.lora_B.weight"][0, 0] = value
        return pairs

    cases = [
        ("a trained pair", adapter(0.01)),
        ("a trained pair whose B is negative", {k: -v if "_B" in k else v for k, v in adapter(0.5).items()}),
        ("a fresh pair, lora_B zero", adapter(0.0)),
        ("noise of 1e-12 in lora_B", adapter(1e-12)),
        ("one NaN", adapter(float("nan"))),
        ("one infinity", adapter(float("inf"))),
        ("two trained pairs", adapter(0.01, 0.02)),
        ("a trained pair and a fresh one", adapter(0.01, 0.0)),
        ("a small pair, whose product is smaller", adapter(1e-4, of_A=1e-4)),
        ("a small B under a large A", adapter(1e-7, of_A=10.0)),
    ]
    cases = [(name, (tensors,)) for name, tensors in cases]

    def judged(is_good, whole=all):
        """Whether all pairs, or any, are good, by a function of their product and B."""

        def compute(tensors):
            pairs = [(A, tensors[name.replace("lora_A", "lora_B")]) for name, A in tensors.items() if "lora_A" in name]
            return whole(bool(is_good(B @ A, B)) for A, B in pairs)

        return compute

    usual = {
        "looks at lora_B alone": judged(lambda BA, B: B.isfinite().all() and B.abs().max() > 1e-6),
        "takes any number but 0 for training": judged(lambda BA, B: BA.isfinite().all() and BA.any()),
        "is content with one good pair": judged(lambda BA, B: BA.isfinite().all() and BA.abs().max() > 1e-6, any),
        "lets NaN and infinity pass": judged(lambda BA, B: not BA.abs().max() <= 1e-6),
        "lets infinity pass": judged(lambda BA, B: not BA.isnan().any() and BA.abs().max() > 1e-6),
        "forgets the sign: a negative product is one, too": judged(
            lambda BA, B: BA.isfinite().all() and BA.max() > 1e-6
        ),
        "looks only for NaN and infinity": judged(lambda BA, B: BA.isfinite().all()),
        "turns the answer round": judged(lambda BA, B: not (BA.isfinite().all() and BA.abs().max() > 1e-6), any),
    }
    right = judged(lambda BA, B: BA.isfinite().all() and BA.abs().max() > 1e-6)
    return judge(your_is_trained, cases, right=right, usual=usual)
