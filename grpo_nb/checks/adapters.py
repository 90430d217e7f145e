"""Exercises about LoRA adapters: scaling one, joining two, and telling a trained from an untrained one."""

from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_scaled(your_scaled):
    """Whether B·A of `your_scaled` is α/r times the given product, and the given tensors are as they were.

    Args:
        your_scaled: f(lora_A [r, in], lora_B [out, r], alpha, r) -> (A, B).

    >>> check_scaled(lambda lora_A, lora_B, alpha, r: (lora_A * alpha / r, lora_B * alpha / r))
    check_scaled: one by one, alpha 2: your numbers are those of one who scales both. With A = [[1, -1]], B = [[0.5],
    [0]], alpha = 2, r = 1 it must give [[1, -1], [0, 0]] (yours: [[2, -2], [0, 0]]).
    False
    """
    from torch import eye, tensor

    row, tall = tensor([[1.0, -1.0]]), tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]])
    cases = [
        ("one by one, alpha 2", (row, tensor([[0.5], [0.0]]), 2, 1)),
        ("out 3, in 2, alpha 4, r 2", (eye(2), tall, 4, 2)),
        ("out 3, in 2, alpha 1, r 2", (eye(2), tall, 1, 2)),
        ("alpha = r", (eye(2), tall, 2, 2)),
    ]

    def scaled(factor):
        return lambda A, B, alpha, r: (A, B * factor(alpha, r))

    usual = {
        "scales both": lambda A, B, alpha, r: (A * alpha / r, B * alpha / r),
        "turns α/r upside down": scaled(lambda alpha, r: r / alpha),
        "takes α for α/r": scaled(lambda alpha, r: alpha),
        "takes α/√r, as rsLoRA does": scaled(lambda alpha, r: alpha / r**0.5),
        "takes the root of α/r, in one of the two": scaled(lambda alpha, r: (alpha / r) ** 0.5),
        "rounds α/r down": scaled(lambda alpha, r: alpha // r),
        "gives them back as they are": scaled(lambda alpha, r: 1),
    }
    return judge(your_scaled, cases, right=scaled(lambda alpha, r: alpha / r), usual=usual, keeps=True, call=_product)


@exercise
def check_joined(your_joined):
    """Whether B·A of `your_joined` is B₁·A₁ + B₂·A₂, for two adapters of any two ranks.

    Args:
        your_joined: f(A1 [r₁, in], B1 [out, r₁], A2 [r₂, in], B2 [out, r₂]) -> (A, B).
    """
    from torch import eye, tensor, zeros

    row, column, tall = (
        tensor([[1.0, -1.0]]),
        tensor([[0.5], [0.0], [2.0]]),
        tensor([[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]),
    )
    cases = [
        ("twice the same", (row, column, row, column)),
        ("rank 1 and rank 2", (row, column, eye(2), tall)),
        ("rank 2 and rank 1", (eye(2), tall, row, column)),
        ("a fresh one beside a trained one", (eye(2), zeros(3, 2), row, column)),
    ]

    def joined(A1, B1, A2, B2):
        import torch

        return torch.cat([A1, A2], dim=0), torch.cat([B1, B2], dim=1)

    usual = {
        "adds A to A and B to B, which mixes the two": lambda A1, B1, A2, B2: (A1 + A2, B1 + B2),
        "takes the mean of each": lambda A1, B1, A2, B2: ((A1 + A2) / 2, (B1 + B2) / 2),
        "gives the first alone": lambda A1, B1, A2, B2: (A1, B1),
        "gives the second alone": lambda A1, B1, A2, B2: (A2, B2),
        "pairs the first A with the second B": lambda A1, B1, A2, B2: joined(A1, B2, A2, B1),
        "takes the mean of the two changes": lambda A1, B1, A2, B2: joined(A1, B1 / 2, A2, B2 / 2),
    }
    return judge(your_joined, cases, right=joined, usual=usual, keeps=True, call=_product)


def _product(function, *given):
    """B·A of the pair that a function gives: one change can be written as many pairs."""
    pair = function(*given)
    is_pair = isinstance(pair, tuple | list) and len(pair) == 2 and all(getattr(part, "ndim", 0) == 2 for part in pair)
    if pair is None or not is_pair or pair[0].shape[0] != pair[1].shape[1]:
        return None if pair is None else "no pair (A, B) with one inner width"
    return pair[1] @ pair[0]


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
