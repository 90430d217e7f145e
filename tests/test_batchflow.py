"""The plan of a run: worked by hand, its laws, equal to what TRL trains on, and its refusals."""

import dataclasses
import itertools
import json
import os
import random
import re
import socket
import subprocess
import sys
from fractions import Fraction
from types import SimpleNamespace

import numpy
import pytest
import torch
from accelerate.data_loader import prepare_data_loader
from test_errata_advanced_rl import EXAMPLE_1
from test_preflight_settings import suggestions
from torch.utils.data import DataLoader
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import grpo_trainer
from trl.trainer.utils import RepeatSampler

from grpo_nb import batchflow
from grpo_nb.batchflow import arithmetic
from tests import batchflow_runs, wheels

SECONDS = 300  # for two launched processes to end; they take about ten
REAL_RUNS, SHARDED_RUNS, LAUNCHED_RUNS = 360, 120, 12  # docs/proof.md tells them


def flow_of(num_prompts: int = 8, **settings) -> list:
    """Per micro-step: the slices, the optimizer step that it completes, the staleness."""
    steps = batchflow.plan(num_prompts, shuffle=False, **settings).micro_steps
    return [(step.slices, step.optimizer_update, step.staleness) for step in steps]


def test_defaults_are_trls():
    fields = {field.name: field.default for field in dataclasses.fields(GRPOConfig)}
    assert {name: fields[name] for name in arithmetic.DEFAULTS} == arithmetic.DEFAULTS


# Golden.
def test_example_1_by_hand():
    """12 completions at once, four prompts; two micro-steps an update; the second update of a round is one step old."""
    first = [(((0, 0, 0),), None, 0), (((1, 1, 1),), 0, 0), (((2, 2, 2),), None, 1), (((3, 3, 3),), 1, 1)]
    second = [(((4, 4, 4),), None, 0), (((5, 5, 5),), 2, 0), (((6, 6, 6),), None, 1), (((7, 7, 7),), 3, 1)]
    assert flow_of(**EXAMPLE_1) == first + second
    plan = batchflow.plan(8, **EXAMPLE_1)
    assert (plan.generation_batch_size, plan.unique_prompts, plan.completions_per_update) == (12, 4, 6)
    assert (plan.optimizer_steps, plan.optimizer_steps_per_generation) == (4, 2)
    assert plan.needs_old_logps and plan.prompts_dropped == 0 and plan.notes == ()


def test_each_process_has_consecutive_completions():
    """TRL's own figure shows `0 0 1 | 1 2 2`. Process 0 has the 12 completions of prompts 0–5, process 1 the others."""
    shape = {"per_device_train_batch_size": 3, "num_generations": 2, "steps_per_generation": 4, "num_processes": 2}
    steps = flow_of(12, **shape)
    assert batchflow.plan(12, **shape).completions_per_update == 2 * 3
    assert [slices for slices, *_ in steps] == [
        ((0, 0, 1), (6, 6, 7)),
        ((1, 2, 2), (7, 8, 8)),
        ((3, 3, 4), (9, 9, 10)),
        ((4, 5, 5), (10, 11, 11)),
    ]


def test_replays_by_hand():
    """One prompt in two micro-steps, twice: three of them make an update, the fourth one too, as the epoch ends."""
    steps = batchflow.plan(
        1,
        per_device_train_batch_size=1,
        num_generations=2,
        steps_per_generation=2,
        num_iterations=2,
        gradient_accumulation_steps=3,
        num_train_epochs=2,
        shuffle=False,
    )
    found = [(s.step, s.epoch, s.generation, s.replay, s.optimizer_update, s.staleness) for s in steps.micro_steps]
    assert found == [
        (0, 0, 0, 0, None, 0),
        (1, 0, 0, 0, None, 0),
        (2, 0, 0, 1, 0, 0),
        (3, 0, 0, 1, 1, 1),
        (4, 1, 1, 0, None, 0),
        (5, 1, 1, 0, None, 0),
        (6, 1, 1, 1, 2, 0),
        (7, 1, 1, 1, 3, 1),
    ]
    assert (steps.optimizer_steps, steps.optimizer_steps_per_generation) == (2, Fraction(4, 3))
    assert steps.notes == ("The last optimizer step of an epoch accumulates 1 of 3 micro-steps.",)


