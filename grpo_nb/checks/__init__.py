"""A learner's function against ours, in words on stdout: True if every case fits, else False and what is wrong.

A usual mistake is named, any other gets the first case that does not fit. A stub that still raises NotImplementedError
gives None. `predict` asks for a guess before a cell computes.

| file            | functions                                  | the exercise is about                                |
|-----------------|--------------------------------------------|------------------------------------------------------|
| `exercises`     | (what the others are made of)              | judging: the cases, the right answer, usual mistakes |
| `predictions`   | `predict`                                  | a guess, typed or picked, then compared              |
| `chances`       | `check_tries`, `check_problems`, …         | chance: tries, tests, groups that teach              |
| `texts`         | `check_template`, …                        | prompts: the template, what is trained               |
| `group_scores`  | `check_reward`, …                          | rewards, and advantages made of them                 |
| `advantages`    | `check_choice`, `check_rewards_to_order`   | groups: which teaches most, rewards to order         |
| `losses`        | `check_push`, `check_loss_type`, …         | the loss: the push on a token, its type, a KL        |
| `loop`          | (the five parts of a training loop)        | the hand-written loop                                |
| `blanks`        | `check_mask`, `check_logps`, …             | its five blanks                                      |
| `filling`       | `filled`                                   | a loop that runs while some blanks are open          |
| `variants`      | `check_strict_mask`, …                     | other advantages and masks, the cheapest run         |
| `batch_sizes`   | `check_dropped`, `check_batch_to_order`, … | batches: rows left out, a batch to order, weights    |
| `gpu_memory`    | `check_cache`, `check_largest_batch`, …    | memory: a cache, the largest batch, a leaner run     |
| `adapters`      | `check_scaled`, `check_joined`, …          | LoRA: scaling, joining, telling a trained adapter    |
| `linear_heads`  | `check_tokens_that_fit`, …                 | the loss head: what fits, a softmax in parts, pulls  |
| `experiments`   | `check_noise`, `check_paired_error`, …     | the bench: noise, pairs, an arm to find              |
| `runs`          | `check_clip_run`, `check_loss_run`, …      | runs with one setting changed: better, worse, noise  |
| `interruptions` | `check_goes_on`, `check_seal`, …           | checkpoints: which is taken, what a seal holds       |
| `real_models`   | `check_mixed`, `check_one_answer`, …       | a real model: mixed groups, a strict reward, a run   |
"""

from grpo_nb.checks.adapters import check_is_trained, check_joined, check_scaled
from grpo_nb.checks.advantages import check_choice, check_rewards_to_order
from grpo_nb.checks.batch_sizes import check_batch_to_order, check_dropped, check_factors
from grpo_nb.checks.blanks import check_logps, check_loss, check_mask, check_step
from grpo_nb.checks.chances import check_alive, check_problems, check_slip, check_tries
from grpo_nb.checks.experiments import check_near_arm, check_noise, check_paired_error
from grpo_nb.checks.filling import filled
from grpo_nb.checks.gpu_memory import check_cache, check_largest_batch, check_leaner_run
from grpo_nb.checks.group_scores import check_advantages, check_completion_score, check_reward
from grpo_nb.checks.interruptions import check_goes_on, check_save_steps, check_seal
from grpo_nb.checks.linear_heads import check_merged_entropy, check_pulls, check_tokens_that_fit
from grpo_nb.checks.losses import check_kl_estimate, check_loss_type, check_push
from grpo_nb.checks.predictions import predict
from grpo_nb.checks.real_models import check_kept, check_mixed, check_one_answer
from grpo_nb.checks.runs import check_clip_run, check_loss_run, check_reward_run, check_sampling_run, check_steps_run
from grpo_nb.checks.texts import check_completion_mask, check_faults, check_template
from grpo_nb.checks.variants import check_cheapest, check_leave_one_out, check_strict_mask
