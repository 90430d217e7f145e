"""Steps per second of GRPO in the cpu profile: TRL's trainer, ours, and ours with one switch at a time.

`python -m benchmarks.steps [SEEDS]`. Every run of a seed starts from the same warm start, reads the same prompts in the
same order and is trained by the same `GRPOConfig`; the runs take turns, each seed beginning with another one. A step is
split by the clock into sampling, loss (log-probs included), backward pass, and the rest; the seconds of the processor,
of all threads, stand beside them, for other programs do not add to those. Accuracy is measured on held-out problems
after the last step. Writes results/steps.json and the figure notebooks/img/steps.svg.
"""

import json
import statistics
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

from matplotlib.figure import Figure

from benchmarks import machine
from benchmarks.clock import PARTS, Clock
from grpo_nb import data, evaluate, models, plots, profiles, rewards, train
from grpo_nb.runs import files

RESULTS = Path(__file__).parent / "results" / "steps.json"
FIGURE = Path(__file__).parent.parent / "notebooks" / "img" / "steps.svg"
REWARDS = list(rewards.FOUR)
SWITCHES = ("linear_head", "drop_dead_rows", "shared_prefix", "cached_sampler")
STOCK, ALL = "TRL", "all switches"
KINDS = {  # name → the switches that are on; None: TRL's own trainer
    STOCK: None,
    "linear_head": {"linear_head"},
    "drop_dead_rows": {"drop_dead_rows"},
    "linear_head, shared_prefix": {"linear_head", "shared_prefix"},  # the second needs the first
    "cached_sampler": {"cached_sampler"},
    ALL: set(SWITCHES),
}
WARM_UP = 2  # steps that are not counted: caches fill, and our head is compared with TRL's once


def trainer_of(kind: str, profile: SimpleNamespace, start: tuple, prompts: list[dict], seed: int, folder: str):
    """TRL's trainer or ours, on the profile's settings; nothing else differs.

    Args:
        start: (policy, tokenizer); the policy stays as it is.
    """
    from datasets import Dataset
    from transformers import PrinterCallback
    from trl import GRPOConfig, GRPOTrainer

    policy, tokenizer = start
    unsaved = {"output_dir": folder, "save_strategy": "no", "disable_tqdm": True, "seed": seed}
    settings = {
        "model": models.add_lora(policy, profile, seed=seed),
        "reward_funcs": REWARDS,
        "args": GRPOConfig(**{**profile.grpo, **unsaved}),
        "train_dataset": Dataset.from_list(prompts),
        "processing_class": tokenizer,
    }
    if KINDS[kind] is None:
        trainer = GRPOTrainer(**settings)
    else:
        from grpo_nb.kernels.trainer import KernelGRPOTrainer

        switches = {name: name in KINDS[kind] for name in SWITCHES}
        trainer = KernelGRPOTrainer(**settings, own_loss=kind == ALL, **switches)
    trainer.remove_callback(PrinterCallback)  # a line of metrics for every step of 18 runs
    return trainer


def one_run(kind: str, profile: SimpleNamespace, start: tuple, rows: tuple, seed: int) -> dict:
    """Train once: median seconds of a step and its parts, the curve, accuracy on held-out problems afterwards."""
    import torch

    prompts, tests = rows
    with tempfile.TemporaryDirectory() as folder:
        torch.manual_seed(seed)
        trainer = trainer_of(kind, profile, start, prompts, seed, folder)
        clock = Clock(trainer)
        begin = time.perf_counter()
        trainer.train()
        run_s = time.perf_counter() - begin
    counted = clock.steps[WARM_UP:]
    log = [line for line in trainer.state.log_history if "reward" in line]
    settings = {"max_new_tokens": profile.grpo["max_completion_length"], **profile.evaluate}
    return {
        "kind": kind,
        "seed": seed,
        "seconds": {part: statistics.mean(step[part] for step in counted) for part in counted[0]},
        "step_median_s": statistics.median(step["step"] for step in counted),
        "run_s": run_s,
        "steps": clock.steps,
        "curve": [{"step": line["step"], "reward": line["reward"]} for line in log],
        "dead_groups": statistics.mean(line["frac_reward_zero_std"] for line in log),
        "after": evaluate.accuracy(trainer.model, start[1], tests, **settings),
    }


def compared(profile: SimpleNamespace, seeds: int) -> list[dict]:
    """All runs: for each seed one warm start, then every kind by turns."""
    results, kinds = [], list(KINDS)
    for seed in range(seeds):
        rows, held_out = data.load_task(profile.task, seed=seed)
        start = train.warm_start(profile, rows, seed=seed)
        both = tuple(data.grpo_rows(r, system_prompt=profile.task["system_prompt"]) for r in (rows, held_out))
        first = seed % len(kinds)
        for kind in kinds[first:] + kinds[:first]:
            results.append(one_run(kind, profile, start, both, seed))
            said, after = results[-1], results[-1]["after"]
            speed = 1 / said["seconds"]["step"]
            print(f"seed {seed}, {kind}: {speed:.2f} steps/s, sampled {after['sampled']:.1%} right", flush=True)
    return results


