"""Steps per second of GRPO in the cpu profile: TRL's trainer, ours, and ours with one switch at a time.

`python -m benchmarks.steps [SEEDS]`. Every run of a seed starts from the same warm start, reads the same prompts in the
same order and is trained by the same `GRPOConfig`; the runs take turns, each seed beginning with another one. A step is
split by the clock into sampling, loss (log-probs included), backward pass, and the rest; the seconds of the processor,
of all threads, stand beside them, for other programs do not add to those. Accuracy is measured on held-out problems
after the last step. Writes results/steps.json and the figure notebooks/img/steps.svg.

`python -m benchmarks.steps pretrained [ROUNDS]` does it with SmolLM2-135M and its own chat template on sums of two
numbers, two steps a run of which the second counts, and measures how far a policy rounded to bfloat16 is from the one
that trains. Writes results/steps_pretrained.json.
"""

import json
import random
import re
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
from grpo_nb import data, evaluate, losses, models, plots, profiles, rewards, train
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
PRETRAINED = RESULTS.with_name("steps_pretrained.json")
ROUNDED = "bf16_sampler"
KINDS_OF_PRETRAINED = KINDS | {
    f"cached_sampler, {ROUNDED}": {"cached_sampler", ROUNDED},
    f"{ALL}, {ROUNDED}": {*SWITCHES, ROUNDED},
}
WARM_UP = 2  # steps that are not counted: caches fill, and our head is compared with TRL's once


def trainer_of(
    kind: str, profile: SimpleNamespace, start: tuple, prompts: list[dict], seed: int, folder: str, *, scored_by=REWARDS
):
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
        "reward_funcs": scored_by,
        "args": GRPOConfig(**{**profile.grpo, **unsaved}),
        "train_dataset": Dataset.from_list(prompts),
        "processing_class": tokenizer,
    }
    on = KINDS_OF_PRETRAINED[kind]
    if on is None:
        trainer = GRPOTrainer(**settings)
    else:
        from grpo_nb.kernels.trainer import KernelGRPOTrainer

        switches = {name: name in on for name in (*SWITCHES, ROUNDED)}
        trainer = KernelGRPOTrainer(**settings, own_loss=on >= set(SWITCHES), **switches)
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
    for kind in dict.fromkeys(result["kind"] for result in results):
        runs = [result for result in results if result["kind"] == kind]
        parts = {p: statistics.mean(run["seconds"][p] for run in runs) for p in runs[0]["seconds"]}
        row = {"kind": kind, **parts, "steps_per_s": 1 / parts["step"]}
        if "after" in runs[0]:
            row["last_rewards"] = [statistics.mean(point["reward"] for point in run["curve"][-10:]) for run in runs]
            row["sampled"] = [run["after"]["sampled"] for run in runs]
        rows.append(row)
    stock = next(row for row in rows if row["kind"] == STOCK)
    return [
        row | {"speed": row["steps_per_s"] / stock["steps_per_s"], "speed_by_cpu": stock["cpu"] / row["cpu"]}
        for row in rows
    ]


def number(completion: list[dict]) -> int | None:
    """The last number of a completion; None without one."""
    found = re.findall(r"\d{1,9}", completion[0]["content"][-300:])
    return int(found[-1]) if found else None


def right(completions, answer, **columns) -> list[float]:
    return [float(number(said) == true) for said, true in zip(completions, answer, strict=True)]


def near(completions, answer, **columns) -> list[float]:
    """Up to ½, by how far a completion's number is off."""
    numbers = [number(completion) for completion in completions]
    return [
        0.0 if n is None else max(0.0, 0.5 - abs(n - true) / true / 2) for n, true in zip(numbers, answer, strict=True)
    ]


def sums(count: int) -> list[dict]:
    """Prompts as notebook 14 has them, always the same."""
    draw = random.Random(0)
    pairs = [(draw.randint(10, 99), draw.randint(10, 99)) for _ in range(count)]
    return [
        {"prompt": [{"role": "user", "content": f"What is {a} + {b}? Reply with the number only."}], "answer": a + b}
        for a, b in pairs
    ]


