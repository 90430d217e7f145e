"""grpo_nb: the package behind the notebooks, and their answer key.

Import a module by name, `from grpo_nb import rewards`; this file loads none of them, so it costs nothing.
A module imports only modules above it in this table:

| module        | responsibility, in one line                                                              |
|---------------|------------------------------------------------------------------------------------------|
| `shapes`      | the letters P G N T K V H, and the decorator that checks them at every call              |
| `advantages`  | rewards [P, G] → advantages [P, G]; the odds of a hit and of a dead group                |
| `tokens`      | which tokens count in a loss, and how much: masks, corrections, denominators             |
| `losses`      | log-probs [N, T] → ratio, clip, KL, loss per token, reduction: TRL's eight losses        |
| `paradigms`   | SFT, RFT, DPO, PPO, GRPO as one gradient with different coefficients                     |
| `kernels`     | hidden [N, T, H], head [V, H] → log-probs, loss, gradients without logits; TRL, faster   |
| `batchflow`   | six integers → the exact schedule of which completion trains when, on which process      |
| `memory`      | model + config → predicted bytes, term by term; what fits on a card, and into N minutes  |
| `profiles`    | the numbers of a run: one visible dict per profile (ci, cpu, t4, a100)                   |
| `templates`   | messages → prompt text; the tags, in one place                                           |
| `rewards`     | completion text → parsed answer → score, in TRL's contract (one file per family)         |
| `plots`       | curves, batch flows, token colours, tables; data in, Figure or HTML out                  |
| `files`       | files and folders that are there whole or not at all                                     |
| `data`        | task or data set → rows `{"prompt", "answer", …}`                                        |
| `models`      | profile → policy + tokenizer + LoRA; the only file that imports unsloth, and first       |
| `credentials` | secrets: from the environment or the host's store only                                   |
| `listeners`   | trainer callbacks by shape; the live table                                               |
| `mirror`      | metrics.jsonl → SwanLab, in a process of its own                                         |
| `dashboards`  | SwanLab as a guest that cannot hurt the run: online, offline, off                        |
| `tracking`    | a run: its folder, metrics.jsonl always, a dashboard beside it                           |
| `configs`     | what a config must satisfy: keys, values, batch arithmetic, disk                         |
| `columns`     | what rows must satisfy: columns, roles, prompts                                          |
| `guards`      | what TRL lets pass: bad rewards, bad gradients, a run that learns nothing                |
| `fingerprints`| what makes two runs equal: settings, rows, rewards, base weights, versions               |
| `checkpoints` | a checkpoint with a seal; which one to resume from, and when not to                      |
| `resuming`    | where a run goes on from, and what stands in its way                                     |
| `stops`       | a clean end before the last step: time used up, kernel interrupted                       |
| `evaluate`    | pass@1 and greedy accuracy, format rate, on held-out problems                            |
| `difficulty`  | share of prompts that a policy solves sometimes: too hard, too easy, or right            |
| `train`       | preflight the config in a second, assemble TRL's trainers, start or resume them          |
| `export`      | adapter → proof that it learned → merged weights → reloaded                              |
| `explorers`   | controls ↔ a function of the package ↔ a figure (one file per idea)                      |
| `checks`      | `check_x(your_x)`: the learner's function against ours, in words                         |
| `report`      | executed notebooks and the runs that they left → one HTML page                           |
| `publish`     | notebooks → executed copies, committed outputs, links                                    |
"""

import os

# Two threads that spin while they wait for each other are slower than one as soon as something else runs on the machine
# (2.8 times on two busy cores). Read when torch is loaded, so it is set here, before that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

__version__ = "0.1.0"
