"""A task of reasoning-gym → rows: generated problems of any difficulty, each with the entry that its verifier reads.

Of its 106 tasks 89 can be named; `verifiers.REFUSED` says why not the others. A language model of 135 M parameters can
almost do these, if the generator's options make them easy:

| task               | asks for                      | easy options                                               |
|--------------------|-------------------------------|------------------------------------------------------------|
| `chain_sum`        | 47 + 38                       | max_terms=2, max_digits=2                                  |
| `basic_arithmetic` | ( 3 * 4 ) - 5                 | max_terms=2, max_digits=1, operators=["+", "-"]            |
| `letter_counting`  | how many l there are in words | min_words=1, max_words=3                                   |
| `gsm_symbolic`     | GSM8K's kind of word problems | difficulty=1.0, the only one that is made so far           |
| `number_sorting`   | numbers in order              | min_numbers=3, max_numbers=3, max_decimals=0, max_value=99 |
| `spell_backward`   | a word, read from its end     | min_word_len=3, max_word_len=4                             |

See: Stojanovski et al. 2025, *Reasoning Gym*, arXiv:2505.24760 (Apache-2.0).
"""

import random
import re
from collections.abc import Iterator, Mapping

from grpo_nb.batchflow import limits
from grpo_nb.data.rows import normal_form
from grpo_nb.rewards import parsing, verifiers

_TERM = re.compile(r"([-+]?) ?(-?[0-9]{1,30})")
_SUM = re.compile(r"-?[0-9]{1,30}(?: [-+] -?[0-9]{1,30})*")


def problems(
    gym: str,
    *,
    num_train: int,
    num_held_out: int,
    options: Mapping | None = None,
    question: str | None = None,
    seed: int = 0,
) -> tuple[list[dict], list[dict]]:
    """Different problems of one task; sums with the same numbers in another order count as the same problem.

    Args:
        gym: name of the task in reasoning-gym.
        num_train, num_held_out: problems to make. The held-out ones come first: more training rows leave them alone.
        options: of the task's generator, its difficulty.
        question: how to ask, with the problem's own {question} and what its metadata has: "What is {expression}?";
            None asks as the task does.
        seed: of the problems. Tasks that walk through sets (word_ladder, knight_swap, list_functions,
            isomorphic_strings, ransom_note) need the same PYTHONHASHSEED too.
    Returns: (train, held_out), rows {"problem", "answer", "working", "entry"}; `working` is the task's own, or for a
    sum what it comes to term by term, else "".
    Raises: ValueError for an unknown task or option, or if there are too few problems; ImportError without
    reasoning-gym.
    """
    limits.check_whole(num_train=num_train)
    limits.check_whole(num_held_out=num_held_out, least=0)
    rows: dict[str, dict] = {}
    unfair, in_vain = 0, 0
    entries = _entries(gym, options or {}, seed)
    while len(rows) < num_train + num_held_out:
        entry = next(entries)
        made = verifiers.problem(entry)
        if (key := _key(made)) not in rows and _is_fair(entry, made["answer"]):
            rows[key], in_vain = _row(made, entry, question), 0
            continue
        unfair, in_vain = unfair + (key not in rows), in_vain + 1
        if in_vain > 10 * len(rows) + 100:  # the last one of n that are equally likely hides so long once in e¹⁰ times
            others = f", and {unfair} whose true answer its verifier does not tell from others" if unfair else ""
            raise ValueError(
                f"{gym} must give {num_train} + {num_held_out} different problems (got {len(rows)}{others}). "
                f"{'Take another task' if not rows else 'Ask for fewer, or widen the options'}."
            )
    found = list(rows.values())
    return found[num_held_out:], found[:num_held_out]


def _entries(gym: str, options: Mapping, seed: int) -> Iterator[str]:
    """The entries of ever more problems of a task."""
    draws = random.Random(seed)
    while True:
        part = draws.getrandbits(31)
        for number in range(verifiers.AT_ONCE):
            yield verifiers.entry_of(gym, options, part, number)


def _key(made: Mapping) -> str:
    """What makes a problem another one: its numbers, for a sum; its expression, where it has one; else its text."""
    expression = made["metadata"].get("expression")
    if not isinstance(expression, str):
        return normal_form(made["question"])
    terms = _terms(expression)
    return repr(sorted(terms)) if terms else normal_form(expression)


def _terms(expression: str) -> list[int]:
    """The signed numbers of a sum; none of any other expression.

    >>> _terms("57 + 87 - 70"), _terms("-4 - -7"), _terms("2 * 3")
    ([57, 87, -70], [-4, 7], [])
    """
    if not _SUM.fullmatch(expression):
        return []
    return [int(digits) * (-1 if sign == "-" else 1) for sign, digits in _TERM.findall(expression)]


def _is_fair(entry: str, truth: str) -> bool:
    """Whether a reply that is the true answer earns the verifier's whole score, and a question mark or a zero less."""
    wrong = [guess for guess in ("?", "0") if not parsing.is_same(guess, truth)]
    is_known = bool(truth.strip()) and verifiers.score(verifiers.answer_in(truth, truth), entry) >= 1
    return is_known and all(verifiers.score(guess, entry) < 1 for guess in wrong)


def _row(made: Mapping, entry: str, question: str | None) -> dict:
    known = {**made["metadata"], "question": made["question"]}
    try:
        problem = made["question"] if question is None else question.format_map(known)
    except (KeyError, ValueError, IndexError, AttributeError, TypeError) as error:
        raise ValueError(
            f"question must be text with names of the problem in braces (got {question!r:.80}: {error}). "
            f"It has {', '.join(f'{{{name}}}' for name in known)}."
        ) from error
    return {"problem": problem.strip(), "answer": made["answer"], "working": _working(made), "entry": entry}


def _working(made: Mapping) -> str:
    """The way to the answer: what the task says itself, or a sum term by term.

    >>> _working({"metadata": {"expression": "57 + 87 - 70"}})
    '57 + 87 = 144\\n144 - 70 = 74'
    """
    told = made["metadata"].get("answer_cot")
    if isinstance(told, str):
        return told.rpartition("####")[0].strip() or told.strip()
    total, *others = _terms(made["metadata"].get("expression") or "") or [0]
    steps = []
    for term in others:
        steps.append(f"{total} {'-' if term < 0 else '+'} {abs(term)} = {total + term}")
        total += term
    return "\n".join(steps)
