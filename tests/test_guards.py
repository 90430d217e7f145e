"""Guards: a reward's contract, rules on fake logs, and what really happens inside TRL's trainers."""

import asyncio
import functools
import json
import math
import random
import re
from decimal import Decimal
from fractions import Fraction
from pathlib import Path
from types import SimpleNamespace

import numpy
import pytest
import torch

from grpo_nb import data, guards, models, preflight, profiles, rewards
from grpo_nb.guards import signals, updates
from grpo_nb.preflight import dry_runs
from grpo_nb.rewards import contract
from grpo_nb.runs import callbacks

LEARNING = Path(__file__).parent.parent / "benchmarks" / "results" / "learning.json"
NAN, INF = math.nan, math.inf


def check(completions, **columns):
    """The reward that most tests guard: no two neighbours score the same."""
    return [float(i % 4) for i in range(len(completions))]


# --- Golden: the contract of a reward's answer


@pytest.mark.parametrize(
    ("answer", "scores"),
    [
        ([1, 0.5, None], [1, 0.5, None]),
        ((1.0, 2.0, 3.0), [1.0, 2.0, 3.0]),
        (torch.tensor([1.0, 2.0, 3.0]), [1.0, 2.0, 3.0]),
        (numpy.array([1, 2, 3]), [1, 2, 3]),
        ([torch.tensor(1.5), numpy.float32(0.5), Fraction(1, 4)], [1.5, 0.5, 0.25]),
        ([NAN, INF, 1e38], [NAN, INF, 1e38]),  # numbers, though no good ones
    ],
    ids=["list", "tuple", "tensor", "array", "scalars", "absurd"],
)
def test_what_a_reward_may_return(answer, scores):
    assert str(contract.scores(answer, "check", 3)) == str(scores)


@pytest.mark.parametrize(
    ("answer", "sentence"),
    [
        ([1.0, 2.0], r"\(got 2 for 3 completions\). Loop over"),
        ([1.0] * 4, r"\(got 4 for 3 completions\). Loop over"),
        (None, r"\(got None for 3 completions\). Return a list"),
        (1.0, r"\(got float 1.0 for 3 completions\). Return a list"),
        ("123", r"\(got str '123' for 3 completions\). Return a list"),
        ({"a": 1}, r"\(got dict {'a': 1} for 3 completions\)"),
        ([1.0, "2.0", 3.0], r"\(got '2.0' for completion 2 of 3\). Write float"),
        ([1.0, 2.0, True], r"\(got True for completion 3 of 3\). Write float"),
        (torch.tensor([True, False, True]), r"\(got True for completion 1 of 3\). Write float"),
        (torch.zeros(3, 1), r"\(got \[0.0\] for completion 1 of 3\)"),
        (torch.tensor(1.0), r"\(got Tensor tensor\(1.\) for 3 completions\)"),
        ([1j, 1.0, 1.0], r"\(got 1j for completion 1 of 3\). Write float"),
        ([Decimal(1), 1.0, 1.0], r"\(got Decimal\('1'\) for completion 1 of 3\). Write float"),
    ],
)
def test_what_a_reward_may_not_return(answer, sentence):
    with pytest.raises(ValueError, match=rf"reward check must return one number or None per completion {sentence}"):
        contract.scores(answer, "check", 3)


class Judge:
    def __call__(self, completions, **columns):
        return [1.0] * len(completions)


class SlowJudge:
    async def __call__(self, completions, **columns):
        return [1.0] * len(completions)


async def slow(completions, **columns):
    return [1.0] * len(completions)


CALLABLES = [check, slow, Judge(), SlowJudge(), functools.partial(check, level=1), functools.partial(slow, level=1)]


def test_names_and_kinds_are_those_that_trl_sees():
    from trl.trainer import utils

    for function, guarded in zip(CALLABLES, guards.Watch().rewards(CALLABLES), strict=True):
        assert contract.name_of(function) == utils.get_callable_name(guarded) == utils.get_callable_name(function)
        assert contract.is_async(function) == utils.is_async_callable(guarded) == utils.is_async_callable(function)


def test_reward_models_are_passed_through():
    module = torch.nn.Linear(1, 1)
    watch = guards.Watch()
    guarded = watch.rewards(["some/path", module, check])
    assert guarded[:2] == ["some/path", module] and guarded[2] is not check


# --- The dry run


def test_the_rewards_of_the_package_pass_the_dry_run(rows):
    prompts = data.grpo_rows(rows, system_prompt="Show your work.")
    preflight.dry_run([*rewards.FOUR, *CALLABLES, "some/path", torch.nn.Linear(1, 1)], prompts)
    preflight.dry_run(rewards.FOUR, [{"prompt": "1+1?", "answer": "2"}])


def test_the_fake_completion_in_the_layout_is_right(rows):
    prompts = data.grpo_rows(rows, system_prompt="Show your work.")[:4]
    fakes = dry_runs.fake_completions(prompts)
    answers = [row["answer"] for row in prompts]
    assert rewards.match_format_exactly(completions=fakes) == [3.0, 0.0, 0.0, 0.0]
    assert rewards.check_answer(completions=fakes, answer=answers)[0] == 5.0


@pytest.mark.parametrize(
    ("reward", "sentence"),
    [
        (lambda completions, **columns: [1.0], r"\(got 1 for 4 completions\)"),
        (lambda completions, **columns: [c == "2" for c in completions], r"\(got False for completion 1 of 4\)"),
        (lambda completions, **columns: ["1.0"] * 4, r"\(got '1.0' for completion 1 of 4\)"),
        (lambda completions, **columns: None, r"\(got None for 4 completions\).* Does it end with return"),
        (lambda completions, **columns: [INF, 1.0, 0.0, 0.0], r"\(got inf in a dry run, for '1\+1=2<end_working_out>"),
        (lambda completions, **columns: [0.0, NAN, 0.0, 0.0], r"\(got nan in a dry run, for ''\)"),
        (lambda completions, **columns: [1e38] * 4, r"\(got 1e\+38 in a dry run"),
        (lambda completions, **columns: [float(c[0]["content"]) for c in completions], r"ValueError: could not conv"),
        (lambda completions, level, **columns: [1.0] * 4, r"TypeError: .* 'level' in a dry run"),
        (lambda completions: [1.0] * 4, "TypeError: .* unexpected keyword"),
    ],
)
def test_the_dry_run_names_what_is_wrong(reward, sentence, rows):
    with pytest.raises(ValueError, match=rf"(?s)the reward <lambda> must .*{sentence}"):
        preflight.dry_run([reward], data.grpo_rows(rows))


