"""What learners write about mixed groups, a strict reward and a run to keep."""

import json
import math
import re
from fractions import Fraction

import numpy as np
import pytest
from check_answers import Answers

from grpo_nb import checks
from grpo_nb.checks import real_models

STATEMENT = re.compile(r" *\d{1,9} *\+ *\d{1,9} *= *(\d{1,9})\.? *")
LOOSE = re.compile(r"\d+\s*\+\s*\d+\s*=\s*(\d+)")
EACH_LINE = re.compile(STATEMENT.pattern + "$", re.MULTILINE)


def first(is_enough, sizes=range(2, 65)):
    for G in sizes:
        if is_enough(G):
            return G
    return None


def by_fractions(p):
    p = Fraction(str(p))
    return first(lambda G: (1 - p) ** G + p**G < Fraction(1, 2))


def by_numpy(p):
    G = np.arange(2, 65)
    found = np.flatnonzero(1 - (1 - p) ** G - p**G > 0.5)
    return G[found[0]] if found.size else None


def by_adding(p):
    """By the chances of 1 … G − 1 right replies."""
    return first(lambda G: sum(math.comb(G, k) * p**k * (1 - p) ** (G - k) for k in range(1, G)) > 0.5)


def rewarding(is_right):
    def reward(completions, answer, **columns):
        return [1.0 if is_right(turns[0]["content"], a) else 0.0 for turns, a in zip(completions, answer, strict=True)]

    return reward


def by_regex(text, truth, *, find=STATEMENT.fullmatch):
    found = find(text)
    return found is not None and int(found[1]) == int(truth)


def by_splitting(text, truth):
    left, _, right = text.strip().removesuffix(".").partition("=")
    parts = [part.strip(" ") for part in (*left.split("+"), right)]
    return len(parts) == 3 and all(re.fullmatch("[0-9]{1,9}", part) for part in parts) and int(parts[2]) == int(truth)


def by_lookahead(text, truth):
    return bool(re.match(rf"\A[ ]*[0-9]+[ ]*[+][ ]*[0-9]+[ ]*=[ ]*0*{truth}[.]?[ ]*\Z", text))


def numbers(text):
    return re.findall(r"\d+", text)


def slow(text, truth):
    return by_regex(text, truth, find=re.compile(STATEMENT.pattern.replace(r"\.? *", r" *\.? *")).fullmatch)


def gain(run, how="sampled"):
    return run["after"][how] - run["before"][how]


def far(run, key="kl_questions"):
    return run["general"][1][key]


def nearest(runs, is_good=lambda run: gain(run) >= 0.25, far=far):
    return min(filter(is_good, runs), key=far)["name"]


def by_loop(runs):
    best = None
    for run in runs:
        if gain(run) >= 0.25 and (best is None or far(run) < far(best)):
            best = run
    return best["name"]


