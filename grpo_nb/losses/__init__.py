"""Log-probs → ratio, clip, KL, loss per token, reduction: GRPO's eight losses, as TRL 1.14 trains them.

| file          | functions                                                        | what they give                 |
|---------------|------------------------------------------------------------------|--------------------------------|
| `surrogates`  | `importance_ratio`, `clipped_surrogate`, `soft_gate`, …          | ratio ρ → loss of a token      |
| `divergences` | `kl_k1`, `kl_k2`, `kl_k3`                                        | how far the reference is       |
| `masks`       | `high_entropy`, `near_policy`, `sampling_ratio`, …               | which tokens count             |
| `reduction`   | `aggregate`, `divisors`, `token_weights`, `LOSS_TYPES`           | what the sum is divided by     |
| `total`       | `grpo_loss`                                                      | the scalar, and its parts      |

The letters: N completions, T tokens of the longest. Every function is pure; arguments have the names of `GRPOConfig`,
so that a config dict can be splatted in. Departures of TRL from the papers, which are followed here:

1. The clipped ratio is that of the sampling policy only where `old_logps` are given; else it is 1 and carries the
   gradient alone.
2. `cispo` caps the ratio at `epsilon_high` itself, not at 1 + `epsilon_high`.
3. The KL estimate k3 is multiplied by the ratio (`use_bias_correction_kl`), which has a gradient of its own.
4. `dapo` divides by the tokens of the generation batch, rescaled to one update: equal to the paper's token mean where
   `steps_per_generation` is `gradient_accumulation_steps`.
"""

from grpo_nb.losses.divergences import kl_k1, kl_k2, kl_k3
from grpo_nb.losses.masks import high_entropy, masked_mean, near_policy, sampling_ratio
from grpo_nb.losses.reduction import BY_UPDATE, LOSS_TYPES, aggregate, check_loss_type, divisors, token_weights
from grpo_nb.losses.surrogates import (
    CLIPPED,
    clip_side,
    clipped_surrogate,
    gamma_weights,
    importance_ratio,
    soft_gate,
)
from grpo_nb.losses.total import Loss, grpo_loss
