"""What a config must satisfy, checked in milliseconds and without a model.

| file       | functions                             | question                                                        |
|------------|---------------------------------------|-----------------------------------------------------------------|
| `names`    | `check_keys`                          | does TRL know these keys, and what are they called today        |
| `meanings` | `meanings`                            | what does a key mean, and what is it by default                 |
| `values`   | `check_values`, `check_weights`       | can each value be meant, alone …                                |
| `rules`    | (called by `values`)                  | … and beside the others                                         |
| `batches`  | `batch_numbers`, `updates`, …         | which completion fills which batch, and how many updates follow |
| `disk`     | `checkpoint_bytes`, `check_disk`      | do the checkpoints fit on the disk                              |
"""

from grpo_nb.configs.batches import batch_numbers, check_prompts_fill_a_batch, updates
from grpo_nb.configs.disk import check_disk, checkpoint_bytes
from grpo_nb.configs.meanings import meanings
from grpo_nb.configs.names import check_keys
from grpo_nb.configs.values import check_values, check_weights

__all__ = [
    "batch_numbers",
    "check_disk",
    "check_keys",
    "check_prompts_fill_a_batch",
    "check_values",
    "check_weights",
    "checkpoint_bytes",
    "meanings",
    "updates",
]
