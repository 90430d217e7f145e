"""Several arms, each trained over the same seeds from the same warm start, and compared."""

import functools
from collections.abc import Callable, Sequence
from types import SimpleNamespace

from grpo_nb import data, models, plots, train
from grpo_nb.batchflow import limits
from grpo_nb.lab import arms, records, results, training


def experiment(
    *differences: dict,
    seeds: Sequence[int] = (0, 1),
    profile: str | SimpleNamespace | None = None,
    fresh: bool = False,
    say: Callable[[str], None] | None = None,
    **everywhere,
) -> results.Result:
    """Train a small policy in several ways, and say whether the difference is noise.

    An arm that was trained before, with the same everything, is not trained again: it comes from the record that ships
    with the notebooks, or from the disk. An interrupted arm goes on from its last sealed checkpoint.

    Args:
        differences: an arm each: settings of `GRPOConfig` that differ from the profile's, and `rewards` (a list of
            functions), `loss` (as for `train.grpo_trainer`), `num_train` (rows), `lora` and `kernels` (dicts), `dtype`
            (of all weights while it trains).
        seeds: of the adapter, the order of the prompts and the samples; each arm is trained with each. The task, the
            warm start and the held-out problems stay the same.
        profile: a profile, or its name; None: ci, in which an arm takes some ten seconds.
        fresh: train again what was trained before; what is recorded stays in the record.
        say: gets a few words at every step; None: they are one line that changes, or in a terminal a line a run.
        everywhere: settings of all arms; an arm's own come first.
    Returns: the result; the last line of a cell shows it.
    Raises: ValueError for any arm that is broken, before one trains.

    >>> result = experiment({"num_generations": 2}, {"num_generations": 16}, seeds=(0, 1, 2))  # doctest: +SKIP
    """
    start, seeds = arms.profile_of(profile), _checked(seeds)
    if not isinstance(fresh, bool) or not (say is None or callable(say)):
        raise ValueError(
            f"fresh must be True or False, and say a function or None (got {fresh!r:.40} and {say!r:.40}). Leave both "
            "out."
        )
    rows, held_out = (
        data.grpo_rows(part, system_prompt=start.task["system_prompt"]) for part in data.load_task(start.task)
    )
    read = [arms.read(given, everywhere, start, rows) for given in differences]
    for arm in read:
        arm.check()
    chosen, notes = _distinct(read, seeds)
    load, line = functools.cache(lambda: _started(start, chosen)), Line(say)
    found: list[list[training.Measured]] = [[] for _ in chosen]
    for seed in seeds:
        for number, arm in enumerate(chosen):
            ready = None if fresh else records.find(arm.asked(seed)) or training.finished(arm, seed)
            if ready is None:
                line.begin(f"arm {number + 1} of {len(chosen)} ({arm.label}), seed {seed}")
                ready = training.trained(arm, seed, load, held_out, line.say, fresh=fresh)
            found[number].append(ready)
    line.close()
    outcomes = [results.Outcome(arm, measured) for arm, measured in zip(chosen, found, strict=True)]
    if everywhere:
        notes.append(f"In all arms: {arms.label(everywhere)}.")
    return results.Result(outcomes, seeds, start, [*notes, *_origins(found)])


def _started(start: SimpleNamespace, chosen: Sequence[arms.Arm]):
    """The warm start, once a trainer of every arm has been assembled around a policy like it."""
    rows = train.trace_rows(start)
    path = train.warm_start_path(start, rows)
    alike = models.load_policy(start, path=path) if path.exists() else models.load_policy(start, rows)
    for arm in chosen:
        arm.check(*alike)
    return train.warm_start(start)


def _checked(seeds: Sequence[int]) -> tuple[int, ...]:
    if isinstance(seeds, (str, bytes)) or not isinstance(seeds, (Sequence, range)) or not len(seeds):
        raise ValueError(f"seeds must be a list of whole numbers (got {seeds!r:.40}). Try seeds=(0, 1).")
    for seed in seeds:
        limits.check_whole(seed=seed, least=0)
        if seed >= 2**32:
            raise ValueError(f"seed must be below 2**32, or numpy takes none (got {seed}). Try seed = 0.")
    if len(set(seeds)) < len(seeds):
        raise ValueError(f"seeds must differ (got {list(seeds)}). Try seeds={tuple(range(len(seeds)))}.")
    return tuple(map(int, seeds))  # numpy's would name another run


def _distinct(given: Sequence[arms.Arm], seeds: Sequence[int]) -> tuple[list[arms.Arm], list[str]]:
    """The arms without those that ask for the same as an earlier one, and a sentence for each of these."""
    if not given:
        raise ValueError(
            "an experiment must have arms (got none). Try experiment({'num_generations': 2}, {'num_generations': 16})."
        )
    kept, notes = {}, []
    for number, arm in enumerate(given, 1):
        first, earlier = kept.setdefault(arm.asked(seeds[0]), (number, arm))
        if earlier is not arm:
            notes.append(
                f"Arms {first} and {number} are one: {earlier.label} and {arm.label} ask for the same run. It is "
                "trained once."
            )
    names = [arm.label for _, arm in kept.values()]
    for number, (_, arm) in enumerate(kept.values(), 1):
        if names.count(arm.label) > 1:  # two functions may have one name
            arm.label = f"{arm.label} ({number})"
    return [arm for _, arm in kept.values()], notes


def _origins(found: Sequence[Sequence[training.Measured]]) -> list[str]:
    """Where the runs come from, in words."""
    runs = [one for arm in found for one in arm]
    said = []
    if recorded := [run for run in runs if run.source == "recorded"]:
        dates, stack, machine = sorted({run.date for run in recorded}), recorded[0].versions, recorded[0].machine
        when = dates[0] if len(dates) == 1 else f"{dates[0]} … {dates[-1]}"
        said.append(
            f"{len(recorded)} of {len(runs)} runs are recorded: trained on {when} with torch {stack['torch']} and trl "
            f"{stack['trl']}, on {machine['processor']}. fresh=True trains them again."
        )
    if cached := sum(run.source == "cached" for run in runs):
        said.append(f"{cached} of {len(runs)} runs were trained here before. fresh=True trains them again.")
    return said


class Line:
    """One line that says how far an experiment is: it changes in a notebook; elsewhere each run prints one."""

    def __init__(self, show: Callable[[str], None] | None):
        from IPython import get_ipython

        self.show, self.run, self.handle = show, "", None
        self.is_live = show is not None or get_ipython() is not None
        if show is None:
            self.show = self._redraw if self.is_live else print

    def begin(self, run: str) -> None:
        self.run = run
        self.show(run)

    def say(self, words: str) -> None:
        if self.is_live:
            self.show(f"{self.run}: {words}")

    def close(self) -> None:
        if self.handle is not None:
            self._redraw("")

    def _redraw(self, words: str) -> None:
        from IPython.display import HTML, display

        page = HTML(plots.safe_text(words))
        if self.handle is None:
            self.handle = display(page, display_id=True)
        else:
            self.handle.update(page)
