"""Does the cpu profile learn, every time? The pipeline over several seeds: `python benchmarks/learning.py [SEEDS]`.

A seed changes everything at once: the problems, the demonstrator's slips, the random weights, the order of the rows and
every sample. Accuracy is measured on held-out problems, before and after GRPO, with the same template and prompts.
Writes results/learning.json (versions, machine, every curve) and the figure that the README shows.
"""

import json
import os
import platform
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

from matplotlib.figure import Figure

from grpo_nb import data, evaluate, models, plots, profiles, rewards, train
from grpo_nb.runs import files, tracking

RESULTS = Path(__file__).parent / "results"
FIGURE = Path(__file__).parent.parent / "notebooks" / "img" / "learning.svg"
REWARDS = list(rewards.FOUR)


def learn(profile, seed: int) -> dict:
    """Warm start and GRPO with one seed; held-out accuracy before and after, the curve and the times in seconds."""
    rows, held_out = data.load_task(profile.task, seed=seed)
    prompts, tests = (data.grpo_rows(r, system_prompt=profile.task["system_prompt"]) for r in (rows, held_out))
    models.use_fastest_threads()
    start = time.perf_counter()
    policy, tokenizer = train.warm_start(profile, rows, seed=seed)
    sft_s = time.perf_counter() - start
    settings = {"max_new_tokens": profile.grpo["max_completion_length"], **profile.evaluate}
    before = evaluate.accuracy(policy, tokenizer, tests, **settings)
    run = tracking.Run(f"learning-seed{seed}", profile, mode="off")
    start = time.perf_counter()
    trainer = train.grpo_trainer(policy, tokenizer, prompts, REWARDS, profile, run=run, seed=seed)
    train.resume_or_start(trainer)
    grpo_s = time.perf_counter() - start
    after = evaluate.accuracy(trainer.model, tokenizer, tests, **settings)
    curve = [{"step": row["step"], "reward": row["reward"]} for row in run.rows()]
    return {
        "seed": seed,
        "before": before,
        "after": after,
        "sft_s": round(sft_s, 1),
        "grpo_s": round(grpo_s, 1),
        "curve": curve,
    }


def spread(results: list[dict], when: str, key: str) -> dict[str, float]:
    """Mean, smallest and largest of one share over the seeds."""
    values = [result[when][key] for result in results]
    return {"mean": statistics.mean(values), "min": min(values), "max": max(values)}


def picture(results: list[dict]) -> Figure:
    """Left: the reward of every seed and their mean. Right: held-out accuracy before and after, a line per seed."""
    figure = Figure(figsize=(8.0, 3.2), layout="constrained")
    left, right = figure.subplots(1, 2, width_ratios=[3, 2])
    steps = [row["step"] for row in results[0]["curve"]]
    for result in results:
        left.plot(steps, [row["reward"] for row in result["curve"]], color=plots.COLOURS["reward"], alpha=0.25, lw=1)
    mean = [statistics.mean(result["curve"][i]["reward"] for result in results) for i in range(len(steps))]
    left.plot(steps, mean, color=plots.COLOURS["reward"], lw=2.5)
    left.set(xlabel="GRPO step", ylabel="mean reward (max 13)")
    left.set_title(f"{len(results)} seeds and their mean", loc="left", fontsize=11)
    for key, colour, marker in [("sampled", plots.COLOURS["policy"], "o"), ("greedy", plots.COLOURS["before"], "s")]:
        for result in results:
            shares = [result["before"][key], result["after"][key]]
            right.plot([0, 1], shares, marker=marker, color=colour, alpha=0.6, lw=1.2)
        height = spread(results, "before", key)["mean"]
        right.annotate(
            key, (0, height), xytext=(-8, 0), textcoords="offset points", ha="right", va="center", color=colour
        )
    right.set_xticks([0, 1], ["after SFT", "after GRPO"])
    right.set(xlim=(-0.55, 1.15), ylim=(0, 1.03))
    right.set_yticks([0, 0.5, 1], ["0 %", "50 %", "100 %"])
    right.set_title("right answers, held-out problems", loc="left", fontsize=11)
    for axes in (left, right):
        axes.spines[["top", "right"]].set_visible(False)
    return figure


def table(record: dict) -> str:
    """The record's summary as the Markdown table of docs/proof.md."""
    names = {"sampled": "right, sampled at temperature 1", "greedy": "right, greedy", "format": "exact format"}
    lines = [f"| held-out problems, {len(record['seeds'])} seeds | after SFT | after GRPO |", "|---|--:|--:|"]
    for key, name in names.items():
        cells = [record["summary"][f"{when} {key}"] for when in ("before", "after")]
        shares = [f"{c['mean']:.1%} ({c['min']:.1%} … {c['max']:.1%})" for c in cells]
        lines.append(f"| {name} | {shares[0]} | {shares[1]} |")
    return "\n".join(lines)


def main(seeds: int = 5) -> None:
    """Run the seeds, print a line for each, write the JSON and the figure."""
    profile = profiles.current("cpu")
    os.environ["GRPO_NB_OUTPUTS"] = tempfile.mkdtemp(prefix="grpo_nb_learning_")  # no warm start of an earlier run
    results = []
    for seed in range(seeds):
        results.append(result := learn(profile, seed))
        shares = {
            when: {k: f"{result[when][k]:.3f}" for k in ("sampled", "greedy", "format")} for when in ("before", "after")
        }
        print(f"seed {seed}: {shares} SFT {result['sft_s']} s, GRPO {result['grpo_s']} s", flush=True)
    record = {
        "profile": {key: value for key, value in vars(profile).items()},
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
        "machine": {"python": platform.python_version(), "processor": platform.machine(), "cores": os.cpu_count()},
        "summary": {
            f"{when} {key}": spread(results, when, key)
            for key in ("sampled", "greedy", "format")
            for when in ("before", "after")
        },
        "seeds": results,
    }
    RESULTS.mkdir(exist_ok=True)
    files.write_text(RESULTS / "learning.json", json.dumps(record, indent=1))
    FIGURE.parent.mkdir(exist_ok=True)
    with files.replacing_file(FIGURE) as draft:
        picture(results).savefig(draft)
    print(f"wrote {RESULTS / 'learning.json'} and {FIGURE}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
