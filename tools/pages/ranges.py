"""docs/ranges.md: which values of a setting worked here, from the recorded arms, and what a large model changes.

`python -m tools.pages.ranges` writes the page; a test writes it again and compares.
"""

from grpo_nb import lab
from grpo_nb.runs import files
from tools import experiments, publish

LEAST = 0.9  # accuracy of the worst seed of an arm that worked
PAGE = publish.ROOT / "docs" / "ranges.md"
LARGE = {  # setting → what changes with a large model, and who says so
    "num_generations": "DeepSeekMath samples 64 (arXiv:2402.03300, §4.2), DAPO 16 (arXiv:2503.14476, §4.1). A problem "
    "that is solved once in fifty tries needs a large group, or it teaches nothing; here three of four tries "
    "are right at the start.",
    "learning_rate": "1e-6 for all weights (DeepSeekMath, DAPO; TRL's default). The profiles t4 and a100 train an "
    "adapter with 5e-6. An adapter on a tiny policy bears a hundred times that, and with few steps it needs it.",
    "temperature": "1.0 is the rule (DAPO, TRL's default). Colder sampling hides rare answers, so that groups die; "
    "hotter sampling spoils long answers, in which every token has to be right.",
    "beta": "DeepSeekMath takes 0.04; DAPO and TRL's default leave it out. A large model has more to forget than this "
    "one: watch `kl`, and tasks that you do not train.",
    "loss_type": "dapo is TRL's default. Where the lengths of answers differ much, so do the types; here nearly all "
    "answers have one length.",
    "scale_rewards": "Dr. GRPO leaves the deviation out (arXiv:2503.20783). It matters where the spread differs much "
    "from group to group.",
    "max_completion_length": "DeepSeekMath 1,024; DAPO 16,384, and a soft punishment beyond. Watch "
    "`completions/clipped_ratio`, and who is cut: that is the same at every size.",
    "dtype": "Frozen weights in bfloat16 and trained ones in float32 are common. float16 needs a scaled loss; with it, "
    "it can be the better one of the two (arXiv:2510.26788).",
    "num_train": "One problem was enough to raise the score of Qwen2.5-Math-1.5B (arXiv:2504.20571): few are enough "
    "where the skill is there already.",
    "num_iterations": "1 is TRL's default. More passes save sampling, which costs a large model more than the update.",
    "rewards": "What is not paid for is not learned, at every size.",
}
TOPICS = {  # setting → experiments in which it differs
    "num_generations": "group size",
    "learning_rate": "learning rate",
    "temperature": "temperature",
    "beta": "penalty",
    "loss_type": "loss type",
    "scale_rewards": "scale of the rewards",
    "max_completion_length": "a short limit",
    "dtype": "dtype",
    "num_train": "rows and steps",
    "num_iterations": "passes",
    "rewards": "rewards",
}
HEAD = """# Ranges that worked here

Every number comes from `notebooks/runs/experiments.json`: the ci profile, {seeds} seeds an arm, one warm start,
{prompts} held-out prompts, {steps} steps where the arm does not say otherwise. The accuracy is that of samples at
temperature 1, with its range over the seeds; behind it the difference to the profile, with its 95 % interval.

An arm **worked** unless it is below the profile by more than noise, or its worst seed is below {least:.0f} %. The rule
for noise is in `help(lab.differences)`. These are ranges for a policy of two layers that adds two numbers: they tell
where to look, not what to set. [Notebook 10](../notebooks/10_experiments.ipynb) shows the curves.

| setting | arm | right, sampled (seeds) | against the profile | worked |
|---|---|--:|--:|---|
"""


def rows(setting: str, profile: lab.results.Outcome) -> list[str]:
    """A line of the table for each arm of a setting's experiment."""
    found = []
    arms, everywhere = experiments.GUIDED[TOPICS[setting]]
    for given, outcome in zip(arms, experiments.recorded(arms, everywhere).outcomes, strict=True):
        change, seeds = lab.differences.paired(profile.shares(), outcome.shares()), outcome.of_seeds()
        interval = f"{100 * change.mean:+.1f} ({100 * change.low:+.1f} … {100 * change.high:+.1f})"
        is_worse = not change.is_noise and change.mean < 0
        worked = "**no**" if is_worse or min(seeds) < LEAST else "yes"
        if outcome.arm.asked(0) == profile.arm.asked(0):
            interval, worked = "", "is the profile"
        accuracy = f"{100 * outcome.mean():.1f} % ({100 * min(seeds):.1f}–{100 * max(seeds):.1f})"
        found.append(
            f"| `{setting}` | {lab.arms.label({**given, **everywhere})} | {accuracy} | {interval} | {worked} |"
        )
    return found


def page() -> str:
    """The page, from the record."""
    (profile,) = experiments.recorded([{}]).outcomes
    first = profile.measured[0]
    numbers = {
        "seeds": len(experiments.SEEDS),
        "prompts": len(profile.shares()[0]),
        "least": 100 * LEAST,
        "steps": profile.arm.profile.grpo["max_steps"],
    }
    table = "\n".join(line for setting in TOPICS for line in rows(setting, profile))
    large = "\n".join(f"| `{setting}` | {LARGE[setting]} |" for setting in TOPICS)
    made = (
        f"Recorded on {first.date} with torch {first.versions['torch']} and trl {first.versions['trl']}, on "
        f"{first.machine['processor']}, {first.machine['threads']} thread."
    )
    changes = f"## What a large model changes\n\n| setting | |\n|---|---|\n{large}\n"
    return f"{HEAD.format(**numbers)}{table}\n\n{made}\n\n{changes}"


if __name__ == "__main__":
    files.write_text(PAGE, page())
