"""A task of reasoning-gym → its verifier as a reward: the answer that a completion gives → a score in [0, 1].

What a completion answers (`answer_in`):

| completion              | true answer     | the answer that the verifier sees                          |
|-------------------------|-----------------|------------------------------------------------------------|
| in the exact layout     | (as below)      | read, as below, from what stands between the solution tags |
| any other               | a number        | the last number in its last 256 characters, however spelt  |
| any other               | text of k lines | its last k lines that are not blank                        |

Then the verifier scores it, as it is: some give credit for a part of the way; number_sorting forgives every number a
difference of 1. Four rules stand before it, for a completion is a stranger's text. An answer scores 0 without being
looked at if it is

1. longer than `ANSWER_LIMIT` characters and than four times the true answer;
2. nan or inf, or a number with an exponent of three digits: some verifiers take NaN for right (complex_arithmetic,
   number_sorting), and what reads fractions would write 1e999999999 out;
3. a wrong number of the other sign than the true one, which gsm_symbolic does not see, or one in which the true one
   stands, for many verifiers pay for that: 1519 would earn three quarters where 151 is true;
4. in countdown and puzzle24, whose verifiers evaluate it, more than a hundred digits, blanks, brackets and + - * /.

Tasks whose verifier would evaluate more than that, or cannot tell right from wrong, are refused (`REFUSED`). A verifier
that raises has scored 0. All this was read in reasoning-gym 0.1.25, so no other version is asked.

A row's column `entry` says which problem it is, not what is in it: task, options, seed, number. The library makes the
problem anew from that, so that no text of a data set is evaluated either (bitwise_arithmetic and number_sorting would).

See: Stojanovski et al. 2025, *Reasoning Gym*, arXiv:2505.24760.
"""

import dataclasses
import difflib
import functools
import hashlib
import importlib.metadata
import json
import random
import re
from collections.abc import Callable, Mapping
from typing import Any

from grpo_nb.rewards import answers, parsing, prose

VERSION = "0.1.25"
AT_ONCE = 500  # problems that share a seed; some tasks make all of them when they begin
ANSWER_LIMIT = 256
ARITHMETIC = ("countdown", "puzzle24")
REFUSED = {
    **dict.fromkeys(("binary_matrix", "n_queens", "spiral_matrix", "string_insertion"), "its verifier evaluates text"),
    **dict.fromkeys(
        ("intermediate_integration", "polynomial_multiplication", "simple_integration"),
        "its verifier evaluates text with sympy",
    ),
    **dict.fromkeys(
        ("boxnet", "graph_color", "propositional_logic", "rush_hour"), "its problems come without a true answer"
    ),
    "codeio": "it executes code to make a problem",
    "coin_flip": "its verifier takes 0 for 0.25, as for every number that begins so",
    "composite": "it puts other tasks together",
    "futoshiki": "its answers say something by their blanks",
    "game_of_life_halting": "its verifier takes every text for right",
    "rubiks_cube": "its verifier turns the cube as often as the text says, a billion times too",
}
_EXPRESSION = re.compile(r"(?!.*(?:\*\*|//))[-0-9+*/() ]{1,100}")
_ODD = re.compile(r"(?<![a-z])(?:nan|inf(?:inity)?)[ij]?(?![a-z])|e[-+]?[\d_]{3}", re.IGNORECASE)
_PLAIN = re.compile(r"[-+]?[0-9.][0-9.,/]*(?:[eE][-+]?[0-9]+)?")


def verified(completions: list, entry: list[str], **kwargs) -> list[float]:
    """Score of the answer by the verifier of the task that the row is from; range [0, 1].

    Args:
        completions: strings or TRL's messages.
        entry: the column that `data.load_task` writes: which problem of which task.
        kwargs: the data set's other columns, which TRL passes too; not read.
    Raises: ValueError if an entry is none, or reasoning-gym makes another problem of it; ImportError without it.
    """
    return [
        score(answer_in(parsing.text(completion), problem(one)["answer"]), one)
        for completion, one in zip(completions, entry, strict=True)
    ]