def summary(results: list[dict]) -> list[dict]:
    """A row for each kind: means over its seeds, and how many times TRL's steps per second it makes."""
    rows = []
    for kind in KINDS:
        runs = [result for result in results if result["kind"] == kind]
        parts = {p: statistics.mean(run["seconds"][p] for run in runs) for p in runs[0]["seconds"]}
        last = [statistics.mean(point["reward"] for point in run["curve"][-10:]) for run in runs]
        row = {"kind": kind, **parts, "steps_per_s": 1 / parts["step"], "last_rewards": last}
        rows.append(row | {"sampled": [run["after"]["sampled"] for run in runs]})
    stock = next(row["steps_per_s"] for row in rows if row["kind"] == STOCK)
    return [row | {"speed": row["steps_per_s"] / stock} for row in rows]


def table(rows: list[dict]) -> str:
    """Markdown: milliseconds of a step, steps per second, accuracy; the least time and the highest speed in bold."""
    titles = [*PARTS, "rest", "step", "cpu"]
    best = {title: f"{min(row[title] for row in rows) * 1e3:.0f}" for title in titles}
    fastest = f"{max(row['steps_per_s'] for row in rows):.2f}"
    lines = ["| ms of a step | " + " | ".join(titles[:-1]) + " | CPU ms | steps/s | × TRL | right after, sampled |"]
    lines.append("|---|" + "--:|" * 9)
    for row in rows:
        cells = [f"{row[title] * 1e3:.0f}" for title in titles]
        cells = [f"**{c}**" if c == best[t] else c for c, t in zip(cells, titles, strict=True)]
        speed = f"{row['steps_per_s']:.2f}"
        cells += [f"**{speed}**" if speed == fastest else speed, f"{row['speed']:.2f}"]
        shares = row["sampled"]
        cells.append(f"{statistics.mean(shares):.1%} ({min(shares):.1%} … {max(shares):.1%})")
        lines.append(f"| {row['kind']} | " + " | ".join(cells) + " |")
    return "\n".join(lines)


def figure(record: dict) -> Figure:
    """Left: a step of each kind, its parts side by side. Right: every reward curve of TRL and of ours with all on."""
    drawn = Figure(figsize=(8.0, 3.2), layout="constrained")
    left, right = drawn.subplots(1, 2, width_ratios=[3, 2])
    colours = dict(zip([*PARTS, "rest"], ["reward", "policy", "before", "old"], strict=True))
    rows = record["summary"][::-1]
    for place, row in enumerate(rows):
        begin = 0.0
        for part, colour in colours.items():
            width = row[part] * 1e3
            left.barh(place, width, left=begin, color=plots.COLOURS[colour], edgecolor="white")
            if place == len(rows) - 1:
                left.annotate(part, (begin + width / 2, place + 0.45), ha="center", va="bottom", fontsize=7)
            begin += width
        left.annotate(f"{row['speed']:.2f} ×", (begin, place), xytext=(3, 0), textcoords="offset points", va="center")
    left.set_yticks(range(len(rows)), [row["kind"] for row in rows], fontsize=8)
    left.margins(x=0.12)
    for kind, colour, style in ((STOCK, "before", "--"), (ALL, "policy", "-")):
        curves = [[p["reward"] for p in run["curve"]] for run in record["runs"] if run["kind"] == kind]
        for rewards_of_one in curves:
            right.plot(
                range(1, len(rewards_of_one) + 1), rewards_of_one, style, color=plots.COLOURS[colour], alpha=0.3, lw=1
            )
        mean = [statistics.mean(values) for values in zip(*curves, strict=True)]
        right.plot(range(1, len(mean) + 1), mean, style, color=plots.COLOURS[colour], lw=2, label=kind)
    right.legend(frameon=False, fontsize=8)
    plots.plain(left, xlabel="ms", title="A step of GRPO, cpu profile")
    plots.plain(right, xlabel="GRPO step", ylabel="mean reward", title="Every run, and the means")
    return drawn


def main(seeds: int = 3) -> None:
    """All kinds, all seeds in the cpu profile; write the record and the figure."""
    models.no_progress_bars()
    profile, threads = profiles.current("cpu"), models.use_fastest_threads()
    results = compared(profile, seeds)
    record = {
        "profile": vars(profile),
        "warm_up_steps": WARM_UP,
        "threads": threads,
        "summary": summary(results),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
        "machine": machine.described(),
        "runs": results,
    }
    RESULTS.parent.mkdir(exist_ok=True)
    files.write_text(RESULTS, json.dumps(record, indent=1))
    with files.replacing_file(FIGURE) as draft:
        figure(record).savefig(draft)
    print(table(record["summary"]), f"wrote {RESULTS} and {FIGURE}", sep="\n\n")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
