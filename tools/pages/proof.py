"""docs/proof.md: what is proven, every number from the benchmarks' records, the errata, or the test that counts it.

`python -m tools.pages.proof` writes the page; a test writes it again and compares.
"""

import json
import re
from pathlib import Path

from benchmarks import hand_loop, learning, steps
from grpo_nb.runs import files
from tools.pages import errata, kernels

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "proof.md"
RECORDS = ("learning", "rewards", "memory", "head", "steps", "hand_loop")
TEXT = """\
<!-- written by `make docs`; a test says when it is stale -->
# What is proven

What is measured and counted on this page is not typed by hand. `python -m tools.pages.proof` reads it from the records
in [benchmarks/results](../benchmarks/results), or from the test that counts it. `make bench` measures them anew.

## The model learns

![Left: the reward of {seeds} runs and their mean, over {grpo_steps} GRPO steps. Right: held-out accuracy of each run,
sampled and greedy, after SFT and after GRPO.](../notebooks/img/learning.svg)

{learning}

Each cell is the mean; in brackets the lowest and the highest seed. A seed changes everything at once: problems, slips,
weights, batches, samples. The {held_out} held-out problems of a seed share no problem with training, not even with the
two addends exchanged. Template, prompts and settings are the same before and after. `make test` repeats {tested} of the
seeds and asks for a gain of at least {gain:.0f} points sampled, no loss greedy, and a format rate of at least
{format:.0%}.

Why it works: the demonstrator whose worked answers the policy imitates forgets {slips:.0%} of the carries. Imitation
copies that, and a perfect imitator would be right about half of the time (notebook 03 computes it). GRPO is paid for
format and answer, never for the working-out. It finds the tries in which the carry was remembered, and makes them the
habit.

## The package equals the library

- **Losses.** `losses.grpo_loss` equals the loss of the pinned TRL, in value and in gradient, on {loss_cases:,} random
  combinations of options, {per_loss} for each of the {loss_types} loss types: [tests/test_losses.py]. Advantages equal
  those of the real trainer: [tests/test_advantages.py]. Every shape in a signature is checked at every call.
- **Training.** The trainer of the `ci` and `cpu` profiles takes its advantages and its loss from these functions. After
  {steps} steps its weights are those of TRL's own trainer, bit for bit, for each of the {loss_types} loss types,
  on-policy and off-policy, with a KL penalty and without: [tests/test_kernels_package_loss.py].
- **The loop by hand.** The loop that notebook 06 writes out in plain torch has TRL's gradients on one scored batch, and
  fed with TRL's completions it ends at TRL's weights: [tests/test_hand_loop.py]. Where it samples by itself, its reward
  over the last {late} of {hand_steps} steps, at most 13, differs from that of TRL's own trainer by {hand_off:+.2f} (95%
  interval {hand_low:+.2f} … {hand_high:+.2f}, {hand_seeds} seeds): [benchmarks/hand_loop.py].
- **Parameters.** [parameters.md](parameters.md) holds the {parameters} settings of `GRPOConfig`: default and meaning as
  the pinned TRL tells them, and what its help leaves out, with the test that shows it.
- **Errata.** [errata.md](errata.md) holds {errata} statements of the four documents that this course grew from, each
  beside what is true. A test runs {errata_run} of them. The others name a paper, a source that was read, or the
  document itself.
- **Batch flow.** `batchflow.plan` equals TRL's sampler, shuffle and slices in {real_runs} random runs of the real
  trainer, in {sharded_runs} with more processes, and in {launched_runs} of two processes that talk over gloo:
  [tests/test_batchflow.py]. `batchflow.check_table` says of any table from a blog whether such a run is possible.

## What is fast, and what is small

- **Memory.** The formulas of `memory` for logits, loss, activations and optimizer come within {tolerance:.0%} of what
  a profiler counts, in float32 on a CPU, in {memory_cases} cases: [benchmarks/memory.py]. The KV cache, 4-bit weights
  and vLLM's pool are arithmetic that nothing has measured.
- **Kernels.** `kernels.linear_grpo_loss` is `losses.grpo_loss` from hidden states on, without logits. Value and
  gradient equal float64 autograd within {exact:g}, for all loss types with every option: [tests/test_kernels.py]. On
  one thread ({live} tokens, {vocabulary} words, frozen head) it takes {to_naive:.2f} × the time of full logits and
  {to_newest:.2f} × that of TRL 1.16, which on a CPU scores all {positions:,} places. Beside its inputs it holds
  {ours_mib:.1f} MiB; they hold {naive_mib:.0f} and {newest_mib:,.0f}.
- **Trainer.** `KernelGRPOTrainer`, with which the `cpu` profile trains, leaves out what changes nothing: dead groups,
  repeated beginnings, ended completions. Its gradients are TRL's: [tests/test_kernels_trainer.py]. Over {step_seeds}
  whole runs it makes {speed:.1f} × the steps per second of TRL's own trainer ({fast:.2f} against {stock:.2f}), with
  {dead} of the groups dead, and ends with {fast_ends} right answers (TRL: {stock_ends}).
  Every peer, cell by cell: [kernels.md](kernels.md).
- **Rewards.** They read hostile text in linear time. The worst of {families} adversarial families, up to {longest:,}
  characters, takes {worst_ms} ms for all four: [benchmarks/rewards.py].

What breaks, and what then happens to a run: [survival.md](survival.md).

## What is not proven

- **Nothing has run on a GPU.** The GPU profiles are checked without one: their dicts build TRL's real configs, and
  every keyword fits the pinned Unsloth. No time, memory or accuracy is claimed for them. The Triton kernels are
  interpreted, and compiled for an H200, in the tests.
- The {explorers} explorers draw what these same functions compute. In a saved notebook, without a kernel, they are
  pictures.

{links}
"""


