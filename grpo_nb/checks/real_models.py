"""Exercises about a real model: groups that teach, a reward that nothing but an answer earns, a run to keep."""

import re
import time
from collections.abc import Callable, Sequence

from grpo_nb import lab
from grpo_nb.checks.exercises import exercise, judge

GROUPS = range(2, 65)  # sizes that are asked for
LONG = 20_000  # characters: what is quadratic in them takes seconds, what is linear less than a millisecond
LIMIT_S = 0.25  # of CPU, for a reward's answer
_STATEMENT = r"[0-9]{1,9} *\+ *[0-9]{1,9} *= *([0-9]{1,9})\.?"
# (the run to keep, what happened) → name → sampled before and after, greedy before and after, KL on the questions, KL
# on the task, perplexity
RUNS = {
    ("near", "one learned nothing, one went far"): {
        "still": (0.02, 0.05, 0.0, 0.0, 0.001, 0.001, 20.0),
        "far": (0.02, 0.8, 0.0, 0.9, 0.1, 0.1, 21.0),
        "near": (0.02, 0.3, 0.0, 0.4, 0.04, 0.05, 20.5),
    },
    ("sampled", "sampling gains in one, greedy decoding in the other"): {
        "sampled": (0.1, 0.45, 0.3, 0.4, 0.05, 0.05, 20.5),
        "greedy": (0.1, 0.3, 0.05, 0.6, 0.01, 0.01, 20.0),
        "far": (0.1, 0.9, 0.1, 0.9, 0.3, 0.3, 21.0),
    },
    ("exactly 25", "one gains exactly 25 points"): {
        "far": (0.25, 0.75, 0.25, 0.75, 0.2, 0.2, 21.0),
        "exactly 25": (0.25, 0.5, 0.25, 0.5, 0.02, 0.02, 20.5),
        "below": (0.25, 0.46875, 0.25, 0.4, 0.001, 0.001, 20.0),
        "still": (0.25, 0.25, 0.25, 0.25, 0.0005, 0.0005, 20.0),
    },
    ("questions", "questions, task and prose disagree about what is near"): {
        "prose": (0.0, 0.6, 0.0, 0.6, 0.09, 0.06, 20.1),
        "task": (0.0, 0.55, 0.0, 0.6, 0.08, 0.02, 21.0),
        "questions": (0.0, 0.5, 0.0, 0.6, 0.03, 0.07, 22.0),
    },
    ("from nothing", "one had a better start"): {
        "better start": (0.3, 0.5, 0.3, 0.5, 0.01, 0.01, 20.0),
        "from nothing": (0.0, 0.4, 0.0, 0.4, 0.05, 0.05, 20.5),
        "far": (0.0, 0.9, 0.0, 0.9, 0.3, 0.3, 21.0),
    },
}


def group_size(p: float) -> int | None:
    """The smallest G in `GROUPS` for which more than half of the groups are mixed: 1 − (1 − p)ᴳ − pᴳ > ½; None if none.

    >>> group_size(0.5), group_size(0.03), group_size(0.003)
    (3, 23, None)
    """
    return _first(lambda G: 1 - (1 - p) ** G - p**G > 0.5)


def _first(is_enough: Callable[[int], bool], sizes: Sequence[int] = GROUPS) -> int | None:
    return next((G for G in sizes if is_enough(G)), None)


@exercise
def check_mixed(your_group_size: Callable) -> tuple[bool, str]:
    """`your_group_size(p)` against `group_size`: how large must groups be, for half of them to teach?"""
    cases = [
        ("three in ten are right", (0.3,)),
        ("a rare right reply", (0.03,)),
        ("a rare wrong reply", (0.9,)),
        ("an even chance", (0.5,)),  # half of the pairs, exactly
        ("four in ten are right", (0.4,)),
        ("64 is just enough", (0.0108,)),
        ("64 is too few", (0.0106,)),
        ("far too rare", (0.001,)),
    ]

    usual = {
        "asks for a right reply only": lambda p: _first(lambda G: 1 - (1 - p) ** G > 0.5),
        "asks for a right reply only, and begins with a group of one": lambda p: _first(
            lambda G: 1 - (1 - p) ** G > 0.5, range(1, 65)
        ),
        "asks for a wrong reply only": lambda p: _first(lambda G: 1 - p**G > 0.5),
        "asks for exactly one right reply": lambda p: _first(lambda G: G * p * (1 - p) ** (G - 1) > 0.5),
        "takes half of the groups for more than half": lambda p: _first(lambda G: 1 - (1 - p) ** G - p**G >= 0.5),
        "adds the chances up": lambda p: _first(lambda G: p * G > 0.5),
        "multiplies the chances of a right and of a wrong reply, as if one did not bear on the other": lambda p: _first(
            lambda G: (1 - (1 - p) ** G) * (1 - p**G) > 0.5
        ),
        "counts the groups that are all alike": lambda p: _first(lambda G: (1 - p) ** G + p**G > 0.5),
        "gives the largest group that is too small": lambda p: group_size(p) and group_size(p) - 1,
        "goes on beyond 64": lambda p: _first(lambda G: 1 - (1 - p) ** G - p**G > 0.5, range(2, 10_000)),
        "gives 64 where 64 is too few": lambda p: group_size(p) or 64,
    }
    return judge(your_group_size, cases, right=group_size, usual=usual)


