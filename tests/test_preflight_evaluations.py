"""Evaluations in mid-run: counted as transformers holds them, bounded, and refused before a model is touched."""

import itertools
import re

import pytest
from test_preflight_settings import CI, suggestions
from trl import GRPOConfig

from grpo_nb import data, rewards, train
from grpo_nb.preflight import evaluations

STEPS = {"eval_strategy": "steps"}
SIZES = {"updates": 100, "per_update": 64, "longest": 32}


def report(rows: int = 4, **settings) -> dict:
    """Of `rows` held-out rows in a run of 24 steps of 64 completions, groups of 8."""
    return evaluations.check_evaluations({**CI, **settings}, GRPOConfig, [{}] * rows, **SIZES)


@pytest.fixture
def refused(profile, rows, monkeypatch):
    """Try to make a trainer, and give back the sentence that refuses it before a model is touched."""
    monkeypatch.setattr("grpo_nb.models.add_lora", lambda *args, **kwargs: pytest.fail("a model was touched"))
    monkeypatch.setattr("grpo_nb.models.own_copy", lambda *args, **kwargs: pytest.fail("a model was touched"))
    profile.grpo.update(max_steps=8, save_steps=8, per_device_eval_batch_size=4)
    profile.sft.update(per_device_eval_batch_size=2)
    held_out = data.load_task(profile.task)[1]

    def sentence(change=lambda rows: rows, *, sft: bool = False, system_prompt="Add.", **changes) -> str:
        make, prompts = (train.sft_trainer, data.sft_rows) if sft else (train.grpo_trainer, data.grpo_rows)
        given, asked = (prompts(some, system_prompt=system_prompt) for some in (rows, held_out[:2]))
        functions = () if sft else ([rewards.check_answer],)
        with pytest.raises(ValueError) as error:
            make(None, None, given, *functions, profile, held_out=change(asked), **changes)
        return str(error.value)

    return sentence


# --- golden -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "many"),
    [
        ({"eval_steps": 6}, 4),  # after 6, 12, 18, 24
        ({"eval_steps": 10}, 3),  # after 10, 20, and at the end
        ({"eval_steps": 24}, 1),
        ({"eval_steps": 0.25}, 4),
        ({"eval_steps": 10, "eval_on_start": True}, 4),
        ({"eval_steps": 6, "eval_delay": 7}, 3),
        ({"eval_steps": 6, "eval_delay": 12}, 3),
        ({"eval_steps": 6, "eval_delay": 24}, 1),
        ({"logging_steps": 12}, 2),  # eval_steps is silent
        ({"eval_strategy": "no", "eval_on_start": True}, 1),
    ],
)
def test_evaluations_of_a_run_of_24_steps(settings, many):
    found = report(**STEPS | settings)
    assert found["evaluations"] == many and found["eval_completions"] == 32 and found["eval_tokens"] == 1024
    assert found["eval_share"] == pytest.approx(32 * many / (32 * many + 24 * 64), abs=5e-4)


def test_without_rows_or_strategy_there_is_nothing_to_report():
    assert report() == {}
    assert evaluations.check_evaluations({**CI, **STEPS}, GRPOConfig, None, **SIZES) == {}


# --- oracle -----------------------------------------------------------------------------------------------------------


def test_they_are_counted_as_transformers_holds_them(tmp_path):
    from transformers import TrainerControl, TrainerState
    from transformers.trainer_callback import DefaultFlowCallback

    for steps, every, delay in itertools.product((1, 5, 7, 12), (1, 2, 3, 7, 0.3), (0, 1, 2.5, 6, 7)):
        settings = {**CI, **STEPS, "max_steps": steps, "eval_steps": every, "eval_delay": delay}
        args, state, control, held = GRPOConfig(output_dir=str(tmp_path), **settings), TrainerState(), None, 0
        state.max_steps = steps
        state.compute_steps(args, steps)
        for state.global_step in range(1, steps + 1):
            control = DefaultFlowCallback().on_step_end(args, state, TrainerControl())
            held += control.should_evaluate
        try:
            found = evaluations.check_evaluations(settings, GRPOConfig, [{}], **SIZES | {"per_update": 1e9})
            assert found["evaluations"] == held, (steps, every, delay)
        except ValueError:
            assert every > steps or delay > steps


# --- refusal ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "sentence"),
    [
        ({"eval_steps": 25}, r"eval_steps must be at most the 24 steps of the run \(got 25\)\. Try eval_steps = 24"),
        ({"logging_steps": 30}, r"eval_steps must be at most the 24 steps of the run \(got 30\)"),
        ({"eval_delay": 25}, r"eval_delay must be at most the 24 steps of the run \(got 25\)\. Try eval_delay = 0"),
        ({"per_device_eval_batch_size": 24}, r"4 rows × 8 = 32 completions, 24 a batch\)\. Pass held_out\[:3\]"),
        ({"per_device_eval_batch_size": 64}, r"4 rows × 8 = 32 .* 64 a batch\)\. Try per_device_eval_batch_size = 32"),
        ({"rows": 64, "eval_steps": 2}, r"\(got 12 × 512, and 1536 to train on\)\. Try eval_steps = 8"),
        ({"rows": 64, "eval_steps": 2, "eval_on_start": True}, r"\(got 13 × 512, and 1536 .*\)\. Try eval_steps = 12"),
        ({"rows": 256}, r"\(got 24 × 2048, and 1536 to train on\)\. Hold out fewer rows"),
    ],
)
def test_what_does_not_fit_the_run_is_refused_with_what_does(settings, sentence):
    with pytest.raises(ValueError, match=sentence) as error:
        report(**STEPS | settings)
    for proposed in suggestions(str(error.value)):
        report(**STEPS | settings | proposed)
    if taken := re.search(r"held_out\[:(\d+)\]", str(error.value)):
        report(**STEPS | settings | {"rows": int(taken[1])})


