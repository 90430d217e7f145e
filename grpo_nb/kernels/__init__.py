"""GRPO's loss head without logits: hidden states and head → log-probs, loss, gradients; [N, V] never exists.

| file           | what it gives                                                                       |
|----------------|-------------------------------------------------------------------------------------|
| `logps`        | `linear_logps`: log-probs and entropy of sampled tokens, differentiable             |
| `loss`         | `linear_grpo_loss`: `losses.grpo_loss` with the head in front of it                 |
| `passes`       | the three ways through the vocabulary, without autograd                             |
| `heads`        | the head: products of a tile, in the right precision; tile sizes                    |
| `rows`         | what is done to a tile of logits, row by row                                        |

The letters: N rows (in `linear_grpo_loss` completions), T tokens of the longest, H hidden, V vocabulary; a tile is
[n, v]. One product of all rows with the head is 2NHV operations; passes are counted in them.
"""

from grpo_nb.kernels.logps import LinearLogps, linear_logps
from grpo_nb.kernels.loss import LinearLoss, linear_grpo_loss

__all__ = ["LinearLogps", "LinearLoss", "linear_grpo_loss", "linear_logps"]
