"""Exercises about batches: prompts and updates from six integers, and by which factor an update is off."""

from fractions import Fraction

from grpo_nb.batchflow import arithmetic
from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_batch(your_batch):
    """Whether `your_batch` is (prompts of a round, completions of an update, updates of a round).

    Args:
        your_batch: f(b, A, S, P, G, mu): per_device_train_batch_size, gradient_accumulation_steps,
            steps_per_generation, num_processes, num_generations, num_iterations -> three numbers.
    See: `batchflow.arithmetic.batch_numbers`.

    >>> check_batch(lambda b, A, S, P, G, mu: (b * S * P / G, b * S * P, mu * S / A))
    check_batch: a round of two updates: your numbers are those of one who takes S for A in the completions of
    an update. With b = 3, A = 2, S = 4, P = 1, G = 3, mu = 1 it must give [4, 6, 2] (yours: [4, 12, 2]).
    False
    """
    cases = [
        ("TRL's defaults", (8, 1, 1, 1, 8, 1)),
        ("a round of two updates", (3, 2, 4, 1, 3, 1)),
        ("groups that straddle micro-steps", (3, 4, 4, 1, 4, 1)),
        ("two processes", (3, 2, 4, 2, 2, 1)),
        ("three passes", (4, 4, 4, 1, 4, 3)),
        ("an update of two rounds", (2, 4, 2, 4, 8, 1)),
        ("replay that ends between two updates", (1, 3, 4, 1, 2, 2)),
    ]

    def right(b, A, S, P, G, mu):
        batch = {"per_device_train_batch_size": b, "gradient_accumulation_steps": A}
        found = arithmetic.batch_numbers(batch | {"steps_per_generation": S, "num_generations": G}, num_processes=P)
        return found["unique_prompts"], found["completions_per_update"], Fraction(mu * S, A)

    usual = {
        "takes S for A in the completions of an update": lambda b, A, S, P, G, mu: (
            b * S * P / G,
            b * S * P,
            mu * S / A,
        ),
        "takes A for S in the prompts of a round": lambda b, A, S, P, G, mu: (b * A * P / G, b * A * P, mu * S / A),
        "forgets the processes": lambda b, A, S, P, G, mu: (b * S / G, b * A, mu * S / A),
        "forgets the passes": lambda b, A, S, P, G, mu: (b * S * P / G, b * A * P, S / A),
        "takes completions for prompts, and does not divide by G": lambda b, A, S, P, G, mu: (
            b * S * P,
            b * A * P,
            mu * S / A,
        ),
        "turns S / A upside down": lambda b, A, S, P, G, mu: (b * S * P / G, b * A * P, mu * A / S),
        "rounds the updates of a round down": lambda b, A, S, P, G, mu: (b * S * P / G, b * A * P, mu * S // A),
        "forgets that an update accumulates": lambda b, A, S, P, G, mu: (b * S * P / G, b * P, mu * S),
        "counts the prompts once for every pass": lambda b, A, S, P, G, mu: (mu * b * S * P / G, b * A * P, mu * S / A),
    }
    return judge(your_batch, cases, right=right, usual=usual)


@exercise
def check_factors(your_factors):
    """Whether `your_factors` is what `dapo` multiplies each update by, compared with a mean over its own tokens.

    Args:
        your_factors: f(rounds, gradient_accumulation_steps, rescales) -> list of floats, one for each optimizer step.
            rounds: for each generation round, the tokens of each of its micro-steps. rescales: False for a TRL that
            forgets A / S, as up to 1.9.0.
    See: `losses.token_weights`.

    >>> check_factors(lambda rounds, gradient_accumulation_steps, rescales: [1.0] * len(rounds))
    check_factors: one long window, rounds = [[30, 10, 5, 15]], gradient_accumulation_steps = 2, rescales = True: must
    give [1.333, 0.6667], of shape [2] (yours: [1], of shape [1]).
    False
    """
    cases = [
        ("one round, one update", ([[30, 10]], 2, True)),
        ("one long window", ([[30, 10, 5, 15]], 2, True)),
        ("as long as each other", ([[10, 10, 10, 10]], 2, True)),
        ("half forgotten", ([[10, 10, 10, 10]], 2, False)),
        ("half forgotten, one long", ([[30, 10, 5, 15]], 2, False)),
        ("nothing to forget", ([[30, 10], [5, 15]], 2, False)),
        ("two rounds in an update", ([[30], [10]], 2, True)),
        ("two rounds, doubled", ([[30], [10]], 2, False)),
        ("an update across rounds", ([[8, 2, 6], [3, 3, 2]], 2, True)),
    ]
    usual = {
        "divides each update by its own tokens": lambda rounds, A, rescales: [1.0] * -(-sum(map(len, rounds)) // A),
        "rescales also where TRL forgot to": _factors(lambda tokens, A, rescales: sum(tokens) * A / len(tokens)),
        "never rescales": _factors(lambda tokens, A, rescales: sum(tokens)),
        "turns A / S upside down": _factors(
            lambda tokens, A, rescales: sum(tokens) * (len(tokens) / A if rescales else 1)
        ),
        "rescales where TRL forgot to, and only there": _factors(
            lambda tokens, A, rescales: sum(tokens) * (1 if rescales else A / len(tokens))
        ),
        "does not add up the micro-steps of an update": _factors(every=1),
        "starts a new update with every round": _factors(across=False),
        "takes the mean of an update's micro-steps, not their sum": _factors(mean=True),
    }
    return judge(your_factors, cases, right=_factors(), usual=usual)


def _scaled(tokens: list[int], A: int, rescales: bool) -> float:
    return sum(tokens) * (A / len(tokens) if rescales else 1)


def _factors(divisor=_scaled, *, every: int | None = None, across: bool = True, mean: bool = False):
    """The factors, with one thing off.

    Args:
        divisor: of (tokens of the round, A, rescales).
        every: micro-steps that are added up, if not A.
        across: whether an update may go on into the next round.
        mean: whether an update's shares are averaged.
    """

    def compute(rounds, gradient_accumulation_steps, rescales):
        A, sums = gradient_accumulation_steps, []
        shares = [[n / divisor(tokens, A, rescales) for n in tokens] for tokens in rounds]
        for part in [sum(shares, [])] if across else shares:
            width = every or A
            sums += [sum(part[i : i + width]) / (width if mean else 1) for i in range(0, len(part), width)]
        return sums

    return compute