def test_a_plan_carries_its_settings():
    plan = batchflow.plan(7, per_device_train_batch_size=numpy.int64(2), num_generations=4, generation_batch_size=8)
    assert (plan.num_prompts, plan.steps_per_generation, plan.generation_batch_size) == (7, 4, 8)
    assert (plan.num_processes, plan.seed, plan.shuffle, plan.backend) == (1, 42, True, "trl")
    assert plan.prompts_dropped == 1 and type(plan.per_device_train_batch_size) is int
    assert plan == batchflow.plan(7, per_device_train_batch_size=2, num_generations=4, steps_per_generation=4)


def test_a_plan_in_sampler_order_loads_no_torch():
    code = "import sys; from grpo_nb import batchflow; batchflow.plan(2, **{!r}, shuffle=False); print(*sys.modules)"
    shape = {"per_device_train_batch_size": 2, "num_generations": 2}
    loaded = subprocess.run([sys.executable, "-c", code.format(shape)], capture_output=True, text=True, check=True)
    assert "grpo_nb.batchflow.schedule" in loaded.stdout.split() and "torch" not in loaded.stdout.split()


# Laws.
def random_settings(rng: random.Random, *, most_processes: int = 1) -> dict:
    """A legal run of at most 24 micro-steps, with every way to give its size, and prompts left over in most."""
    while True:
        device, group, processes = rng.randint(1, 6), rng.randint(2, 5), rng.randint(1, most_processes)
        steps, accumulation, iterations = rng.randint(1, 5), rng.randint(1, 5), rng.choice([1, 1, 2, 3])
        way = rng.choice(["accumulation", "steps", "size"])
        steps = accumulation if way == "accumulation" else steps
        size, epochs, rounds = device * steps * processes, rng.randint(1, 3), rng.randint(1, 3)
        if size % group or rounds * steps * iterations * epochs > 24:
            continue
        given = {"steps": {arithmetic.STEPS: steps}, "size": {arithmetic.SIZE: size}}
        return {
            "num_prompts": size // group * rounds + rng.randrange(size // group),
            "per_device_train_batch_size": device,
            "num_generations": group,
            "gradient_accumulation_steps": accumulation,
            "num_iterations": iterations,
            "num_train_epochs": epochs,
            "num_processes": processes,
            "seed": rng.choice([0, 1, 42, rng.randrange(2**31)]),
            "shuffle": rng.random() < 0.6,
            **given.get(way, {}),
        }


@pytest.fixture(params=range(40))
def plan(request):
    return batchflow.plan(**random_settings(random.Random(request.param), most_processes=4))


def rows_held(steps, process: int) -> list[int]:
    return sorted(prompt for step in steps for prompt in step.slices[process])


def test_an_epoch_trains_each_prompt_on_every_completion_in_every_pass(plan):
    for epoch in range(plan.num_train_epochs):
        steps = [step for step in plan.micro_steps if step.epoch == epoch]
        trained = [prompt for step in steps for part in step.slices for prompt in part]
        times = plan.num_generations * plan.num_iterations
        assert {trained.count(prompt) for prompt in set(trained)} == {times}
        assert len(set(trained)) == plan.num_prompts - plan.prompts_dropped
        assert plan.prompts_dropped < plan.unique_prompts
        updates = [step.optimizer_update for step in steps if step.optimizer_update is not None]
        assert updates == list(range(epoch * plan.optimizer_steps, (epoch + 1) * plan.optimizer_steps))


def test_replays_repeat_the_round_in_the_same_order(plan):
    passes = {}
    for step in plan.micro_steps:
        passes.setdefault(step.generation, {}).setdefault(step.replay, []).append(step.slices)
    for replays in passes.values():
        assert len(replays) == plan.num_iterations and all(slices == replays[0] for slices in replays.values())
        assert len(replays[0]) == plan.steps_per_generation


def test_without_old_logps_no_sample_is_old(plan):
    assert plan.needs_old_logps or {step.staleness for step in plan.micro_steps} == {0}


def test_shuffling_moves_no_completion_to_another_process(plan):
    """The sampler's order set aside: each round's rows stay on their process."""
    settings = {field.name: getattr(plan, field.name) for field in dataclasses.fields(plan)[:12]}
    del settings[arithmetic.SIZE]
    still, moved = (batchflow.plan(**{**settings, "shuffle": shuffle}) for shuffle in (False, True))
    for generation in range(still.micro_steps[-1].generation + 1):
        ours, theirs = ([s for s in p.micro_steps if s.generation == generation] for p in (still, moved))
        for process in range(plan.num_processes):
            counts = [
                sorted(held.count(prompt) for prompt in set(held))
                for held in (rows_held(ours, process), rows_held(theirs, process))
            ]
            assert counts[0] == counts[1]