@pytest.mark.parametrize("group", [2, 3, 4, 8])
def test_the_dry_run_has_whole_groups_and_says_whether_the_reward_can_tell(group, rows):
    """A reward may reshape to groups, divide by max_steps, and rely on equal prompts within a group."""
    prompts, seen = data.grpo_rows(rows), []

    def by_group(completions, prompts, trainer_state, **columns):
        seen.append(len(completions))
        assert all(prompts[i] == prompts[i - i % group] for i in range(len(prompts)))
        progress = trainer_state.global_step / trainer_state.max_steps
        return [float(len(c[0]["content"])) * (1 - progress) for c in completions]

    assert preflight.dry_run([by_group], prompts, num_generations=group)
    assert seen[0] >= 4 and seen[0] % group == 0
    assert not preflight.dry_run(
        [lambda completions, **columns: [0.5] * len(completions)], prompts, num_generations=group
    )


def test_a_list_compared_with_text_gets_the_hint(rows):
    def naive(completions, **columns):
        return [float(c.strip() == "2") for c in completions]

    with pytest.raises(ValueError, match=r"its text is completion\[0\]\['content'\]"):
        preflight.dry_run([naive], data.grpo_rows(rows))


def test_a_watch_is_taken_as_it_is():
    watch = guards.Watch("skip", max_reward=1e9)
    assert guards.watch_of(watch) is watch and guards.watch_of("skip").policies == watch.policies


def test_the_dry_run_draws_no_random_number(rows):
    def random_reward(completions, **columns):
        return [random.random() + numpy.random.rand() + torch.rand(1).item() for _ in completions]

    def drawn():
        return random.random(), numpy.random.rand(), torch.rand(1).item()

    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(0)
    expected = drawn()
    for seed in (random.seed, numpy.random.seed, torch.manual_seed):
        seed(0)
    preflight.dry_run([random_reward], data.grpo_rows(rows))
    assert drawn() == expected


# --- Law: a guarded reward says what the reward says, or stops, or leaves out


def guarded(function, policy="stop", **limits):
    watch = guards.Watch(policy, **limits)
    return watch, watch.rewards([function])[0]


def call(function, count=8, step=2, **columns):
    """As TRL calls it."""
    state = SimpleNamespace(global_step=step)
    answer = function(completions=[f"c{i}" for i in range(count)], trainer_state=state, **columns)
    return asyncio.run(answer) if asyncio.iscoroutine(answer) else answer


def test_a_healthy_reward_passes_unchanged():
    rng = random.Random(0)
    for _ in range(200):
        scores = [rng.choice([None, 0, 1, -1e6, 1e6, rng.gauss(0, 3)]) for _ in range(8)] + [1.0]
        watch, reward = guarded(lambda completions, scores=scores, **columns: list(scores))
        assert call(reward, 9) == scores and not any(watch.counts.values())


@pytest.mark.parametrize("value", [NAN, INF, -INF, 1e38, -1e7])
def test_an_absurd_score_stops_or_becomes_none(value):
    def reward(completions, **columns):
        return [1.0, 0.0, value, 2.0, value, 1.0, 0.0, None]

    watch, stopping = guarded(reward)
    sentence = rf"the reward reward must be a finite .* \(got {value} in step 3, for completion 3 of 8: 'c2'\)"
    with pytest.raises(ValueError, match=sentence.replace("+", r"\+")):
        call(stopping)
    assert watch.counts["rewards"] == 2
    logged = []
    watch, skipping = guarded(reward, "skip")
    scores = call(skipping, log_metric=lambda name, value: logged.append((name, value)))
    assert scores == [1.0, 0.0, None, 2.0, None, 1.0, 0.0, None]
    assert watch.counts["rewards"] == 2 and logged == [("guards/skipped_rewards", 2.0)]
    assert watch.report() == "The guards found and skipped: rewards 2 times."


def raising_on(*texts):
    def reward(completions, answer, **columns):
        assert len(completions) == len(answer)
        return [1.0 / (text not in texts) for text in completions]

    async def slow_reward(completions, answer, **columns):
        return reward(completions, answer)

    return reward, slow_reward


@pytest.mark.parametrize("kind", [0, 1], ids=["sync", "async"])
def test_a_raising_reward_is_asked_one_by_one(kind):
    reward, columns = raising_on("c2", "c5")[kind], {"answer": list("abcdefgh")}
    sentence = r"\(got ZeroDivisionError: '.*division by zero' in step 3, for completion 3 of 8: 'c2'\)"
    with pytest.raises(ValueError, match=sentence) as stop:
        call(guarded(reward)[1], **columns)
    assert isinstance(stop.value.__cause__, ZeroDivisionError)
    watch, skipping = guarded(reward, "skip")
    assert call(skipping, **columns) == [1.0, 1.0, None, 1.0, 1.0, None, 1.0, 1.0]
    assert watch.counts["rewards"] == 2


def test_a_reward_that_raises_only_for_the_batch_says_so():
    def reward(completions, **columns):
        return [1.0 / (len(completions) == 1)] * len(completions)

    with pytest.raises(ValueError, match="for the 8 completions at once, though for none of them alone"):
        call(guarded(reward)[1])
    watch, skipping = guarded(reward, "skip")
    assert call(skipping) == [1.0] * 8 and watch.counts["rewards"] == 1


def test_a_raising_reward_logs_nothing_twice():
    logged = []

    def reward(completions, log_metric, **columns):
        log_metric("seen", len(completions))
        return [1.0 / (text != "c1") for text in completions]

    call(guarded(reward, "skip")[1], log_metric=lambda name, value: logged.append((name, value)))
    assert logged == [("seen", 8), ("guards/skipped_rewards", 1.0)]


def test_skipping_has_a_limit():
    def reward(completions, **columns):
        return [NAN, NAN, NAN, *[1.0] * (len(completions) - 3)]

    with pytest.raises(ValueError, match=r"at most 25% of a batch may go without a score of reward \(got 3 of 8"):
        call(guarded(reward, "skip")[1])
    assert call(guarded(reward, "skip")[1], 12)[:4] == [None, None, None, 1.0]
    assert call(guarded(reward, "skip", max_share=0.5)[1])[:4] == [None, None, None, 1.0]