ANSWERS = [
    Answers(
        check="check_mixed",
        right=[by_fractions, by_numpy, by_adding],
        wrong={
            "no p ** G": (lambda p: first(lambda G: (1 - p) ** G < 0.5), "asks for a right reply only."),
            "from 1, no p ** G": (lambda p: first(lambda G: (1 - p) ** G < 0.5, range(1, 65)), "a group of one"),
            "no (1 - p) ** G": (lambda p: first(lambda G: p**G < 0.5), "asks for a wrong reply only"),
            "one alone": (lambda p: first(lambda G: G * p * (1 - p) ** (G - 1) > 0.5), "exactly one right reply"),
            ">=": (lambda p: first(lambda G: (1 - p) ** G + p**G <= 0.5), "half of the groups for more than half"),
            "p * G": (lambda p: first(lambda G: p * G > 0.5), "adds the chances up"),
            "a product": (lambda p: first(lambda G: (1 - (1 - p) ** G) * (1 - p**G) > 0.5), "did not bear on"),
            "no 1 -": (lambda p: first(lambda G: (1 - p) ** G + p**G > 0.5), "groups that are all alike"),
            "one too few": (lambda p: by_adding(p) and by_adding(p) - 1, "largest group that is too small"),
            "no end": (lambda p: first(lambda G: (1 - p) ** G + p**G < 0.5, range(2, 9999)), "goes on beyond 64"),
            "64 for none": (lambda p: by_adding(p) or 64, "gives 64 where 64 is too few"),
            "by a logarithm": (
                lambda p: math.log(0.5) / math.log(1 - p),
                "three in ten are right, p = 0.3: must give 3",
            ),
        },
        almost=(lambda p: first(lambda G: (1 - p) ** G + p**G < 0.5, range(2, 64)), "64 is just enough"),
    ),
    Answers(
        check="check_one_answer",
        right=[rewarding(by_regex), rewarding(by_splitting), rewarding(by_lookahead)],
        wrong={
            "the last number": (rewarding(lambda text, truth: int(numbers(text)[-1]) == int(truth)), "the last number"),
            "the last, as text": (rewarding(lambda text, truth: numbers(text)[-1] == truth), "the last number"),
            "any number": (rewarding(lambda text, truth: truth in numbers(text)), "any number"),
            "in": (rewarding(lambda text, truth: truth in text), "digits anywhere in the reply"),
            "endswith": (rewarding(lambda text, truth: text.rstrip(" .").endswith(truth)), "how the reply ends"),
            "the form": (rewarding(lambda text, truth: STATEMENT.fullmatch(text)), "whatever the number"),
            "match": (
                rewarding(lambda text, truth: by_regex(text, truth, find=STATEMENT.match)),
                "lets something follow",
            ),
            "search": (rewarding(lambda text, truth: by_regex(text, truth, find=STATEMENT.search)), "anywhere (search"),
            "search, \\d+": (
                rewarding(lambda text, truth: by_regex(text, truth, find=LOOSE.search)),
                "anywhere (search",
            ),
            "words first": (rewarding(lambda text, a: by_regex(text.split("is")[-1], a)), "lets words come before"),
            "$ in every line": (
                rewarding(lambda text, a: by_regex(text, a, find=EACH_LINE.match)),
                "other lines follow",
            ),
            "the last line": (rewarding(lambda text, a: by_regex(text.split("\n")[-1], a)), "the last line only"),
            "\\s": (rewarding(lambda text, truth: by_regex(re.sub(r"\s", " ", text), truth)), "over two lines"),
            "as text": (rewarding(lambda text, a: a == (STATEMENT.fullmatch(text) or [0, 0])[1]), "texts, not numbers"),
            "no full stop": (rewarding(lambda text, a: "." not in text and by_regex(text, a)), "forgets the full stop"),
            "no strip": (rewarding(lambda text, a: text[:1] != " " and by_regex(text, a)), "forgets the blanks around"),
            "only one blank": (
                rewarding(lambda text, a: " + " in text and by_regex(text, a)),
                "wants the blanks beside",
            ),
            "one score": (lambda **given: rewarding(by_regex)(**given)[:1], "all of them together"),
            "slow": (rewarding(slow), "twice the text must cost twice the time"),
        },
        almost=(rewarding(lambda text, truth: by_regex(re.sub(r"\.\d", "", text), truth)), "a decimal"),
    ),
    Answers(
        check="check_kept",
        right=[nearest, by_loop, lambda runs: min((far(r), r["name"]) for r in runs if gain(r) > 0.2499)[1]],
        wrong={
            "the nearest": (lambda runs: min(runs, key=far)["name"], "though it learned nothing"),
            "the most": (lambda runs: max(runs, key=gain)["name"], "however far it went"),
            "greedy": (lambda runs: nearest(runs, lambda run: gain(run, "greedy") >= 0.25), "reads the greedy"),
            "before": (lambda runs: nearest(runs, far=lambda run: run["general"][0]["kl"]), "KL before training"),
            "kl": (lambda runs: nearest(runs, far=lambda run: far(run, "kl")), "the task's own prompts"),
            "perplexity": (lambda runs: nearest(runs, far=lambda run: far(run, "perplexity")), "the perplexity"),
            "no difference": (
                lambda runs: nearest(runs, lambda run: run["after"]["sampled"] >= 0.25),
                "25 % at the end",
            ),
            ">": (lambda runs: nearest(runs, lambda run: gain(run) > 0.25), "wants more than 25 points"),
            "a ratio": (
                lambda runs: nearest(runs, lambda run: run["after"]["sampled"] >= 1.25 * run["before"]["sampled"]),
                "a quarter more than before",
            ),
            "by the gain": (
                lambda runs: nearest(runs, far=lambda run: far(run) / gain(run)),
                "fewest nats for a point",
            ),
            "its KL": (lambda runs: min(map(far, runs)), "must give 'near' (yours: 0.001"),
        },
        almost=(lambda runs: nearest(runs, lambda run: gain(run) >= 0.2), "one gains exactly 25 points"),
    ),
]


def test_each_list_of_runs_has_the_one_it_names():
    for (wanted, _), runs in real_models.RUNS.items():
        assert real_models.kept([real_models._run(*pair) for pair in runs.items()]) == wanted
    assert real_models.kept([]) is None


@pytest.mark.parametrize(
    ("after", "yours", "verdict", "said"),
    [
        (0.5, nearest, True, "all 5 cases fit. So does the record: its run to keep is 'recorded'."),
        (
            0.5,
            lambda runs: nearest(runs).replace("recorded", "?"),
            False,
            "the record: must give 'recorded' (yours: '?').",
        ),
        (0.1, nearest, True, "all 5 cases fit."),  # no run of this record gained as much
    ],
)
def test_the_record_is_read_where_there_is_one(tmp_path, monkeypatch, capsys, after, yours, verdict, said):
    run = real_models._run("recorded", (0.02, after, 0.0, 0.5, 0.04, 0.05, 20.0))
    run["general"][0] |= {"kl": None, "kl_questions": None}  # as it is measured of a policy without an adapter
    (tmp_path / "laptop.json").write_text(json.dumps({"runs": [run]}), encoding="utf8")
    monkeypatch.setenv("GRPO_NB_RECORDS", str(tmp_path))
    assert checks.check_kept(yours) is verdict
    assert capsys.readouterr().out == f"check_kept: {said}\n"
