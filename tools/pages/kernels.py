"""docs/kernels.md, from the records of `benchmarks.head` and `benchmarks.steps`.

`python -m tools.pages.kernels` writes the page; a test writes it again and compares.
"""

import json
from pathlib import Path

from benchmarks import steps
from benchmarks.head import report
from grpo_nb.runs import files

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "kernels.md"
TEXT = """\
# What the kernels cost, beside their peers

Written by `python -m tools.pages.kernels` from `results/head.json`, `results/steps.json` and
`results/steps_pretrained.json`, which `make bench` measures anew. The best number of a column is bold, whoever it
belongs to. Peers are loaded from the wheels of their releases and run by turns with ours, on the same inputs.

## The loss head on a CPU

Log-probs, GRPO's loss (dapo) and its gradient: 416 scored tokens among 1,024 positions, H = 576, V = 32,768, float32,
one thread. Memory is what the allocator held at most, above the inputs. Errors are against float64 autograd: relative
for gradients, in nats for log p. *Entropy*: whether a method computes it too. Unsloth-zoo's head is written for cards:
what runs here is the path that it falls back to, and not what Unsloth trains with on a CPU.

![Left: time and memory of every method, frozen head. Right: ours, by the size of a tile.](../notebooks/img/head.svg)

{head}

## Who does what

Read in the source of these versions; TRL 1.14.2 is installed. A *product* is all tokens times W, 2 · N · H · V
operations; told are those with a frozen head / with one that trains.

| who | how | products | worth knowing |
|---|---|---|---|
| TRL 1.14.2 | full logits | 2 / 3 | the default; every place of a completion, padding too |
| TRL 1.14.2, `use_liger_kernel=True` | computes twice; tiles of 2,048 tokens × 8,192 words | 3 / 4 | entropy always |
| TRL 1.16.0 | computes twice; tiles of 4,096 tokens, Triton on a card | 3 / 4 | always, with entropy; on a CPU it \
scores every place, prompt and padding too |
| Liger 0.8.5, `LigerFusedLinearGRPOLoss` | gradients while going forward, logits twice; tiles of 2,048 × 4,096 | 3 / \
4 | loss included; no entropy |
| Liger 0.8.5, `LigerFusedLinearScaledCrossEntropyFunction` | computes twice; on Hopper cards one kernel, elsewhere \
512 tokens at a time | 4 / 4 | log-probs and entropy for any loss |
| Unsloth-zoo 2026.10.9 | the direction; computes twice if head or entropy train | 2 / 4 | any loss; Triton on a card |
| torch 2.13, `linear_cross_entropy` | gradients while going forward | 2 / 3 | mean or sum; a loss per token computes \
twice; no entropy |
| here, `linear_grpo_loss` | the direction; fused if the head trains | 2 / 3 | 2 / 4 where a loss needs other tokens |
| here, `KernelGRPOTrainer` | `losses.grpo_loss` on `linear_logps`: the direction; computes twice if the head trains \
| 2 / 4 | any of the losses, or your own |

TRL's heads in tiles, and ours, refuse an adapter on the head itself.

## The size of a tile

*direction* is given 2 MiB, which a core's cache holds: larger tiles cost memory and buy no time. *fused* keeps whole
rows of logits and needs enough of them for its products: 16 MiB, the price of `dW` in the same pass. It never takes
fewer than 4 rows, which would round more.

{sweep}

## A step of GRPO on a CPU

The cpu profile, {seeds} seeds, {threads}; the first {warm_up} steps of a run are not counted. `TRL` is its own trainer,
the other rows turn on switches of `kernels.trainer.KernelGRPOTrainer`. Columns: milliseconds of a step and its parts.
What the switches leave out depends on the run: here {dead} of the groups were dead, and a policy that is nearly sure
repeats itself.

![Left: the parts of a step. Right: the reward of every run, and the means.](../notebooks/img/steps.svg)

{steps}

## A step with a pretrained model

SmolLM2-135M-Instruct in float32, its own chat template, LoRA r = 16 on seven projections, 4 prompts × 8 completions of
at most 16 tokens; {real_threads}, {rounds}, the second step of a run. All runs start from the same weights. By the
processor's seconds a step takes TRL {real_cpu:.1f} times as long as ours with all switches on, {rounded_cpu:.1f} times
as long with `bf16_sampler` too; the clock's seconds are disturbed where other programs ran.

{real}

`bf16_sampler` rounds the weights to bfloat16 while sampling, where a measurement says that this processor multiplies
them faster; it is off unless asked for. Completions are then drawn from a policy that is a rounding away from the one
that trains, and the loss does not correct for it. On {tokens} tokens drawn by the rounded policy, log-probs differ by
{mean:.3f} nats in the mean and {max:.2f} at most; KL(rounded ‖ float32) is about {kl:.4f} nats a token; the ratio of
the two probabilities is {ratio_mean:.3f} in the mean, of whole completions between {ratio_of_completions_min:.2f} and
{ratio_of_completions_max:.2f}. No ratio that a loss clips shows this, for `old_logps` are of the float32 weights too.

## On a card

{card} `python -m benchmarks.head cuda` measures these cells on a machine with an NVIDIA card.

{cuda}

Machine and versions: {machine}.
"""


def records() -> tuple[dict, dict, dict]:
    """(head, steps, steps of the pretrained model) as they were recorded."""
    folder = ROOT / "benchmarks" / "results"
    names = ("head", "steps", "steps_pretrained")
    return tuple(json.loads((folder / f"{name}.json").read_text(encoding="utf8")) for name in names)


def page(head: dict, whole: dict, pretrained: dict) -> str:
    """The page: every cell, and what was not measured."""
    cpu, cuda = head["cpu"], head["cuda"]
    is_measured = any("s" in row for cell in cuda["cells"] for row in cell["rows"])
    faster = {row["kind"]: row["speed_by_cpu"] for row in pretrained["summary"]}
    return TEXT.format(
        real=steps.table(pretrained["summary"]),
        real_cpu=faster[steps.ALL],
        rounded_cpu=faster[f"{steps.ALL}, {steps.ROUNDED}"],
        real_threads=threads(pretrained),
        rounds="one round" if pretrained["rounds"] == 1 else f"{pretrained['rounds']} rounds",
        **pretrained["rounding"],
        head=report.tables(cpu),
        sweep=report.table(cpu["sweep"], report.columns_of(cpu["sweep"], "cpu")),
        seeds=len(whole["runs"]) // len(whole["summary"]),
        threads=threads(whole),
        warm_up=whole["warm_up_steps"],
        steps=steps.table(whole["summary"]),
        dead=dead_groups(whole),
        card="" if is_measured else "No card was at hand: nothing here has been measured, and nothing is claimed.",
        cuda=report.tables(cuda)
        if is_measured
        else "Cells: " + "; ".join(cell["title"] for cell in cuda["cells"]) + ".",
        machine=" · ".join(f"{key} {value}" for key, value in {**cpu["machine"], **cpu["versions"]}.items() if value),
    )


def threads(record: dict) -> str:
    return "one thread" if record["threads"] == 1 else f"{record['threads']} threads"


def dead_groups(whole: dict) -> str:
    """Least and largest share of dead groups in a run of TRL's own trainer."""
    shares = [run["dead_groups"] for run in whole["runs"] if run["kind"] == steps.STOCK]
    return f"{min(shares):.0%} … {max(shares):.0%}"


if __name__ == "__main__":
    files.write_text(PAGE, page(*records()))
