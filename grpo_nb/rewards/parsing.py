"""Completion → text → solution → number: what every reward reads, in time linear in the text.

Tags are found with `str.count` and `str.partition`. The regular expressions here never see more than `PROSE_LIMIT`
characters: a lazy `.*?` between tags tries every pair of them, and some completions keep it busy for minutes
(`benchmarks/rewards.py` measures it).
"""

import re
from fractions import Fraction

from grpo_nb import templates
from grpo_nb.rewards import notation

NUMBER_LIMIT = 64  # characters of a number; a longer one is no answer but an attempt to keep the parser busy
PROSE_LIMIT = 256  # characters of a solution in words ("Therefore, x = 5")
EXPONENT_LIMIT = 99
RELATIVE_TOLERANCE = Fraction(1, 10**9)

_DIGITS = r"(?:[0-9]+|[1-9][0-9]{0,2}(?:,[0-9]{3})+)"  # 1000 or 1,000; never 1,00
_NUMBER = re.compile(
    rf"(?P<sign>[-+\u2212]?) ?[$€£¥]? ?"
    rf"(?:(?P<over>{_DIGITS})/(?P<under>{_DIGITS})"
    rf"|(?P<whole>{_DIGITS})?(?P<point>\.[0-9]*)?(?:[eE](?P<exponent>[-+\u2212]?[0-9]+))?)"
    rf"(?: ?(?:[%°$€£¥元円]|(?i:per ?cent|pct|degrees?)))? ?\.?"
)
_BESIDE_A_SIGN = re.compile(r" *([^\w ]) *")
_CHOICE = re.compile(r"[(\[]? ?([A-Ja-j]) ?[)\]]? ?[.:、]?")  # MMLU-Pro has ten


def text(completion: str | list[dict]) -> str:
    """Text of a completion, plain or as TRL hands it over for conversational prompts.

    Args:
        completion: a string, or messages `{"role", "content"}`; the last assistant message counts.
    Raises: TypeError for anything else.
    See: TRL, *Using a custom reward function*.

    >>> text([{"role": "assistant", "content": "<SOLUTION>2</SOLUTION>"}])
    '<SOLUTION>2</SOLUTION>'
    """
    if isinstance(completion, str):
        return completion
    if isinstance(completion, list):
        for message in reversed(completion):
            if isinstance(message, dict) and message.get("role") == "assistant":
                return message.get("content") or ""  # a message that only calls a tool has no content
    raise TypeError(
        f"a completion must be a string or a list of messages with an assistant turn (got {completion!r:.80}). "
        "Pass the completions as TRL does."
    )


def after_opening(text: str) -> str:
    """The completion without a leading `REASONING_START`: the prompt has written it, and once more does no harm.

    >>> after_opening(" <start_working_out>1+1=2<end_working_out>")
    '1+1=2<end_working_out>'
    """
    return text.lstrip().removeprefix(templates.REASONING_START)


def solution(text: str) -> str | None:
    """What stands between the solution tags, blanks included, of a completion in the exact format; None for any other.

    Exact format: working-out, `REASONING_END`, `SOLUTION_START`, solution, `SOLUTION_END`, each tag once and in order,
    the solution not blank, only whitespace after it. One `REASONING_START` may lead; anywhere else it opens the
    working-out again, and the format is not exact.

    >>> solution("1+1=2<end_working_out><SOLUTION> 2 </SOLUTION>")
    ' 2 '
    >>> solution("<end_working_out><SOLUTION>2</SOLUTION> or 3")
    """
    body = after_opening(text)
    if templates.REASONING_START in body:
        return None
    rest, parts = body, []
    for tag in templates.TAGS[1:]:
        before, found, rest = rest.partition(tag)
        if not found or body.count(tag) != 1:
            return None
        parts.append(before)
    inside = parts[-1]
    return inside if inside.strip() and not rest.strip() else None


def after_solution_start(text: str) -> str:
    """What stands between the first `SOLUTION_START` and the next tag or the end; "" without that tag.

    >>> after_solution_start("<SOLUTION>none</SOLUTION> see 42")
    'none'
    """
    inside = text.partition(templates.SOLUTION_START)[2]
    for tag in templates.TAGS:
        inside = inside.partition(tag)[0]
    return inside