def records() -> dict[str, dict]:
    """Name → what was recorded."""
    folder = ROOT / "benchmarks" / "results"
    return {name: json.loads((folder / f"{name}.json").read_text(encoding="utf8")) for name in RECORDS}


def page(recorded: dict[str, dict]) -> str:
    """The text of docs/proof.md."""
    numbers = _learning(recorded["learning"]) | _kernels(recorded["head"], recorded["steps"]) | _counts()
    off, hand = recorded["hand_loop"]["difference"], recorded["hand_loop"]["seeds"]
    numbers |= {"hand_off": off["mean"], "hand_low": off["low"], "hand_high": off["high"], "hand_seeds": len(hand)}
    numbers |= {"late": hand_loop.LATE, "hand_steps": len(hand[0]["hand"]["rewards"])}
    sizes = [int(size) for family in recorded["rewards"]["families"].values() for size in family["ours_ms"]]
    numbers |= {
        "tolerance": recorded["memory"]["tolerance"],
        "memory_cases": len(recorded["memory"]["cases"]),
        "worst_ms": recorded["rewards"]["worst_ms"],
        "families": len(recorded["rewards"]["families"]),
        "longest": max(sizes),
    }
    files_named = sorted(set(re.findall(r"\[((?:tests|benchmarks)/\w+\.py)\]", TEXT)))
    return TEXT.format(links="\n".join(f"[{name}]: ../{name}" for name in files_named), **numbers)


def _learning(record: dict) -> dict:
    test = "tests/test_learning.py"
    return {
        "seeds": len(record["seeds"]),
        "grpo_steps": record["profile"]["grpo"]["max_steps"],
        "learning": learning.table(record),
        "held_out": record["profile"]["task"]["num_held_out"],
        "slips": record["profile"]["task"]["slip_rate"],
        "tested": len(read(test, r"seed\", \[([\d, ]+)\]").split(",")),
        "gain": 100 * float(read(test, r"MINIMUM_GAIN = ([\d.]+)")),
        "format": float(read(test, r"\[\"format\"\]\) >= ([\d.]+)")),
    }


def _kernels(head: dict, whole: dict) -> dict:
    cell = head["cpu"]["cells"][0]
    frozen = {row["method"]: row for row in cell["rows"]}
    ours, naive, newest = (
        frozen[name] for name in ("grpo_nb, direction", "naive logits", "TRL 1.16 on a CPU: every position")
    )
    rows = {row["kind"]: row for row in whole["summary"]}
    fast, stock = rows[steps.ALL], rows[steps.STOCK]
    ends = [f"{min(row['sampled']):.1%} … {max(row['sampled']):.1%}" for row in (fast, stock)]
    return {
        "exact": float(read("tests/test_kernels.py", r"torch\.float64: ([\de.-]+)")),
        "live": cell["live"],
        "vocabulary": re.search(r"× ([\d,]+), frozen", cell["title"])[1],
        "positions": cell["positions"],
        "to_naive": ours["s"] / naive["s"],
        "to_newest": ours["s"] / newest["s"],
        "ours_mib": ours["extra_mib"],
        "naive_mib": naive["extra_mib"],
        "newest_mib": newest["extra_mib"],
        "step_seeds": len(fast["sampled"]),
        "speed": fast["speed"],
        "fast": fast["steps_per_s"],
        "stock": stock["steps_per_s"],
        "fast_ends": ends[0],
        "stock_ends": ends[1],
        "dead": kernels.dead_groups(whole),
    }


def _counts() -> dict:
    from grpo_nb import preflight

    every = [row for stem in errata.DOCUMENTS for row in errata.rows(stem)]
    cases = int(read("tests/test_losses.py", r"CASES = (\d+)"))
    types = read("tests/test_losses.py", r"TRLS = \((.+)\)").split(",")
    flows = read("tests/test_batchflow.py", r"LAUNCHED_RUNS = ([\d, ]+)").split(",")
    explorers = [path for path in (ROOT / "grpo_nb" / "explorers").glob("[a-z]*.py") if path.stem != "panel"]
    return {
        "steps": int(read("tests/test_kernels_package_loss.py", r"STEPS = (\d+)")),
        "loss_cases": cases,
        "loss_types": len(types),
        "per_loss": cases // len(types),
        "parameters": len(preflight.meanings()),
        "errata": len(every),
        "errata_run": sum("check" in row for row in every),
        **dict(zip(("real_runs", "sharded_runs", "launched_runs"), map(int, flows), strict=True)),
        "explorers": len(explorers),
    }


def read(file: str, pattern: str) -> str:
    """What the first group of a pattern matches in a test's source: the number that it runs with.

    Raises: ValueError if the test has changed so that the pattern finds nothing.
    """
    found = re.search(pattern, (ROOT / file).read_text(encoding="utf8"))
    if found is None:
        raise ValueError(f"{file} must hold {pattern} (got no match). Mend the pattern in {Path(__file__).name}.")
    return found[1]


if __name__ == "__main__":
    files.write_text(PAGE, page(records()))
