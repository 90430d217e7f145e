"""Completion text → parsed answer → score, in TRL's contract: `f(completions=..., answer=..., **columns) -> scores`.

| file        | function                     | what earns the score                                     | range       |
|-------------|------------------------------|----------------------------------------------------------|-------------|
| `notation`  | (none)                       | (LaTeX, Markdown, full width … as plain characters)      |             |
| `parsing`   | (none: what the others read) | the solution between the tags, the number that a text is |             |
| `prose`     | (none)                       | (the one number among words)                             |             |
| `contract`  | (for preflight and guards)   | what TRL hands a reward, and what it may answer          |             |
| `format`    | `match_format_exactly`       | the whole layout, once, and nothing after it             | 0 or 3      |
| `format`    | `match_format_approximately` | each of three tags, once and in its place                | [-3, 1.5]   |
| `answers`   | `check_answer`               | the solution: right, near or wrong; needs the layout     | [-4.5, 5]   |
| `answers`   | `check_numbers`              | the one number after the solution tag, right or wrong    | [-2.5, 3.5] |
| `verifiers` | `verified`                   | the answer, by the verifier of its task in reasoning-gym | [0, 1]      |
| `verifiers` | `answer_alone`               | nothing but an answer, right or wrong                    | 0 or 1      |

The sum of the first four, `FOUR`, reaches 13 for a right answer in the layout and falls to -10 for a completion without
any of it. Everything is a pure function of the text, in time that grows linearly with it (`verified` within bounds of
its own); `None` means "not applicable here". `read_answer` says what an answer says, `can_match` whether a policy can
meet a truth, `is_right` what the verifier of a row's task says. The scores of the four are those of *Qwen3-8B GRPO with
SwanLab*; where its code has a bug, ours departs, and the modules number each departure.
"""

from grpo_nb.rewards.answers import can_match, check_answer, check_numbers
from grpo_nb.rewards.format import match_format_approximately, match_format_exactly
from grpo_nb.rewards.parsing import read_answer
from grpo_nb.rewards.verifiers import answer_alone, is_right, verified

FOUR = (match_format_exactly, match_format_approximately, check_answer, check_numbers)  # the notebooks train with these

__all__ = [
    "FOUR",
    "answer_alone",
    "can_match",
    "check_answer",
    "check_numbers",
    "is_right",
    "match_format_approximately",
    "match_format_exactly",
    "read_answer",
    "verified",
]
