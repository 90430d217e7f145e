"""The rewards while the policy trains: TRL drops NaN and None alike, and lets infinity erase a whole group."""

import functools
from collections.abc import Callable

from grpo_nb.rewards import contract


class Scores:
    """Guards around the reward functions of one run.

    Args:
        watch: the `guards.Watch` with the policies, the limits and the counts.
        expected: how many functions answer for each batch; 0: unknown, some scores come from elsewhere.
    """

    def __init__(self, watch, expected: int):
        self.watch, self.expected = watch, expected
        self.names: list[str] = []
        self.answered: dict[int, bool] = {}  # in this batch: function → whether it scored any completion

    def around(self, function: Callable) -> Callable:
        """`function` in TRL's contract, guarded, under its own name; a coroutine function stays one."""
        index, name = len(self.names), contract.name_of(function)
        self.names.append(name)
        first_only = self.watch.policies["rewards"] == "stop"
        is_async = contract.is_async(function)

        async def scored(**call):
            answer = function(**call)
            return await answer if is_async else answer

        @functools.wraps(function)
        async def checked(*, completions, **columns):
            raised = 0
            try:
                answer = await scored(completions=completions, **columns)
            except Exception as error:  # a reward is the learner's code: anything may come
                alone = await _one_by_one(scored, completions, columns, first_only)
                answer, raised = self._salvaged(error, alone, name, completions, columns)
            return self._judged(answer, raised, index, completions, columns)

        @functools.wraps(function)
        def plain(**columns):
            try:
                checked(**columns).send(None)  # it waits for nothing, and so ends at its first step
            except StopIteration as end:
                return end.value

        guarded = checked if is_async else plain
        guarded.__name__ = name  # a partial or an instance has none that TRL could log
        return guarded

    def _salvaged(self, error: Exception, alone: list, name: str, completions: list, columns: dict) -> tuple[list, int]:
        """What a reward that raised can still say: its scores, None where it raises, and how often it does.

        Args:
            alone: its answer, or its exception, for each completion on its own.
        Raises: ValueError under the policy "stop".
        """
        count, raising = len(completions), [i for i, answer in enumerate(alone) if isinstance(answer, Exception)]
        where = f"for the {count} completions at once, though for none of them alone"
        if raising:
            error = alone[raising[0]]
            where = f"for completion {raising[0] + 1} of {count}: {contract.shown_completion(completions[raising[0]])}"
        try:
            self.watch.found(
                "rewards",
                f"the reward {name} must score every completion without raising "
                f"(got {type(error).__name__}: {contract.shown(str(error))}{_step(columns)}, {where}). "
                "Return 0.0 for wrong and None for not applicable; guard={'rewards': 'skip'} goes on without it.",
                times=max(1, len(raising)),
            )
        except ValueError as stop:
            raise stop from error
        return [None if i in raising else contract.scores(alone[i], name, 1)[0] for i in range(count)], len(raising)

    def _judged(self, answer: object, raised: int, index: int, completions: list, columns: dict) -> list:
        """The scores that TRL gets; what is bad in them is None under the policy "skip".

        Raises: ValueError for a broken contract, under "stop" for a bad score, and where too many are bad.
        """
        name, watch, count = self.names[index], self.watch, len(completions)
        scores = contract.scores(answer, name, count)
        absurd = contract.absurd(scores, watch.max_reward)
        if absurd:
            first = absurd[0]
            watch.found(
                "rewards",
                f"the reward {name} must be a finite number within ±{watch.max_reward:g}, or None for not applicable "
                f"(got {scores[first]}{_step(columns)}, for completion {first + 1} of {count}: "
                f"{contract.shown_completion(completions[first])}). "
                "Clip it, or return None; guard={'rewards': 'skip'} goes on without such scores.",
                times=len(absurd),
            )
        bad = raised + len(absurd)
        if bad > watch.max_share * count:
            raise ValueError(
                f"at most {watch.max_share:.0%} of a batch may go without a score of {name} "
                f"(got {bad} of {count}{_step(columns)}). Mend the reward, or raise max_share of guards.Watch."
            )
        if bad and "log_metric" in columns:
            columns["log_metric"]("guards/skipped_rewards", float(bad))
        scores = [None if i in absurd else score for i, score in enumerate(scores)]
        self._note_answer(index, scores, columns)
        if watch.latest.get("completions") is not completions:
            kept = {key: columns.get(key) for key in ("prompts", "answer")}
            watch.latest = {**kept, "completions": completions, "scores": {}}
        watch.latest["scores"][name] = scores
        return scores

    def _note_answer(self, index: int, scores: list, columns: dict) -> None:
        """Find a batch that no function has scored, once all have answered for it."""
        if index in self.answered:  # a new batch, after one that broke off
            self.answered = {}
        self.answered[index] = any(score is not None for score in scores)
        if len(self.answered) != self.expected or "environments" in columns:
            return
        nobody, self.answered = not any(self.answered.values()), {}
        if nobody:
            self.watch.found(
                "rewards",
                f"at least one reward must score at least one completion of a batch (got None for all {len(scores)} "
                f"completions from {', '.join(self.names)}{_step(columns)}). Look at the columns that the rewards "
                "read, or return 0.0 for wrong.",
            )


def _step(columns: dict) -> str:
    """' in step 3', counted as in metrics.jsonl; empty outside a run."""
    state = columns.get("trainer_state")
    return "" if state is None else f" in step {state.global_step + 1}"


async def _one_by_one(scored: Callable, completions: list, columns: dict, first_only: bool) -> list:
    """The reward's answer or exception for each completion on its own; perhaps only up to the first exception.

    What it wants to log is left out: it would come in pieces.
    """
    answers, count = [], len(completions)
    silenced = {key: lambda name, value: None for key in ("log_extra", "log_metric") if key in columns}
    for i in range(count):
        slices = {k: v[i : i + 1] if isinstance(v, list) and len(v) == count else v for k, v in columns.items()}
        try:
            answers.append(await scored(**{**slices, **silenced, "completions": completions[i : i + 1]}))
        except Exception as error:  # handed on: the caller raises or counts it
            answers.append(error)
            if first_only:
                break
    return answers
