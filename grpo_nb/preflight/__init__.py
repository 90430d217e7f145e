"""What a run must satisfy before a model loads: `check` looks at all of it, in milliseconds.

| file              | functions                            | question                                                  |
|-------------------|--------------------------------------|-----------------------------------------------------------|
| `order`           | `check`, `check_sft`, …              | all of the following, the cheapest first                  |
| `keys`            | `check_keys`                         | does TRL know these keys, and what are they called today  |
| `meanings`        | `meanings`                           | what does a key mean, and what is it by default           |
| `values`          | `check_values`, `check_lora`, …      | can each value be meant, alone …                          |
| `bounds`          | (called by `values`)                 | … within which numbers …                                  |
| `rules`           | (called by `values`)                 | … and beside the others                                   |
| `evaluations`     | (called by `values` and `order`)     | are there any in mid-run, on what, at what cost           |
| `rehearsals`      | (called by `values`)                 | … and do TRL, transformers and torch take them            |
| `generations`     | (called by `order`)                  | … what sampling and the chat template are told besides    |
| `processes`       | (called by the others)               | how many processes fill a batch together                  |
| `disk`            | `check_disk`, `largest_checkpoint`   | could the run go on from each checkpoint; do they fit     |
| `columns`         | `check_columns`, `check_truths`, …   | is every column there in every row, and can it be matched |
| `prompts`         | `check_prompts`, `check_held_out`    | can each prompt be asked, and is none of them a test      |
| `context_lengths` | `check_lengths`                      | does each prompt leave room for its completion            |
| `signatures`      | `check_rewards`                      | does each reward name what TRL will hand it               |
| `dry_runs`        | `dry_run`                            | what does each reward answer to odd completions           |
| `difficulty`      | `check_alive`, `choose`              | does a policy solve some of the prompts sometimes         |

Rows count from 0 in every sentence: `rows[3]` shows what "row 3" is about.
"""

from grpo_nb.data.tables import read_rows
from grpo_nb.preflight.columns import check_columns, check_filled, check_media, check_truths
from grpo_nb.preflight.context_lengths import check_lengths
from grpo_nb.preflight.difficulty import choose
from grpo_nb.preflight.disk import check_disk, largest_checkpoint
from grpo_nb.preflight.dry_runs import dry_run
from grpo_nb.preflight.keys import check_keys
from grpo_nb.preflight.meanings import meanings
from grpo_nb.preflight.order import check, check_settings, check_sft
from grpo_nb.preflight.prompts import check_held_out, check_prompts
from grpo_nb.preflight.signatures import check_rewards
from grpo_nb.preflight.values import check_values, check_weights
