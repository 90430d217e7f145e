"""Bytes, operations and minutes of a GRPO run, predicted from a model's config before anything is loaded.

| file        | functions                                      | question                                              |
|-------------|------------------------------------------------|-------------------------------------------------------|
| `decoders`  | `parameters`, `linears`, `gib`, `MODELS`, …    | how many parameters does a config have, and where     |
| `states`    | `weight_bytes`, `trained_bytes`, …             | what lies there all the time: weights, adapter, Adam  |
| `steps`     | `activation_bytes`, `logits_bytes`, …          | what one micro-step adds: activations and the loss    |
| `kv_cache`  | `kv_bytes`, `side_by_side`, `pool_bytes`, …    | what generation adds: the KV cache or vLLM's pool     |
| `budgets`   | `budget`, `CARDS`                              | all of it for one run, and does it fit this card      |
| `published` | `reproduced`, `remarks`                        | a well-known table, made again, and where it is off   |
| `planner`   | `step_work`, `calibrate`, `steps_in`, …        | how long is a step, and what fits into N minutes      |
| `measured`  | `held_bytes`, `peak_bytes`                     | what did it really hold? (on a CPU)                   |

Every size is in bytes; `gib` is only for people. What is left out, everywhere: the CUDA context (some 0.5 GiB), the
allocator's fragmentation, and what libraries keep as scratch.
"""

from grpo_nb.memory.budgets import CARDS, Budget, budget
from grpo_nb.memory.decoders import MODELS, Decoder, decoder, gib, linears, matmul_parameters, parameters
from grpo_nb.memory.kv_cache import kv_bytes, kv_bytes_per_token, pool_bytes, side_by_side
from grpo_nb.memory.measured import held_bytes, peak_bytes
from grpo_nb.memory.planner import Speed, calibrate, seconds_per_step, step_work, steps_in, what_fits
from grpo_nb.memory.published import remarks, reproduced
from grpo_nb.memory.states import adapter_parameters, trained_bytes, weight_bytes
from grpo_nb.memory.steps import activation_bytes, chunked_head_bytes, logits_bytes, loss_bytes