def test_two_seeds_two_orders():
    shape = {"per_device_train_batch_size": 8, "num_generations": 4}
    assert len({batchflow.plan(16, **shape, seed=seed).micro_steps for seed in range(5)}) == 5


# Oracle.
@pytest.fixture(scope="module")
def smallest():
    return batchflow_runs.smallest_policy()


def totals_of(plan) -> dict:
    """A plan's totals under the names of `batchflow_runs.recorded`."""
    return {
        "num_processes": plan.num_processes,
        "generation_batch_size": plan.generation_batch_size,
        "steps_per_generation": plan.steps_per_generation,
        "unique_prompts": plan.unique_prompts,
        "optimizer_steps": plan.optimizer_steps,
        "optimizer_steps_taken": plan.optimizer_steps * plan.num_train_epochs,
    }


def compare(plan, found: SimpleNamespace, process: int = 0) -> None:
    """Every micro-step and every total of a plan with those of one process of a real run."""
    keys = ("step", "epoch", "generation", "replay", "optimizer_update", "staleness")
    theirs = [{**{key: step[key] for key in keys}, "slice": tuple(step["slice"])} for step in found.steps]
    ours = [{**{key: getattr(s, key) for key in keys}, "slice": s.slices[process]} for s in plan.micro_steps]
    assert ours == theirs
    assert totals_of(plan) == found.totals
    assert {step["has_old_logps"] for step in found.steps} == {plan.needs_old_logps}
    generations = found.steps[-1]["generation"] + 1
    assert plan.optimizer_steps_per_generation == Fraction(
        len(found.steps), generations * plan.gradient_accumulation_steps
    )
    ends = [-1, *(at for at, step in enumerate(found.steps) if step["optimizer_update"] is not None)]
    for begin, end in itertools.pairwise(ends):
        is_whole = end - begin == plan.gradient_accumulation_steps
        completions = plan.num_processes * sum(len(step["slice"]) for step in found.steps[begin + 1 : end + 1])
        assert is_whole or plan.notes, "an epoch that ends between two updates is noted"
        assert completions == plan.completions_per_update or not is_whole
    assert ends[-1] == len(found.steps) - 1


def prompts_of_an_epoch(*processes: SimpleNamespace) -> set[int]:
    """The prompts that the processes of a real run trained on in their first epoch."""
    steps = [step for found in processes for step in found.steps if step["epoch"] == 0]
    return {prompt for step in steps for prompt in step["slice"]}


def test_plans_equal_real_runs(smallest):
    """Random runs of a real GRPOTrainer, in which nothing is replaced but sampling."""
    rng, seen = random.Random(0), []
    with batchflow_runs.few_objects():
        for _ in range(REAL_RUNS):
            settings = random_settings(rng)
            plan = batchflow.plan(**settings)
            found = batchflow_runs.recorded(smallest, **settings)
            compare(plan, found)
            assert plan.num_prompts - len(prompts_of_an_epoch(found)) == plan.prompts_dropped
            seen.append(plan)
    assert {plan.needs_old_logps for plan in seen} == {True, False}
    assert len({plan.num_iterations for plan in seen}) == 3 and len({plan.num_train_epochs for plan in seen}) == 3
    for has in (lambda p: p.notes, lambda p: p.prompts_dropped, lambda p: p.shuffle, lambda p: not p.shuffle):
        assert sum(bool(has(plan)) for plan in seen) > 90, "each kind has been met often"