@pytest.mark.parametrize("answer", [["1.0"] * 8, [True] * 8, [1.0] * 7, [1.0] * 9], ids="str bool short long".split())
def test_a_broken_contract_stops_any_policy(answer):
    with pytest.raises(ValueError, match="must return one number or None per completion"):
        call(guarded(lambda completions, **columns: answer, "skip")[1])


def test_a_batch_that_nobody_scores():
    def nobody(completions, **columns):
        return [None] * len(completions)

    watch = guards.Watch()
    first, second = watch.rewards([nobody, nobody])
    for _ in range(2):  # also for a batch after one that broke off
        call(first)
    with pytest.raises(ValueError, match=r"got None for all 8 completions from nobody, nobody in step 3\)"):
        call(second)
    watch = guards.Watch("skip")
    for function in watch.rewards([nobody, nobody]) * 2:
        call(function)
    assert watch.counts["rewards"] == 2
    for functions in ([nobody, check], [check, nobody], [nobody, "a/reward/model"]):
        for function in guards.Watch().rewards(functions):
            if callable(function):
                call(function)


@pytest.mark.parametrize(
    ("policy", "sentence"),
    [
        ("warn", r"must be 'stop' or 'skip' \(got 'warn'\). Try"),
        ({"rewards": True}, r"must be 'stop' or 'skip' \(got True\). Try"),
        ({"gradient": "skip"}, r"must be one of rewards, gradients, .* \(got 'gradient'\). Correct"),
    ],
)
def test_an_unknown_policy_is_refused(policy, sentence):
    with pytest.raises(ValueError, match=sentence):
        guards.Watch(policy)


def test_a_policy_for_some_guards_leaves_the_others_alone():
    assert guards.Watch({"entropy": "skip"}).policies == {**guards.POLICIES, "entropy": "skip"}
    assert set(guards.POLICIES.values()) == {"stop"}


# --- Law: the rules on fake logs

ARGS = SimpleNamespace(
    gradient_accumulation_steps=1, steps_per_generation=1, num_iterations=1, max_completion_length=8, learning_rate=1e-5
)
MODEL = SimpleNamespace(config=SimpleNamespace(vocab_size=320))


def grpo_log(reward=1.0, std=1.0, **changes):
    log = {"loss": 0.0, "reward": reward, "reward_std": std, "frac_reward_zero_std": float(std == 0), "entropy": 1.0}
    return {**log, "rewards/check/mean": reward, "completions/clipped_ratio": 0.0, "gradient": std > 0, **changes}


def made(watch, functions, **options):
    """Of the watch's callbacks the one that sees each gradient and the one that reads the logs."""
    by_type = {type(callback): callback for callback in watch.callbacks(functions, **options)}
    return by_type[updates.Gradients], by_type[signals.Signals]


def read_logs(logs, policy="stop", *, args=ARGS, every=1, history=(), differ=False):
    """Feed fake logs to the callback; log["gradient"] says whether the update's gradient was other than zero.

    Returns: step → message of the guards, at most one under "stop"; the watch.
    """
    watch = guards.Watch(policy)
    gradients, callback = made(watch, [check], differ=differ)
    callback.on_train_begin(args, SimpleNamespace(log_history=list(history)), None, model=MODEL)
    for i, log in enumerate(logs, 1):
        for _ in range(every):
            gradients.zero.see(not log.get("gradient", True))
        try:
            callback.on_log(args, SimpleNamespace(global_step=i * every), None, logs=log, model=MODEL)
        except ValueError as stop:
            return {i * every: str(stop)}, watch
    return {}, watch


def assert_passes(logs, **kwargs):
    messages, watch = read_logs(logs, **kwargs)
    assert not messages and not any(watch.counts.values())


def test_a_constant_reward_stops_after_three_batches():
    messages, _ = read_logs([grpo_log(0.5, 0.0)] * 9)
    assert list(messages) == [3]
    assert "got the constant 0.5 in each completion of the last 3 batches; check 0.5)" in messages[3]
    assert "Also" not in messages[3], "one cause, not its consequences"
    messages, _ = read_logs([grpo_log(0.1, 1e-8, gradient=True)] * 9)
    assert list(messages) == [3], "rounding is no difference"


def test_a_reward_that_distinguishes_fakes_may_be_constant_for_longer():
    """With few completions a hard task is all wrong for some batches: three prove nothing, ten do."""
    assert list(read_logs([grpo_log(0.0, 0.0)] * 20, differ=True)[0]) == [10]
    assert_passes([grpo_log(0.0, 0.0)] * 9 + [grpo_log(0.3, 0.2, gradient=True)] * 5, differ=True)
    dead = grpo_log(0.5, 0.2, frac=1.0, gradient=False)
    assert list(read_logs([dead] * 20, differ=True)[0]) == [10] and list(read_logs([dead] * 20)[0]) == [3]


def test_a_log_of_many_steps_counts_as_many_batches():
    flat = grpo_log(0.5, 0.0, gradient=True)
    messages, _ = read_logs([flat] * 9, every=10)
    assert list(messages) == [10]
    twice = SimpleNamespace(**{**vars(ARGS), "num_iterations": 2})  # a batch of completions lasts two steps
    odd = {"loss": 0.0, "grad_norm": 0.0, "gradient": True}
    messages, _ = read_logs([flat, odd] * 9, args=twice)
    assert list(messages) == [5]
    messages, _ = read_logs([flat] * 9, args=twice, every=4)
    assert list(messages) == [8], "two batches a log"
    _, watch = read_logs([flat, odd] * 9, "skip", args=twice)
    assert watch.counts["rewards"] == 7, "found in the logs of batches 3 to 9, not in those between"


def test_different_constants_are_no_constant_reward():
    """One prompt a batch: all completions agree, but not with those of the next prompt."""
    assert_passes([grpo_log(i % 2, 0.0, gradient=True) for i in range(50)])


def test_a_constant_below_the_best_is_not_solved():
    messages, _ = read_logs([*[grpo_log(i / 20) for i in range(20)], *[grpo_log(0.5, 0.0)] * 9])
    assert list(messages) == [25]


