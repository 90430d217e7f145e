"""What came out of an experiment: figure, table and verdict."""

import dataclasses
import statistics
from types import SimpleNamespace

from grpo_nb import evaluate, plots
from grpo_nb.lab import arms, differences, training


@dataclasses.dataclass
class Outcome:
    """One arm: its label, and what was measured with each seed, in the order of `Result.seeds`."""

    arm: arms.Arm
    measured: list[training.Measured]

    @property
    def label(self) -> str:
        return self.arm.label

    def shares(self, key: str = "sampled") -> list[list[float]]:
        """Of each seed and held-out prompt: `sampled`, `greedy` or `format`."""
        return [found.shares[key] for found in self.measured]

    def mean(self, key: str = "sampled") -> float:
        """The mean over the seeds: of `sampled`, `greedy`, `format`, `training rows`, `other sizes, format`, `kl`,
        `tokens`, `seconds`, or of a metric in its last logged step.
        """
        return statistics.mean(self.of_seeds(key))

    def of_seeds(self, key: str = "sampled") -> list[float]:
        """The same, seed by seed."""
        return [_value(found, key) for found in self.measured]


def _value(found: training.Measured, key: str) -> float:
    if key in found.shares:
        return statistics.mean(found.shares[key])
    if key in found.other or key in ("tokens", "seconds"):
        return found.other[key] if key in found.other else getattr(found, key)
    logged = [row[key] for row in found.rows if row.get(key) is not None]
    if not logged:
        known = [*found.shares, *found.other, "tokens", "seconds", *(found.rows[-1] if found.rows else ())]
        raise ValueError(f"an arm must have measured {key} (got none of it). It has {', '.join(known)}.")
    return logged[-1]


@dataclasses.dataclass
class Result:
    """An experiment that is over.

    Attributes:
        outcomes: one for each arm.
        seeds: with which each was trained.
        profile: from which the arms differ.
        notes: sentences about where it comes from.
    """

    outcomes: list[Outcome]
    seeds: tuple[int, ...]
    profile: SimpleNamespace
    notes: list[str]

    def difference(self, arm: int = 1, other: int = 0, key: str = "sampled") -> differences.Difference:
        """An arm against another, by number, with its interval; see `differences.paired`."""
        return differences.paired(self.outcomes[other].shares(key), self.outcomes[arm].shares(key))

    @property
    def verdict(self) -> str:
        """Each arm against the first one, a sentence each; then what ended early."""
        first, *others = self.outcomes
        said = [
            differences.sentence(outcome.label, first.label, self.difference(number))
            for number, outcome in enumerate(others, 1)
        ]
        if len(others) > 2:
            said.append(f"Of {len(others)} comparisons one in twenty looks like a difference by chance.")
        for outcome in self.outcomes:
            for seed, found in zip(self.seeds, outcome.measured, strict=True):
                if found.stopped:
                    said.append(f"{outcome.label}, seed {seed}, was stopped by a guard: {found.stopped}")
        return "\n".join(said) or "One arm: there is nothing to compare it with."

    def table(self) -> list[dict]:
        """Rows for `plots.table`: accuracy in % with its interval over the prompts and its range over the seeds."""
        return [
            {
                "arm": outcome.label,
                "right, sampled": _percent(outcome, "sampled"),
                "right, greedy": _percent(outcome, "greedy"),
                "right, training rows": f"{100 * outcome.mean('training rows'):.0f} %",
                "KL to the start": f"{outcome.mean('kl'):.3f}",
                "tokens": f"{outcome.mean('tokens'):,.0f}",
                "CPU seconds": f"{outcome.mean('seconds'):.0f}",
            }
            for outcome in self.outcomes
        ]

    def figure(self, key: str = "reward", **options):
        """A metric of every arm against the step: mean and range of the seeds. A `matplotlib` Figure.

        Args:
            key: TRL's name.
            options: of `plots.arms`.
        """
        return plots.arms({o.label: [found.rows for found in o.measured] for o in self.outcomes}, key, **options)

    def __str__(self) -> str:
        lines = [" · ".join(f"{key}: {value}" for key, value in row.items()) for row in self.table()]
        return "\n".join([*lines, self.verdict, *self.notes])

    __repr__ = __str__

    def _repr_html_(self) -> str:
        alt = f"Reward of {len(self.outcomes)} arms against the step, mean and range of {len(self.seeds)} seeds."
        picture = f'<img alt="{alt}" src="{plots.png_data_uri(self.figure())}">' if self._has_curves() else ""
        over = f"{len(self.outcomes[0].shares()[0])} held-out prompts"
        caption = (
            f"Means of {len(self.seeds)} seeds; in brackets the 95 % interval over {over}, then the range of the seeds"
        )
        said = "".join(f"<p>{plots.safe_text(line)}</p>" for line in [*self.verdict.split("\n"), *self.notes])
        return picture + plots.table(self.table(), caption=caption) + said

    def _has_curves(self) -> bool:
        return all(any("reward" in row for row in found.rows) for o in self.outcomes for found in o.measured)


def _percent(outcome: Outcome, key: str) -> str:
    low, high = evaluate.wilson_interval(outcome.mean(key), len(outcome.shares(key)[0]))
    least, most = min(outcome.of_seeds(key)), max(outcome.of_seeds(key))
    return f"{100 * outcome.mean(key):.1f} % ({100 * low:.0f}–{100 * high:.0f}; {100 * least:.1f}–{100 * most:.1f})"
