"""GRPO's loss head without logits: hidden states and head → log-probs, loss, gradients; [N, V] never exists.

| file             | what it gives                                                                     |
|------------------|-----------------------------------------------------------------------------------|
| `logps`          | `linear_logps`: log-probs and entropy of sampled tokens, differentiable           |
| `loss`           | `linear_grpo_loss`: `losses.grpo_loss` with the head in front of it               |
| `passes`         | the three ways through the vocabulary, without autograd                           |
| `heads`          | the head: products of a tile, in the right precision; tile sizes                  |
| `rows`           | what is done to a tile of logits, row by row                                      |
| `rows_triton`    | the same for NVIDIA cards                                                         |
| `forward_triton` | log-probs alone, for cards: product and sums in one kernel, without a tile        |

And what makes TRL's `GRPOTrainer` faster, each part by itself or all of them as `trainer.KernelGRPOTrainer`:

| file             | what it gives                                                                     |
|------------------|-----------------------------------------------------------------------------------|
| `plug`           | TRL's log-probs from `linear_logps`                                               |
| `package_loss`   | TRL's advantages and loss from `grpo_nb.advantages` and `grpo_nb.losses`          |
| `equality`       | the self-test before the first step: our numbers against TRL's                    |
| `dead_rows`      | completions that cannot move the weights are left out                             |
| `tree`           | a micro-batch as a tree: each distinct beginning once, no padding                 |
| `prefix`         | a model run on that tree                                                          |
| `sampler`        | prompts read once, completions that have ended leave the batch                    |
| `grouped`        | attention of one new token a row, for the sampler                                 |
| `merged`         | LoRA added to its weights while sampling, and taken back to the bit               |
| `trainer`        | `KernelGRPOTrainer`: six switches (not imported here, for it imports TRL)         |

The letters: N rows (in `linear_grpo_loss` completions), T tokens of the longest, H hidden, V vocabulary; a tile is
[n, v]. One product of all rows with the head is 2NHV operations; passes are counted in them.
"""

from grpo_nb.kernels.logps import LinearLogps, linear_logps
from grpo_nb.kernels.loss import LinearLoss, linear_grpo_loss