def test_a_solved_task_is_never_stopped():
    assert_passes([*[grpo_log(i / 10) for i in range(10)], *[grpo_log(1.0, 0.0)] * 200])
    assert_passes([*[grpo_log(0.0, 0.0)] * 2, grpo_log(0.1), *[grpo_log(1.0, 0.0)] * 200])
    equal_groups = {"frac_reward_zero_std": 1.0, "gradient": False}
    messages, _ = read_logs([grpo_log(i / 10, **equal_groups) for i in range(10)])
    assert list(messages) == [3], "without a gradient it is chance that the rewards rise"


def test_a_task_solved_but_for_some_prompts_is_never_stopped():
    """A policy that no longer explores: each group agrees, 2 % of the prompts are wrong with every completion."""
    rng = random.Random(0)
    learning = [grpo_log(8 + step / 5, 3.0) for step in range(25)]
    solved = []
    for _ in range(300):
        mean = sum(-10 if rng.random() < 0.02 else 13 for _ in range(16)) / 16
        solved.append(grpo_log(mean, 0.0 if mean == 13 else 3.0, frac_reward_zero_std=1.0, gradient=False))
    assert_passes(learning + solved)


def test_a_resumed_run_remembers_that_it_is_solved():
    history = [{**grpo_log(i / 10), "grad_norm": 0.5, "step": i + 1} for i in range(10)]
    assert_passes([grpo_log(1.0, 0.0)] * 50, history=history)


def test_a_resumed_run_remembers_that_its_gradient_was_not_zero():
    history = [{**grpo_log(), "grad_norm": 0.5, "step": i + 1} for i in range(20)]
    assert_passes([grpo_log(gradient=False)] * 9, history=history)


def test_the_recorded_runs_would_have_passed():
    """Five runs of the cpu profile; where every completion scored 13, the log said so and the gradient was zero."""
    for seed in json.loads(LEARNING.read_text(encoding="utf8"))["seeds"]:
        assert_passes([grpo_log(row["reward"], 0.0 if row["reward"] == 13.0 else 3.0) for row in seed["curve"]])


@pytest.mark.parametrize("chance", [0.1, 0.3, 0.02])
def test_a_hard_task_is_rarely_taken_for_a_broken_reward(chance):
    """16 completions, right with this chance: many a batch is all wrong (72 % at 2 %), but the run can learn."""
    stopped = 0
    for seed in range(50):
        rng, logs = random.Random(seed), [grpo_log(0.1)]
        for _ in range(200):
            right = sum(rng.random() < chance for _ in range(16))
            logs.append(grpo_log(right / 16, float(0 < right < 16)))
        stopped += bool(read_logs(logs)[0])
    assert stopped <= 5


def test_a_reward_that_dies_is_found_however_long_it_lived():
    enough = {1: 13, 10: 6, 20: 5, 100: 3, 1000: 3}  # (1/3)¹³, (1/12)⁶, (1/22)⁵, (1/102)³, 3 at least: below 10⁻⁶
    for before, batches in enough.items():
        messages, _ = read_logs([*[grpo_log(0.5 + i % 2) for i in range(before)], *[grpo_log(0.0, 0.0)] * 20])
        assert list(messages) == [before + batches]


@pytest.mark.parametrize(
    ("log", "cause"),
    [
        (grpo_log(frac_reward_zero_std=1.0, gradient=False), "in every group all completions have the same reward"),
        (grpo_log(entropy=math.log(320), gradient=False), "the weights are random or destroyed"),
        (grpo_log(gradient=False), "the rewards differ, so look at the loss mask"),
        ({"loss": 0.0, "gradient": False}, "is any token trained on"),
    ],
)
def test_zero_gradient_three_times_at_first_ten_times_later(log, cause):
    policy = {"entropy": "skip"}
    messages, _ = read_logs([log] * 20, policy)
    assert list(messages) == [3] and "exactly 0 in the last 3 updates" in messages[3] and cause in messages[3]
    messages, _ = read_logs([*[{**log, "gradient": True}] * 20, *[log] * 20], policy)
    assert list(messages) == [30] and "exactly 0 in the last 10 updates" in messages[30]


def test_zero_gradient_is_no_success_where_the_rewards_differ():
    messages, _ = read_logs([*[grpo_log(i / 20) for i in range(20)], *[grpo_log(1.0, gradient=False)] * 20])
    assert list(messages) == [30] and "the rewards differ" in messages[30]


def test_the_policy_at_ln_v_stops_at_the_second_log():
    messages, _ = read_logs([grpo_log(entropy=0.999 * math.log(320))] * 5)
    assert list(messages) == [2] and "uniform choice from the whole vocabulary, 2 logs in a row" in messages[2]
    assert_passes([grpo_log(entropy=0.99 * math.log(320))] * 50)
    assert_passes([{"loss": 5.7, "entropy": math.log(320)}] * 50)  # SFT of random weights begins there


def test_everything_truncated_stops_after_three_batches():
    messages, _ = read_logs([grpo_log(**{"completions/clipped_ratio": 1.0})] * 5)
    assert list(messages) == [3] and "with max_completion_length = 8). Raise it" in messages[3]
    assert_passes([grpo_log(**{"completions/clipped_ratio": ratio}) for ratio in (1.0, 1.0, 0.9) * 20])


@pytest.mark.parametrize(("batch", "stops"), [(16, 19), (64, 5), (100, 3), (128, 3), (512, 3)])
def test_few_truncated_completions_are_no_proof_and_are_told(batch, stops, capsys):
    """None of 300 ended: at 95 % confidence less than one in a hundred ends. 16 at a time make 19 batches."""
    args = SimpleNamespace(**vars(ARGS), generation_batch_size=batch)
    logs = [grpo_log(**{"completions/clipped_ratio": 1.0})] * 25
    messages, _ = read_logs(logs, args=args)
    assert list(messages) == [stops]
    told = capsys.readouterr().out.splitlines()
    assert len(told) == (stops > 3) and all("3 batches ended by itself" in line and "Raise it" in line for line in told)
    messages, watch = read_logs(logs, {"truncation": "skip"}, args=args)
    assert not messages and watch.counts["truncation"] == 26 - stops and not capsys.readouterr().out
    one_ended = [*logs[: stops - 1], grpo_log(**{"completions/clipped_ratio": 0.9})]
    assert not read_logs(one_ended * 5, args=args)[0]