def _reward(is_right: Callable[[str, str], bool]) -> Callable:
    """A reward in TRL's contract: 1.0 where a reply, of a true answer, is right."""
    return lambda completions, answer, **columns: [
        float(is_right(turns[-1]["content"], truth)) for turns, truth in zip(completions, answer, strict=True)
    ]


def _is_statement(text: str, truth: str, *, pattern: str = _STATEMENT, find: Callable = re.fullmatch) -> bool:
    """Whether the pattern is found in a reply without the blanks around, and its one group, c, equals the truth."""
    found = find(pattern, text.strip())
    return bool(found) and int(found[1]) == int(truth)


def _numbers(text: str) -> list[int]:
    return [int(digits) for digits in re.findall(r"[0-9]{1,9}", text)]


@exercise
def check_one_answer(your_reward: Callable) -> tuple[bool, str]:
    """Whether `your_reward` pays 1.0 for nothing but one line `a + b = c` with the true c, else 0.0, and is quick.

    Args:
        your_reward: f(completions, answer, **columns) -> list of scores; completions are TRL's messages.
    """
    texts = [
        ("as asked", "47 + 38 = 85", "85"),
        ("a wrong answer", "47 + 38 = 75", "85"),
        ("a full stop", "47 + 38 = 85.", "85"),
        ("blanks around", "  47 + 38 = 85  ", "85"),
        ("no blanks", "4+5=9", "9"),
        ("a number that begins with the right one", "47 + 38 = 851", "85"),
        ("a number that ends with the right one", "47 + 38 = 185", "85"),
        ("a decimal", "47 + 38 = 85.5", "85"),
        ("a choice of two", "47 + 38 = 84 or 85", "85"),
        ("a choice of two, the right one first", "47 + 38 = 85 or 84", "85"),
        ("some numbers", "85 84 85", "85"),
        ("the number alone", "85", "85"),
        ("all numbers", " ".join(map(str, range(100))), "99"),
        ("words before", "It is 47 + 38 = 85", "85"),
        ("two statements", "47 + 38 = 84\n47 + 38 = 85", "85"),
        ("two statements, the right one first", "47 + 38 = 85\n47 + 38 = 84", "85"),
        ("no answer", "47 + 38 =", "85"),
    ]
    odd = [  # told apart later: a usual mistake has its name, whether or not it stumbles here
        ("085, as a number equal to 85", "47 + 38 = 085", "85"),
        ("a statement on two lines", "47 + 38 =\n85", "85"),
        ("an empty reply", "", "85"),
        (f"a statement, {LONG:,} blanks and a word", f"47 + 38 = 85{' ' * LONG}or", "85"),
        (f"a number of {LONG:,} digits", f"47 + 38 = {'85' * (LONG // 2)}", "85"),
    ]
    plain, later = ([(name, ([_turns(text)], [truth])) for name, text, truth in some] for some in (texts, odd))
    plain.append(("all of them together", ([_turns(text) for _, text, _ in texts], [truth for *_, truth in texts])))

    def statement(**other) -> Callable:
        return _reward(lambda text, truth: _is_statement(text, truth, **other))

    def one_for_all(completions, answer, **columns) -> list[float]:
        return [float(all(_reward(_is_statement)(completions, answer)))]

    usual = {
        "takes the last number": _reward(lambda text, truth: _numbers(text)[-1:] == [int(truth)]),
        "takes any number": _reward(lambda text, truth: int(truth) in _numbers(text)),
        "looks for the digits anywhere in the reply": _reward(lambda text, truth: truth in text),
        "asks only how the reply ends": _reward(lambda text, truth: text.strip(". ").endswith(truth)),
        "pays for the form, whatever the number": _reward(
            lambda text, truth: bool(re.fullmatch(_STATEMENT, text.strip()))
        ),
        "lets something follow (match, not fullmatch)": statement(find=re.match),
        "finds the statement anywhere (search, not fullmatch)": statement(find=re.search),
        "lets words come before": statement(pattern=rf".*?{_STATEMENT}"),
        "lets other lines follow": statement(pattern=rf"(?m:{_STATEMENT}$)", find=re.match),
        "reads the last line only": _reward(lambda text, truth: _is_statement(text.split("\n")[-1], truth)),
        "lets the statement run over two lines": statement(pattern=_STATEMENT.replace(" *", r"\s*")),
        "compares texts, not numbers": _reward(
            lambda text, truth: [truth] == [found[1] for found in [re.fullmatch(_STATEMENT, text.strip())] if found]
        ),
        "forgets the full stop": statement(pattern=_STATEMENT.removesuffix(r"\.?")),
        "forgets the blanks around": _reward(lambda text, truth: text == text.strip() and _is_statement(text, truth)),
        "wants the blanks beside + and =": statement(pattern=_STATEMENT.replace(" *", " ")),
        "gives one score for the whole batch": one_for_all,
    }

    def call(function, completions, answer):
        start = time.thread_time()
        scores = function(completions=completions, answer=answer, prompts=[[]] * len(answer), trainer_state=None)
        is_slow = time.thread_time() - start > LIMIT_S
        return f"an answer after more than {LIMIT_S} s: twice the text must cost twice the time" if is_slow else scores

    how = {"right": _reward(_is_statement), "usual": usual, "call": call}
    is_right, sentence = judge(your_reward, plain, **how)
    return judge(your_reward, plain + later, **how) if is_right else (is_right, sentence)


