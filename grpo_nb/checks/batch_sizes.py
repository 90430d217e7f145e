"""Exercises about batches: prompts and updates from six integers, and by which factor an update is off."""

from fractions import Fraction

from grpo_nb.checks.exercises import exercise, numbers_of


@exercise
def check_batch(your_batch):
    """Whether `your_batch` is (prompts of a round, completions of an update, updates of a round).

    Args:
        your_batch: f(b, A, S, P, G, mu): per_device_train_batch_size, gradient_accumulation_steps,
            steps_per_generation, num_processes, num_generations, num_iterations -> three numbers.
    See: notebook 05, exercise 5.1; `batchflow.plan`.

    >>> check_batch(lambda b, A, S, P, G, mu: (b * S * P / G, b * S * P, mu * S / A))
    check_batch: a round of two updates, b=3, A=2, S=4, P=1, G=3, mu=1: must give (4, 6, 2) (yours: (4.0, 12, 2.0)).
    False
    """
    cases = [
        ("TRL's defaults", (8, 1, 1, 1, 8, 1), (1, 8, 1)),
        ("a round of two updates", (3, 2, 4, 1, 3, 1), (4, 6, 2)),
        ("groups that straddle micro-steps", (3, 4, 4, 1, 4, 1), (3, 12, 1)),
        ("two processes", (3, 2, 4, 2, 2, 1), (12, 12, 2)),
        ("three passes", (4, 4, 4, 1, 4, 3), (4, 16, 3)),
        ("an update of two rounds", (2, 4, 2, 4, 8, 1), (2, 32, Fraction(1, 2))),
        ("replay that ends between two updates", (1, 3, 4, 1, 2, 2), (2, 3, Fraction(8, 3))),
    ]
    for name, numbers, right in cases:
        yours = your_batch(*numbers)
        found = numbers_of(yours)
        letters = ", ".join(f"{letter}={n}" for letter, n in zip(("b", "A", "S", "P", "G", "mu"), numbers, strict=True))
        given = f"{name}, {letters}:"
        if found is None or len(found) != 3:
            return False, f"{given} three numbers must come back (yours: {yours!r:.80})."
        if not all(abs(mine - theirs) < 1e-9 for mine, theirs in zip(right, found, strict=True)):
            return False, f"{given} must give ({', '.join(map(str, right))}) (yours: {yours!r:.80})."
    return True, f"all {len(cases)} cases fit."


@exercise
def check_factors(your_factors):
    """Whether `your_factors` is what `dapo` multiplies each update by, compared with a mean over its own tokens.

    Args:
        your_factors: f(rounds, gradient_accumulation_steps, rescales) -> list of floats, one for each optimizer step.
            rounds: for each generation round, the tokens of each of its micro-steps. rescales: False for a TRL that
            forgets A / S, as up to 1.9.0.
    See: notebook 05, exercise 5.2; `losses.token_weights`.

    >>> check_factors(lambda rounds, gradient_accumulation_steps, rescales: [1.0] * len(rounds))
    check_factors: one long window, [[30, 10, 5, 15]], A = 2, rescales: must give [1.3333, 0.6667] (yours: [1.0]).
    False
    """
    cases = [
        ("one round, one update", [[30, 10]], 2, True, [1.0]),
        ("one long window", [[30, 10, 5, 15]], 2, True, [4 / 3, 2 / 3]),  # 60 tokens, 30 for an update
        ("as long as each other", [[10, 10, 10, 10]], 2, True, [1.0, 1.0]),
        ("half forgotten", [[10, 10, 10, 10]], 2, False, [0.5, 0.5]),  # 40 tokens for 20
        ("half forgotten, one long", [[30, 10, 5, 15]], 2, False, [2 / 3, 1 / 3]),
        ("nothing to forget", [[30, 10], [5, 15]], 2, False, [1.0, 1.0]),
        ("two rounds in an update", [[30], [10]], 2, True, [1.0]),
        ("two rounds, doubled", [[30], [10]], 2, False, [2.0]),
        ("an update across rounds", [[8, 2, 6], [3, 3, 2]], 2, True, [0.9375, 1.125, 0.9375]),
    ]
    for name, rounds, accumulation, rescales, right in cases:
        yours = your_factors([list(tokens) for tokens in rounds], accumulation, rescales)
        found = numbers_of(yours)
        how = "rescales" if rescales else "does not rescale"
        given = f"{name}, {rounds}, A = {accumulation}, {how}:"
        if found is None:
            return False, f"{given} a list of numbers must come back (yours: {yours!r:.80})."
        fits = len(found) == len(right) and all(abs(a - b) < 1e-6 for a, b in zip(right, found, strict=True))
        if not fits:
            return False, f"{given} must give {[round(n, 4) for n in right]} (yours: {yours!r:.80})."
    return True, f"all {len(cases)} cases fit."