def test_skipping_counts_every_log(capsys):
    messages, watch = read_logs([grpo_log(0.5, 0.0, **{"completions/clipped_ratio": 1.0})] * 5, "skip")
    assert not messages and watch.counts["rewards"] == watch.counts["truncation"] == 3
    signals.Signals(watch, updates.Gradients(watch)).on_stop(KeyboardInterrupt())
    assert capsys.readouterr().out == "The guards found and skipped: rewards 3 times, truncation 3 times.\n"


def test_a_reward_models_infinity_is_found_in_the_log():
    _, callback = made(guards.Watch(), ["a/reward/model"])
    _, of_functions = made(guards.Watch(), [check])
    for one in (callback, of_functions):
        one.on_train_begin(ARGS, SimpleNamespace(log_history=[]), None, model=MODEL)
    for reward in (INF, None, 1e38):
        of_functions.on_log(ARGS, SimpleNamespace(global_step=1), None, logs=grpo_log(reward), model=MODEL)
        with pytest.raises(ValueError, match=r"a batch must have a reward, within ±1e\+06"):
            callback.on_log(ARGS, SimpleNamespace(global_step=1), None, logs=grpo_log(reward), model=MODEL)


def test_a_loss_that_is_not_finite_is_found_where_its_gradients_are_finite():
    for loss in (NAN, INF, -INF):
        messages, watch = read_logs([grpo_log(), grpo_log(loss=loss)])
        assert list(messages) == [2] and f"step 2: the loss must be finite (got loss = {loss} from" in messages[2]
        assert watch.counts["loss"] == 1
    _, watch = read_logs([grpo_log(loss=NAN)] * 3, {"loss": "skip"})
    assert watch.counts["loss"] == 3


def test_a_loss_of_nan_in_an_update_that_was_left_out_is_no_news():
    """Its gradient was NaN: found before, and left out by the guard, or by the scaler of fp16."""
    watch, model = guards.Watch({"gradients": "skip"}), torch.nn.Linear(2, 1)
    gradients, callback = made(watch, [check])
    state, args = SimpleNamespace(global_step=1, log_history=[]), ARGS
    for one in (gradients, callback):
        one.on_train_begin(args, state, None, model=model)
    (model(torch.ones(1, 2)) * NAN).sum().backward()
    gradients.on_pre_optimizer_step(args, state, None, model=model)
    callback.on_log(args, state, None, logs=grpo_log(loss=NAN), model=MODEL)
    assert watch.counts == dict.fromkeys(guards.POLICIES, 0) | {"gradients": 1}
    with pytest.raises(ValueError, match="the loss must be finite"):
        callback.on_log(args, state, None, logs=grpo_log(loss=NAN), model=MODEL)
    gradients.on_stop()


# --- Law: whether anything moves, with real optimizers


def drive(
    loss_of,
    optimizer_of,
    *,
    dtype=torch.float32,
    rate=lambda step: 1.0,
    policy="stop",
    steps=8,
    deepspeed=None,
    logging_steps=1,
):
    """Train two weights and a bias with all the guards, in the order of `Trainer`: clip, guards, step, schedule, log.

    Returns: the watch; the step in which it stopped and its message, or (None, "").
    """
    model, watch = torch.nn.Linear(2, 1).to(dtype), guards.Watch(policy)
    torch.nn.init.constant_(model.weight, 1.0)
    optimizer = optimizer_of(model)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    state, control = SimpleNamespace(global_step=0, log_history=[]), SimpleNamespace(should_log=True)
    around = {"model": model, "optimizer": optimizer}
    given, callbacks = SimpleNamespace(**vars(ARGS), deepspeed=deepspeed), watch.callbacks([check])

    def tell(event, **more):
        for callback in callbacks:
            getattr(callback, event)(given, state, control, **around, **more)

    tell("on_train_begin")
    for step in range(1, steps + 1):
        optimizer.zero_grad()
        loss_of(model, step).backward()
        tell("on_pre_optimizer_step")
        optimizer.step()
        schedule.step()
        state.global_step = step
        try:
            tell("on_step_end")
            if step % logging_steps == 0:
                tell("on_log", logs=grpo_log(std=1.0 + step))
        except ValueError as stop:
            return watch, (step, str(stop))
    return watch, (None, "")


def everything(model, step):
    return model(torch.ones(3, 2, dtype=model.weight.dtype)).sum()


def adam(learning_rate, **settings):
    return lambda model: torch.optim.AdamW(model.parameters(), lr=learning_rate, weight_decay=0.0, **settings)


def to_and_fro(model, step):
    return (-1.0) ** step * everything(model, step)


def sgd(model):
    return torch.optim.SGD(model.parameters(), lr=2.0**-8)


@pytest.mark.parametrize(
    ("optimizer_of", "options", "cause"),
    [
        (adam(1e-6), {"dtype": torch.bfloat16}, "rounds away in bfloat16"),
        (adam(1e-12), {}, "rounds away in float32"),
        (adam(1e-3), {"rate": lambda step: 0.0}, r"the learning rate is 0\). Look at learning_rate, lr_sch"),
        (
            lambda model: adam(1e-3)(torch.nn.Linear(2, 1)),
            {},
            r"the optimizer holds none of them\). Adapt and unfreeze",
        ),
    ],
    ids=["bf16", "tiny", "zero", "others"],
)
def test_updates_that_change_no_bit_are_stopped(optimizer_of, options, cause):
    """A weight of 1 in float32 moves by 2⁻²⁴ at least, in bfloat16 by 2⁻⁸: less is rounded away."""
    _, (step, message) = drive(everything, optimizer_of, **options)
    assert step == 4, "one update whose norm is compared, three with a copy"
    assert "step 4: an update with a gradient must move something (got 2 trainable tensors of which no bit" in message
    assert re.search(cause, message)


@pytest.mark.parametrize(
    ("loss_of", "optimizer_of", "options"),
    [
        (everything, adam(1e-3), {}),
        (everything, adam(1e-3), {"rate": lambda step: min(step, 4) / 4}),  # warm-up from 0
        (everything, adam(1e-3), {"rate": lambda step: float(step % 4 == 3)}),  # moves in every fourth update only
        (everything, adam(1e-2), {"dtype": torch.bfloat16}),
        (lambda model, step: 0.0 * everything(model, step), adam(1e-3), {"policy": {"zero_gradient": "skip"}}),
        (lambda model, step: NAN * everything(model, step), adam(1e-3), {"policy": {"gradients": "skip"}}),
        (
            lambda model, step: model.bias.sum() * 1e-6,
            adam(1e-7),
            {},
        ),  # one element of one tensor, below the norm's bits
        (everything, adam(1e-12), {"steps": 3}),
        (to_and_fro, sgd, {"logging_steps": 2, "steps": 16}),  # where it was, whenever there is a log
        (everything, adam(1e-12), {"deepspeed": {"stage": 1}}),  # the optimizer has weights of its own
    ],
    ids="plain warm-up seldom bf16 dead nan sparse short to-and-fro deepspeed".split(),
)
def test_a_run_that_moves_at_times_or_has_no_gradient_is_left_alone(loss_of, optimizer_of, options):
    watch, (step, message) = drive(loss_of, optimizer_of, **options)
    assert not watch.counts["movement"] and not message


