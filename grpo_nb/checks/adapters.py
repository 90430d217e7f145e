"""Exercises about LoRA adapters: merging one, and telling a trained from an untrained one."""

from grpo_nb.checks.exercises import exercise


@exercise
def check_merge(your_merge):
    """Whether `your_merge` folds a LoRA pair into its weight, W + (α/r)·BA, and leaves `weight` as it was.

    Args:
        your_merge: f(weight [out, in], lora_A [r, in], lora_B [out, r], alpha, r) -> tensor [out, in].
    See: notebook 07, exercise 7.1.

    >>> check_merge(lambda weight, lora_A, lora_B, alpha, r: weight + lora_B @ lora_A)
    check_merge: two by two, must give [[2.0, 1.0], [3.0, 4.0]] (yours: [[1.5, 1.5], [3.0, 4.0]]).
    False
    """
    import torch

    square, ones, swap = [[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0]] * 3, [[0.0, 1.0], [1.0, 0.0]]
    tall = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]  # B; times swap: its columns change places
    cases = [
        ("a fresh adapter", square, [[1.0, -1.0]], [[0.0], [0.0]], 2, 1, square),
        ("two by two", square, [[1.0, -1.0]], [[0.5], [0.0]], 2, 1, [[2.0, 1.0], [3.0, 4.0]]),
        ("out 3, in 2, alpha 4, r 2", ones, swap, tall, 4, 2, [[1.0, 3.0], [3.0, 1.0], [3.0, 3.0]]),
        ("out 3, in 2, alpha 1, r 2", ones, swap, tall, 1, 2, [[1.0, 1.5], [1.5, 1.0], [1.5, 1.5]]),
    ]
    for name, weight, lora_A, lora_B, alpha, r, merged in cases:
        weight = torch.tensor(weight)
        before = weight.clone()
        yours = your_merge(weight, torch.tensor(lora_A), torch.tensor(lora_B), alpha, r)
        if not torch.equal(weight, before):
            return False, f"{name}, must leave `weight` as it was (yours adds in place)."
        yours = yours.tolist() if isinstance(yours, torch.Tensor) else yours
        if yours != merged:
            return False, f"{name}, must give {merged} (yours: {yours})."
    return True, f"all {len(cases)} cases fit, and the weight is left alone."


@exercise
def check_is_trained(your_is_trained):
    """Whether `your_is_trained` judges an adapter by its products B·A: all finite, none smaller than 10⁻⁶ everywhere.

    Args:
        your_is_trained: f({name: tensor}) -> bool.
    See: notebook 07, exercise 7.2.

    >>> check_is_trained(lambda tensors: all(tensor.any() for tensor in tensors.values()))
    check_is_trained: noise of 1e-12 in lora_B, must be False (yours: True).
    False
    """
    import torch

    def adapter(*values_of_B: float) -> dict:
        """One pair for each value: A of ones, B of ones but for its first number."""
        pairs = {}
        for i, value in enumerate(values_of_B):
            small = value if 0 <= value < 1 else 1.0
            pairs[f"layers.{i}.lora_A.weight"] = torch.ones(2, 4)
            pairs[f"layers.{i}.lora_B.weight"] = torch.full((3, 2), small)
            pairs[f"layers.{i}.lora_B.weight"][0, 0] = value
        return pairs

    cases = [
        ("a trained pair", adapter(0.01), True),
        ("a trained pair whose B is negative", {k: -v if "_B" in k else v for k, v in adapter(0.5).items()}, True),
        ("a fresh pair, lora_B zero", adapter(0.0), False),
        ("noise of 1e-12 in lora_B", adapter(1e-12), False),
        ("one NaN", adapter(float("nan")), False),
        ("one infinity", adapter(float("inf")), False),
        ("two trained pairs", adapter(0.01, 0.02), True),
        ("a trained pair and a fresh one", adapter(0.01, 0.0), False),
    ]
    for name, tensors, expected in cases:
        yours = your_is_trained(tensors)
        if bool(yours) is not expected:
            return False, f"{name}, must be {expected} (yours: {yours})."
    return True, f"all {len(cases)} cases fit."
