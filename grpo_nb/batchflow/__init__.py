"""Six integers → the exact schedule of which completion trains when, and on which process.

| file         | functions                      | question                                                          |
|--------------|--------------------------------|-------------------------------------------------------------------|
| `arithmetic` | `batch_numbers`, `updates`, …  | which batches does TRL accept, and how many updates do they make  |
| `limits`     | (called by `plan`)             | … and which runs                                                  |
| `orders`     | (called by `plan`)             | in which order do prompts and completions come                    |
| `schedule`   | `plan`                         | what does every micro-step train on                               |
| `tables`     | `check_table`                  | is a batch flow that somebody has drawn possible …                |
| `reading`    | (called by `check_table`)      | … and which rows does it have                                     |
"""

from grpo_nb.batchflow.schedule import MicroStep, Plan, plan
from grpo_nb.batchflow.tables import Verdict, check_table