def slices_of_process(settings: dict, plan, process: int) -> list[tuple[int, ...]]:
    """What one of several processes trains on: TRL's sampler and `_prepare_inputs`, accelerate's sharding."""
    sampler = RepeatSampler(
        range(plan.num_prompts),
        mini_repeat_count=plan.num_generations,
        batch_size=plan.unique_prompts,
        repeat_count=plan.num_iterations * plan.steps_per_generation,
        shuffle=plan.shuffle,
        seed=plan.seed,
    )
    loader = DataLoader(
        range(plan.num_prompts),
        batch_size=plan.per_device_train_batch_size * plan.steps_per_generation,
        sampler=sampler,
        collate_fn=lambda batch: batch,
    )
    loader = prepare_data_loader(loader, num_processes=plan.num_processes, process_index=process, put_on_device=False)
    trainer = object.__new__(GRPOTrainer)
    trainer.args = SimpleNamespace(steps_per_generation=plan.steps_per_generation)
    trainer.model, trainer.num_iterations = SimpleNamespace(training=True), plan.num_iterations
    trainer._step, trainer._buffered_inputs = 0, None
    trainer._generate_and_score_completions = lambda batch: {"prompt": torch.tensor(batch)}
    torch.manual_seed(plan.seed + process)
    found = []
    for _ in range(plan.num_train_epochs):
        for batch in loader:
            found.append(tuple(GRPOTrainer._prepare_inputs.__wrapped__(trainer, batch)["prompt"].tolist()))
            trainer._step += 1
    return found


def test_plans_equal_sharded_samplers(monkeypatch):
    """Random runs of two to four processes, each process for itself."""
    rng, real, many = random.Random(1), grpo_trainer.shuffle_sequence_dict, 0
    while many < SHARDED_RUNS:
        settings = random_settings(rng, most_processes=4)
        if settings["num_processes"] == 1:
            continue
        many, plan = many + 1, batchflow.plan(**settings)
        monkeypatch.setattr(grpo_trainer, "shuffle_sequence_dict", real if plan.shuffle else lambda rows: rows)
        with torch.random.fork_rng():
            for process in range(plan.num_processes):
                ours = [step.slices[process] for step in plan.micro_steps]
                assert ours == slices_of_process(settings, plan, process)


