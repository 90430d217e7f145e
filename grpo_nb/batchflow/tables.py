"""Is a batch flow that somebody has drawn possible? If not: the first row that is not, and what must stand there."""

import inspect
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

from grpo_nb.batchflow import arithmetic, limits, reading, schedule


@dataclass(frozen=True)
class Verdict:
    """What `check_table` found.

    Fields:
        is_possible: whether a run with these settings can go like this.
        row: index, 0… over all tables of a text, of the first row that is wrong; None if none is.
        sentence: what stands there, and what must.
    """

    is_possible: bool
    row: int | None
    sentence: str


def check_table(
    text_or_rows: str | Iterable, *, num_prompts: int | None = None, shuffle: bool = False, **config: Any
) -> Verdict:
    """Whether TRL can train on these micro-batches in this order.

    Args:
        text_or_rows: Markdown tables, lines `step: ids`, or rows `(step, ids…)`: one row per micro-step, from the first
            of the run on, with the prompt of each completion, process after process. Steps and prompts count from 0 or
            from 1; steps may start again with every pass over a generation round. As soon as one row is marked as an
            optimizer update, by a word or an arrow, every update must be.
        num_prompts: rows of the data set; None takes a data set without end.
        shuffle: False asks for prompts in data set order and completions as they were sampled. True takes any order
            that some seed could give: of the prompts, and of the completions of a round on each process.
        config: the other arguments of `plan`.
    Returns: a `Verdict`.
    Raises: ValueError where `plan` refuses, and where nothing can be read as a table.

    >>> verdict = check_table("0: 0 0 1\\n1: 1 2 2", per_device_train_batch_size=3, num_generations=3)
    >>> verdict.row, verdict.sentence
    (0, 'row 0 (step 0) has the prompts 0 0 1; it must have 0 0 0.')
    """
    batch = _batch(config, shuffle)
    rows = reading.rows_of(text_or_rows)
    if num_prompts is None:
        num_prompts = batch["unique_prompts"] * (len(rows) + batch["accumulation"])
        config = {**config, "num_train_epochs": 1}
    flow = schedule.plan(num_prompts, **config, shuffle=False)
    rules: list[Callable] = [_misnumbered, _too_late, _too_long, _not_drawn if shuffle else _out_of_order]
    if any(row.is_marked for row in rows):
        rules.append(_mismarked)
    for index, row in enumerate(rows):
        wrong = next((problem for rule in rules if (problem := rule(rows, index, flow))), None)
        if wrong:
            return Verdict(False, index, f"row {index} (step {row.label}) {wrong}.")
    return Verdict(True, None, f"A run can go like this for {len(rows)} micro-step{'s' * (len(rows) != 1)}.")


# Each rule says what is wrong with one row, knowing those before it; None if nothing is.
def _misnumbered(rows: list[reading.Row], index: int, flow: schedule.Plan) -> str | None:
    base, label = rows[0].label, rows[index].label
    if base > 1:
        return "stands first; a table must begin with step 0 or 1, at the start of the run"
    starts = [i for i in range(0, index + 1, flow.steps_per_generation) if rows[i].label == base]
    must = {base + index - starts[-1]} | ({base} if index % flow.steps_per_generation == 0 else set())
    return None if label in must else f"must be step {' or '.join(map(str, sorted(must)))}"


def _too_late(rows: list[reading.Row], index: int, flow: schedule.Plan) -> str | None:
    last = len(flow.micro_steps)
    return (
        None if index < last else f"comes after the end of the run; it must have {last} micro-step{'s' * (last != 1)}"
    )


def _too_long(rows: list[reading.Row], index: int, flow: schedule.Plan) -> str | None:
    width = flow.per_device_train_batch_size * flow.num_processes
    if len(rows[index].prompts) == width:
        return None
    needs = f"{flow.num_processes} × {flow.per_device_train_batch_size}"
    return f"has {len(rows[index].prompts)} completions; it must have {needs} = {width}"


def _out_of_order(rows: list[reading.Row], index: int, flow: schedule.Plan) -> str | None:
    first = _first_number(rows)
    must = tuple(first + prompt for part in flow.micro_steps[index].slices for prompt in part)
    return None if rows[index].prompts == must else _differs(rows[index].prompts, must)