def test_updates_that_change_nothing_are_counted_under_skip():
    watch, (step, _) = drive(everything, adam(1e-12), policy="skip", steps=11)
    assert step is None and watch.counts["movement"] == 3
    assert "movement 3 times" in watch.report()


@pytest.mark.parametrize("policy", guards.watch.CHOICES)
def test_a_policy_that_nothing_trains_is_stopped_before_the_first_step(policy, small):
    """Frozen after the trainer was made; with some tensors frozen there is something to train."""
    trainer = sft_trainer(guards.Watch(policy), small, Recorder(), max_steps=1)
    trainer.model.lm_head.requires_grad_(False)
    trainer.train()
    trainer.model.requires_grad_(False)
    with pytest.raises(
        ValueError, match=r"some tensor of the policy must be trainable \(got Qwen3ForCausalLM with eve"
    ):
        trainer.train()


# --- Oracle: inside TRL's trainers


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """(policy, tokenizer, rows, profile), small enough for a step in some tenths of a second; made once."""
    profile = profiles.current("ci")
    profile.task.update(num_train=64, num_held_out=16)
    settings = {"max_steps": 4, "logging_steps": 1, "save_strategy": "no", "logging_nan_inf_filter": False}
    settings |= {"output_dir": str(tmp_path_factory.mktemp("guards")), "disable_tqdm": True}
    profile.grpo.update(settings, per_device_train_batch_size=8, num_generations=4, max_completion_length=8)
    profile.sft.update(settings, per_device_train_batch_size=4)
    rows = data.load_task(profile.task)[0]
    return *models.load_policy(profile, rows), rows, profile


class Recorder(callbacks.Callback):
    """Keeps the logs, and the trained weights as they were before each step; calls `plant(step, model)` there."""

    def __init__(self, plant=None):
        self.plant, self.logs, self.weights = plant or (lambda step, model: None), [], []

    def on_step_begin(self, args, state, control, model=None, **kwargs):
        self.weights.append({name: p.detach().clone() for name, p in model.named_parameters() if p.requires_grad})
        self.plant(state.global_step + 1, model)

    def on_log(self, args, state, control, logs=None, **kwargs):
        self.logs.append({"step": state.global_step, **logs})


def grpo_trainer(watch, functions, small, recorder, **changes):
    from datasets import Dataset
    from trl import GRPOConfig, GRPOTrainer

    policy, tokenizer, rows, profile = small
    trainer = GRPOTrainer(
        model=models.add_lora(policy, profile),
        reward_funcs=watch.rewards(functions) if watch else list(functions),
        args=GRPOConfig(**{**profile.grpo, **changes}),
        train_dataset=Dataset.from_list(data.grpo_rows(rows, system_prompt="Show your work.")),
        processing_class=tokenizer,
    )
    for callback in [recorder, *(watch.callbacks() if watch else ())]:
        trainer.add_callback(callback)
    return trainer


def trained(model):
    return {name: p.detach() for name, p in model.named_parameters() if p.requires_grad}


def assert_same(weights, others):
    assert weights.keys() == others.keys() and all(torch.equal(weights[name], others[name]) for name in weights)


def hooks(model):
    return sum(len(p._post_accumulate_grad_hooks or ()) for p in model.parameters())


# What a reward returns at one step, made of its good scores.
FAULTS = {
    "inf": lambda scores: [INF, *scores[1:]],
    "nan": lambda scores: [*scores[:2], NAN, *scores[3:]],
    "1e38": lambda scores: [1e38, *scores[1:]],
    "raising": lambda scores: [1 / 0 for _ in scores],
    "none": lambda scores: [None for _ in scores],
    "str": lambda scores: ["1.0" for _ in scores],
    "bool": lambda scores: [True for _ in scores],
    "short": lambda scores: scores[:-1],
    "long": lambda scores: [*scores, 0.0],
}
SAYS = {
    "inf": "got inf in step 2, for completion 1 of 8",
    "nan": "got nan in step 2, for completion 3 of 8",
    "1e38": r"got 1e\+38 in step 2, for completion 1 of 8",
    "raising": "got ZeroDivisionError: 'division by zero' in step 2, for completion 4 of 8: '",
    "none": "got None for all 8 completions from faulty in step 2",
    "str": "got '1.0' for completion 1 of 8",
    "bool": "got True for completion 1 of 8",
    "short": "got 7 for 8 completions",
    "long": "got 9 for 8 completions",
}


def faulty_at(step, fault):
    fourth = []  # completion of the first bad batch: "raising" raises for it, alone too

    def faulty(completions, trainer_state, **columns):
        scores = check(completions)
        if trainer_state.global_step + 1 != step:
            return scores
        fourth.extend(completions[3:4] if not fourth else [])
        if fault == "raising" and fourth[0] not in completions:
            return scores
        return FAULTS[fault](scores)

    return faulty


@pytest.mark.parametrize("fault", FAULTS)
def test_a_bad_reward_stops_the_trainer_before_the_update(fault, small):
    recorder, watch = Recorder(), guards.Watch()
    trainer = grpo_trainer(watch, [faulty_at(2, fault)], small, recorder)
    with pytest.raises(ValueError, match=f"the reward faulty .*{SAYS[fault]}|at least one reward .*{SAYS[fault]}"):
        trainer.train()
    assert trainer.state.global_step == 1
    assert_same(trained(trainer.model), recorder.weights[1])


