"""Reasoning-gym's verifiers as a reward: what a completion answers, and that no text of a stranger is evaluated."""

import importlib.metadata
import importlib.util
import json
import re
import sys
from pathlib import Path

import pytest

from grpo_nb import rewards, templates
from grpo_nb.rewards import verifiers

LIBRARY = importlib.util.find_spec("reasoning_gym")
with_library = pytest.mark.skipif(LIBRARY is None, reason=f"needs reasoning-gym=={verifiers.VERSION}")
LONG = "1 " * 200


def block(inside: str) -> str:
    return f"…{templates.REASONING_END}{templates.SOLUTION_START}{inside}{templates.SOLUTION_END}"


def entry(gym: str, number: int = 0, **options) -> str:
    return verifiers.entry_of(gym, options, 7, number)


# --- Golden


@pytest.mark.parametrize(
    ("text", "truth", "answer"),
    [
        ("85", "85", "85"),
        ("The answer is 85.", "85", "85"),
        ("47 + 38 = **1,085**", "85", "1085"),
        ("47 + 38 = $85.00", "85", "85"),  # of the same value: as the truth spells it
        ("First 7, then - 5.", "85", "-5"),
        (r"\boxed{\frac{2}{3}}", "1", "2/3"),
        (LONG + "so 85", "1", "85"),
        ("x" * 300 + "\n85", "1", "85"),
        ("85" + " " * 400, "1", "85"),
        ("9" * 300, "85", ""),
        ("I do not know.", "85", ""),
        ("It is x + 1", "85", ""),
        ("", "85", ""),
        (block(" 85 "), "85", "85"),
        (block("85") + " or 86", "85", "86"),  # no exact layout any more: the last number counts
        ("7" + block("about 85 apples"), "85", "85"),
        ("Backwards it is\n  nus \n\n", "sun", "nus"),
        ("no" + block("nus"), "sun", "nus"),
        ("Here:\n1 2\n3 4", "0 0\n0 0", "1 2\n3 4"),
        ("", "sun", ""),
    ],
)
def test_the_answer_in_a_completion(text, truth, answer):
    assert verifiers.answer_in(text, truth) == answer


@pytest.mark.parametrize(
    ("text", "truth", "score"),
    [
        ("85", "7", 1),
        ("85.", "7", 1),
        ("-3/4", "7", 1),
        ("85!", "7", 0),
        ("= 85", "7", 0),
        ("47 + 38", "7", 0),
        ("", "7", 0),
    ]
    + [("nus", "sun", 1), ("a nus", "sun", 0), ("b\n\na", "a\nb", 1), ("b a", "a\nb", 0), ("", "sun", 0)],
)
def test_an_answer_alone(text, truth, score):
    assert rewards.answer_alone([text], [truth]) == [score]
    assert rewards.answer_alone([[{"role": "assistant", "content": text}]], [truth]) == [score]


@with_library
def test_scores_by_hand():
    word, total = entry("spell_backward", min_word_len=4, max_word_len=4), entry("chain_sum", max_terms=2)
    truth = verifiers.problem(total)["answer"]
    back = verifiers.problem(word)["answer"]
    assert rewards.verified([truth, f"It is {truth}.", block(truth), f"{truth}9", "?"], [total] * 5) == [1, 1, 1, 0, 0]
    assert rewards.verified([back, back[:3] + "?"], [word] * 2) == [1.0, 0.75]  # a quarter for each letter in its place
    assert rewards.is_right(f"Sure: {truth}", {"entry": total}) and not rewards.is_right(back[:3], {"entry": word})


# --- Law

TASKS = """chain_sum basic_arithmetic letter_counting gsm_symbolic number_sorting spell_backward countdown puzzle24
complex_arithmetic decimal_arithmetic decimal_chain_sum polynomial_equations bitwise_arithmetic prime_factorization
calendar_arithmetic time_intervals number_format fraction_simplification power_function advanced_geometry""".split()
HOSTILE = [
    *["", "?", "nan", "-NaN", "nan+nani", "nanj", "nani", "inf", "-Infinity", "1e999999999", "1e9_999_999", "1e٩٩٩٩٩"],
    *["9" * 5000, "9" * 200, "1/0", "2**9", "(" * 100, "-" * 99 + "1", "/".join("9" * 50), "[" * 250, "{" * 100],
    *[
        "[NaN, NaN, NaN]",
        "99999999!",
        "factorial(99999999)",
        "[0]*99999999",
        "lambda: 0",
        "1(2)",
        "\x00",
        "٣",
        "\n" * 200,
    ],
    *[
        "null",
        "True",
        "F+999999999",
        "R999999999",
        "×".join("9" * 100),
        "999999 days, 99:99:99",
        "0x" + "f" * 200,
        "\ud800",
    ],
]


