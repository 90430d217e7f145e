"""The generated task: column-wise addition with written carries, and a demonstrator who forgets some of them."""

import random


def addition(
    *, num_train: int, num_held_out: int, digits: int = 3, slip_rate: float = 0.0, seed: int = 0
) -> tuple[list[dict], list[dict]]:
    """Column-wise addition a + b; the worked answers are those of a demonstrator who forgets carries.

    Args:
        num_train, num_held_out: problems to make; a + b and b + a count as the same problem.
        digits: digits of each addend, the difficulty.
        slip_rate: probability that the demonstrator forgets a carry, in [0, 1]; it spoils `working` and
            `solution`, never `answer`.
        seed: of the problems and the slips.
    Returns: (train, held_out), rows {"problem", "answer", "working", "solution"}; `answer` is the true sum, `solution`
    the demonstrator's.
    Raises: ValueError if `digits` cannot give that many different problems.
    """
    low, high = (0 if digits == 1 else 10 ** (digits - 1)), 10**digits
    possible = (high - low) * (high - low + 1) // 2
    if num_train + num_held_out > possible:
        raise ValueError(
            f"{digits}-digit addition has {possible} different problems (got {num_train} + {num_held_out} wanted). "
            f"Ask for fewer rows or more digits."
        )
    rng, seen, rows = random.Random(seed), set(), []
    while len(rows) < num_train + num_held_out:
        a, b = rng.randrange(low, high), rng.randrange(low, high)
        if (pair := (min(a, b), max(a, b))) in seen:
            continue
        seen.add(pair)
        working, solution = column_addition(a, b, slip_rate=slip_rate, rng=rng)
        rows.append({"problem": f"What is {a}+{b}?", "answer": str(a + b), "working": working, "solution": solution})
    return rows[:num_train], rows[num_train:]


def column_addition(a: int, b: int, *, slip_rate: float = 0.0, rng: random.Random | None = None) -> tuple[str, str]:
    """Working-out and solution of a + b, one column after the other from the right, carries written out.

    Args:
        a, b: addends ≥ 0.
        slip_rate: probability of forgetting each carry that is due.
        rng: source of the slips; needed only if slip_rate > 0.
    Returns: (working, solution).

    >>> column_addition(37, 85)
    ('7+5=12 3+8=11+1=12', '122')
    >>> column_addition(37, 85, slip_rate=1.0, rng=random.Random(0))
    ('7+5=12 3+8=11', '112')
    """
    columns, written, carry = [], [], 0
    width = max(len(str(a)), len(str(b)))
    for place in range(width):
        top, bottom = a // 10**place % 10, b // 10**place % 10
        total = top + bottom + carry
        columns.append(f"{top}+{bottom}={top + bottom}" + (f"+{carry}={total}" if carry else ""))
        written.append(str(total) if place == width - 1 else str(total % 10))
        carry = total // 10
        if carry and slip_rate and rng.random() < slip_rate:
            carry = 0
    return " ".join(columns), "".join(reversed(written))