@pytest.mark.parametrize("fault", ["inf", "nan", "1e38", "raising", "none"])
def test_a_skipped_reward_is_counted_and_the_run_goes_on(fault, small, capsys):
    recorder, watch = Recorder(), guards.Watch("skip")
    trainer = grpo_trainer(watch, [faulty_at(2, fault), check], small, recorder, max_steps=3)
    if fault == "none":
        trainer = grpo_trainer(watch, [faulty_at(2, fault)], small, recorder, max_steps=3)
    trainer.train()
    assert trainer.state.global_step == 3 and watch.counts["rewards"] == 1
    assert all(torch.isfinite(weights).all() for weights in trained(trainer.model).values())
    skipped = [log.get("guards/skipped_rewards") for log in recorder.logs[:3]]
    assert skipped == [None, None if fault == "none" else 1.0, None]
    assert fault == "none" or recorder.logs[1]["grad_norm"] > 0, "the other completions train on"
    assert "The guards found and skipped: rewards 1 times" in capsys.readouterr().out


def test_an_async_reward_is_guarded_too(small):
    async def faulty(completions, trainer_state, **columns):
        return faulty_at(1, "inf")(completions, trainer_state)

    trainer = grpo_trainer(guards.Watch(), [check, faulty], small, Recorder())
    with pytest.raises(ValueError, match="the reward faulty must be a finite number .*got inf in step 1"):
        trainer.train()


def test_the_dry_run_calls_a_reward_as_trl_does(small):
    calls = []

    def spy(**call):
        kinds = {key: type(value).__name__ for key, value in call.items()}
        calls.append(kinds | {"one completion": type(call["completions"][0]).__name__})
        return check(call["completions"])

    preflight.dry_run([spy], data.grpo_rows(small[2], system_prompt="Show your work."))
    grpo_trainer(None, [spy], small, Recorder(), max_steps=1).train()
    dry, real = calls
    hooks = {"log_extra", "log_metric"}  # methods there, functions here
    assert dry.keys() == real.keys() and {k: dry[k] for k in dry.keys() - hooks} == {
        k: real[k] for k in real.keys() - hooks
    }


def test_a_healthy_run_is_the_same_with_guards_and_without(small):
    unwatched, watched, watch = Recorder(), Recorder(), guards.Watch()
    one = grpo_trainer(None, [check], small, unwatched, max_steps=2)
    one.train()
    other = grpo_trainer(watch, [check], small, watched, max_steps=2)
    other.train()
    assert_same(trained(one.model), trained(other.model))
    for a, b in zip(unwatched.logs[:2], watched.logs[:2], strict=True):
        assert {k: v for k, v in a.items() if "time" not in k} == {k: v for k, v in b.items() if "time" not in k}
    assert not any(watch.counts.values()) and hooks(other.model) == 0


def nan_gradient_at(step, *parts):
    """Make the gradient of the trained tensors whose names contain one of `parts` NaN, in the backward of one step."""
    handles = []

    def plant(now, model):
        while handles:
            handles.pop().remove()
        for name, parameter in model.named_parameters():
            if now == step and parameter.requires_grad and any(part in name for part in parts):
                handles.append(parameter.register_hook(lambda gradient: gradient * NAN))

    return plant


@pytest.mark.parametrize("changes", [{}, {"gradient_accumulation_steps": 2, "per_device_train_batch_size": 4}])
def test_a_nan_gradient_is_not_applied_and_its_tensor_named(changes, small):
    plant = nan_gradient_at(2, "layers.0.mlp.up_proj.lora_B", "layers.1.self_attn.q_proj.lora_B")
    recorder = Recorder(plant)
    trainer = grpo_trainer(guards.Watch({"truncation": "skip"}), [check], small, recorder, **changes)
    # Backwards, layer 1 comes before layer 0.
    sentence = r"got nan in \S+layers.1.self_attn.q_proj.lora_B\S+, the first in backward order, and in 2 of 28 tensors"
    with pytest.raises(ValueError, match=rf"{sentence}, in step 2\)"):
        trainer.train()
    assert trainer.state.global_step == 1
    assert_same(trained(trainer.model), recorder.weights[1])


def test_a_nan_that_a_later_micro_batch_adds_to_is_still_found(small):
    """The first of two backward passes is spoiled; what is seen is their sum."""
    first = []

    def plant(step, model):
        parameter = next(p for p in model.parameters() if p.requires_grad)
        parameter.register_hook(lambda g: g * NAN if not first and not first.append(1) else g)

    trainer = grpo_trainer(guards.Watch(), [check], small, Recorder(plant), gradient_accumulation_steps=2)
    with pytest.raises(ValueError, match="and in 1 of 28 tensors, in step 1"):
        trainer.train()


def test_a_skipped_gradient_leaves_weights_and_moments_alone(small):
    recorder, watch = Recorder(nan_gradient_at(2, "layers.1.self_attn.q_proj.lora_B")), guards.Watch("skip")
    trainer = grpo_trainer(watch, [check], small, recorder, max_steps=3, weight_decay=0.1, warmup_steps=0)
    trainer.train()
    assert watch.counts["gradients"] == 1 and trainer.state.global_step == 3
    assert_same(recorder.weights[1], recorder.weights[2])
    assert any(not torch.equal(w, recorder.weights[2][name]) for name, w in trained(trainer.model).items())
    assert {int(state["step"]) for state in trainer.optimizer.state.values()} == {2}
    assert hooks(trainer.model) == 0


def test_infinite_gradients_under_a_scaler_are_the_scalers_business():
    watch, model = guards.Watch(), torch.nn.Linear(2, 1)
    callback = updates.Gradients(watch)
    state = SimpleNamespace(global_step=0)
    callback.on_train_begin(None, state, None, model=model)
    (model(torch.ones(1, 2)) * INF).sum().backward()
    callback.on_pre_optimizer_step(None, state, None, model=model, optimizer=SimpleNamespace(scaler=object()))
    assert model.weight.grad is not None and not watch.counts["gradients"]
    (model(torch.ones(1, 2)) * INF).sum().backward()
    with pytest.raises(ValueError, match="every gradient must be finite"):
        callback.on_pre_optimizer_step(None, state, None, model=model, optimizer=SimpleNamespace(scaler=None))
    callback.on_stop(ValueError())
    assert hooks(model) == 0


