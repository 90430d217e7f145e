"""Exercises about rewards, and about advantages made of them."""

from grpo_nb import advantages, rewards, templates
from grpo_nb.checks.exercises import exercise, judge
from grpo_nb.rewards import parsing


@exercise
def check_reward(your_reward):
    """Whether `your_reward` is a verifier in TRL's contract: 1.0 right, 0.0 wrong, None if the truth is no number.

    Args:
        your_reward: f(completions, answer, **kwargs) -> list of scores, one per completion.

    >>> def stub(completions, answer, **kwargs):
    ...     raise NotImplementedError
    >>> check_reward(stub)
    check_reward: not attempted.
    >>> check_reward(lambda completions, answer, **kwargs: [1.0] * len(completions))
    check_reward: near but not right, completions = ['1+1=2<end_working_out><SOLUTION>2.1</SOLUTION>'], answer = ['2']:
    must give [0] (yours: [1]).
    False
    """
    block = f"1+1=2{templates.REASONING_END}{templates.SOLUTION_START}{{}}{templates.SOLUTION_END}".format
    texts = [
        ("2 for 2", block("2"), "2"),
        ("2.0 for 2, equal in value", block("2.0"), "2"),
        ("1,000 for 1000, equal in value", block("1,000"), "1000"),
        ("near but not right", block("2.1"), "2"),
        ("-2 for 2", block("-2"), "2"),
        ("0 for 0", block("0"), "0"),
        ("a solution that is no number", block("two"), "2"),
        ("a right number without the format", "2", "2"),
        ("a right number with junk after it", block("2") + " or 3", "2"),
        ("an empty completion", "", "2"),
        ("a true answer that is no number", block("blue"), "blue"),
    ]
    cases = [(name, ([text], [truth])) for name, text, truth in texts]
    _, completions, answers = map(list, zip(*texts, strict=True))
    messages = [[{"role": "assistant", "content": text}] for text in completions]
    cases += [("all of them together", (completions, answers)), ("all of them, as messages", (messages, answers))]
    usual = {
        "compares texts, not values": _verifier(lambda said, truth: said == truth),
        "finds the truth somewhere in the solution": _verifier(lambda said, truth: truth in said),
        "forgets the sign": _verifier(lambda said, truth: said.strip("-") == truth),
        "lets a near miss pass": _verifier(lambda said, truth: _is_near(said, truth)),
        "takes a completion without the format": _verifier(solution=lambda text: parsing.solution(text) or text),
        "scores 0 where the truth is no number, and not None": _verifier(unknown=0.0),
        "gives None for a wrong answer": _verifier(wrong=None),
        "takes a wrong answer for −1": _verifier(wrong=-1.0),
        "gives one score for the whole batch": lambda completions, answer, **kwargs: (
            _verifier()(completions, answer)[0] if len(completions) == 1 else 1.0
        ),
    }

    def call(function, completions, answer):
        others = {"prompts": [""] * len(answer), "completion_ids": [[0]] * len(answer), "trainer_state": None}
        return function(completions=completions, answer=answer, **others)

    return judge(your_reward, cases, right=_verifier(), usual=usual, call=call)


def _is_equal(said: str, truth: str) -> bool:
    number = parsing.number(said)
    return number is not None and parsing.same_number(number, parsing.number(truth))


def _is_near(said: str, truth: str) -> bool:
    number = parsing.number(said)
    return number is not None and abs(number - parsing.number(truth)) < 1


def _verifier(
    is_right=_is_equal, *, solution=parsing.solution, wrong: float | None = 0.0, unknown: float | None = None
):
    """A verifier, of which one part may be off."""

    def score(completion, truth: str) -> float | None:
        said = solution(parsing.text(completion))
        if parsing.number(truth) is None:
            return unknown
        return 1.0 if said is not None and is_right(said, truth) else wrong

    return lambda completions, answer, **kwargs: [score(*pair) for pair in zip(completions, answer, strict=True)]


