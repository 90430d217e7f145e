"""A learner's function against ours, in words: True if every case fits, False with the first that does not.

A stub that still raises NotImplementedError is "not attempted": None, and the notebook goes on.
"""

import functools
from collections.abc import Callable

from grpo_nb import models, templates


def _exercise(check: Callable[[Callable], tuple[bool, str]]) -> Callable[[Callable], bool | None]:
    """Let a check say its sentence, after its own name; a stub that raises NotImplementedError is not attempted."""

    @functools.wraps(check)
    def run(your_function: Callable) -> bool | None:
        try:
            is_right, sentence = check(your_function)
        except NotImplementedError:
            is_right, sentence = None, "not attempted."
        print(f"{check.__name__}: {sentence}")
        return is_right

    return run


@_exercise
def check_reward(your_reward):
    """Whether `your_reward` is a verifier in TRL's contract: 1.0 right, 0.0 wrong, None if the truth is no number.

    Args:
        your_reward: f(completions, answer, **kwargs) -> list of scores, one per completion.
    Returns: True, False, or None while it raises NotImplementedError; what is said goes to stdout.
    See: notebook 04, exercise 4.1.

    >>> def stub(completions, answer, **kwargs):
    ...     raise NotImplementedError
    >>> check_reward(stub)
    check_reward: not attempted.
    >>> check_reward(lambda completions, answer, **kwargs: [1.0] * len(completions))
    check_reward: 2.1 for 2, near but not right, must score 0.0 (yours: 1.0).
    False
    """
    names, completions, answers, expected = zip(*_reward_cases(), strict=True)
    messages = [[{"role": "assistant", "content": text}] for text in completions]
    columns = {"answer": list(answers), "prompts": [""] * len(names), "completion_ids": [[0]] * len(names)}
    for batch in (list(completions), messages):
        yours = your_reward(completions=batch, trainer_state=None, **columns)
        if not isinstance(yours, list) or len(yours) != len(names):
            return False, f"{len(names)} completions must give a list of {len(names)} scores (yours: {yours!r})."
        for name, score, right in zip(names, yours, expected, strict=True):
            if score != right:
                kind = " (given as messages)" if batch is messages else ""
                return False, f"{name}{kind}, must score {right} (yours: {score!r})."
    return True, f"all {len(names)} cases fit, as text and as messages."


def _reward_cases() -> list[tuple[str, str, str, float | None]]:
    """(what it is, completion, true answer, score), worked out by hand."""
    block = f"1+1=2{templates.REASONING_END}{templates.SOLUTION_START}{{}}{templates.SOLUTION_END}".format
    return [
        ("2 for 2", block("2"), "2", 1.0),
        ("2.0 for 2, equal in value", block("2.0"), "2", 1.0),
        ("1,000 for 1000, equal in value", block("1,000"), "1000", 1.0),
        ("2.1 for 2, near but not right", block("2.1"), "2", 0.0),
        ("-2 for 2", block("-2"), "2", 0.0),
        ("0 for 0", block("0"), "0", 1.0),
        ("a solution that is no number", block("two"), "2", 0.0),
        ("a right number without the format", "2", "2", 0.0),
        ("a right number with junk after it", block("2") + " or 3", "2", 0.0),
        ("an empty completion", "", "2", 0.0),
        ("a true answer that is no number", block("blue"), "blue", None),
    ]


@_exercise
def check_advantages(your_advantages):
    """Whether `your_advantages` normalises every group by itself, as TRL does with scale_rewards="group".

    Args:
        your_advantages: f(rewards [N], num_generations) -> advantages [N].
    Returns: True, False, or None while it raises NotImplementedError; what is said goes to stdout.
    See: notebook 06, exercise 6.1.
    """
    import torch

    half, root = 0.5 / (0.5 + 1e-4), 1 / (2**0.5 + 1e-4)  # deviations from the mean over (std + 1e-4), by hand
    cases = [
        ("one group, one hit in four", [0, 0, 1, 0], 4, [-half / 2, -half / 2, 1.5 * half, -half / 2]),
        ("two groups of two on different levels", [0, 2, 100, 98], 2, [-root, root, root, -root]),
        ("a dead group beside a live one", [3, 3, 0, 2], 2, [0, 0, -root, root]),
    ]
    for name, given, size, expected in cases:
        yours = your_advantages(torch.tensor(given, dtype=torch.float32), size)
        if not isinstance(yours, torch.Tensor) or tuple(yours.shape) != (len(given),):
            return False, f"{name}: a flat tensor of {len(given)} advantages must come back (yours: {yours!r:.80})."
        if not torch.allclose(yours, torch.tensor(expected, dtype=yours.dtype), atol=1e-4):
            return (
                False,
                f"{name}, rewards {given}: must give {[round(e, 3) for e in expected]} (yours: {yours.tolist()}).",
            )
    return True, f"all {len(cases)} cases fit."


