"""A learner's function against ours, in words on stdout: True if every case fits, else False and what is wrong.

A usual mistake is named, any other gets the first case that does not fit. A stub that still raises NotImplementedError
gives None. `predict` asks for a guess before a cell computes.

| file           | functions                                 | the exercise is about                                  |
|----------------|-------------------------------------------|--------------------------------------------------------|
| `exercises`    | (what the others are made of)             | judging: the cases, the right answer, usual mistakes   |
| `predictions`  | `predict`                                 | a guess, typed or picked, then compared                |
| `chances`      | `check_chance`, `check_signal`            | chance: a hit, a group that teaches                    |
| `texts`        | `check_template`, `check_completion_mask` | prompts: the template, what is trained                 |
| `group_scores` | `check_reward`, `check_advantages`        | rewards, and advantages made of them                   |
| `losses`       | `check_surrogate`, `check_token_weights`  | the loss: clipping a token, weighing it                |
| `batch_sizes`  | `check_dropped`, `check_factors`, …       | batches: rows left out, a batch to order, weights      |
| `gpu_memory`   | `check_cache`, `check_largest_batch`, …   | memory: a cache, the largest batch, a leaner run       |
| `adapters`     | `check_merge`, `check_is_trained`         | LoRA: merging, telling a trained adapter               |
| `linear_heads` | `check_tokens_that_fit`, …                | the loss head: what fits, a softmax in parts, pulls    |
"""

from grpo_nb.checks.adapters import check_is_trained, check_merge
from grpo_nb.checks.batch_sizes import check_batch_to_order, check_dropped, check_factors
from grpo_nb.checks.chances import check_chance, check_signal
from grpo_nb.checks.gpu_memory import check_cache, check_largest_batch, check_leaner_run
from grpo_nb.checks.group_scores import check_advantages, check_reward
from grpo_nb.checks.linear_heads import check_merged_entropy, check_pulls, check_tokens_that_fit
from grpo_nb.checks.losses import check_surrogate, check_token_weights
from grpo_nb.checks.predictions import predict
from grpo_nb.checks.texts import check_completion_mask, check_template
