"""Completion text → parsed answer → score, in TRL's contract: `f(completions=..., answer=..., **columns) -> scores`.

| file      | function                     | what earns the score                                     | range       |
|-----------|------------------------------|----------------------------------------------------------|-------------|
| `notation`| (none)                       | (LaTeX, Markdown, full width … as plain characters)      |             |
| `parsing` | (none: what the others read) | the solution between the tags, the number that a text is |             |
| `prose`   | (none)                       | (the one number among words)                             |             |
| `contract`| (for preflight and guards)   | what TRL hands a reward, and what it may answer          |             |
| `format`  | `match_format_exactly`       | the whole layout, once, and nothing after it             | 0 or 3      |
| `format`  | `match_format_approximately` | each of three tags, once and in its place                | [-3, 1.5]   |
| `answers` | `check_answer`               | the solution: right, near or wrong; needs the layout     | [-4.5, 5]   |
| `answers` | `check_numbers`              | the one number after the solution tag, right or wrong    | [-2.5, 3.5] |

The sum reaches 13 for a right answer in the layout and falls to -10 for a completion without any of it. Everything is a
pure function of the text, in time that grows linearly with it; `None` means "not applicable here". `read_answer` says
what an answer says, `can_match` whether a policy can meet a truth. The scores are those of *Qwen3-8B GRPO with
SwanLab*; where its code has a bug, ours departs, and the modules number each departure.
"""

from grpo_nb.rewards.answers import can_match, check_answer, check_numbers
from grpo_nb.rewards.format import match_format_approximately, match_format_exactly
from grpo_nb.rewards.parsing import read_answer

FOUR = (match_format_exactly, match_format_approximately, check_answer, check_numbers)  # the notebooks train with these

__all__ = [
    "FOUR",
    "can_match",
    "check_answer",
    "check_numbers",
    "match_format_approximately",
    "match_format_exactly",
    "read_answer",
]