def answer_alone(completions: list, answer: list[str], **kwargs) -> list[float]:
    """1 for a reply that is an answer and nothing else, right or wrong; 0 for any other.

    | true answer     | the reply must be                                        |
    |-----------------|----------------------------------------------------------|
    | a number        | one number                                               |
    | text            | as many lines with as many words, not counting blank ones |

    Args:
        completions: strings or TRL's messages.
        answer: the data set's column of true answers; only its kind and length count.
        kwargs: the data set's other columns, which TRL passes too; not read.
    Raises: ValueError if the lengths differ, TypeError if an answer is not text.

    >>> answer_alone(["85", " -3. ", "47 + 38 = 85", "It is 85."], ["85"] * 4)
    [1.0, 1.0, 0.0, 0.0]
    >>> answer_alone(["bat", "a bat"], ["tab"] * 2)
    [1.0, 0.0]
    """
    answers.require_answers(completions, answer)
    texts = [parsing.text(completion) for completion in completions]
    return [float(_is_alone(text, truth)) for text, truth in zip(texts, answer, strict=True)]


def is_right(completion: str, row: Mapping) -> bool:
    """Whether the verifier of a row's task gives a completion the whole score: what an evaluation counts.

    Args:
        row: with "entry".
    """
    return verified([completion], [row["entry"]])[0] >= 1


def answer_in(text: str, truth: str) -> str:
    """The answer that a completion gives to a question with this true answer, by the table above; "" for none.

    >>> answer_in("47 + 38 = **1,085**.", "85"), answer_in("It is\\n  bat \\n", "tab"), answer_in("No idea", "85")
    ('1085', 'bat', '')
    >>> answer_in("sun, or<end_working_out><SOLUTION> nus </SOLUTION>", "nus")
    'nus'
    """
    inside = parsing.solution(text)
    text = (text if inside is None else inside).strip()
    true = parsing.number(truth)
    if true is None:
        return "\n".join(_lines(text)[-len(_lines(truth)) :])
    if len(text) > parsing.PROSE_LIMIT:
        text = re.sub(r"\A\S+", "", text[-parsing.PROSE_LIMIT :])  # which may be the rest of a number
    words = prose.number_words(text)
    guess = parsing.number(words[-1]) if words else None
    if guess is None or parsing.same_number(guess, true):
        return "" if guess is None else truth
    match = _PLAIN.search(parsing.undressed(words[-1]).replace(" ", ""))
    return match[0].replace(",", "") if match else ""


def score(answer: str, entry: str) -> float:
    """The score that the verifier of a problem's task gives an answer, in [0, 1]; 0 if one of the four rules says so.

    Raises: as `problem`.
    """
    about = problem(entry)
    named = json.loads(entry)
    if not _may_be_seen(answer, about["answer"], named["gym"]):
        return 0.0
    task = _task(named["gym"], json.dumps(named["options"]), named["seed"])
    try:
        found = float(task.score_answer(answer, about))
    except Exception:  # prime_factorization raises on every word, calendar_arithmetic on large numbers
        return 0.0
    return min(max(found, 0.0), 1.0) if found == found else 0.0


def problem(entry: str) -> dict:
    """The problem that a row's `entry` names: reasoning-gym's "question", "answer" (text) and "metadata".

    Raises: ValueError if it is no entry, or reasoning-gym makes another problem of it; ImportError without it.
    """
    try:
        named = json.loads(entry)
        where = named["gym"], json.dumps(named["options"]), named["seed"], named["number"]
        digest = named["digest"]
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"an entry must name a problem of reasoning-gym, as data.load_task writes it (got {entry!r:.60}). "
            "Take the rows from there, and hand the column on unchanged."
        ) from error
    made = _made(*where)
    if _digest(made) != digest:
        raise ValueError(
            f"reasoning-gym must make the same problem again from an entry (got another for {entry:.200}). "
            "Load the rows again in this process, or set PYTHONHASHSEED to the same number in both."
        )
    return made


def entry_of(gym: str, options: Mapping, seed: int, number: int) -> str:
    """The `entry` of one problem of a task: JSON that says how to make it again, and a digest of what was made.

    Args:
        gym: name of the task.
        options: of its generator.
        seed: of `AT_ONCE` problems.
        number: which of them, from 0.
    Raises: ValueError for an unknown task or option; ImportError without reasoning-gym.
    """
    try:
        written = json.dumps(options)
    except TypeError:
        written = "null"
    if not isinstance(json.loads(written), dict):
        raise ValueError(
            f"options must be a dict of numbers, texts and lists (got {options!r:.80}). Write {{}} for none."
        )
    made = _made(str(gym), written, seed, number)
    named = {"gym": gym, "options": options, "seed": seed, "number": number, "digest": _digest(made)}
    return json.dumps(named)


