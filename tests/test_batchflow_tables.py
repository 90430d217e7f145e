"""`check_table`: tables as they are found, the first row that is wrong, and every table that some shuffle makes."""

import itertools
import random
import re

import pytest
from test_batchflow import random_settings
from test_errata_advanced_rl import EXAMPLE_1

from grpo_nb import batchflow

# The four examples of Unsloth's *Advanced RL documentation*: their settings, and the prompts of their micro-steps.
EXAMPLES = {
    1: (EXAMPLE_1, "000 111 222 333 444 555 666 777", 2),
    2: ({"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4, "num_generations": 3},)
    + ("000 111 222 333 444 555 666 777", 4),
    3: ({"per_device_train_batch_size": 3, "gradient_accumulation_steps": 4, "num_generations": 4},)
    + ("000 011 113 333 444 455 556 666", 4),
    4: ({"per_device_train_batch_size": 6, "gradient_accumulation_steps": 2, "num_generations": 3},)
    + ("000111 222333 444555 666777", 2),
}
SMALL = {"per_device_train_batch_size": 3, "num_generations": 3}  # one prompt at once, an update after each


def drawn(number: int, *, shape: str, base: int = 0, updates: bool = True, cycles: bool = True) -> str:
    """An example as a table: in Markdown, as ASCII, or as bare numbers."""
    settings, prompts, accumulated = EXAMPLES[number]
    rows = prompts.split()
    cycle = settings.get("steps_per_generation", settings["gradient_accumulation_steps"])
    lines = []
    for at, row in enumerate(rows):
        step = base + (at % cycle if cycles else at)
        mark = "→ optimizer update (accum reached)" if updates and (at + 1) % accumulated == 0 else ""
        if shape == "markdown":
            if at % cycle == 0:
                lines += [
                    f"**Generation cycle {'AB'[at // cycle]}**",
                    "",
                    "| Step | Batch | Notes |",
                    "| ---: | --- | --- |",
                ]
            lines.append(rf"|    {step} | \[{','.join(row[:3])}{', ' * (len(row) > 3)}{','.join(row[3:])}] | {mark} |")
        elif shape == "ascii":
            lines += ["+------+-----------+--------+"] * (at == 0)
            lines.append(f"|  {step}   | {' '.join(row)} | {'*' if mark else ' '} |")
        else:
            lines.append(f"step {step}: {' '.join(row)} {mark}")
    return "\n".join(["effective_batch_size = 4 * 3 * 1 = 12", "", *lines, "", "The tables end here."])


def rows_of(plan) -> list[tuple]:
    return [(step.step, *step.slices) for step in plan.micro_steps]


# Golden.
@pytest.mark.parametrize("shape", ["markdown", "ascii", "bare"])
@pytest.mark.parametrize("number", [1, 2, 4])
@pytest.mark.parametrize("base", [0, 1])
@pytest.mark.parametrize("cycles", [True, False])
def test_examples_1_2_and_4_are_possible(number, shape, base, cycles):
    verdict = batchflow.check_table(drawn(number, shape=shape, base=base, cycles=cycles), **EXAMPLES[number][0])
    assert verdict == batchflow.Verdict(
        True, None, f"A run can go like this for {4 if number == 4 else 8} micro-steps."
    )


@pytest.mark.parametrize("shape", ["markdown", "ascii", "bare"])
def test_example_3_is_wrong_from_its_third_row_on(shape):
    """Prompts 0, 1 and 2 take four completions each: the third micro-step has the last two of 1 and the first of 2."""
    verdict = batchflow.check_table(drawn(3, shape=shape), **EXAMPLES[3][0])
    sentence = "row 2 (step 2) has the prompts 1 1 3; it must have 1 1 2."
    assert verdict == batchflow.Verdict(False, 2, sentence)


def test_example_3_needs_a_shuffled_data_set_of_seven():
    """A sampler may draw 0, 1, 3 and then 4, 5, 6; of six prompts there is no number 6."""
    settings, table = EXAMPLES[3][0], drawn(3, shape="markdown")
    assert batchflow.check_table(table, shuffle=True, **settings).is_possible
    verdict = batchflow.check_table(table, shuffle=True, num_prompts=6, **settings)
    assert verdict.row == 6 and "the prompt 6; it must have prompts from 0 to 5" in verdict.sentence


@pytest.mark.parametrize(
    ("text", "rows"),
    [
        ("0 | [0,0,0]", 1),
        ("0 | [0, 0, 0] *\n1 | [1, 1, 1] *", 2),
        ("1. 2 prompts are sampled.\n2 GPUs, 3 completions, 8 in all.\n0 | 0 0 0", 1),
        ("| 0 | 0 | 0 | 0 |\n| 1 | 1 | 1 | 1 |", 2),
        ("Step 1 | 0 0 0 | of 3 completions\nStep 2 | 1 1 1 | of 3 completions", 2),
        ("**1**: [1,1,1]\n**2**: [2,2,2]", 2),  # prompts count from 1 too
        ("| 0 | 0 0 0 | ✅ |\n| 1 | 1 1 1 | ✅ |\n| … | … | … |", 2),
        ("| 步骤 | 批次 | 备注 |\n|--:|--|--|\n| 0 | \\[0,0,0] | 优化器更新 |", 1),
        ("```\n0: 0 0 0   # optimizer.step()\n1: 1 1 1   # optimizer.step()\n```", 2),
        ("0: 0 0 0 are sampled\n1: 1 1 1", 2),
        ("| 0 | [0,0,0] | see [1] for this update |", 1),
        ("| 0 | [0,0,0] | 0 |\n| 1 | [1,1,1] | 1 |", 2),  # a column of its own for the number of the update
        ([(0, 0, 0, 0), (1, [1, 1, 1])], 2),
        ([(1, (0, 0, 0), "update"), (2, (1, 1, 1), "→")], 2),
    ],
)
def test_shapes_that_are_found(text, rows):
    assert (
        batchflow.check_table(text, **SMALL).sentence
        == f"A run can go like this for {rows} micro-step{'s' * (rows > 1)}."
    )


@pytest.mark.parametrize(
    "text", ["| Step | GPU 0 | GPU 1 |\n|---|---|---|\n| 0 | 0 0 1 | 6 6 7 |", "0: [0,0,1] [6,6,7]"]
)
def test_processes_stand_side_by_side(text):
    shape = {"per_device_train_batch_size": 3, "num_generations": 2, "steps_per_generation": 4, "num_processes": 2}
    assert batchflow.check_table(text, **shape).is_possible
    verdict = batchflow.check_table("0 | 0 0 1 | 1 2 2", **shape)
    assert verdict.sentence == "row 0 (step 0) has the prompts 0 0 1 1 2 2; it must have 0 0 1 6 6 7."


@pytest.mark.parametrize(
    ("table", "settings", "row", "sentence"),
    [
        ("0: 0 0 0\n2: 1 1 1", {}, 1, "row 1 (step 2) must be step 0 or 1."),
        (
            "7: 0 0 0",
            {},
            0,
            "row 0 (step 7) stands first; a table must begin with step 0 or 1, at the start of the run.",
        ),
        (
            "0: 0 0 0\n0: 1 1 1",
            {"steps_per_generation": 2},
            1,
            "row 1 (step 0) must be step 1.",
        ),
        ("0: 0 0 0\n1: 1 1", {}, 1, "row 1 (step 1) has 2 completions; it must have 1 × 3 = 3."),
        (
            "0: 0 0 0\n1: 1 1 1",
            {"num_prompts": 1},
            1,
            "row 1 (step 1) comes after the end of the run; it must have 1 micro-step.",
        ),
        (
            "0: 0 0 0 *\n1: 1 1 1 *",
            {"gradient_accumulation_steps": 2},
            0,
            "row 0 (step 0) is marked as an optimizer update; it must accumulate, 2 at a time.",
        ),
        (
            "0: 0 0 0\n1: 1 1 1 update",
            {},
            0,
            "row 0 (step 0) is not marked as an optimizer update; it must be, as number 1 of the run.",
        ),
        (
            "0: 0 0 0\n1: 0 0 0",
            {},
            1,
            "row 1 (step 1) has the prompts 0 0 0; it must have 1 1 1.",
        ),
        (
            "0 | 0 0 0 | no update yet\n1 | 1 1 1 | update\n2 | 2 2 2 | the optimizer does not step\n3 | 3 3 3 |",
            {"gradient_accumulation_steps": 2, "steps_per_generation": 2},
            3,
            "row 3 (step 3) is not marked as an optimizer update; it must be, as number 2 of the run.",
        ),
        ("1 | [1,1,1]\n2 | [3,3,3]", {}, 1, "row 1 (step 2) has the prompts 3 3 3; it must have 2 2 2."),
    ],
)
def test_the_first_wrong_row(table, settings, row, sentence):
    verdict = batchflow.check_table(table, **{**SMALL, **settings})
    assert verdict == batchflow.Verdict(False, row, sentence)


def test_an_accumulation_is_cut_where_the_data_set_ends():
    """Two micro-steps of three: without an end of the data set they make no update, with it they do."""
    table, settings = (
        "0: 0 0 0\n1: 1 1 1 → update",
        {**SMALL, "gradient_accumulation_steps": 3, "steps_per_generation": 1},
    )
    assert batchflow.check_table(table, **settings).row == 1
    assert batchflow.check_table(table, num_prompts=2, **settings).is_possible


# Laws.
@pytest.mark.parametrize("seed", range(60))
def test_every_plan_is_possible(seed):
    rng = random.Random(seed)
    settings = random_settings(rng, most_processes=4)
    plan = batchflow.plan(**settings)
    rows = rows_of(plan)
    assert batchflow.check_table(rows, **settings).is_possible
    assert batchflow.check_table(rows, **{**settings, "shuffle": True}).is_possible
    begins = rows[: rng.randint(1, len(rows) // plan.num_train_epochs)]
    del settings["num_prompts"]
    assert batchflow.check_table(begins, **settings).is_possible, "…nor is the beginning wrong, of whatever data set"


@pytest.mark.parametrize("seed", range(40))
def test_one_changed_prompt_is_found(seed):
    rng = random.Random(seed)
    settings = {**random_settings(rng, most_processes=3), "shuffle": False}
    rows = [[step.step, *itertools.chain(*step.slices)] for step in batchflow.plan(**settings).micro_steps]
    row = rng.randrange(len(rows))
    rows[row][rng.randint(1, len(rows[row]) - 1)] += 1
    assert batchflow.check_table(rows, **settings).row == row


def flows(prompts: int, group: int, device: int, steps: int, processes: int) -> set[tuple]:
    """Every round that some order of the prompts and some permutation on each process makes, by trying all."""
    length, found = device * steps, set()
    for order in itertools.permutations(range(prompts), device * steps * processes // group):
        sampled = [prompt for prompt in order for _ in range(group)]
        held = [sampled[process * length : (process + 1) * length] for process in range(processes)]
        for local in itertools.product(*(set(itertools.permutations(rows)) for rows in held)):
            cut = [tuple(tuple(rows[k * device : (k + 1) * device]) for rows in local) for k in range(steps)]
            found.add(tuple(sum(micro_step, ()) for micro_step in cut))
    return found


@pytest.mark.parametrize(
    ("prompts", "group", "device", "steps", "processes"),
    [
        (3, 2, 2, 2, 1),
        (3, 2, 1, 2, 2),
        (2, 3, 1, 3, 2),
        (2, 2, 1, 1, 4),
        (2, 3, 1, 2, 3),
        (3, 3, 3, 1, 2),
        (3, 2, 1, 3, 2),
    ],
)
def test_what_some_shuffle_makes_is_possible_and_nothing_else(prompts, group, device, steps, processes):
    """All tables of a round, against all flows: the first wrong row is where no flow begins like the table any more."""
    every = flows(prompts, group, device, steps, processes)
    begins = {flow[:many] for flow in every for many in range(1, steps + 1)}
    settings = {
        "per_device_train_batch_size": device,
        "num_generations": group,
        "steps_per_generation": steps,
        "num_processes": processes,
        "num_prompts": prompts,
        "shuffle": True,
    }
    width, rng = device * processes, random.Random(0)
    tables = list(itertools.product(itertools.product(range(prompts), repeat=width), repeat=steps))
    tables = [table for table in tables if any(0 in row for row in table)]  # without a 0, prompts would count from 1
    for table in rng.sample(tables, min(len(tables), 600)) + sorted(every)[:200]:
        if not any(0 in row for row in table):
            continue
        wrong = next((many - 1 for many in range(1, steps + 1) if table[:many] not in begins), None)
        verdict = batchflow.check_table([(step, *row) for step, row in enumerate(table)], **settings)
        assert (verdict.row, verdict.is_possible) == (wrong, wrong is None), (table, verdict)


@pytest.mark.parametrize(
    ("rows", "settings", "row", "words"),
    [
        ("0 0 1 | 1 0 2", {}, 1, "has a further prompt in its round; a round must have 2"),
        ("0 0 1 | 0 0 1", {}, 1, "has the prompt 0 once more; it must have 3 completions in a round"),
        ("0 1 0 | 1 0 1 | 1 2 2", {}, 2, "has the prompt 1 of an earlier generation round"),
        ("0 1 0 | 1 0 1 | 0 0 1", {"num_iterations": 2}, 2, "has the prompts 0 0 1; it must have 0 1 0"),
        ("0 1 0 | 1 0 1 | 1 0 1", {"num_prompts": 3, "num_train_epochs": 2}, None, "can go like this"),
    ],
)
def test_what_no_shuffle_makes(rows, settings, row, words):
    shape = {"per_device_train_batch_size": 3, "num_generations": 3, "steps_per_generation": 2, "shuffle": True}
    table = [(step, *map(int, text.split())) for step, text in enumerate(rows.split("|"))]
    verdict = batchflow.check_table(table, **{**shape, **settings})
    assert verdict.row == row and words in verdict.sentence


def test_a_group_is_not_parted_by_processes_that_hold_it_whole():
    shape = {"per_device_train_batch_size": 2, "num_generations": 2, "num_processes": 2, "shuffle": True}
    assert batchflow.check_table("0: 3 3 | 1 1", **shape).is_possible
    assert "parts a group that the processes hold whole" in batchflow.check_table("0: 3 1 | 3 1", **shape).sentence


# Refusals.
@pytest.mark.parametrize(
    ("table", "sentence"),
    [
        ("", r"a table must have a row for each micro-step \(got ''\)\. Write its step number and its prompts"),
        ("GRPO samples a group for each prompt.", r"a table must have a row .*\(got 'GRPO samples"),
        ([], r"a table must have a row for each micro-step \(got \[\]\)"),
        ("| 0 | 0 0 0 |\n| 1 | the same again |", r"every row must be a step number and prompts \(got '\| 1 \| the"),
        ([(0, 0, 0, 0.5)], r"every row must be a step number and prompts \(got \(0, 0, 0, 0.5\)\)"),
        ([(0, True, 0, 0)], r"every row must be a step number and prompts"),
        (["0 0 0"], r"every row must be a step number and prompts"),
        ("| 0 | 0 0 0 |\n| one | 1 1 1 |", r"every row must be a step number and prompts \(got '\| one \| 1"),
        ("0 | p0 p0 p0", r"Write them as numbers: 0 \| \[0,0,1\]"),
    ],
)
def test_what_is_no_table_is_refused(table, sentence):
    with pytest.raises(ValueError, match=sentence):
        batchflow.check_table(table, **SMALL)


def test_settings_are_refused_as_in_a_plan():
    with pytest.raises(ValueError, match="must be a multiple of num_generations"):
        batchflow.check_table("0: 0 0 0", per_device_train_batch_size=3, num_generations=2)
    with pytest.raises(ValueError, match="num_prompts must be a whole number of at least 1"):
        batchflow.check_table("0: 0 0 0", **SMALL, num_prompts=0)
    with pytest.raises(ValueError, match="shuffle must be True or False"):
        batchflow.check_table("0: 0 0 0", **SMALL, shuffle="no")
    with pytest.raises(TypeError, match="train_batch_size"):
        batchflow.check_table("0: 0 0 0", **SMALL, train_batch_size=3)


def test_unsloths_rescue_counts():
    """Eight completions are no groups of six; Unsloth takes six, so a row has six."""
    settings = {"per_device_train_batch_size": 8, "num_generations": 6}
    assert batchflow.check_table("0: 0 0 0 0 0 0", **settings, backend="unsloth").is_possible


@pytest.mark.parametrize("piece", ["[", "0 ", "| ", "* ", "step ", "[0,0]", "->", "gpu 1 ", "\\[", "- ", "…", "p"])
def test_a_hostile_line_is_read(piece):
    """A regular expression gone wild would not come back."""
    for text in (piece * 100_000, "0 | " + piece * 100_000, "| 0 | [" + piece * 100_000 + "]"):
        try:
            batchflow.check_table(text, **SMALL)
        except ValueError as error:
            assert re.fullmatch(r".+ \(got .+\)\. [A-Z].+\.", str(error))


@pytest.mark.parametrize("table", [None, 3, b"0 | [0,0,0]", {0: 1}])
def test_what_is_neither_text_nor_rows_is_refused(table):
    with pytest.raises(ValueError, match=r"a table must be text or a list of rows \(got "):
        batchflow.check_table(table, per_device_train_batch_size=3, num_generations=3)


def test_lists_within_lists_end_somewhere():
    row = [0]
    for _ in range(5000):
        row = [row]
    with pytest.raises(ValueError, match=r"every row must be a step number and prompts \(got \[\[\["):
        batchflow.check_table([row], per_device_train_batch_size=3, num_generations=3)
