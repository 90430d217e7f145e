"""Profile → policy + tokenizer + LoRA: built from nothing, read from a pretrained model's files, or by Unsloth.

| file           | names                                      | question                                          |
|----------------|--------------------------------------------|---------------------------------------------------|
| `tiny`         | `tiny_policy`, `tiny_tokenizer`            | what is the policy that did not exist before      |
| `sources`      | `find`, `PACKAGES`                         | where does a pretrained model lie                 |
| `pretrained`   | `load_pretrained`, …                       | how is it loaded, and its end token mended        |
| `with_unsloth` | `unsloth_load_kwargs`, …                   | how does Unsloth load; only it imports unsloth    |
| `adapters`     | `add_lora`, `own_copy`, `check_trains`, …  | what trains, and what stays as it is              |
| `machines`     | `machine`, `use_fastest_threads`, …        | what does this computer offer                     |
| `policies`     | `load_policy`, `prepare`, …                | which of them does a profile ask for              |
"""

from grpo_nb.models.adapters import (
    adapter_tensors,
    add_lora,
    check_trains,
    check_untied,
    own_copy,
    refuse_tied,
    with_adapter,
)
from grpo_nb.models.machines import free_memory, machine, use_fastest_threads
from grpo_nb.models.policies import load_policy, parameter_counts, prepare
from grpo_nb.models.pretrained import load_pretrained, no_progress_bars
from grpo_nb.models.tiny import END_OF_TURN, PADDING, tiny_policy, tiny_tokenizer
from grpo_nb.models.with_unsloth import unsloth_load_kwargs, unsloth_lora_kwargs
