"""The logs: a run that goes on without learning. A solved task is none: it is recognised and never stopped."""

import math

from grpo_nb.runs import callbacks

SOON, LATE = 3, 10  # in a row: if the run never did better, and if it did
CHANCE = 1e-6
UNIFORM = 0.995  # share of ln V; measured: random weights 0.989, after learning_rate = 1e3 1.000
FEWEST = 300  # completions: if none of them ended, less than 1 % end, with 95 % confidence (the rule of three)
EQUAL = 1e-6  # relative: rounding in the mean of equal rewards


class Streak:
    """How often in a row something was so just now, and how common it was before that.

    >>> streak = Streak()
    >>> for is_so in (False, True, True, True):
    ...     streak.see(is_so)
    >>> streak.length, streak.before, streak.so_before
    (3, 1, 0)
    """

    def __init__(self):
        self.length = self.before = self.so_before = 0

    def see(self, is_so: bool, times: int = 1) -> None:
        if is_so:
            self.length += times
        else:
            self.end()
            self.before += times

    def end(self) -> None:
        self.before += self.length
        self.so_before += self.length
        self.length = 0

    @property
    def is_all(self) -> bool:
        """Whether it was never otherwise."""
        return self.before == self.so_before

    def is_long(self, late: int = SOON, first: int = SOON) -> bool:
        """Whether it is `first` long where it was never otherwise; else `late`, and too long for chance.

        With a hard task and few completions many a batch is equal by chance: a share s, estimated by Laplace's rule of
        succession. Then n in a row must be as rare as sⁿ ≤ `CHANCE`.
        """
        if self.is_all:
            return self.length >= first
        share = (self.so_before + 1) / (self.before + 2)
        return self.length >= max(late, math.log(CHANCE) / math.log(share))


