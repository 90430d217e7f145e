"""Layout → score: does the completion look as asked, whatever it says?

Departures from *Qwen3-8B GRPO with SwanLab*, each with a test of its number in `tests/test_rewards.py`:
 1. Its `$` with MULTILINE ends at any line: junk after a line break still scored 3.0. Here only whitespace may follow.
 2. Its pattern spans from the first `<SOLUTION>` to a later `</SOLUTION>`: two blocks scored 3.0. Here each tag stands
    exactly once.
 3. It looks for an end-of-text token, which TRL removes before a reward sees the text. Here it is junk like any other.
 4. Its lazy quantifiers take time ~n³ (over 20 s at 32 kB). Here the time is linear.
 5. A blank solution scored 3.0. Here it is no solution.
 6. `match_format_approximately` counted tags in any order and with anything after them. Here order and end count.
 7. Its comment says that the opening tag is checked; neither it nor we ask for that tag, since the prompt wrote it.
    Here opening the working-out *again* breaks the format.
"""

from grpo_nb import templates
from grpo_nb.rewards import parsing

EXACT = 3.0
TAG_IN_PLACE, TAG_ASTRAY = 0.5, -1.0


def match_format_exactly(completions: list, **kwargs) -> list[float]:
    """Score of the whole layout; range {0, 3}.

    | completion                             | score |
    |----------------------------------------|------:|
    | in the exact format (`parsing.solution`) | 3.0 |
    | any other                              |   0.0 |

    Args:
        completions: strings or TRL's messages.
        kwargs: the data set's other columns, which TRL passes too; not read.

    >>> match_format_exactly(["1+1=2<end_working_out><SOLUTION>2</SOLUTION>", "2"])
    [3.0, 0.0]
    """
    return [0.0 if parsing.solution(parsing.text(completion)) is None else EXACT for completion in completions]


def match_format_approximately(completions: list, **kwargs) -> list[float]:
    """Sum over the three tags of the completion, so that half a layout is better than none; range [-3, 1.5].

    | each of `REASONING_END`, `SOLUTION_START`, `SOLUTION_END` | score |
    |-----------------------------------------------------------|------:|
    | once, and in order with those that are there              |  +0.5 |
    | missing, repeated or out of order                         |  -1.0 |

    `SOLUTION_END` counts only if nothing but whitespace follows, `REASONING_END` only if the working-out is not opened
    again. So 1.5 means exact format, but for a blank solution.

    Args:
        completions: strings or TRL's messages.
        kwargs: the data set's other columns, which TRL passes too; not read.

    >>> match_format_approximately(["1+1=2<end_working_out><SOLUTION>2</SOLUTION>", "<SOLUTION>2</SOLUTION>", "2"])
    [1.5, 0.0, -3.0]
    """
    return [_tag_scores(parsing.after_opening(parsing.text(completion))) for completion in completions]


def _tag_scores(body: str) -> float:
    return sum(TAG_IN_PLACE if _is_in_place(body, tag) else TAG_ASTRAY for tag in templates.TAGS[1:])


def _is_in_place(body: str, tag: str) -> bool:
    position = templates.TAGS.index(tag)
    before, found, after = body.partition(tag)
    if not found or any(other in after for other in templates.TAGS[: position + 1]):
        return False
    if any(other in before for other in templates.TAGS[position + 1 :]):
        return False
    if tag == templates.REASONING_END:
        return templates.REASONING_START not in before
    return tag != templates.SOLUTION_END or not after.strip()
