"""Record the arms that notebooks and exercises ask for: `python -m tools.experiments [NAME…]`.

Each is trained in the ci profile with three seeds, on one thread, and written into notebooks/runs/experiments.json as
soon as it is measured. An arm that is in the record, as it would be asked for today, is not trained again: to have it
anew, delete its line there. It takes an hour for all of them.
"""

import sys

from grpo_nb import data, lab, profiles, rewards
from grpo_nb.lab import records
from tools import publish

RECORD = publish.ROOT / "notebooks" / "runs" / records.NAME
SEEDS = (0, 1, 2)
FORMAT = [rewards.match_format_exactly, rewards.match_format_approximately]
FAST = 5e-3  # ten times the profile's learning rate

# What to call it → (the arms, what all of them have).
GUIDED: dict[str, tuple[list[dict], dict]] = {
    "group size": ([{"num_generations": g} for g in (2, 4, 8, 16)], {}),
    "scale of the rewards": ([{"scale_rewards": scale} for scale in ("group", "batch", "none")], {}),
    "learning rate": ([{"learning_rate": rate} for rate in (5e-6, 5e-5, 5e-4, 5e-3)], {}),
    "loss type": ([{"loss_type": loss} for loss in ("dapo", "grpo", "dr_grpo")], {}),
    "a short limit": (
        [{}, {"max_completion_length": 18}, {"max_completion_length": 18, "mask_truncated_completions": True}],
        {},
    ),
    "temperature": ([{"temperature": t} for t in (0.5, 1.0, 1.5)], {}),
    "penalty": ([{"beta": beta} for beta in (0.0, 0.04, 1.0)], {}),
    "penalty at a high rate": ([{"beta": beta} for beta in (1e-6, 0.04, 1.0)], {"learning_rate": FAST}),
    "dtype": (
        [{}, {"bf16": True}, {"dtype": "bfloat16"}, {"dtype": "float16"}, {"dtype": "float16", "adam_epsilon": 1e-4}],
        {},
    ),
    "rewards": ([{}, {"rewards": FORMAT}, {"rewards": [rewards.check_answer]}], {}),
    "sampling": ([{}, {"top_k": 2}, {"top_p": 0.5}], {}),
    "steps": ([{"max_steps": steps} for steps in (24, 12, 48)], {}),
    "passes": ([{"num_iterations": n} for n in (1, 2, 4)], {}),
    "clipping": ([{}, {"epsilon": 0.02}], {}),
    "clipping, four passes": ([{"epsilon": 0.2}, {"epsilon": 0.02}], {"num_iterations": 4}),
    "rows and steps": (
        [{"num_train": n, "max_steps": s} for s in (30, 300) for n in (10, 500)],
        {"per_device_train_batch_size": 32},  # four prompts a step
    ),
}


def rows_of(profile) -> list[dict]:
    """The rows that arms of a profile train on."""
    rows, _ = data.load_task(profile.task)
    return data.grpo_rows(rows, system_prompt=profile.task["system_prompt"])


def small_profile():
    """The ci profile cut down to steps of a policy that knows nothing: quick enough to be trained again in a test."""
    profile = profiles.current("ci")
    profile.task.update(num_train=64, num_held_out=16)
    profile.sft.update(max_steps=2, per_device_train_batch_size=4)
    profile.grpo.update(max_steps=4, per_device_train_batch_size=16, max_completion_length=24)
    return profile


def small(**options) -> lab.results.Result:
    """One arm of that: its only reward pays for tags, which random tokens hold now and then."""
    reward = {"rewards": [rewards.match_format_approximately]}
    return lab.experiment(reward, seeds=(0,), profile=small_profile(), **options)


def recorded(given: list[dict], everywhere: dict | None = None) -> lab.results.Result:
    """These arms as the record has them: nothing is checked, loaded or trained.

    Raises: KeyError for an arm that is not there.
    """
    start, there = profiles.current("ci"), records.read(RECORD)
    arms = [lab.arms.read(arm, everywhere or {}, start, rows_of(start)) for arm in given]
    outcomes = [lab.results.Outcome(arm, [there[arm.asked(seed)] for seed in SEEDS]) for arm in arms]
    return lab.results.Result(outcomes, SEEDS, start, [])


def record(name: str) -> lab.results.Result:
    """Train what is missing of one experiment, and write it down seed by seed."""
    arms, everywhere = GUIDED[name]
    for seed in SEEDS:
        for arm in arms:
            note(lab.experiment(arm, seeds=(seed,), **everywhere), {**everywhere, **arm})
    return lab.experiment(*arms, seeds=SEEDS, **everywhere)


def note(result: lab.results.Result, given: dict) -> None:
    """Write one arm with one seed down, if it is not there."""
    (outcome,), (seed,) = result.outcomes, result.seeds
    if outcome.measured[0].source != "recorded":
        records.add(RECORD, lab.arms.label(given), outcome.arm.asked(seed), outcome.measured[0])


def main(*names: str) -> None:
    """Record these experiments, or all."""
    note(small(), {"a small policy": "see tools/experiments.py"})
    for name in names or GUIDED:
        print(f"{name}\n{record(name)}\n", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