class Signals(callbacks.Callback):
    """Read each training log: constant reward, zero gradient, entropy at ln V, everything truncated, a loss of NaN.

    Added after the writer of the metrics, so that a step's line is on the disk before it stops the run. A run that
    resumes reads the logs of its first part again.

    Args:
        watch: the `guards.Watch` with the policies, the limits and the counts.
        gradients: the `updates.Gradients` of the same run, which sees every update.
        rewards_differ: whether the rewards were seen to distinguish completions.
        has_reward_models: whether some are models, whose scores no guard has looked at.
    """

    def __init__(self, watch, gradients, *, rewards_differ: bool = False, has_reward_models: bool = False):
        self.watch, self.gradients = watch, gradients
        self.rewards_differ, self.has_reward_models = rewards_differ, has_reward_models
        self._begin()

    def _begin(self) -> None:
        self.step, self.rewards = 0, []  # rewards: (step, mean) of every log that has one
        self.constant, self.value = Streak(), None
        self.uniform, self.truncated, self.is_warned = Streak(), Streak(), False

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._begin()
        for log in state.log_history:
            if "loss" in log:
                self._note(args, log["step"], log, model)
                if log.get("grad_norm") is not None:
                    self.gradients.zero.see(log["grad_norm"] == 0.0)

    def on_log(self, args, state, control, logs=None, model=None, **kwargs):
        if logs is None or "loss" not in logs:
            return  # an evaluation, or the closing summary
        findings = []
        self._note(args, state.global_step, logs, model)
        if _tells_of_completions(logs):
            findings += [*self._constant(logs), *self._truncation(args), *self._entropy(logs)]
        findings += [*self._reward_model(logs), *self._loss(logs), *self._gradient(logs)]
        stops = []
        for guard, message in findings:
            self.watch.counts[guard] += 1
            if self.watch.policies[guard] == "stop":
                stops.append(message)
        if stops:
            raise ValueError(f"step {state.global_step}: " + " Also: ".join(stops))

    def on_train_end(self, args, state, control, **kwargs):
        self._report()

    def on_stop(self, error=None, **kwargs):
        self._report()

    def _report(self) -> None:
        if sentence := self.watch.report():
            print(sentence)

    def _note(self, args, step: int, log: dict, model) -> None:
        """Bring the streaks up to date with one log."""
        steps, self.step = step - self.step, step
        if not _tells_of_completions(log):
            return
        reward = log["reward"]
        # A log may tell of several batches of completions, or, where each is used several times, of less than one.
        times = max(1, steps * args.gradient_accumulation_steps // (args.steps_per_generation * args.num_iterations))
        self.rewards.append((step, reward))
        tolerance = EQUAL * max(1.0, abs(reward))
        if self.value is None or abs(reward - self.value) > tolerance:
            self.constant.end()
        self.value = reward
        spread = log.get("reward_std")
        self.constant.see(spread is not None and spread <= tolerance, times)
        self.truncated.see(log.get("completions/clipped_ratio") == 1.0, times)
        ceiling = _log_vocabulary(model)
        self.uniform.see(ceiling is not None and (log.get("entropy") or 0.0) >= UNIFORM * ceiling)

    def _reward_model(self, logs: dict):
        reward = logs.get("reward", 0.0)
        if self.has_reward_models and (reward is None or not abs(reward) <= self.watch.max_reward):
            yield (
                "rewards",
                f"a batch must have a reward, within ±{self.watch.max_reward:g} (got {reward}). "
                "Look at the reward model's scores: rewards/<name>/mean in the log.",
            )

    def _loss(self, logs: dict):
        spoiled, self.gradients.is_spoiled = self.gradients.is_spoiled, False
        if not spoiled and not math.isfinite(logs["loss"]):
            yield (
                "loss",
                f"the loss must be finite (got loss = {logs['loss']} from finite gradients, which were applied). "
                "What is logged is not what trains: look for a term that has no gradient, or for one that hides NaN "
                "from it, such as torch.where or nan_to_num.",
            )

    def _constant(self, logs: dict):
        if self.constant.is_long(first=self._patience()) and not self._is_best():
            means = {k.split("/")[1]: v for k, v in logs.items() if k.startswith("rewards/") and k.endswith("/mean")}
            said = ", ".join(f"{name} {mean:.6g}" for name, mean in means.items() if mean is not None)
            yield (
                "rewards",
                f"the reward must differ between completions (got the constant {self.value:.6g} in each completion of "
                f"the last {self.constant.length} batches; {said}). Print some completions with their scores: a reward "
                "is constant, or compares a text with a list of messages (whose text is completion[0]['content']), or "
                "the task is too hard or too easy for this policy.",
            )

    def _truncation(self, args):
        many = getattr(args, "generation_batch_size", FEWEST)
        enough = max(SOON, -(-FEWEST // many))
        limit = getattr(args, "max_completion_length", None)
        advice = "Raise it, or check that the policy has learned to write the eos token."
        if self.truncated.is_long(enough, enough):
            yield (
                "truncation",
                f"some completions must end by themselves (got completions/clipped_ratio = 1 in the last "
                f"{self.truncated.length} batches, with max_completion_length = {limit}). {advice}",
            )
        elif self.truncated.length >= SOON and not self.is_warned and self.watch.policies["truncation"] == "stop":
            self.is_warned = True
            print(
                f"No completion of the last {self.truncated.length} batches ended by itself, with "
                f"max_completion_length = {limit}; after {enough} such batches the run stops. {advice}"
            )

    def _entropy(self, logs: dict):
        if self.uniform.length >= 2:
            yield (
                "entropy",
                f"the policy must prefer some tokens (got entropy = {logs['entropy']:.4g}, that of a uniform choice "
                f"from the whole vocabulary, {self.uniform.length} logs in a row). Its weights are random or "
                "destroyed: begin with SFT, lower learning_rate, or go back to a checkpoint.",
            )

    def _gradient(self, logs: dict):
        zero = self.gradients.zero
        first = self._patience()
        if not zero.is_long(LATE, first) or self.constant.is_long(first=first):  # a constant reward is the cause then
            return
        if not zero.is_all and self._is_solved(logs):  # without a gradient no run has solved anything
            return
        cause = "the rewards differ, so look at the loss mask, at mask_truncated_completions, and at learning_rate"
        if logs.get("frac_reward_zero_std") == 1.0:
            cause = "in every group all completions have the same reward: the task is too hard or too easy, or a "
            cause += "reward cannot tell them apart"
        elif self.uniform.length:
            cause = "entropy is at ln V, so the weights are random or destroyed: lower learning_rate"
        elif "reward" not in logs:
            cause = "look at the labels: is any token trained on?"
        yield (
            "zero_gradient",
            f"the gradient must not stay zero (got exactly 0 in the last {zero.length} updates). "
            f"Nothing moves: {cause}.",
        )

    def _patience(self) -> int:
        """Batches without difference that are enough: few if the rewards never distinguished any completions."""
        return LATE if self.rewards_differ else SOON

    def _is_best(self) -> bool:
        """Whether the constant reward is the best of the run, and lower ones have been seen."""
        means = [mean for _, mean in self.rewards]
        tolerance = EQUAL * max(1.0, abs(self.value))
        return self.value >= max(means) - tolerance and min(means) < self.value - tolerance

    def _is_solved(self, logs: dict) -> bool:
        """Whether the zero gradient comes from groups without difference, in the better half of the run's rewards."""
        since = self.step - self.gradients.zero.length
        means = [mean for _, mean in self.rewards]
        latest = [mean for step, mean in self.rewards if step > since]
        if not latest or logs.get("frac_reward_zero_std") != 1.0 or max(means) == min(means):
            return False
        return sum(latest) / len(latest) >= (max(means) + min(means)) / 2


def _tells_of_completions(log: dict) -> bool:
    """Whether a log is about new completions, whose mean reward can be counted with."""
    reward = log.get("reward")
    return reward is not None and math.isfinite(reward)


def _log_vocabulary(model) -> float | None:
    """ln V, the entropy of a uniform choice; V counts the padded rows of the vocabulary too, as the softmax does."""
    size = getattr(getattr(model, "config", None), "vocab_size", None)
    return math.log(size) if size else None