@_exercise
def check_template(your_template_text):
    """Whether `your_template_text` builds, in plain Python, the string that `templates.chat_template()` renders.

    Args:
        your_template_text: f(messages, add_generation_prompt=False) -> str, with EOS `models.END_OF_TURN`.
    Returns: True, False, or None while it raises NotImplementedError; what is said goes to stdout.
    See: notebook 02, exercise 2.1.

    >>> check_template(lambda messages, add_generation_prompt=False: "".join(turn["content"] for turn in messages))
    check_template: one question with its own system turn must give 'Add.<|im_end|>1+1?' (yours: 'Add.1+1?').
    False
    """
    from jinja2 import Template

    ours = Template(templates.chat_template())
    system, user = templates.prompt_messages("1+1?", "Add.")
    answer = {"role": "assistant", "content": templates.worked_answer("1+1=2", "2")}
    cases = [
        ("one question with its own system turn", [system, user], False),
        ("the same with the generation prompt", [system, user], True),
        ("question and answer", [system, user, answer], False),
        ("a question without a system turn", [user], True),
        ("two questions, the second to be answered", [system, user, answer, user], True),
        ("two questions and answers without a system turn", [user, answer, user, answer], False),
    ]
    for name, messages, is_to_answer in cases:
        right = ours.render(messages=messages, eos_token=models.END_OF_TURN, add_generation_prompt=is_to_answer)
        yours = your_template_text([dict(turn) for turn in messages], add_generation_prompt=is_to_answer)
        if yours != right:
            return False, f"{name} must give {right!r} (yours: {yours!r})."
    return True, f"all {len(cases)} conversations fit."


@_exercise
def check_completion_mask(your_completion_mask):
    """Whether `your_completion_mask` is 0 on the ids that prompt and full text begin with in common, 1 behind them.

    Args:
        your_completion_mask: f(prompt_ids, full_ids) -> list of 0 and 1, one for each full id.
    Returns: True, False, or None while it raises NotImplementedError; what is said goes to stdout.
    See: notebook 02, exercise 2.2; TRL's `common_prefix_length`.

    >>> check_completion_mask(lambda prompt_ids, full_ids: [])
    check_completion_mask: a prompt of two, a completion of three tokens must give [0, 0, 1, 1, 1] (yours: []).
    False
    """
    cases = [
        ("a prompt of two, a completion of three tokens", [5, 6], [5, 6, 7, 8, 9], [0, 0, 1, 1, 1]),
        ("an empty completion", [5, 6], [5, 6], [0, 0]),
        ("an empty prompt", [], [7, 8], [1, 1]),
        ("a completion that repeats the prompt", [5, 6], [5, 6, 5, 6], [0, 0, 1, 1]),
        ("a prompt whose last token merged with the completion", [5, 6, 7], [5, 6, 78, 9], [0, 0, 1, 1]),
        ("a prompt that merged, then equals the completion by chance", [5, 6, 9], [5, 67, 9, 9], [0, 1, 1, 1]),
    ]
    for name, prompt_ids, full_ids, right in cases:
        yours = your_completion_mask(list(prompt_ids), list(full_ids))
        if not isinstance(yours, list) or [int(x) for x in yours] != right:
            return False, f"{name} must give {right} (yours: {yours!r})."
    return True, f"all {len(cases)} cases fit."


@_exercise
def check_signal(your_prob_of_signal):
    """Whether `your_prob_of_signal` is 1 − pᴳ − (1 − p)ᴳ, the chance that a group holds both a hit and a miss.

    Args:
        your_prob_of_signal: f(p, G) -> probability.
    Returns: True, False, or None while it raises NotImplementedError; what is said goes to stdout.
    See: notebook 03, exercise 3.1.

    >>> check_signal(lambda p, G: 1 - (1 - p) ** G)
    check_signal: p = 1.0, G = 8 must give 0.0 (yours: 1.0).
    False
    """
    # 0.9⁴ = 0.6561 and 0.1⁴ = 0.0001; 0.75³ = 27/64 and 0.25³ = 1/64
    cases = [(0.0, 8, 0.0), (1.0, 8, 0.0), (0.5, 2, 0.5), (0.5, 4, 0.875), (0.1, 4, 0.3438), (0.25, 3, 0.5625)]
    for p, size, right in cases:
        yours = your_prob_of_signal(p, size)
        if not isinstance(yours, float | int) or abs(yours - right) > 1e-9:
            return False, f"p = {p}, G = {size} must give {right} (yours: {yours!r})."
    return True, f"all {len(cases)} cases fit."