@exercise
def check_completion_score(your_completion):
    """Whether `your_completion()` earns 4.5 in all from the four rewards, where the truth is 72.

    Args:
        your_completion: f() -> completion, a string.

    >>> check_completion_score(lambda: f"{templates.REASONING_END}<SOLUTION>72</SOLUTION>")
    check_completion_score: the truth is 72: your numbers are those of one who gives the right answer. It must give 4.5
    (yours: 13).
    False
    """
    block = f"8*9{templates.REASONING_END}{templates.SOLUTION_START}{{}}{templates.SOLUTION_END}".format
    usual = {
        "gives the right answer": lambda: block("72"),
        "gives the right answer with blanks around it": lambda: block(" 72 "),
        "is off by at most a tenth": lambda: block("70"),
        "is off by more than a fifth": lambda: block("50"),
        "gives no number": lambda: block("many"),
        "forgets the layout": lambda: "60",
        "leaves the last tag out": lambda: block("60").removesuffix(templates.SOLUTION_END),
    }

    def total(function):
        text = function()
        return sum(reward([text], answer=["72"])[0] for reward in rewards.FOUR) if isinstance(text, str) else text

    cases = [("the truth is 72", ())]
    return judge(your_completion, cases, right=lambda: block("60"), usual=usual, call=total)


@exercise
def check_advantages(your_advantages):
    """Whether `your_advantages` normalises every group by itself, as TRL does with scale_rewards="group".

    Args:
        your_advantages: f(rewards [N], num_generations) -> advantages [N].
    See: `advantages.group_advantages`.

    >>> check_advantages(lambda rewards, num_generations: (rewards - rewards.mean()) / (rewards.std() + 1e-4))
    check_advantages: two groups of two on different levels: your numbers are those of one who takes mean and
    deviation over the batch. With rewards = [0, 2, 100, 98], num_generations = 2 it must give [-0.7071, 0.7071,
    0.7071, -0.7071] (yours: [-0.8835, -0.8482, 0.8835, 0.8482]).
    False
    """
    import torch

    cases = [
        ("one group, one hit in four", (torch.tensor([0.0, 0, 1, 0]), 4)),
        ("two groups of two on different levels", (torch.tensor([0.0, 2, 100, 98]), 2)),
        ("a dead group beside a live one", (torch.tensor([3.0, 3, 0, 2]), 2)),
        ("two groups of three", (torch.tensor([0.0, 0.25, 1, 2, 3, 2]), 3)),
    ]

    def variant(mean="group", spread="group", *, tiny=1e-4, groups=lambda rewards, G: rewards.view(-1, G), **std):
        """The advantages with one thing off."""

        def compute(rewards, num_generations):
            rows = groups(rewards, num_generations)
            dims = {"group": {"dim": 1, "keepdim": True}, "across": {"dim": 0, "keepdim": True}, "batch": {}}
            distance = rows - (rows.mean(**dims[mean]) if mean else 0)
            return (distance / (rows.std(**dims[spread], **std) + tiny if spread else 1)).flatten()

        return compute

    def within_the_root(rewards, num_generations):
        rows = rewards.view(-1, num_generations)
        return ((rows - rows.mean(1, keepdim=True)) / (rows.var(1, keepdim=True) + 1e-4).sqrt()).flatten()

    def by_variance(rewards, num_generations):
        rows = rewards.view(-1, num_generations)
        return ((rows - rows.mean(1, keepdim=True)) / (rows.var(1, keepdim=True) + 1e-4)).flatten()

    def column(rewards, num_generations):
        each = rewards.view(-1, num_generations).mean(1).repeat_interleave(num_generations)
        spread = rewards.view(-1, num_generations).std(1).repeat_interleave(num_generations)
        return (rewards - each[:, None]) / (spread[:, None] + 1e-4)

    usual = {
        "divides by the deviation over G instead of G − 1": variant(unbiased=False),
        "takes mean and deviation over the batch": variant("batch", "batch"),
        "takes the mean over the batch": variant("batch"),
        "takes the mean along the wrong axis, across the groups": variant("across"),
        "takes the deviation over the batch": variant(spread="batch"),
        "takes mean and deviation along the wrong axis, across the groups": variant("across", "across"),
        "takes every P-th completion for a group": variant(groups=lambda rewards, G: rewards.view(G, -1).T),
        "does not divide by the deviation": variant(spread=None),
        "does not subtract the mean": variant(mean=None),
        "divides by the variance": by_variance,
        "adds 10⁻⁴ to the variance, before the root": within_the_root,
        "adds no 10⁻⁴ to the deviation": variant(tiny=0.0),
        "lets a column [N, 1] meet a row [N]: every reward meets every group's mean": column,
    }

    def right(rewards, num_generations):
        return advantages.group_advantages(rewards.view(-1, num_generations)).flatten()

    return judge(your_advantages, cases, right=right, usual=usual)