def launched(cases: list[dict], folder) -> list[list[dict]]:
    """What two processes with torchrun's environment trained on, each case in turn."""
    (folder / "cases.json").write_text(json.dumps(cases), encoding="utf8")
    loopback = next((name for _, name in socket.if_nameindex() if name.startswith("lo")), None)
    if loopback is None:
        pytest.skip("no loopback interface for two processes to talk over")
    shared = {"WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": "1"}
    shared |= {"GLOO_SOCKET_IFNAME": loopback, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    logs = [folder / f"process-{rank}.log" for rank in range(2)]
    processes = []
    try:
        for rank, log in enumerate(logs):
            own = {"RANK": str(rank), "LOCAL_RANK": str(rank)}
            command = [sys.executable, "-m", "tests.batchflow_runs", folder / "cases.json", folder]
            with log.open("wb") as said:
                processes.append(
                    subprocess.Popen(command, env={**os.environ, **shared, **own}, stdout=said, stderr=said)
                )
        for process in processes:
            process.wait(timeout=SECONDS)
    except subprocess.TimeoutExpired:
        pytest.fail(
            f"two processes must end within {SECONDS} s; the first said: {logs[0].read_text(encoding='utf8')[-2000:]}"
        )
    finally:
        for process in processes:
            process.kill()
            process.wait()
    for process, log in zip(processes, logs, strict=True):
        assert process.returncode == 0, f"{log.name}: {log.read_text(encoding='utf8')[-3000:]}"
    return [json.loads((folder / f"process-{rank}.json").read_text(encoding="utf8")) for rank in range(2)]


def test_plans_equal_a_launched_run_of_two_processes(tmp_path):
    """Real runs of two processes, gloo on the CPU: each micro-step of both."""
    rng, cases = random.Random(2), [{"num_prompts": 13, **EXAMPLE_1, "shuffle": True}]
    while len(cases) < LAUNCHED_RUNS:
        settings = random_settings(rng, most_processes=2)
        cases += [settings] if settings["num_processes"] == 2 else []
    found = launched(cases, tmp_path)
    for case, *processes in zip(cases, *found, strict=True):
        plan, processes = batchflow.plan(**{**case, "num_processes": 2}), [SimpleNamespace(**p) for p in processes]
        for rank, process in enumerate(processes):
            compare(plan, process, rank)
        assert plan.num_prompts - len(prompts_of_an_epoch(*processes)) == plan.prompts_dropped


# Unsloth.
def test_unsloths_rescue_is_the_wheels_own(unsloth):
    code, rng, changed = (
        wheels.written_by_unsloth(unsloth, "if steps_per_generation is None and generation_batch_size is None"),
        random.Random(3),
        0,
    )
    for _ in range(300):
        processes = rng.randint(1, 3)
        settings = {
            "per_device_train_batch_size": rng.randint(1, 9),
            "gradient_accumulation_steps": rng.randint(1, 4),
            "num_generations": rng.randint(2, 8),
            "steps_per_generation": rng.choice([None, None, rng.randint(1, 4)]),
            "generation_batch_size": None,
        }
        theirs = wheels.run(code, **settings, os=SimpleNamespace(environ={"WORLD_SIZE": str(processes)}))
        used = {key: theirs[key] for key in settings}
        try:
            stock = batchflow.plan(64, **used, num_processes=processes)
        except ValueError as error:  # nothing is rescued where steps_per_generation is given
            assert used == settings
            with pytest.raises(ValueError, match=re.escape(str(error))):
                batchflow.plan(64, **settings, num_processes=processes, backend="unsloth")
            continue
        ours = batchflow.plan(64, **settings, num_processes=processes, backend="unsloth")
        is_changed, changed = used != settings, changed + (used != settings)
        assert dataclasses.replace(ours, backend="trl", notes=stock.notes) == stock
        assert len(ours.notes) == len(stock.notes) + is_changed
    assert 50 < changed < 250


def test_the_rescue_is_told():
    shape = {"per_device_train_batch_size": 6, "num_generations": 4, "num_processes": 3, "backend": "unsloth"}
    (note,) = batchflow.plan(64, **shape).notes
    assert note == (
        "Unsloth sets per_device_train_batch_size to 4 = num_generations instead of 6, because "
        "6 × 1 × 3 completions are no multiple of 4."
    )
    assert batchflow.plan(64, **{**shape, "num_processes": 2}).notes == (), "12 is one"


# Refusals.
SHAPE = {"num_prompts": 64, "per_device_train_batch_size": 8, "num_generations": 4}
COUNTS = ["num_prompts", *arithmetic.KEYS, "num_processes", "num_iterations", "num_train_epochs"]


def accepted(**settings) -> bool:
    try:
        return bool(batchflow.plan(**settings))
    except ValueError:
        return False


def test_what_trl_refuses_is_refused_and_nothing_else(monkeypatch, tmp_path):
    """500 random batches on one to four processes: our refusals fall where those of GRPOConfig do."""
    rng, refused = random.Random(4), 0
    for _ in range(500):
        processes = rng.randint(1, 4)
        settings = {
            "per_device_train_batch_size": rng.randint(1, 6),
            "gradient_accumulation_steps": rng.randint(1, 3),
            "num_generations": rng.randint(1, 6),
        }
        settings |= {"steps_per_generation": rng.randint(1, 4)} if rng.random() < 0.3 else {}
        settings |= {"generation_batch_size": rng.randint(1, 8) * rng.choice([1, 6])} if rng.random() < 0.3 else {}
        monkeypatch.setattr(batchflow_runs.GRPOConfig, "world_size", property(lambda config, n=processes: n))
        try:
            batchflow_runs.config(str(tmp_path), **settings)
        except ValueError:
            refused += 1
            assert not accepted(num_prompts=64, num_processes=processes, **settings), settings
        else:
            assert accepted(num_prompts=64, num_processes=processes, **settings), settings
    assert 150 < refused < 450, "both outcomes have been met"


def test_too_few_prompts_are_refused_where_trl_trains_no_step(smallest):
    """12 completions at once are of four prompts; of three, TRL makes an empty data loader, and talks of max_steps."""
    assert batchflow_runs.recorded(smallest, 4, shuffle=True, **EXAMPLE_1).totals["optimizer_steps_taken"] == 2
    with pytest.raises(ValueError, match="max_steps must be set to a positive value"):
        batchflow_runs.recorded(smallest, 3, shuffle=True, **EXAMPLE_1)
    assert accepted(num_prompts=4, **EXAMPLE_1)
    with pytest.raises(ValueError, match=r"must fill one generation batch of 4 prompts \(got 3\)\. Try ") as error:
        batchflow.plan(3, **EXAMPLE_1)
    mended = {**EXAMPLE_1, **suggestions(str(error.value))[0]}
    assert accepted(num_prompts=3, **mended)
    assert batchflow_runs.recorded(smallest, 3, shuffle=True, **mended).totals["optimizer_steps_taken"] >= 1


@pytest.mark.parametrize("key", COUNTS)
@pytest.mark.parametrize("value", [0, -1, True, 2.5, 4.0, "4", "many", float("nan"), None, [4]])
def test_what_is_no_count_is_refused_with_one_that_is(key, value):
    if value is None and key in (arithmetic.STEPS, arithmetic.SIZE):
        return  # not given
    with pytest.raises(ValueError) as error:
        batchflow.plan(**{**SHAPE, key: value})
    sentence = str(error.value)
    assert re.fullmatch(rf"{key} must be .+ \(got .+\)\. [A-Z].+\.", sentence)
    proposed = suggestions(sentence)
    assert proposed or "Drop it" in sentence
    for changes in proposed:
        assert accepted(**{**SHAPE, key: value, **changes}), sentence


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"per_device_train_batch_size": 2, "num_processes": 0},
            "num_processes must be a whole number of at least 1 (got 0). Try num_processes = 2.",
        ),
        ({"seed": -1}, "seed must be a whole number from 0 to 4294967295 (got -1). Try seed = 0."),
        (
            {"seed": 2**32, "num_processes": 2},
            "seed must be a whole number from 0 to 4294967294 (got 4294967296). Try seed = 4294967294.",
        ),
        ({"seed": 1.5}, "seed must be a whole number from 0 to 4294967295 (got 1.5, float). Try seed = 2."),
        ({"shuffle": 1}, "shuffle must be True or False (got 1). Try shuffle = True."),
        ({"backend": "Unsloth"}, "backend must be trl or unsloth (got 'Unsloth'). Try backend = 'unsloth'."),
        ({"backend": None}, "backend must be trl or unsloth (got None). Try backend = 'trl'."),
        (
            {"per_device_train_batch_size": 3},
            "the generation batch must be a multiple of num_generations (got 3 completions, num_generations = 4). "
            "Try num_generations = 3, or per_device_train_batch_size = 4.",
        ),
        (
            {"per_device_train_batch_size": 1, "num_generations": 1, "generation_batch_size": 1, "num_processes": 3},
            "num_generations must be at least 2, since an advantage compares completions of one prompt (got 1). "
            "Try num_generations = 2 and generation_batch_size = 6.",
        ),
        (
            {"steps_per_generation": 2, "generation_batch_size": 16},
            "only one of steps_per_generation and generation_batch_size may be set (got 2 and 16). "
            "Drop generation_batch_size.",
        ),
    ],
)
def test_refusals_name_what_works(changes, sentence):
    with pytest.raises(ValueError) as error:
        batchflow.plan(**{**SHAPE, **changes})
    assert str(error.value) == sentence
    for proposed in suggestions(sentence):
        assert accepted(**{**SHAPE, **changes, **proposed})


