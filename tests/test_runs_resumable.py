"""From which steps a run can go on, worked by hand; and every checkpoint that is let pass falls on one of them."""

import random
from types import SimpleNamespace

import pytest
from test_preflight_settings import suggestions

from grpo_nb.runs import resumable


def args(**changes) -> SimpleNamespace:
    usual = {
        "gradient_accumulation_steps": 1, "steps_per_generation": 1, "num_iterations": 1,
        "logging_strategy": "steps", "logging_steps": 1,
        "save_strategy": "steps", "save_steps": 10, "save_only_model": False, "save_total_limit": 2,
        "world_size": 1,
    }  # fmt: skip
    return SimpleNamespace(**{**usual, **changes})


@pytest.mark.parametrize(
    ("steps_per_generation", "num_iterations", "accumulation", "cycle"),
    [(1, 1, 1, 1), (1, 2, 1, 2), (4, 1, 1, 4), (4, 1, 2, 2), (4, 3, 4, 3), (2, 1, 4, 1), (2, 1, 3, 2)],
)
def test_generation_cycle(steps_per_generation, num_iterations, accumulation, cycle):
    """By hand: a generation feeds S × μ micro-steps, an update takes A; both end together after lcm / A updates."""
    settings = args(
        steps_per_generation=steps_per_generation,
        num_iterations=num_iterations,
        gradient_accumulation_steps=accumulation,
    )
    assert resumable.generation_cycle(settings) == cycle


def test_a_run_can_be_cut_where_generation_and_log_line_end():
    settings = args(num_iterations=2, logging_steps=3)
    steps = [step for step in range(1, 19) if resumable.can_cut(settings, step, updates_per_epoch=100)]
    assert steps == [6, 12, 18]
    short = args(num_iterations=2)  # an epoch of five updates: the cycle starts anew with each
    assert [s for s in range(1, 11) if resumable.can_cut(short, s, updates_per_epoch=5)] == [2, 4, 5, 7, 9, 10]


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        (
            {"save_strategy": "best"},
            r"save_strategy must be 'steps'.*\(got 'best'\)\. Try save_strategy = 'steps' and save_steps = 10",
        ),
        (
            {"save_strategy": "epoch"},
            r"save_strategy must be 'steps'.*'no' \(got 'epoch'\)\. Try save_strategy = 'steps' and save_steps = 10",
        ),
        (
            {"logging_strategy": "epoch"},
            r"logging_strategy must be 'steps' or 'no'.*Try logging_strategy = 'steps' and",
        ),
        ({"logging_strategy": "epoch", "save_strategy": "no"}, r"logging_strategy must be 'steps' or 'no'"),
        ({"logging_steps": 0.5, "save_strategy": "no"}, r"must be whole numbers of steps"),
        ({"num_iterations": 3}, r"save_steps must be a multiple of 3: .* \(got 10\)\. Try save_steps = 9"),
        ({"logging_steps": 4}, r"save_steps must be a multiple of 4: .* \(got 10\)\. Try save_steps = 8"),
        ({"save_only_model": True}, "save_only_model must be False"),
        ({"logging_steps": 0.5}, r"must be whole numbers of steps .*\(got 0.5 and 10\)"),
        ({"world_size": 2}, "must be one process"),
    ],
)
def test_what_cannot_resume_equally_is_refused(changes, sentence):
    resumable.check_resumable(args())
    with pytest.raises(ValueError, match=sentence):
        resumable.check_resumable(args(**changes))


@pytest.mark.parametrize("changes", [{"save_strategy": "no"}, {"logging_strategy": "no", "logging_steps": 500}])
def test_where_nothing_is_saved_or_logged_its_steps_stand_in_no_ones_way(changes):
    settings = args(**{"save_steps": 7, "num_iterations": 7, **changes})
    resumable.check_resumable(settings)
    resumable.check_saves(settings, max_steps=24, updates_per_epoch=70)
    assert [step for step in range(1, 22) if resumable.can_cut(settings, step, updates_per_epoch=70)] == [7, 14, 21]


def test_the_next_step_to_cut_at():
    settings = args(num_iterations=2, logging_steps=3)
    assert [resumable.next_cut(settings, step, updates_per_epoch=100) for step in (0, 5, 6, 7)] == [6, 6, 12, 12]
    assert resumable.next_cut(args(num_iterations=4), 4, updates_per_epoch=5) == 5, (
        "an epoch ends, and with it a generation"
    )


@pytest.mark.parametrize(
    ("changes", "every"),
    [
        ({}, 10),
        ({"save_steps": 10.0}, 10),
        ({"save_steps": 0.3}, 8),
        ({"save_strategy": "epoch"}, 7),
        ({"save_strategy": "no"}, None),
    ],
)
def test_steps_between_saves(changes, every):
    """By hand: 0.3 · 25 = 7.5, and half a step is none."""
    assert resumable.steps_between_saves(args(**changes), max_steps=25, updates_per_epoch=7) == every


def test_a_checkpoint_in_the_middle_of_a_generation_is_refused():
    """A generation of four steps, an epoch of three: it is cut short there, and begins anew at steps 3, 6, 9 …"""
    settings = args(num_iterations=4, save_steps=4)
    with pytest.raises(
        ValueError, match=r"\(got save_steps = 4, and step 4 is none: .* 3 steps, .* 4\)\. Try save_steps = 12"
    ):
        resumable.check_saves(settings, max_steps=24, updates_per_epoch=3)
    resumable.check_saves(settings, max_steps=4, updates_per_epoch=3)  # its only checkpoint is the end
    resumable.check_saves(args(num_iterations=4, save_steps=4, save_strategy="no"), max_steps=24, updates_per_epoch=3)


def test_what_passes_can_be_cut_at_each_checkpoint_and_what_is_suggested_passes():
    rng, refused = random.Random(0), 0
    for _ in range(500):
        settings = args(
            steps_per_generation=rng.randint(1, 4),
            num_iterations=rng.randint(1, 4),
            gradient_accumulation_steps=rng.randint(1, 4),
            logging_steps=rng.randint(1, 3),
            save_steps=rng.randint(1, 12),
        )
        sizes = {"max_steps": rng.randint(1, 60), "updates_per_epoch": rng.randint(1, 15)}
        saves = range(settings.save_steps, sizes["max_steps"], settings.save_steps)
        is_fine = all(resumable.can_cut(settings, step, updates_per_epoch=sizes["updates_per_epoch"]) for step in saves)
        try:
            resumable.check_saves(settings, **sizes)
            assert is_fine
        except ValueError as error:
            assert not is_fine
            refused += 1
            [proposed] = suggestions(str(error))
            settings.save_steps = proposed["save_steps"]
            resumable.check_saves(settings, **sizes)
            resumable.check_resumable(settings)
    assert 100 < refused < 400, refused


def test_a_run_of_a_billion_steps_is_judged_at_once():
    resumable.check_saves(args(save_steps=1), max_steps=10**9, updates_per_epoch=10**6)