@with_library
def test_only_plain_arithmetic_is_evaluated(monkeypatch):
    sums = [f"{'(' * 40}1{')' * 40}", "1+2", "8 / (3 - 8/3)", "()"]
    code = [
        "x",
        "().__class__",
        "__import__('os')",
        "9**9**9",
        "99999999!",
        "2**9",
        "2* *9",
        "9//2",
        "9!",
        "1e5",
        "1_0",
        "1.5",
        "٣+1",
        "1\n+1",
        "1;2",
    ]
    for gym in verifiers.ARITHMETIC:
        about, module = entry(gym), sys.modules[type(verifiers._task(gym, "{}", 7)).__module__]
        verifiers.score(verifiers.problem(about)["answer"], about)  # what is only made now is not an answer
        seen: list[str] = []
        monkeypatch.setattr(module, "parse_expr", lambda text, seen=seen: seen.append(text) or 24)
        for text in [*sums, *code, "1+" * 50 + "1", *HOSTILE]:
            verifiers.score(text, about)
        assert seen[: len(sums) + 1] == [*sums, "2* *9"]  # which is no power, but an error
        assert all(len(text) <= 100 and re.fullmatch(r"[-0-9+*/() ]+", text) for text in seen)
        assert not any("**" in text or "//" in text for text in seen)


@with_library
@pytest.mark.parametrize("gym", TASKS)
def test_the_truth_earns_all_and_no_hostile_text_does(gym):
    about = entry(gym)
    truth = verifiers.problem(about)["answer"]
    assert verifiers.score(truth, about) == 1.0
    for text in HOSTILE:
        for score in [verifiers.score(text, about), *rewards.verified([text, block(text)], [about] * 2)]:
            assert type(score) is float and 0 <= score < 1, (gym, text)


@with_library
def test_the_rules_are_needed_and_keep_what_they_are_about_from_the_verifier():
    """The library alone pays for each of these; here they earn nothing."""
    for gym, wrong in (("complex_arithmetic", "nan+nani"), ("complex_arithmetic", "nanj"), ("gsm_symbolic", "-{}")):
        # NaN is not greater than 1; the minus stands before the word that is looked for
        about = entry(gym)
        problem = verifiers.problem(about)
        wrong = wrong.format(problem["answer"])
        assert verifiers._task(gym, "{}", 7).score_answer(wrong, problem) == 1.0
        assert verifiers.score(wrong, about) == 0.0
    about = entry("number_sorting")
    wrong = json.dumps([float("nan")] * len(verifiers.problem(about)["metadata"]["sorted_numbers"]))
    assert verifiers._task("number_sorting", "{}", 7).score_answer(wrong, verifiers.problem(about)) == 1.0
    assert verifiers.score(wrong, about) == 0.0


@with_library
def test_a_long_answer_is_not_looked_at():
    about = entry("spell_backward")
    truth = verifiers.problem(about)["answer"]
    padded = truth.ljust(verifiers.ANSWER_LIMIT, "x")
    assert 0 < verifiers.score(padded, about) < 1 and verifiers.score(padded + "x", about) == 0


@with_library
def test_a_verifier_that_raises_has_scored_nothing():
    about = entry("prime_factorization")
    with pytest.raises(ValueError, match="invalid literal"):
        verifiers._task("prime_factorization", "{}", 7).score_answer("seven", verifiers.problem(about))
    assert rewards.verified(["seven"], [about]) == [0.0]


# Every file of the library that evaluates text. Those that are neither refused nor kept to arithmetic evaluate text of
# their own: an expression that they generated.
OWN_TEXT = {"basic_arithmetic", "bitwise_arithmetic", "gsm_symbolic", "number_sorting", "bf"}
EVALUATING = re.compile(
    r"(?<!re\.)(?<!def )\b(?:eval|exec|compile|parse_expr|literal_eval|sympify|lambdify|Fraction|__import__"
    r"|import_module|system|popen|Popen|check_output|check_call|subprocess\.run|pickle\.loads?)\("
)