def of_pretrained(rounds: int = 1) -> None:
    """Two steps of every kind by turns, each kind from the same weights; write the record."""
    profile, threads = profiles.current("laptop"), models.use_fastest_threads()
    profile.grpo.update(per_device_train_batch_size=32, max_completion_length=16, max_steps=2, learning_rate=1e-4)
    del profile.grpo["save_steps"]
    start, prompts = models.load_pretrained(profile.policy["model_name"], chat_template="own"), sums(64)
    kinds, results = list(KINDS_OF_PRETRAINED), []
    for turn in range(rounds):
        for kind in kinds[turn:] + kinds[:turn]:
            with tempfile.TemporaryDirectory() as folder:
                trainer = trainer_of(kind, profile, start, prompts, turn, folder, scored_by=[right, near])
                clock = Clock(trainer)
                trainer.train()
            dead = [line["frac_reward_zero_std"] for line in trainer.state.log_history if "reward" in line]
            results.append({"kind": kind, "seconds": clock.steps[-1], "steps": clock.steps, "dead_groups": dead[-1]})
            print(f"{kind}: {clock.steps[-1]['step']:.1f} s, CPU {clock.steps[-1]['cpu']:.1f} s", flush=True)
    record = {
        "profile": vars(profile),
        "rounds": rounds,
        "threads": threads,
        "summary": summary(results),
        "rounding": rounding(start, prompts[:8], profile),
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft")},
        "machine": machine.described(),
        "runs": results,
    }
    files.write_text(PRETRAINED, json.dumps(record, indent=1))
    print(table(record["summary"]), record["rounding"], f"wrote {PRETRAINED}", sep="\n\n")


def rounding(start: tuple, prompts: list[dict], profile: SimpleNamespace) -> dict[str, float]:
    """How far the policy is from itself in bfloat16, on tokens that the rounded one draws: log-probs, in nats."""
    import torch
    from transformers import GenerationConfig

    from grpo_nb.kernels import sampler
    from grpo_nb.kernels.merged import merged

    model, tokenizer = start
    length, ends = profile.grpo["max_completion_length"], [tokenizer.eos_token_id]
    asked = [tokenizer.apply_chat_template(row["prompt"], add_generation_prompt=True)["input_ids"] for row in prompts]
    asked = [ids for ids in asked for _ in range(profile.grpo["num_generations"])]
    config = GenerationConfig(max_new_tokens=length, do_sample=True, top_k=0, eos_token_id=ends, pad_token_id=0)
    options = {"generation_config": config, "eos_token_ids": ends}
    torch.manual_seed(0)
    said = sampler.sample(model, asked, **options, dtype=torch.bfloat16)
    found = {torch.bfloat16: [], torch.float32: []}
    for dtype, logps in found.items():
        with torch.no_grad(), merged(model, dtype=dtype):
            for ids, completion in zip(asked, said, strict=True):
                logits = model(torch.tensor([ids + completion]), logits_to_keep=len(completion) + 1).logits[0, :-1]
                chosen = logits.float().log_softmax(-1).gather(1, torch.tensor(completion)[:, None])
                logps.append(chosen[:, 0])
    tokens = {dtype: torch.cat(logps) for dtype, logps in found.items()}
    difference = tokens[torch.float32] - tokens[torch.bfloat16]
    whole = torch.stack([(a - b).sum() for a, b in zip(found[torch.float32], found[torch.bfloat16], strict=True)])
    return {
        "tokens": len(difference),
        "mean": difference.abs().mean().item(),
        "max": difference.abs().max().item(),
        "kl": losses.kl_k3(tokens[torch.bfloat16], tokens[torch.float32]).mean().item(),  # rounded ‖ float32
        "ratio_mean": difference.exp().mean().item(),
        "ratio_of_completions_min": whole.min().exp().item(),
        "ratio_of_completions_max": whole.max().exp().item(),
    }


def table(rows: list[dict]) -> str:
    """Markdown: milliseconds of a step, steps per second, accuracy; the least time and the highest speed in bold."""
    titles = [*PARTS, "rest", "step", "cpu"]
    best = {title: f"{min(row[title] for row in rows) * 1e3:.0f}" for title in titles}
    digits = 2 if rows[0]["steps_per_s"] > 0.5 else 3
    fastest = f"{max(row['steps_per_s'] for row in rows):.{digits}f}"
    columns = [*titles[:-1], "CPU ms", "steps/s", "× TRL", *["right after, sampled"] * ("sampled" in rows[0])]
    lines = ["| ms of a step | " + " | ".join(columns) + " |", "|---|" + "--:|" * len(columns)]
    for row in rows:
        cells = [f"{row[title] * 1e3:.0f}" for title in titles]
        cells = [f"**{c}**" if c == best[t] else c for c, t in zip(cells, titles, strict=True)]
        speed = f"{row['steps_per_s']:.{digits}f}"
        cells += [f"**{speed}**" if speed == fastest else speed, f"{row['speed']:.2f}"]
        if shares := row.get("sampled"):
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
    if sys.argv[1:2] == ["pretrained"]:
        of_pretrained(*map(int, sys.argv[2:]))
    else:
        main(*map(int, sys.argv[1:]))