def _mismarked(rows: list[reading.Row], index: int, flow: schedule.Plan) -> str | None:
    number = flow.micro_steps[index].optimizer_update
    if rows[index].is_marked == (number is not None):
        return None
    if number is None:
        return f"is marked as an optimizer update; it must accumulate, {flow.gradient_accumulation_steps} at a time"
    return f"is not marked as an optimizer update; it must be, as number {number + 1} of the run"


def _not_drawn(rows: list[reading.Row], index: int, flow: schedule.Plan) -> str | None:
    steps, prompts, now = flow.steps_per_generation, rows[index].prompts, flow.micro_steps[index]
    begin = now.generation * steps * flow.num_iterations
    if now.replay:
        again = rows[begin + (index - begin) % steps].prompts
        return None if prompts == again else _differs(prompts, again)
    first = _first_number(rows)
    if outside := [prompt for prompt in prompts if prompt >= first + flow.num_prompts]:
        return f"has the prompt {outside[0]}; it must have prompts from {first} to {first + flow.num_prompts - 1}"
    earlier = (row for row, step in zip(rows[:begin], flow.micro_steps, strict=False) if step.epoch == now.epoch)
    if repeated := set(prompts) & {prompt for row in earlier for prompt in row.prompts}:
        return f"has the prompt {min(repeated)} of an earlier generation round; it must wait for the next epoch"
    held = _held(rows[begin : index + 1], flow)
    whole = sum(held, Counter())
    prompt, many = whole.most_common(1)[0]
    if many > flow.num_generations:
        return f"has the prompt {prompt} once more; it must have {flow.num_generations} completions in a round"
    if len(whole) > flow.unique_prompts:
        return f"has a further prompt in its round; a round must have {flow.unique_prompts}"
    if not _can_be_cut(held, flow):
        return "parts a group that the processes hold whole; each must hold consecutive completions of the round"
    return None


def _held(rows: list[reading.Row], flow: schedule.Plan) -> list[Counter]:
    """For each process, how many completions of each prompt it holds in these rows."""
    size = flow.per_device_train_batch_size
    return [
        Counter(prompt for row in rows for prompt in row.prompts[process * size : (process + 1) * size])
        for process in range(flow.num_processes)
    ]


def _can_be_cut(held: list[Counter], flow: schedule.Plan) -> bool:
    """Whether the prompts have some order in which consecutive completions give each process at least what it holds.

    The group at each place of the order lies on certain processes, with a share of its completions on each. So every
    prompt needs a place of its own that has room for it on every process: a matching, found by augmenting paths.
    """
    group, length = flow.num_generations, flow.per_device_train_batch_size * flow.steps_per_generation
    places = range(flow.unique_prompts)

    def has_room(prompt: int, place: int) -> bool:
        return all(
            counts[prompt]
            <= max(0, min((place + 1) * group, (process + 1) * length) - max(place * group, process * length))
            for process, counts in enumerate(held)
        )

    taken: dict[int, int] = {}

    def seat(prompt: int, tried: set[int]) -> bool:
        for place in places:
            if place in tried or not has_room(prompt, place):
                continue
            tried.add(place)
            if place not in taken or seat(taken[place], tried):
                taken[place] = prompt
                return True
        return False

    return all(seat(prompt, set()) for prompt in set().union(*held))


def _batch(config: dict, shuffle: bool) -> dict[str, int]:
    """The sizes that a table is read with, before it is known how many prompts it needs.

    Raises: ValueError where `plan` refuses.
    """
    given = inspect.signature(schedule.plan).bind(1, **config, shuffle=shuffle)
    given.apply_defaults()
    run = dict(given.arguments)
    settings = {key: run.pop(key) for key in arithmetic.KEYS}
    limits.check_run(settings, run)
    used = schedule.used_batch(settings, num_processes=run["num_processes"], backend=run["backend"])
    numbers = arithmetic.batch_numbers(used, num_processes=run["num_processes"])
    return {**numbers, "accumulation": arithmetic.counts_of(used)[1]}


def _first_number(rows: list[reading.Row]) -> int:
    """Whether a table counts prompts from 0 or from 1."""
    return int(all(prompt for row in rows for prompt in row.prompts))


def _differs(stands: tuple[int, ...], must: tuple[int, ...]) -> str:
    return f"has the prompts {' '.join(map(str, stands))}; it must have {' '.join(map(str, must))}"