def test_a_scaler_that_leaves_out_every_update_is_stopped():
    """A scale of 2¹⁶ that is halved each time is below 1 after 17; a gradient that is infinite then is no overflow."""
    watch, model = guards.Watch(), torch.nn.Linear(2, 1)
    callback, state = updates.Gradients(watch), SimpleNamespace(global_step=0)
    callback.on_train_begin(None, state, None, model=model)

    def update(value):
        (model(torch.ones(1, 2)) * value).sum().backward()
        callback.on_pre_optimizer_step(None, state, None, model=model, optimizer=SimpleNamespace(scaler=object()))

    for value in [INF] * 19 + [1.0] + [INF] * 19:
        update(value)
        model.zero_grad()
    with pytest.raises(ValueError, match="every gradient must be finite"):
        update(INF)
    callback.on_stop(ValueError())


@pytest.mark.parametrize("policy", guards.watch.CHOICES)
@pytest.mark.parametrize("part", ["layers.0.mlp.up_proj.base_layer.weight", "layers.1.self_attn.q_proj.lora_A"])
def test_a_nan_weight_stops_before_the_policy_samples(part, policy, small):
    def plant(step, model):
        if step == 2:
            with torch.no_grad():
                next(p for name, p in model.named_parameters() if part in name).view(-1)[5] = NAN

    def never_after(completions, trainer_state, **columns):
        assert trainer_state.global_step == 0, "the policy sampled"
        return check(completions)

    trainer = grpo_trainer(guards.Watch(policy), [never_after], small, Recorder(plant))
    with pytest.raises(
        ValueError, match=rf"got NaN or infinity in \S+{part}\S* and in 1 of \d+ tensors, before step 2"
    ):
        trainer.train()


def test_a_nan_weight_is_found_before_the_first_step(small):
    trainer = grpo_trainer(guards.Watch(), [check], small, Recorder())
    with torch.no_grad():
        next(trainer.model.parameters())[0, 0] = -INF
    with pytest.raises(ValueError, match=r"every weight must be finite .* in 1 of \d+ tensors, before step 1"):
        trainer.train()


def test_no_checkpoint_is_written_of_weights_that_an_update_broke(small, tmp_path):
    """An optimizer that divides by zero: found after the update, before the save, whether the step logs or not."""

    class Breaker(callbacks.Callback):
        def on_optimizer_step(self, args, state, control, model=None, **kwargs):
            with torch.no_grad():
                next(p for p in model.parameters() if p.requires_grad).fill_(NAN)

    for logging_steps in (1, 5):
        saving = {"save_strategy": "steps", "save_steps": 1, "output_dir": str(tmp_path)}
        trainer = grpo_trainer(guards.Watch(), [check], small, Breaker(), logging_steps=logging_steps, **saving)
        with pytest.raises(ValueError, match="after step 1"):
            trainer.train()
        assert not list(tmp_path.glob("checkpoint-*"))


def test_a_learning_rate_of_a_thousand_stops_after_its_first_update(small):
    recorder = Recorder()
    trainer = grpo_trainer(guards.Watch(), [check], small, recorder, learning_rate=1e3, warmup_steps=1)
    with pytest.raises(ValueError, match=r"norm of the trained weights of 12.\d+ before step 2 .*learning_rate = 1000"):
        trainer.train()
    assert recorder.logs[-1]["step"] == trainer.state.global_step == 2, "the step's log came first"
    assert all(torch.isfinite(weights).all() for weights in trained(trainer.model).values())


def test_what_a_learning_rate_of_a_thousand_leaves_behind_is_found_too(small):
    policy = dict.fromkeys(guards.POLICIES, "stop") | {"weights": "skip", "truncation": "skip"}
    watch = guards.Watch(policy)
    trainer = grpo_trainer(watch, [check], small, Recorder(), learning_rate=1e3, warmup_steps=0, max_steps=6)
    with pytest.raises(ValueError, match=r"that of a uniform choice .* lower learning_rate"):
        trainer.train()
    assert watch.counts["weights"] == 1 and trainer.state.global_step == 4


def test_a_constant_reward_stops_the_trainer_at_step_three(small):
    def flat(completions, **columns):
        return [0.25] * len(completions)

    trainer = grpo_trainer(guards.Watch(), [flat], small, Recorder())
    with pytest.raises(ValueError, match=r"step 3: the reward must differ .*got the constant 0.25 .*; flat 0.25\)"):
        trainer.train()
    assert trainer.state.global_step == 3


def test_an_optimizer_of_other_tensors_stops_the_trainer_at_step_four(small):
    trainer = grpo_trainer(guards.Watch({"truncation": "skip"}), [check], small, Recorder(), max_steps=6)
    trainer.optimizer = torch.optim.AdamW(models.own_copy(small[0]).parameters(), lr=1e-3)
    with pytest.raises(
        ValueError, match=r"step 4: an update .* 28 trainable tensors .* the optimizer holds none of them"
    ):
        trainer.train()


def test_groups_without_difference_stop_the_trainer_at_step_three(small):
    """The reward of the prompt, not of the completion: no batch is constant, every gradient is zero."""

    def by_prompt(completions, answer, **columns):
        return [float(number) for number in answer]

    trainer = grpo_trainer(guards.Watch({"truncation": "skip"}), [by_prompt], small, Recorder())
    with pytest.raises(ValueError, match=r"step 3: the gradient must not stay zero .*in every group all completions"):
        trainer.train()


def sft_trainer(watch, small, recorder, **changes):
    from datasets import Dataset
    from trl import SFTConfig, SFTTrainer

    policy, tokenizer, rows, profile = small
    trainer = SFTTrainer(
        model=models.load_policy(profile, rows)[0],
        args=SFTConfig(**{**profile.sft, **changes}),
        train_dataset=Dataset.from_list(data.sft_rows(rows, system_prompt="Show your work.")),
        processing_class=tokenizer,
    )
    for callback in [recorder, *watch.callbacks()]:
        trainer.add_callback(callback)
    return trainer


def test_sft_of_random_weights_passes_and_its_faults_do_not(small):
    watch = guards.Watch()
    trainer = sft_trainer(watch, small, Recorder(), max_steps=6)
    trainer.train()
    assert not any(watch.counts.values())
    trainer = sft_trainer(guards.Watch(), small, Recorder(nan_gradient_at(2, "layers.0.mlp.up_proj")))
    with pytest.raises(ValueError, match=r"got nan in \S+up_proj\S+, the first .* and in 1 of \d+ tensors, in step 2"):
        trainer.train()
    trainer = sft_trainer(guards.Watch(), small, Recorder(), learning_rate=1e3, warmup_steps=0)
    with pytest.raises(ValueError, match="after it, with learning_rate = 1000"):
        trainer.train()