def test_the_largest_seed_is_one_that_trl_takes():
    """Process k is seeded with seed + k, and numpy with it."""
    numpy.random.RandomState(2**32 - 2 + 1)
    with pytest.raises(ValueError):
        numpy.random.RandomState(2**32 - 1 + 1)
    assert accepted(**SHAPE, seed=2**32 - 2, num_processes=2) and not accepted(**SHAPE, seed=2**32 - 1, num_processes=2)


@pytest.mark.parametrize("many", [2, 3])
def test_several_quoted_counts_are_refused_at_once(many):
    """Each is judged as if the others were meant: nothing is tried a thousand times a thousand times."""
    quoted = dict.fromkeys([*arithmetic.COUNTS][:many], "8")
    with pytest.raises(ValueError, match=r"got '8', str\)\. Try per_device_train_batch_size = 8"):
        batchflow.plan(64, **{"num_generations": 8, **quoted})


def test_every_proposal_is_accepted():
    """800 random batches and few prompts, on one to four processes: what a sentence proposes is accepted."""
    rng, tried = random.Random(5), 0
    for _ in range(800):
        settings = {
            "num_prompts": rng.choice([200, rng.randint(1, 6)]),
            "per_device_train_batch_size": rng.randint(1, 9),
            "gradient_accumulation_steps": rng.randint(1, 4),
            "num_generations": rng.randint(2, 7),
            "num_processes": rng.randint(1, 4),
        }
        settings |= {"generation_batch_size": rng.randint(1, 60)} if rng.random() < 0.3 else {}
        try:
            batchflow.plan(**settings)
        except ValueError as error:
            proposals = suggestions(str(error))
            assert proposals, error
            for proposed in proposals:
                try:
                    batchflow.plan(**{**settings, **proposed})
                except ValueError as again:  # the batch was wrong, and the prompts are too few as well
                    assert "must fill" in str(again) and "must fill" not in str(error), (settings, error, again)
                tried += 1
    assert tried > 500
