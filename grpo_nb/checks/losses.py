"""Exercises about the loss: the clipped surrogate of a token, and what a token weighs."""

from grpo_nb.checks.exercises import exercise, numbers_of


@exercise
def check_surrogate(your_surrogate):
    """Whether `your_surrogate` is −min(ρA, clip(ρ, 1−ε, 1+ε_high)A) of one token.

    Args:
        your_surrogate: f(ratio, advantage, epsilon, epsilon_high) -> float.
    See: notebook 01, exercise 1.1.

    >>> check_surrogate(lambda ratio, advantage, epsilon, epsilon_high: -ratio * advantage)
    check_surrogate: too likely already, ratio 1.5, A = 1, ε = 0.2, ε_high = 0.2, must give -1.2 (yours: -1.5).
    False
    """
    cases = [
        ("on policy", 1.0, 2.0, 0.2, 0.2, -2.0),
        ("inside the interval", 1.1, 1.0, 0.2, 0.2, -1.1),
        ("too likely already", 1.5, 1.0, 0.2, 0.2, -1.2),
        ("good, but less likely than before", 0.5, 1.0, 0.2, 0.2, -0.5),
        ("bad, and less likely already", 0.5, -1.0, 0.2, 0.2, 0.8),
        ("bad, but more likely than before", 1.5, -1.0, 0.2, 0.2, 1.5),
        ("a higher upper end", 1.5, 2.0, 0.2, 0.25, -2.5),
        ("a wider lower end", 0.5, -2.0, 0.25, 0.5, 1.5),
        ("no advantage", 3.0, 0.0, 0.2, 0.2, 0.0),
    ]
    for name, ratio, advantage, epsilon, epsilon_high, right in cases:
        yours = your_surrogate(ratio, advantage, epsilon, epsilon_high)
        given = f"{name}, ratio {ratio:g}, A = {advantage:g}, ε = {epsilon:g}, ε_high = {epsilon_high:g},"
        found = numbers_of(yours)
        if found is None or len(found) != 1:
            return False, f"{given} must give one number (yours: {yours!r:.80})."
        if not abs(found[0] - right) < 1e-6:
            return False, f"{given} must give {right} (yours: {yours!r})."
    return True, f"all {len(cases)} cases fit."


@exercise
def check_token_weights(your_weights):
    """Whether `your_weights` is what one token of each answer weighs under grpo, bnpo and dr_grpo.

    Args:
        your_weights: f(lengths, loss_type, max_completion_length) -> list of floats, one for each answer.
    See: notebook 01, exercise 1.2; `losses.token_weights`.

    >>> check_token_weights(lambda lengths, loss_type, max_completion_length: [1 / sum(lengths)] * len(lengths))
    check_token_weights: grpo, lengths [2, 8], max_completion_length 10: must give [0.25, 0.0625] (yours: [0.1, 0.1]).
    False
    """
    cases = [
        ([2, 8], "grpo", 10, [1 / 4, 1 / 16]),  # 2 rows · 2, 2 rows · 8
        ([2, 8], "bnpo", 16, [1 / 10, 1 / 10]),  # 2 + 8 tokens
        ([2, 8], "dr_grpo", 10, [1 / 20, 1 / 20]),  # 2 rows · 10
        ([5], "grpo", 20, [1 / 5]),
        ([5], "bnpo", 20, [1 / 5]),
        ([5], "dr_grpo", 20, [1 / 20]),
        ([1, 2, 5, 2], "grpo", 8, [1 / 4, 1 / 8, 1 / 20, 1 / 8]),
        ([1, 2, 5, 2], "bnpo", 8, [1 / 10] * 4),
        ([1, 2, 5, 2], "dr_grpo", 8, [1 / 32] * 4),
    ]
    for lengths, loss_type, limit, right in cases:
        yours = your_weights(list(lengths), loss_type, limit)
        given = f"{loss_type}, lengths {lengths}, max_completion_length {limit}:"
        found = numbers_of(yours)
        if found is None or len(found) != len(right):
            return False, f"{given} {len(right)} numbers must come back (yours: {yours!r:.80})."
        if not all(abs(ours - theirs) < 1e-6 for ours, theirs in zip(right, found, strict=True)):
            return False, f"{given} must give {[round(w, 4) for w in right]} (yours: {yours!r:.80})."
    return True, f"all {len(cases)} cases fit."
