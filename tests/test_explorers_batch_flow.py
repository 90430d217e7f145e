"""The batch-flow explorer: its plan is the package's, its words are the totals, and a refusal stands in place."""

import pytest

from grpo_nb import batchflow
from grpo_nb.explorers import batch_flow

EXAMPLE = {"per_device_train_batch_size": 3, "num_generations": 3, "gradient_accumulation_steps": 2}


# Golden: Example 1 samples 3 · 4 = 12 completions of 4 prompts; an update takes 3 · 2 of them, a round makes two.
def test_example_one_in_words():
    words = batch_flow.caption(batch_flow.compute(num_prompts=9, **EXAMPLE, steps_per_generation=4))
    assert words == (
        "A generation round samples 12 completions (4 prompts × 3) for 4 micro-steps of 3 completions on 1 process. "
        "An optimizer step trains on 6 completions; a round makes 2 optimizer steps, with samples up to 1 step old, "
        "and TRL stores the old log-probs. An epoch has 2 rounds and 4 optimizer steps, and drops 1 of 9 prompts."
    )


# Two processes, two passes, 16 micro-steps an update: 3 · 2 · 2 · 2 / 16 = 1.5 updates; 16 · 2 · 2 completions each.
def test_processes_passes_and_a_share_in_words():
    plan = batch_flow.compute(
        num_prompts=36,
        per_device_train_batch_size=2,
        num_generations=2,
        gradient_accumulation_steps=16,
        steps_per_generation=6,
        num_processes=2,
        num_iterations=4,
    )
    words = batch_flow.caption(plan)
    assert (
        "24 completions (12 prompts × 2) for 6 micro-steps of 2 completions on each of 2 processes, all of it" in words
    )
    assert "it 4 times. An optimizer step trains on 64 completions; a round makes 3/2 optimizer steps, with" in words
    assert words.endswith("The last optimizer step of an epoch accumulates 8 of 16 micro-steps.")


def test_fresh_samples_in_words():
    words = batch_flow.caption(batch_flow.compute(num_prompts=8, **EXAMPLE, steps_per_generation=2))
    assert "with samples that are never old, and TRL stores no old log-probs." in words


def test_fresh_samples_with_old_log_probs_in_words():
    """3 is no multiple of 2, so TRL stores them, though the end of the epoch cuts the only accumulation after 2."""
    settings = {**EXAMPLE, "gradient_accumulation_steps": 3, "steps_per_generation": 2}
    words = batch_flow.caption(batch_flow.compute(num_prompts=2, **settings))
    assert "with samples that are never old, and TRL stores the old log-probs." in words


# Law.
def test_no_steps_per_generation_are_those_of_the_accumulation():
    assert batch_flow.compute(num_prompts=8, **EXAMPLE, steps_per_generation=0) == batchflow.plan(8, **EXAMPLE)
    assert batch_flow.compute(num_prompts=8, **EXAMPLE).steps_per_generation == 2


def test_every_control_is_an_argument_of_plan():
    shown = batch_flow.explorer()
    start = batch_flow.compute(**shown.values)
    legal = {"shuffle": True, "backend": "unsloth", "per_device_train_batch_size": 2, "steps_per_generation": 8}
    for name, field in shown.fields.items():
        changed = batch_flow.compute(**{**shown.values, name: legal.get(name, 2 * field.value)})
        assert getattr(changed, name) == legal.get(name, 2 * field.value) != getattr(start, name)


def test_presets_are_what_their_names_say():
    presets = batch_flow.explorer().presets
    one, two, three, four, shuffled, defaults, both, replay, rescue = map(
        lambda values: batch_flow.compute(**values), presets.values()
    )
    assert (one.optimizer_steps_per_generation, two.optimizer_steps_per_generation) == (2, 1)
    assert any(len(set(part)) > 1 for step in three.micro_steps for part in step.slices)
    assert all(len(set(part)) == 2 for step in four.micro_steps for part in step.slices)
    assert shuffled.shuffle and shuffled.micro_steps != one.micro_steps
    settings = {"per_device_train_batch_size": 8, "num_generations": 8, "gradient_accumulation_steps": 1}
    assert defaults == batchflow.plan(8, **settings), "as GRPOConfig has them"
    assert both.num_processes == 2 and replay.num_iterations == 2
    assert rescue.per_device_train_batch_size == rescue.num_generations == 4 and rescue.notes
    assert [plan.num_generations for plan in (one, two, three, four)] == [3, 3, 4, 3]
    assert {plan.generation_batch_size for plan in (one, two, three, four)} == {12}


def test_the_figure_draws_short_rounds_further():
    short = batch_flow.compute(num_prompts=9, per_device_train_batch_size=8, num_generations=8)
    rounds = [text.get_text() for text in batch_flow.figure(short).axes[0].texts][:8]
    assert rounds == [str(i) for i in range(8)], "the upper row, beside which stands: generation"


# Refusal.
def test_a_refusal_of_plan_stands_beneath_the_last_picture():
    shown = batch_flow.explorer()
    words = shown.caption
    shown.fields["num_generations"].value = 3
    assert '<p role="alert"><b>the generation batch must be a multiple of num_generations (got 16' in shown.view.value
    assert shown.caption == words
    with pytest.raises(ValueError, match=r"got 16 completions, num_generations = 3\)\. Try num_generations = 2 or 4"):
        batch_flow.compute(**shown.values)
    shown.preset.value = "Unsloth makes the batch one group"
    assert "role=" not in shown.view.value and "Unsloth sets per_device_train_batch_size to 4" in shown.caption
