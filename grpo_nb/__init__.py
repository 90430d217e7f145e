"""grpo_nb: the package behind the notebooks, and their answer key.

Import a module by name, `from grpo_nb import rewards`; this file loads none of them, so it costs nothing.
A module imports only modules above it in this table:

| module       | responsibility, in one line                                                                |
|--------------|--------------------------------------------------------------------------------------------|
| `shapes`     | the letters P G N T K V H, and the decorator that checks them at every call                |
| `advantages` | rewards [P, G] → advantages [P, G]; the odds of a hit and of a dead group                  |
| `losses`     | log-probs [N, T] → ratio, clip, KL, masks, reduction: TRL's eight losses                   |
| `paradigms`  | SFT, RFT, DPO, PPO, GRPO as one gradient with different coefficients                       |
| `kernels`    | hidden [N, T, H], head [V, H] → log-probs, loss, gradients without logits; TRL, faster     |
| `batchflow`  | six integers → the exact schedule of which completion trains when, on which process        |
| `memory`     | model + config → predicted bytes, term by term; what fits on a card, and into N minutes    |
| `profiles`   | the numbers of a run: one visible dict per profile (ci, cpu, laptop, t4, a100)                     |
| `templates`  | messages → prompt text; the tags, in one place                                             |
| `rewards`    | completion text → parsed answer → score; TRL's contract of a reward                        |
| `data`       | task or data set → rows `{"prompt", "answer", …}`                                          |
| `plots`      | curves, batch flows, token colours, tables; data in, Figure or HTML out                    |
| `runs`       | what keeps a run alive: its folder, callbacks, sealed checkpoints, resuming, SwanLab       |
| `models`     | profile → policy + tokenizer + LoRA: from nothing, pretrained, or by Unsloth               |
| `guards`     | what TRL lets pass: bad rewards, bad gradients, a run that learns nothing                  |
| `evaluate`   | pass@1 and greedy accuracy, format rate, on held-out problems; what got worse beside them  |
| `preflight`  | what a run must satisfy before a model loads: keys, values, rows, rewards, disk            |
| `train`      | assemble TRL's trainers, start or resume them; the warm start                              |
| `export`     | adapter → proof that it learned → merged weights → reloaded                                |
| `lab`        | the bench: arms of an experiment, trained over seeds, compared with an interval            |
| `explorers`  | controls ↔ a function of the package ↔ a figure (one file per idea)                        |
| `checks`     | `check_x(your_x)`: the learner's function against ours, in words                           |
"""

import os
import sys

# Two threads that spin while they wait for each other are slower than one as soon as something else runs on the machine
# (2.8 times on two busy cores). Read when torch is loaded, so it is set here, before that.
os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")

# A console that lacks a letter ("→" in Windows' cp1252, a model's half character) prints its number, and ends nothing.
if getattr(sys.stdout, "errors", None) in ("strict", "surrogateescape") and hasattr(sys.stdout, "reconfigure"):
    sys.stdout.reconfigure(errors="backslashreplace")

__version__ = "0.2.0"
