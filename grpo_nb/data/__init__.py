"""Task or data set → rows {"problem", "answer", "working"} → what TRL's trainers eat.

One generated task (addition with written carries) that needs nothing; those of reasoning-gym, where it is installed;
three public data sets, from the Hub or from a local folder, `GRPO_NB_DATA/<name>/`; and tables of your own, by path
(`load_rows`) or in memory (`as_rows`). Files are JSON (an array, or lines), Parquet, CSV or TSV, perhaps with .gz.
Every table is read by one contract:

| ours      | column, the first that is there                      | what its cell may be                           |
|-----------|------------------------------------------------------|------------------------------------------------|
| `problem` | problem, question, prompt, messages, … (all of them: | text; or messages (`role`/`content`,           |
|           | `tables.PROBLEM`); instruction, and input after it;  | `from`/`value`): the first question in them    |
|           | body or context before it, choices or options after  |                                                |
| `answer`  | answer, solution, output, … (`tables.ANSWER`), or    | a number; or text, of which only the 72 is     |
|           | the reply in the messages                            | taken in `… #### 72` and `… \\boxed{72} …`      |
| `working` | working, rationale, … (`tables.WORKING`), or what    | text                                           |
|           | stands beside a marked answer                        |                                                |

A row without a problem or an answer is left out, and one line says how many were, and why.

| file       | functions                                        | question                                          |
|------------|--------------------------------------------------|---------------------------------------------------|
| `addition` | `addition`, `column_addition`                    | what does the generated task look like            |
| `gym`      | `problems`                                       | what do reasoning-gym's tasks look like           |
| `files`    | `read_file`                                      | what is in a file, and which files are a split    |
| `tables`   | `as_rows`, `read_rows`                           | what is a record's problem, what its answer       |
| `sources`  | `load_task`, `load_rows`, `is_available`         | where does a data set come from                   |
| `rows`     | `split_rows`, `grpo_rows`, `keep_short`, …       | which rows are trained on, and in which shape     |
"""

from grpo_nb.data.addition import addition, column_addition
from grpo_nb.data.rows import (
    grpo_rows,
    keep_short,
    normal_form,
    sft_rows,
    split_rows,
    steps,
    token_lengths,
    without_problems,
)
from grpo_nb.data.sources import READERS, SOURCES, is_available, load_rows, load_task
from grpo_nb.data.tables import as_rows, read_rows
