"""Exercises about batches: rows left out, a batch to order, and by which factor an update is off."""

from grpo_nb.batchflow import arithmetic
from grpo_nb.checks.exercises import exercise, judge


@exercise
def check_dropped(your_dropped):
    """Whether `your_dropped` is the number of rows that fill no generation round, so that an epoch leaves them out.

    Args:
        your_dropped: f(rows, b, A, S, G), on one process: rows of the data set, per_device_train_batch_size,
            gradient_accumulation_steps, steps_per_generation, num_generations -> a count.
    See: `batchflow.plan`, its `prompts_dropped`.

    >>> check_dropped(lambda rows, b, A, S, G: rows % (b * A // G))
    check_dropped: S above A: your numbers are those of one who takes A for S: an update's prompts, not a round's. With
    rows = 10, b = 4, A = 2, S = 4, G = 4 it must give 2 (yours: 0).
    False
    """
    cases = [
        ("one prompt a round", (10, 8, 1, 1, 8)),
        ("S above A", (10, 4, 2, 4, 4)),
        ("S below A", (30, 8, 4, 2, 4)),
        ("groups that straddle micro-steps", (11, 3, 4, 4, 4)),
        ("nothing left out", (300, 8, 2, 4, 4)),
        ("a large round", (100, 16, 1, 8, 8)),
    ]

    def right(rows, b, A, S, G):
        batch = {"per_device_train_batch_size": b, "gradient_accumulation_steps": A}
        round_ = arithmetic.batch_numbers(batch | {"steps_per_generation": S, "num_generations": G})
        return rows % round_["unique_prompts"]

    usual = {
        "takes A for S: an update's prompts, not a round's": lambda rows, b, A, S, G: rows % max(1, b * A // G),
        "takes completions for prompts: b · S is not yet divided by G": lambda rows, b, A, S, G: rows % (b * S),
        "takes the prompts of one micro-step for those of a round": lambda rows, b, A, S, G: rows % max(1, b // G),
        "counts the completions left out, G for each row": lambda rows, b, A, S, G: rows % (b * S // G) * G,
        "counts the rows that are used": lambda rows, b, A, S, G: rows - rows % (b * S // G),
        "counts the rounds": lambda rows, b, A, S, G: rows // (b * S // G),
    }
    return judge(your_dropped, cases, right=right, usual=usual)


@exercise
def check_batch_to_order(your_batch):
    """Whether `your_batch` has the prompts of a round and the updates that were ordered, and the largest b that fits.

    Args:
        your_batch: f(prompts, updates, G, most) -> (b, A, S), on one process: prompts of a round, optimizer steps of a
            round, num_generations, most completions of a micro-step.
    See: `batchflow.plan`.

    >>> check_batch_to_order(lambda prompts, updates, G, most: (most, prompts, updates))
    check_batch_to_order: one update, prompts = 2, updates = 1, G = 4, most = 8: must give [8, 1, 1] (yours: [8, 2, 1]).
    False
    """
    cases = [
        ("one update", (2, 1, 4, 8)),
        ("two updates", (4, 2, 3, 4)),
        ("three updates", (6, 3, 8, 8)),
        ("b that cannot be `most`", (5, 1, 4, 6)),
        ("more room than an update needs", (4, 2, 4, 64)),
        ("one at a time", (3, 2, 2, 1)),
    ]

    def ordered(completions, *, pick=max):
        """(b, A, S) for so many completions of an update, b by `pick` among those that fit."""

        def compute(prompts, updates, G, most):
            update = completions(prompts, updates, G)
            b = pick(n for n in range(1, most + 1) if update % n == 0)
            return b, update // b, update // b * updates

        return compute

    def of_update(prompts, updates, G):
        return prompts * G // updates

    best = ordered(of_update)

    def swapped(prompts, updates, G, most):
        b, A, S = best(prompts, updates, G, most)
        return b, S, A

    usual = {
        "puts S where A belongs": swapped,
        "takes prompts for completions: there are G of each": ordered(lambda prompts, updates, G: prompts // updates),
        "lets an update be the whole round": ordered(lambda prompts, updates, G: prompts * G),
        "takes the smallest b": ordered(of_update, pick=min),
        "takes b = most, though it does not divide the completions of an update": lambda prompts, updates, G, most: (
            most,
            of_update(prompts, updates, G) // most,
            of_update(prompts, updates, G) // most * updates,
        ),
        "lets a round make one update": lambda *given: best(*given)[:2] + best(*given)[1:2],
    }
    return judge(your_batch, cases, right=best, usual=usual)


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