def _digest(made: dict) -> str:
    return hashlib.sha256(f"{made['question']}\0{made['answer']}".encode()).hexdigest()[:16]


@functools.lru_cache(maxsize=4096)
def _made(gym: str, options: str, seed: int, number: int) -> dict:
    made = _repeatably(lambda: _task(gym, options, seed)[number], number)
    return {**made, "answer": made["answer"] if isinstance(made["answer"], str) else ""}


@functools.lru_cache(maxsize=64)
def _task(gym: str, options: str, seed: int):
    """A task of the library: its generator, with its verifier."""
    known, given = _known(), json.loads(options)
    if gym not in known or gym in REFUSED:
        near = difflib.get_close_matches(gym, set(known) - set(REFUSED), n=3) or ["chain_sum", "gsm_symbolic"]
        why = f"{gym}: {REFUSED[gym]}" if gym in REFUSED else repr(gym)
        raise ValueError(
            f"gym must be a task of reasoning-gym with a verifier that can be trusted (got {why}). "
            f"Try {', '.join(near)}."
        )
    task, config = known[gym]
    takes = {f.name: f.default for f in dataclasses.fields(config) if f.name not in ("seed", "size")}
    try:
        if unknown := sorted(given.keys() - takes):
            raise TypeError(f"it has no {', '.join(unknown)}")
        return _repeatably(lambda: task(config(**given, seed=seed, size=AT_ONCE)), seed)
    except Exception as error:  # the library asserts, raises, or compares what cannot be compared
        near = [name for key in given for name in difflib.get_close_matches(key, takes, n=1) if key not in takes]
        advice = f"Try {', '.join(near)}. " if near else ""
        raise ValueError(
            f"options must be some that {gym} takes (got {given!r:.200}: {' '.join(str(error).split()):.120}). {advice}"
            f"It takes {', '.join(f'{name}={default!r:.40}' for name, default in takes.items()) or 'none'}."
        ) from error


def _known() -> dict[str, tuple]:
    """The library's tasks by name."""
    try:
        found = importlib.metadata.version("reasoning-gym")
        known = importlib.import_module("reasoning_gym.factory").DATASETS
    except ImportError as error:
        missing = f"; {error.name} is missing" if error.name not in (None, "reasoning-gym", "reasoning_gym") else ""
        raise ImportError(
            f"the task gym needs reasoning-gym {VERSION} (not installed{missing}). "
            f"Run pip install reasoning-gym=={VERSION}."
        ) from error
    if found != VERSION:
        raise ImportError(
            f"the task gym needs reasoning-gym {VERSION}, whose verifiers were read (got {found}). "
            f"Run pip install reasoning-gym=={VERSION}."
        )
    return known


def _repeatably(make: Callable[[], Any], seed: int) -> Any:
    """What `make` returns; two tasks draw from the global generators, which begin at `seed` and are given back."""
    import numpy

    plain, arrays = random.getstate(), numpy.random.get_state()
    try:
        random.seed(seed)
        numpy.random.seed(seed)
        return make()
    finally:
        random.setstate(plain)
        numpy.random.set_state(arrays)


def _may_be_seen(answer: str, truth: str, gym: str) -> bool:
    """Whether none of the four rules in the module's docstring keeps an answer from the verifier."""
    if not answer or answer == truth:
        return bool(answer)
    if len(answer) > max(ANSWER_LIMIT, 4 * len(truth)) or _ODD.search(answer):
        return False
    if gym in ARITHMETIC and not _EXPRESSION.fullmatch(answer):
        return False
    guess, true = parsing.number(answer), parsing.number(truth)
    if guess is None or true is None or parsing.same_number(guess, true):
        return True
    return guess * true >= 0 and not (true.denominator == 1 and truth in answer)


def _lines(text: str) -> list[str]:
    """The lines of a text that are not blank, without the blanks around them."""
    return [line.strip() for line in text.splitlines() if line.strip()]


def _is_alone(text: str, truth: str) -> bool:
    if parsing.number(truth) is not None:
        return parsing.number(text) is not None
    return [len(line.split()) for line in _lines(text)] == [len(line.split()) for line in _lines(truth)]
