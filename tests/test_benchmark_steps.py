"""The comparison of trainers: same start, same settings, a step's parts add up, and the faster one is found by code."""

from types import SimpleNamespace

import pytest

from benchmarks import clock, steps
from grpo_nb import data


def hand_made(kind: str, step: float, sampled: float) -> dict:
    """A run whose step is half sampling, and whose reward rises by 1 a step."""
    parts = {"sample": step / 2, "loss": step / 4, "backward": step / 8, "rest": step / 8, "step": step, "cpu": step}
    curve = [{"step": i, "reward": float(i)} for i in range(1, 13)]
    return {"kind": kind, "seconds": parts, "curve": curve, "after": {"sampled": sampled}}


# Golden


def test_the_table_marks_the_fastest_and_compares_with_trl():
    runs = [hand_made(kind, 0.4, 0.5) for kind in steps.KINDS for _ in range(2)]
    slow_and_fast = {steps.STOCK: 0.8, steps.ALL: 0.2}
    runs = [hand_made(r["kind"], slow_and_fast.get(r["kind"], 0.4), r["after"]["sampled"]) for r in runs]
    rows = steps.summary(runs)
    assert [row["kind"] for row in rows] == list(steps.KINDS)
    assert [round(row["speed"], 6) for row in rows] == [1.0, 2.0, 2.0, 2.0, 2.0, 4.0]
    assert rows[0]["last_rewards"] == [7.5, 7.5], "the mean of the last ten"
    lines = steps.table(rows).splitlines()
    assert lines[2] == "| TRL | 400 | 200 | 100 | 100 | 800 | 800 | 1.25 | 1.00 | 50.0% (50.0% … 50.0%) |"
    ours = "| all switches | **100** | **50** | **25** | **25** | **200** | **200** | **5.00** | 4.00 |"
    assert lines[-1] == f"{ours} 50.0% (50.0% … 50.0%) |"


def test_a_pretrained_run_has_no_accuracy_and_is_compared_by_the_processors_seconds_too():
    runs = [hand_made(kind, 0.4, 0.5) for kind in steps.KINDS_OF_PRETRAINED]
    for run in runs:
        del run["after"], run["curve"]
        run["seconds"]["cpu"] /= 2 if steps.ROUNDED in run["kind"] else 1
    rows = steps.summary(runs)
    assert [row["speed_by_cpu"] for row in rows] == [1.0] * 6 + [2.0] * 2
    lines = steps.table(rows).splitlines()
    assert lines[0].endswith("| steps/s | × TRL |") and len({line.count("|") for line in lines}) == 1


def test_an_answer_is_right_or_near():
    """By hand: 84 for 85 is off by 1/85, of which half counts; 300 is off by more than the whole."""
    said = [[{"content": text}] for text in ("47 + 38 = 85", "84", "300", "no idea")]
    assert steps.right(said, [85] * 4) == [1.0, 0.0, 0.0, 0.0]
    assert steps.near(said, [85] * 4) == pytest.approx([0.5, 0.5 - 1 / 170, 0.0, 0.0])


# Law


def test_the_parts_of_a_step_are_the_step(monkeypatch):
    """By a clock that stands still but when told: sampling takes 4 s, loss 2, backward 1, what is between them 8."""
    now, added = [100.0], []
    still = SimpleNamespace(perf_counter=lambda: now[0], process_time=lambda: now[0] / 2)
    monkeypatch.setattr(clock, "time", still)

    def takes(seconds):
        now[0] += seconds
        return seconds

    trainer = SimpleNamespace(
        _generate_single_turn=lambda prompts: takes(4.0),
        _compute_loss=lambda: takes(2.0),
        accelerator=SimpleNamespace(backward=lambda loss: takes(1.0)),
        add_callback=added.append,
    )
    found = clock.Clock(trainer)
    added[0].on_train_begin()
    for _ in range(2):
        assert trainer._generate_single_turn(prompts=[]) == 4.0, "what is timed returns what it returned"
        trainer._compute_loss()
        trainer.accelerator.backward(None)
        takes(8.0)
        added[0].on_step_end()
    assert found.steps == [{"sample": 4.0, "loss": 2.0, "backward": 1.0, "rest": 8.0, "step": 15.0, "cpu": 7.5}] * 2


@pytest.mark.parametrize("kind", [steps.STOCK, steps.ALL])
def test_a_run_has_a_step_for_each_step(kind, profile, rows, tiny):
    profile.grpo.update(max_steps=steps.WARM_UP + 2)
    prompts = data.grpo_rows(rows, system_prompt=profile.task["system_prompt"])
    run = steps.one_run(kind, profile, tiny, (prompts, prompts[:8]), seed=0)
    assert len(run["steps"]) == len(run["curve"]) == steps.WARM_UP + 2
    assert run["seconds"]["step"] == pytest.approx(sum(s["step"] for s in run["steps"][steps.WARM_UP :]) / 2)
    assert all(run["seconds"][part] > 0 for part in run["seconds"])
    assert 0 <= run["after"]["sampled"] <= 1
    assert not hasattr(tiny[0], "peft_config"), "the start of the next run is untouched"


def test_both_trainers_are_given_the_same(profile, rows, tiny, tmp_path):
    """The first prompts, the weights of the adapter and the settings are equal; only the class differs."""
    prompts = data.grpo_rows(rows, system_prompt=profile.task["system_prompt"])
    both = [steps.trainer_of(kind, profile, tiny, prompts, 3, str(tmp_path)) for kind in (steps.STOCK, steps.ALL)]
    assert type(both[0]) is not type(both[1]) and isinstance(both[1], type(both[0]))
    arguments, others = (
        {k: v for k, v in vars(trainer.args).items() if isinstance(v, str | int | float | bool)} for trainer in both
    )
    assert arguments == others
    weights = [{name: w for name, w in trainer.model.named_parameters() if w.requires_grad} for trainer in both]
    assert weights[0].keys() == weights[1].keys()
    assert all((weights[0][name] == weights[1][name]).all() for name in weights[0])
    first, second = (next(iter(trainer.get_train_dataloader())) for trainer in both)
    assert [row["prompt"] for row in first] == [row["prompt"] for row in second]
