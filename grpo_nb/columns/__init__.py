"""What the rows of a run must satisfy before a trainer sees them.

| file       | functions                            | question                                                        |
|------------|--------------------------------------|-----------------------------------------------------------------|
| `table`    | `read_rows`, `check_columns`, …      | are these rows, and is every column there in every row          |
| `prompts`  | `check_prompts`, `check_held_out`    | can each prompt be asked, and is none of them a test question   |
| `lengths`  | `check_lengths`                      | does each prompt leave room for its completion                  |
| `contract` | `check_rewards`                      | does each reward name what TRL will hand it                     |

Rows count from 0 in every sentence: `rows[3]` shows what "row 3" is about.
"""

from grpo_nb.columns.contract import GIVEN_BY_TRL, check_rewards, name_of, unwrapped
from grpo_nb.columns.lengths import check_lengths
from grpo_nb.columns.prompts import check_held_out, check_prompts
from grpo_nb.columns.table import check_columns, check_filled, read_rows

__all__ = [
    "GIVEN_BY_TRL",
    "check_columns",
    "check_filled",
    "check_held_out",
    "check_lengths",
    "check_prompts",
    "check_rewards",
    "name_of",
    "read_rows",
    "unwrapped",
]