@_exercise
def check_chance(your_chance):
    """Whether `your_chance` is the probability that at least one of k independent tries is right, 1 − (1 − p)ᵏ.

    Args:
        your_chance: f(p, k) -> float, p in [0, 1], k ≥ 0.
    Returns: True, False, or None while it raises NotImplementedError; what is said goes to stdout.
    See: notebook 00, exercise 0.1.

    >>> check_chance(lambda p, k: p * k)
    check_chance: p = 0.5 and k = 2 must give 0.75 (yours: 1.0).
    False
    """
    cases = [(0.5, 1, 0.5), (0.5, 2, 0.75), (0.5, 3, 0.875), (0.1, 4, 0.3439), (0.0, 8, 0.0), (1.0, 8, 1.0)]
    for p, k, chance in cases:
        yours = your_chance(p, k)
        if not isinstance(yours, int | float) or abs(yours - chance) > 1e-9:
            return False, f"p = {p} and k = {k} must give {chance} (yours: {yours!r})."
    return True, f"all {len(cases)} cases fit."


@_exercise
def check_merge(your_merge):
    """Whether `your_merge` folds a LoRA pair into its weight, W + (α/r)·BA, and leaves `weight` as it was.

    Args:
        your_merge: f(weight [out, in], lora_A [r, in], lora_B [out, r], alpha, r) -> tensor [out, in].
    Returns: True, False, or None while it raises NotImplementedError; what is said goes to stdout.
    See: notebook 07, exercise 7.1.

    >>> check_merge(lambda weight, lora_A, lora_B, alpha, r: weight + lora_B @ lora_A)
    check_merge: two by two, must give [[2.0, 1.0], [3.0, 4.0]] (yours: [[1.5, 1.5], [3.0, 4.0]]).
    False
    """
    import torch

    square, ones, swap = [[1.0, 2.0], [3.0, 4.0]], [[1.0, 1.0]] * 3, [[0.0, 1.0], [1.0, 0.0]]
    tall = [[1.0, 0.0], [0.0, 1.0], [1.0, 1.0]]  # B; times swap: its columns change places
    cases = [
        ("a fresh adapter", square, [[1.0, -1.0]], [[0.0], [0.0]], 2, 1, square),
        ("two by two", square, [[1.0, -1.0]], [[0.5], [0.0]], 2, 1, [[2.0, 1.0], [3.0, 4.0]]),
        ("out 3, in 2, alpha 4, r 2", ones, swap, tall, 4, 2, [[1.0, 3.0], [3.0, 1.0], [3.0, 3.0]]),
        ("out 3, in 2, alpha 1, r 2", ones, swap, tall, 1, 2, [[1.0, 1.5], [1.5, 1.0], [1.5, 1.5]]),
    ]
    for name, weight, lora_A, lora_B, alpha, r, merged in cases:
        weight = torch.tensor(weight)
        before = weight.clone()
        yours = your_merge(weight, torch.tensor(lora_A), torch.tensor(lora_B), alpha, r)
        if not torch.equal(weight, before):
            return False, f"{name}, must leave `weight` as it was (yours adds in place)."
        yours = yours.tolist() if isinstance(yours, torch.Tensor) else yours
        if yours != merged:
            return False, f"{name}, must give {merged} (yours: {yours})."
    return True, f"all {len(cases)} cases fit, and the weight is left alone."


@_exercise
def check_is_trained(your_is_trained):
    """Whether `your_is_trained` judges an adapter by its products B·A: all finite, none smaller than 10⁻⁶ everywhere.

    Args:
        your_is_trained: f({name: tensor}) -> bool.
    Returns: True, False, or None while it raises NotImplementedError; what is said goes to stdout.
    See: notebook 07, exercise 7.2.

    >>> check_is_trained(lambda tensors: all(tensor.any() for tensor in tensors.values()))
    check_is_trained: noise of 1e-12 in lora_B, must be False (yours: True).
    False
    """
    import torch

    def adapter(*values_of_B: float) -> dict:
        """One pair for each value: A of ones, B of ones but for its first number."""
        pairs = {}
        for i, value in enumerate(values_of_B):
            small = value if 0 <= value < 1 else 1.0
            pairs[f"layers.{i}.lora_A.weight"] = torch.ones(2, 4)
            pairs[f"layers.{i}.lora_B.weight"] = torch.full((3, 2), small)
            pairs[f"layers.{i}.lora_B.weight"][0, 0] = value
        return pairs

    cases = [
        ("a trained pair", adapter(0.01), True),
        ("a trained pair whose B is negative", {k: -v if "_B" in k else v for k, v in adapter(0.5).items()}, True),
        ("a fresh pair, lora_B zero", adapter(0.0), False),
        ("noise of 1e-12 in lora_B", adapter(1e-12), False),
        ("one NaN", adapter(float("nan")), False),
        ("one infinity", adapter(float("inf")), False),
        ("two trained pairs", adapter(0.01, 0.02), True),
        ("a trained pair and a fresh one", adapter(0.01, 0.0), False),
    ]
    for name, tensors, expected in cases:
        yours = your_is_trained(tensors)
        if bool(yours) is not expected:
            return False, f"{name}, must be {expected} (yours: {yours})."
    return True, f"all {len(cases)} cases fit."
