"""Solution against the true answer → score.

Departures from *Qwen3-8B GRPO with SwanLab* (1–7 stand in `format`), each with a test of its number:
 8. Every fifth *call*, by a global counter, it printed the first question of a mixed batch. Here nothing is printed.
 9. A solution that is no number (-4.5) cost more than refusing the format (-2.0). Here it is -2.5 as for any wrong
    answer, and no format is -4.5.
10. "2.0" for "2" was only near (2.0), since text was compared before value. Here equal values score 5.0.
11. A true answer 0 divided by zero, and "0.0" got -4.5. Here near means |guess - truth| ≤ 10 % of |truth|: no division.
12. "1,000" got -4.5 in `check_answer`, and as the true answer it silenced `check_numbers`. Here both sides read commas.
13. A bare `except` hid every mistake, the programmer's too. Here nothing is caught, and wrong lengths or types raise.
14. `check_numbers` took the first run of digits, dots and commas: "," or 10 of "x=10-7=3", 1 of "1/2", 5 of "- 5", and
    42 after the closing tag. Here it wants exactly one number before the next tag.
15. Garbage (0.0) was better than a wrong number (-1.5). Here what cannot be read is -2.5.
16. Floats were compared with ==: 0.30000000000000004 was not 0.3. Here equality allows one part in 10⁹, and nothing
    between integers.
17. `float` also reads "1_000", "nan", "inf" and digits of any script. Here a number has ASCII or full-width digits.
18. A true answer that is no number scored 0.0 for everybody. Here `check_numbers` says None: not applicable.
19. Fractions were not read. Here 3/4 is a number; 72/2 is not, it leaves the last step undone.
20. "–5" was 5, "2½" was 2, and nothing read LaTeX. Here a number counts in whatever dress (`notation`). Among words or
    with a unit it is right for `check_numbers` alone.
21. The number in `x+1`, "3 million" or a list was taken for the answer. Here it is none, or one of several (`prose`).
22. "(B)" was wrong for B. Here a truth from A to J is a choice, with or without bracket, point and small letter.
23. "(3, 4)" was wrong for "(3,4)". Here blanks beside signs, a last full stop and quotes are no difference of texts.
The credit for near answers (within 10 or 20 %) is kept as the source has it; whether it is wise where answers are exact
is a question for the notebook on rewards.
"""

from fractions import Fraction

from grpo_nb import templates
from grpo_nb.rewards import parsing, prose

RIGHT, RIGHT_WITH_BLANKS, NEAR, FAIRLY_NEAR, WRONG, NO_FORMAT = 5.0, 3.5, 2.0, 1.5, -2.5, -4.5
NUMBER_RIGHT, NUMBER_WRONG, NO_NUMBER = 3.5, -1.5, -2.5


def check_answer(completions: list, answer: list[str], **kwargs) -> list[float]:
    """Score of the solution in an exactly formatted completion; range [-4.5, 5].

    | solution                                       | score |
    |------------------------------------------------|------:|
    | equal (in value, as a choice, or in text)      |   5.0 |
    | equal, but with blanks around it               |   3.5 |
    | within 10 % of the truth                       |   2.0 |
    | within 20 % of the truth                       |   1.5 |
    | anything else                                  |  -2.5 |
    | no exact format                                |  -4.5 |

    Args:
        completions: strings or TRL's messages.
        answer: the data set's column of true answers, one per completion.
        kwargs: the other columns, which TRL passes too; not read.
    Raises: ValueError if the lengths differ, TypeError if an answer is not text.

    >>> block = "<end_working_out><SOLUTION>{}</SOLUTION>".format
    >>> check_answer([block("2.0"), block(" 2 "), block("2.1"), block("3"), "2"], ["2"] * 5)
    [5.0, 3.5, 2.0, -2.5, -4.5]
    """
    require_answers(completions, answer)
    return [
        _solution_score(parsing.solution(parsing.text(completion)), true)
        for completion, true in zip(completions, answer, strict=True)
    ]


def check_numbers(completions: list, answer: list[str], **kwargs) -> list[float | None]:
    """Score of the one number after `SOLUTION_START`, whatever the rest of the layout; range [-2.5, 3.5].

    | between `SOLUTION_START` and the next tag or the end | score |
    |------------------------------------------------------|------:|
    | one number, equal to the truth                       |   3.5 |
    | one number, not equal; or several                    |  -1.5 |
    | none that can be read, or no `SOLUTION_START`        |  -2.5 |
    | (the truth is not a number)                          |  None |

    Args:
        completions: strings or TRL's messages.
        answer: the data set's column of true answers, one per completion.
        kwargs: the other columns, which TRL passes too; not read.
    Returns: scores; None, TRL's "not applicable", where the true answer is no number.
    Raises: ValueError if the lengths differ, TypeError if an answer is not text.

    >>> check_numbers(["<SOLUTION>Therefore, x = 5.", "<SOLUTION>x=10-5=5", "5"], ["5", "5", "5"])
    [3.5, -1.5, -2.5]
    """
    require_answers(completions, answer)
    return [
        _number_score(parsing.after_solution_start(parsing.text(completion)), parsing.number(true))
        for completion, true in zip(completions, answer, strict=True)
    ]


def can_match(truth: str) -> bool:
    """Whether a policy could earn `check_answer`'s full score for this truth: a number, choice or line.

    Nobody repeats a rationale letter by letter, and a blank solution is no solution. Where the truth is text,
    `check_numbers` does not apply: `read_answer` says which truths are numbers, choices or neither.

    Args:
        truth: of one row, as the data set has it.

    >>> [can_match(truth) for truth in ("72", "blue", "", "8*9=72\\n#### 72")]
    [True, True, False, False]
    """
    text = truth.strip()
    is_line = 0 < len(text) <= parsing.NUMBER_LIMIT and text.isprintable() and "####" not in text
    return parsing.read_answer(truth) is not None or (is_line and not any(tag in text for tag in templates.TAGS))


def require_answers(completions: list, answer: list[str]) -> None:
    """Refuse a column of true answers that is not one text for each completion."""
    if len(answer) != len(completions):
        raise ValueError(
            f"there must be one answer per completion (got {len(completions)} completions, {len(answer)} answers). "
            "Repeat each prompt's answer for each of its completions, as TRL does."
        )
    for row, true in enumerate(answer):
        if not isinstance(true, str):
            raise TypeError(
                f"a true answer must be text (got {true!r:.80} in row {row}). Use str(answer) when the rows are made."
            )


def _solution_score(solution: str | None, true: str) -> float:
    if solution is None:
        return NO_FORMAT
    equal_score = RIGHT if solution == solution.strip() else RIGHT_WITH_BLANKS
    if parsing.is_same(solution, true):
        return equal_score
    guess, truth = parsing.number(solution), parsing.number(true)
    if guess is None or truth is None:
        return WRONG
    error = abs(guess - truth)
    return NEAR if error <= abs(truth) / 10 else FAIRLY_NEAR if error <= abs(truth) / 5 else WRONG


def _number_score(region: str, truth: Fraction | None) -> float | None:
    if truth is None:
        return None
    words = prose.number_words(region)
    if len(words) > 1:
        return NUMBER_WRONG
    guess = parsing.number(words[0]) if words else None
    if guess is None:
        return NO_NUMBER
    return NUMBER_RIGHT if parsing.same_number(guess, truth) else NUMBER_WRONG
