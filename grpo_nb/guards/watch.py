"""The guards of one run: a policy for each, how often each found something, and the sentence at the end."""

from collections.abc import Sequence

from grpo_nb.guards import movement, scores, signals, updates
from grpo_nb.rewards import contract
from grpo_nb.runs import callbacks

POLICIES = {
    "rewards": "stop",
    "gradients": "stop",
    "weights": "stop",
    "movement": "stop",
    "loss": "stop",
    "zero_gradient": "stop",
    "entropy": "stop",
    "truncation": "stop",
}
CHOICES = ("stop", "skip")


class Watch:
    """Guards for one training run.

    Args:
        policy: "stop" (raise ValueError) or "skip" (leave out what is bad, count it, go on) for all guards, or a dict
            from a guard's name in `POLICIES` to one of the two; those that it does not name stop.
        max_reward: a reward beyond ± this is absurd.
        max_share: share of a batch's completions that "skip" may leave without a score of one reward.
    Attributes:
        latest: the batch that was scored last: "completions", "prompts", "answer", "scores" (reward → list).
    """

    def __init__(
        self, policy: str | dict = "stop", *, max_reward: float = contract.LARGEST_REWARD, max_share: float = 0.25
    ):
        chosen = dict.fromkeys(POLICIES, policy) if isinstance(policy, str) else dict(policy)
        for name, choice in chosen.items():
            if name not in POLICIES:
                raise ValueError(f"a guard must be one of {', '.join(POLICIES)} (got {name!r}). Correct the name.")
            if choice not in CHOICES:
                raise ValueError(f"a guard's policy must be 'stop' or 'skip' (got {choice!r}). Try 'stop'.")
        self.policies = {**POLICIES, **chosen}
        self.max_reward, self.max_share = max_reward, max_share
        self.counts = dict.fromkeys(POLICIES, 0)
        self.latest: dict = {}

    def rewards(self, functions: Sequence) -> list:
        """The reward functions with a guard around each, their names unchanged; reward models as they are."""
        guard = scores.Scores(self, expected=0 if _has_models(functions) else len(functions))
        return [guard.around(function) if contract.is_function(function) else function for function in functions]

    def callbacks(self, rewards: Sequence = (), *, differ: bool = False) -> list[callbacks.Callback]:
        """Callbacks for the trainer, to be added after the one that writes the metrics.

        Args:
            rewards: those of the run, if it has any.
            differ: whether they were seen to distinguish completions (`dry_run`); then batches in which they do not
                may be chance for longer.
        """
        gradients = updates.Gradients(self)
        flags = {"rewards_differ": differ, "has_reward_models": _has_models(rewards)}
        watching = [weights := updates.Weights(self), gradients, signals.Signals(self, gradients, **flags)]
        return [*watching, movement.Movement(self, weights, gradients)]

    def found(self, guard: str, message: str, *, times: int = 1, always: bool = False) -> None:
        """Count a finding, and raise it if the guard's policy is "stop" or if it must `always` stop."""
        self.counts[guard] += times
        if always or self.policies[guard] == "stop":
            raise ValueError(message)

    def report(self) -> str:
        """What was skipped, in one sentence; empty if nothing was.

        >>> watch = Watch({"rewards": "skip"})
        >>> watch.found("rewards", "…", times=2)
        >>> watch.report()
        'The guards found and skipped: rewards 2 times.'
        """
        skipped = {name: n for name, n in self.counts.items() if n and self.policies[name] == "skip"}
        if not skipped:
            return ""
        return f"The guards found and skipped: {', '.join(f'{name} {n} times' for name, n in skipped.items())}."


def _has_models(rewards: Sequence) -> bool:
    return not all(map(contract.is_function, rewards))


def watch_of(guard: str | dict | Watch) -> Watch:
    """A `Watch` as it is, or one with this policy."""
    return guard if isinstance(guard, Watch) else Watch(guard)