@with_library
def test_no_other_verifier_evaluates_anything():
    assert EVALUATING.search("sp.parse_expr(x)") and EVALUATING.search("float(eval(x))")
    assert not EVALUATING.search("re.compile(x); self.evaluate(x); def compile(x)")
    verifiers._task("chain_sum", "{}", 7)
    tasks = sys.modules["reasoning_gym.factory"].DATASETS
    home = Path(LIBRARY.origin).parent
    found = {file for file in home.rglob("*.py") if EVALUATING.search(file.read_text(encoding="utf8"))}
    of_tasks = {name: Path(sys.modules[task.__module__].__file__) for name, (task, _) in tasks.items()}
    known = {*verifiers.REFUSED, *verifiers.ARITHMETIC, *OWN_TEXT}
    assert {name for name, file in of_tasks.items() if file in found} <= known
    helpers = found - set(of_tasks.values())  # modules that a task imports: each lies beside a task that is known
    assert {file.relative_to(home).parts[:-1] for file in helpers} == {
        ("arithmetic", "gsm_symbolic"),
        ("code", "contrib", "bfit"),
        ("code", "contrib", "bfit", "Compiler"),
    }
    assert verifiers.REFUSED.keys() <= tasks.keys() and len(tasks) == 106


# --- Refusal


@with_library
@pytest.mark.parametrize(
    ("gym", "options", "sentence"),
    [
        ("chain_sums", {}, r"a task of reasoning-gym .*\(got 'chain_sums'\)\. Try chain_sum, "),
        (None, {}, r"\(got 'None'\)\. Try "),
        *((gym, {}, rf"\(got {gym}: {re.escape(why)}\)\. Try ") for gym, why in verifiers.REFUSED.items()),
        ("chain_sum", {"min_term": 2}, r"it has no min_term\)\. Try min_terms\. It takes min_terms=2, max_terms=6"),
        ("chain_sum", {"seed": 2}, r"it has no seed\)\. It takes min_terms"),
        ("chain_sum", {"min_terms": 3, "max_terms": 2}, r"max_terms must be >= min_terms\)\. It takes"),
        ("chain_sum", {"min_terms": "two"}, r"options must be some that chain_sum takes .*It takes min_terms=2"),
        ("chain_sum", {"min_terms": {1}}, r"a dict of numbers, texts and lists \(got \{'min_terms': \{1\}\}\)"),
        ("chain_sum", ["min_terms"], r"a dict of numbers, texts and lists \(got \['min_terms'\]\)\. Write \{\}"),
    ],
)
def test_what_is_no_task(gym, options, sentence):
    with pytest.raises(ValueError, match=sentence):
        verifiers.entry_of(gym, options, 7, 0)


@pytest.mark.parametrize("text", ["", "85", "{}", '{"gym": "chain_sum"}', "[]", "null", None, 5, "{" * 9999])
def test_what_is_no_entry(text):
    with pytest.raises(ValueError, match=r"an entry must name a problem of reasoning-gym, .*data\.load_task"):
        rewards.verified(["85"], [text])


@with_library
def test_a_problem_that_is_made_otherwise_now():
    about = {**json.loads(entry("chain_sum")), "digest": "0" * 16}
    with pytest.raises(ValueError, match=r"must make the same problem again .* set PYTHONHASHSEED"):
        rewards.verified(["85"], [json.dumps(about)])


def test_the_library_is_absent_or_another_one(monkeypatch):
    def absent(name):
        raise importlib.metadata.PackageNotFoundError(name)

    monkeypatch.setattr(importlib.metadata, "version", absent)
    with pytest.raises(ImportError, match=r"\(not installed\)\. Run pip install reasoning-gym==0\.1\.25"):
        verifiers.entry_of("chain_sum", {}, 99, 0)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: "0.2.0")
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", type(sys)("reasoning_gym.factory"))
    sys.modules["reasoning_gym.factory"].DATASETS = {}
    with pytest.raises(ImportError, match=r"whose verifiers were read \(got 0\.2\.0\)\. Run pip install"):
        verifiers.entry_of("chain_sum", {}, 99, 0)
    monkeypatch.setattr(importlib.metadata, "version", lambda name: verifiers.VERSION)
    monkeypatch.setitem(sys.modules, "reasoning_gym.factory", None)
    with pytest.raises(ImportError, match=r"\(not installed; reasoning_gym\.factory is missing\)"):
        verifiers.entry_of("chain_sum", {}, 99, 0)
