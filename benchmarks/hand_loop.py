"""Does the loop of notebook 06 learn what TRL's own trainer learns? `python -m benchmarks.hand_loop [SEEDS]`.

Both begin at one warm start of the ci profile, with the same prompts, rewards and settings; a seed changes the adapter,
the order of the prompts and the samples. The loop is the notebook's: its cells are run, with the package's five parts.
TRL's side is its own class, without a kernel of this package. Writes results/hand_loop.json, and the figure that the
notebook shows.
"""

import ast
import json
import os
import statistics
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path

from benchmarks import machine
from grpo_nb import data, evaluate, models, plots, profiles, rewards, train
from grpo_nb.checks import filling
from grpo_nb.lab import differences
from grpo_nb.runs import files

ROOT = Path(__file__).parent.parent
NOTEBOOK = ROOT / "notebooks" / "06_grpo.ipynb"
RECORD = Path(__file__).parent / "results" / "hand_loop.json"
FIGURE = ROOT / "notebooks" / "img" / "hand_loop.svg"
REWARDS = list(rewards.FOUR)
FUNCTIONS = ("sample_and_score", "loss_of", "train_by_hand")
LATE = 5  # steps at the end whose mean reward is compared


def written_loop(**names) -> dict:
    """The namespace of the notebook's loop: its imports and `FUNCTIONS`, as its cells have them, and these names."""
    cells = json.loads(NOTEBOOK.read_text(encoding="utf8"))["cells"]
    code = ["".join(cell["source"]) for cell in cells if cell["cell_type"] == "code"][1:]  # not the set-up
    nodes = [node for source in code for node in ast.parse(source).body]
    kept: list = [node for node in nodes if isinstance(node, ast.Import | ast.ImportFrom)]
    kept += [node for node in nodes if isinstance(node, ast.FunctionDef) and node.name in FUNCTIONS]
    space = {"REWARDS": REWARDS, **names}
    exec(compile(ast.Module(kept, []), NOTEBOOK.name, "exec"), space)
    return space


def run(profile, start: tuple, prompts: list, tests: list, seed: int) -> dict:
    """One seed by hand and by TRL: reward of every step, held-out accuracy in the end."""
    policy, tokenizer = start
    settings = {"max_new_tokens": profile.grpo["max_completion_length"], **profile.evaluate}
    hand = models.add_lora(policy, profile, seed=seed)
    train_by_hand = written_loop()["train_by_hand"]
    log = train_by_hand(
        hand, tokenizer, prompts, filling.filled(), profile.grpo, steps=profile.grpo["max_steps"], seed=seed
    )
    trainer = train.grpo_trainer(policy, tokenizer, prompts, REWARDS, profile, seed=seed)
    train.resume_or_start(trainer, fresh=True)
    logs = {"hand": log, "TRL": [row for row in trainer.state.log_history if "reward" in row]}
    found: dict = {"seed": seed}
    for name, trained in {"hand": hand, "TRL": trainer.model}.items():
        found[name] = {
            "rewards": [round(row["reward"], 4) for row in logs[name]],
            "sampled": evaluate.accuracy(trained, tokenizer, tests, **settings)["sampled"],
        }
    return found


def difference(seeds: list[dict]) -> dict[str, float]:
    """By hand minus TRL, of the mean reward of the last steps, and its 95 % interval by the rule of the bench."""
    rewards = [[seed[name]["rewards"][-LATE:] for seed in seeds] for name in ("TRL", "hand")]
    found = differences.paired(*rewards)
    return {"mean": found.mean, "low": found.low, "high": found.high}


def picture(seeds: list[dict]):
    """Both, seed by seed, and their means."""
    rows = {
        label: [[{"step": i, "reward": r} for i, r in enumerate(seed[name]["rewards"], 1)] for seed in seeds]
        for label, name in {"the loop by hand": "hand", "TRL": "TRL"}.items()
    }
    return plots.arms(rows, key="reward", ylabel="reward (max 13)", title=f"{len(seeds)} seeds of both")


def main(seeds: int = 10) -> None:
    """Run the seeds, print a line for each, write the record and the figure."""
    profile = profiles.current("ci")
    profile.kernels = {}  # TRL's own trainer
    with tempfile.TemporaryDirectory(prefix="grpo_nb_hand_loop_") as folder:
        os.environ |= {"GRPO_NB_OUTPUTS": folder, "GRPO_NB_TRACK": "off"}
        rows, held_out = data.load_task(profile.task)
        start = train.warm_start(profile, rows)
        prompts, tests = (
            data.grpo_rows(part, system_prompt=profile.task["system_prompt"]) for part in (rows, held_out)
        )
        found = []
        for seed in range(seeds):
            found.append(result := run(profile, start, prompts, tests, seed))
            ends = {
                name: (statistics.mean(result[name]["rewards"][-LATE:]), result[name]["sampled"])
                for name in ("hand", "TRL")
            }
            print(f"seed {seed}: late reward and held-out accuracy {ends}", flush=True)
    record = {
        "profile": vars(profile),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
        "machine": machine.described(),
        "difference": difference(found),
        "seeds": found,
    }
    files.write_text(RECORD, json.dumps(record, indent=1))
    with files.replacing_file(FIGURE) as draft:
        picture(found).savefig(draft)
    print(f"by hand minus TRL: {record['difference']}; wrote {RECORD} and {FIGURE}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