@pytest.mark.parametrize("sft", [False, True])
@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({}, r"a trainer with held_out must have eval_strategy = 'steps'"),
        ({"eval_steps": 2}, r"eval_steps must come with eval_strategy = 'steps' \(got 2,"),
        ({**STEPS, "eval_steps": 0}, r"eval_steps must be above 0 \(got 0\)"),
        ({**STEPS, "eval_steps": -1}, r"eval_steps must be above 0"),
        ({**STEPS, "eval_steps": 2.5}, r"eval_steps must be whole"),
        ({**STEPS, "eval_steps": "2"}, r"eval_steps must be a number \(got '2', str\)\. Try eval_steps = 2"),
        ({**STEPS, "eval_steps": 99}, r"eval_steps must be at most the \d+ steps of the run"),
        ({"eval_strategy": "epoch"}, r"eval_strategy must be 'steps' or 'no'"),
        ({"eval_strategy": "step"}, r"eval_strategy must be one of .* Try eval_strategy = 'steps'"),
        ({**STEPS, "per_device_eval_batch_size": 0}, r"per_device_eval_batch_size must be at least 1"),
        ({**STEPS, "eval_accumulation_steps": 0}, r"eval_accumulation_steps must be at least 1"),
        ({**STEPS, "eval_delay": -1}, r"eval_delay must be at least 0"),
        (
            {**STEPS, "load_best_model_at_end": True},
            r"load_best_model_at_end must be False: a finished run is its last",
        ),
        ({**STEPS, "metric_for_best_model": "reward"}, r"metric_for_best_model must be None: no checkpoint is chosen"),
        ({**STEPS, "fp16_full_eval": True}, r"fp16_full_eval must be False: in mid-run it does nothing"),
        ({**STEPS, "bf16_full_eval": True}, r"bf16_full_eval must be False"),
        ({**STEPS, "include_for_metrics": ["inputs"]}, r"include_for_metrics must be \[\]"),
        ({**STEPS, "lr_scheduler_type": "reduce_lr_on_plateau"}, r"must go by the steps, for held-out rows"),
    ],
)
def test_a_slip_is_refused_before_a_model_is_touched(changes, sentence, sft, refused):
    assert re.search(sentence, refused(sft=sft, **changes))


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (lambda rows: [], "held_out must have at least one row"),
        (lambda rows: {"test": rows}, "must be rows, not a dict of splits"),
        (lambda rows: [{"prompt": "1+1?"}, {"prompt": "2+2?"}], "held-out rows: .* needs the column 'answer'"),
        (lambda rows: [rows[0], {**rows[1], "answer": None}], "held-out rows: row 1, column 'answer'"),
        (lambda rows: [rows[0], {**rows[1], "prompt": []}], "held-out row 1, column 'prompt'"),
        (lambda rows: [{"prompt": "7 + " * 200, "answer": "0"}], "held-out rows: .* tokens"),
        (lambda rows: rows[:1] * 3, None),
    ],
)
def test_rows_that_would_stop_the_run_at_its_first_evaluation_are_refused_before_it(change, sentence, refused):
    said = refused(change, **STEPS, eval_steps=8, max_steps=8, per_device_eval_batch_size=8)
    assert re.search(sentence or r"\(got 3 rows × 4 = 12 completions, 8 a batch\)\. Pass held_out\[:2\]", said)


def test_a_held_out_row_that_is_trained_on_is_refused(profile, rows):
    prompts = data.grpo_rows(rows, system_prompt="Add.")
    for make, given, functions in [
        (train.grpo_trainer, prompts, ([rewards.check_answer],)),
        (train.sft_trainer, data.sft_rows(rows, system_prompt="Add."), ()),
    ]:
        with pytest.raises(ValueError, match="no held-out question may be trained on .* row 3 is held-out row 0"):
            make(None, None, given, *functions, profile, held_out=given[3:4], **STEPS)


@pytest.mark.parametrize(
    ("every", "functions", "sentence"),
    [
        (0, [rewards.check_answer], r"show_every must be a whole number of steps, or None .*\(got 0\)"),
        (2.5, [rewards.check_answer], r"\(got 2.5\)\. Try show_every=5"),
        (True, [rewards.check_answer], r"\(got True\)"),
        ("5", [rewards.check_answer], r"\(got '5'\)"),
        (-1, [rewards.check_answer], r"\(got -1\)"),
    ],
)
def test_completions_cannot_be_shown_every_so_often(every, functions, sentence, profile, rows):
    with pytest.raises(ValueError, match=sentence):
        train.grpo_trainer(None, None, data.grpo_rows(rows), functions, profile, show_every=every)