def number(text: str) -> Fraction | None:
    r"""The one number that the text is, exactly; None if it is anything else.

    ASCII digits with an optional sign (also U+2212), thousands commas if grouped properly, decimals, an exponent up to
    ±99, a currency sign before or after, % or ° or their words after (units like the others: 50% is 50), a last full
    stop, at most `NUMBER_LIMIT` characters. A fraction a/b counts unless it comes out whole: "72/2" leaves the last
    step undone. What is not written so is read once more as `notation.plain` writes it.

    >>> number("-$1,234.50"), number("3/4"), number("1e-3"), number("72/2")
    (Fraction(-2469, 2), Fraction(3, 4), Fraction(1, 1000), None)
    >>> number(r"\boxed{\frac{2}{3}}"), number("2 1/2"), number("3 × 10^4"), number(r"3\pi"), number("20 cm")
    (Fraction(2, 3), Fraction(5, 2), Fraction(30000, 1), None, None)
    """
    value = _plain_number(text.strip())
    return _plain_number(undressed(text)) if value is None else value


def undressed(text: str) -> str:
    r"""The text in plain characters, without the $ around a formula; "" if it is longer than `PROSE_LIMIT`.

    >>> undressed(r"$\text{blue}$")
    'blue'
    """
    text = text.strip()
    return notation.plain(text).strip("$ ") if len(text) <= PROSE_LIMIT else ""


def _plain_number(text: str) -> Fraction | None:
    if len(text) > NUMBER_LIMIT or not (match := _NUMBER.fullmatch(text)):
        return None
    sign = 1 if match["sign"] in ("", "+") else -1
    if match["over"]:
        over, under = (int(match[part].replace(",", "")) for part in ("over", "under"))
        return sign * Fraction(over, under) if under and over % under else None
    mantissa = (match["whole"] or "").replace(",", "") + (match["point"] or "")
    exponent = int((match["exponent"] or "0").replace("\u2212", "-"))
    if mantissa in ("", ".") or abs(exponent) > EXPONENT_LIMIT:
        return None
    return sign * Fraction(f"0{mantissa}0" if "." in mantissa else mantissa) * Fraction(10) ** exponent


def read_answer(text: str) -> Fraction | str | None:
    r"""What an answer says, however it is written: a number, a choice "A" … "J", or None for any other text.

    >>> read_answer("1,000"), read_answer(r"\text{(b)}"), read_answer("blue")
    (Fraction(1000, 1), 'B', None)
    """
    value = number(text)
    return _choice(undressed(text)) if value is None else value


def _choice(text: str) -> str | None:
    match = _CHOICE.fullmatch(text)
    return match[1].upper() if match else None


def is_same(solution: str, truth: str) -> bool:
    r"""Whether a solution says what the truth says: as a number, as a choice, or else letter by letter.

    >>> is_same("2.0", "2"), is_same("(B)", "B"), is_same(r"$(1,\sqrt2)$", r"(1, \sqrt{2})"), is_same("red", "blue")
    (True, True, True, False)
    """
    guess, true = read_answer(solution), read_answer(truth)
    if isinstance(guess, Fraction) and isinstance(true, Fraction):
        return same_number(guess, true)
    if true is None:
        return solution.strip() == truth.strip() or (guess is None and "" != _bare(solution) == _bare(truth))
    return guess == true


def _bare(text: str) -> str:
    """The text in plain characters, without blanks beside signs and a last full stop: `(3, 4).` is `(3,4)`."""
    return _BESIDE_A_SIGN.sub(r"\1", undressed(text)).rstrip(".")


def same_number(a: Fraction, b: Fraction) -> bool:
    """Whether two numbers are equal: exactly if both are whole, else within one part in 10⁹.

    >>> same_number(number("0.30000000000000004"), number("0.3")), same_number(number("1e12"), number("1000000000001"))
    (True, False)
    """
    if a.denominator == b.denominator == 1:
        return a == b
    return abs(a - b) <= RELATIVE_TOLERANCE * max(abs(a), abs(b))