def _turns(text: str) -> list[dict]:
    return [{"role": "assistant", "content": text}]


def kept(runs: Sequence[dict], *, gain: float = 0.25) -> str | None:
    """The run that moved the policy least on the questions, of those whose sampled accuracy rose by `gain` or more.

    Args:
        runs: of `lab.recorded("laptop")`.
    Returns: its name; None if no run gained as much.
    """
    return _nearest(runs, lambda run: _gain(run) >= gain)


def _gain(run: dict, how: str = "sampled") -> float:
    return run["after"][how] - run["before"][how]


def _nearest(
    runs: Sequence[dict], is_good: Callable[[dict], bool], *, key: str = "kl_questions", when: int = 1
) -> str | None:
    good = [run for run in runs if is_good(run)]
    return min(good, key=lambda run: run["general"][when][key])["name"] if good else None


@exercise
def check_kept(your_run: Callable) -> tuple[bool, str]:
    """`your_run(runs)` against `kept`: made-up runs, then those of the record, where there is one."""
    cases = [(name, ([_run(*pair) for pair in runs.items()],)) for (_, name), runs in RUNS.items()]

    def good(run: dict) -> bool:
        return _gain(run) >= 0.25

    usual = {
        "takes the nearest of all, though it learned nothing": lambda runs: _nearest(runs, lambda run: True),
        "takes the one that gained most, however far it went": lambda runs: max(runs, key=_gain)["name"],
        "takes the one with the fewest nats for a point": lambda runs: min(
            filter(good, runs), key=lambda run: run["general"][1]["kl_questions"] / _gain(run)
        )["name"],
        "reads the greedy accuracy": lambda runs: _nearest(runs, lambda run: _gain(run, "greedy") >= 0.25),
        "reads the KL before training, where all are alike": lambda runs: _nearest(runs, good, when=0),
        "reads the KL on the task's own prompts": lambda runs: _nearest(runs, good, key="kl"),
        "compares the perplexity": lambda runs: _nearest(runs, good, key="perplexity"),
        "asks for 25 % at the end, whatever it was before": lambda runs: _nearest(
            runs, lambda run: run["after"]["sampled"] >= 0.25
        ),
        "takes 25 points for a quarter more than before": lambda runs: _nearest(
            runs, lambda run: run["after"]["sampled"] >= 1.25 * run["before"]["sampled"]
        ),
        "wants more than 25 points": lambda runs: _nearest(runs, lambda run: _gain(run) > 0.25),
    }
    is_right, sentence = judge(your_run, cases, right=kept, usual=usual)
    recorded = lab.recorded("laptop") if is_right else []
    if (name := kept(recorded)) is None:
        return is_right, sentence
    is_right, told = judge(your_run, [("the record", (recorded,))], right=kept)
    return is_right, f"{sentence} So does the record: its run to keep is {name!r}." if is_right else told


def _run(name: str, numbers: tuple) -> dict:
    """A run as the record holds it, of the numbers of `RUNS`."""
    sampled, after_sampled, greedy, after_greedy, kl_questions, kl, perplexity = numbers
    start = {"questions": 0.9, "perplexity": 20.0, "kl": 0.0, "kl_questions": 0.0}
    end = {"questions": 0.9, "perplexity": perplexity, "kl": kl, "kl_questions": kl_questions}
    return {
        **{"name": name, "seed": 0, "changes": {}, "rank": 16, "minutes": 10.0, "general": [start, end]},
        "before": {"sampled": sampled, "greedy": greedy, "format": 0.5},
        "after": {"sampled": after_sampled, "greedy": after_greedy, "format": 1.0},
    }
