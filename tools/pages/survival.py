"""docs/survival.md: what goes wrong in a run and what then happens, with the record of `benchmarks.survival`.

`python -m tools.pages.survival` writes the page; a test writes it again and compares.
"""

import json
from pathlib import Path

from benchmarks import survival
from grpo_nb.guards import signals, updates
from grpo_nb.runs import files
from tools.pages.proof import read

ROOT = Path(__file__).parent.parent.parent
PAGE = ROOT / "docs" / "survival.md"
ROWS = [  # what goes wrong, what happens
    (
        "the kernel is killed, the lid is closed",
        "`train.resume_or_start` goes on from the newest sealed checkpoint; the run ends bit for bit as if nobody had "
        "killed it",
    ),
    ("a checkpoint is damaged", "it is set aside with one warning, and the one before it is taken"),
    (
        "settings, rows, rewards or libraries changed before the run was finished",
        "refused, each difference named",
    ),
    ("two notebooks train the same run", "the second one is refused"),
    (
        "the stop button; the hour is over (`minutes=55`)",
        "the run seals a checkpoint at the next step from which it can go on, and stops",
    ),
    (
        "a misspelt or outdated key, impossible batches, empty or broken rows",
        "refused in one sentence before a model loads: [refusals.md](refusals.md)",
    ),
    (
        "a reward raises, or returns `inf`, NaN or text",
        'stopped in that step, the reward and the completion named; `guard="skip"` leaves bad scores out and counts '
        "them",
    ),
    (
        "a reward is the same for every completion",
        f"stopped after {signals.SOON} steps; after {signals.LATE} if a dry run saw it tell completions apart, for "
        "then it may be chance",
    ),
    ("a gradient is NaN", "stopped before the optimizer applies it, step and tensor named"),
    (
        f"a weight is NaN; an update makes the weights {updates.TIMES_LARGER:g} times larger",
        "stopped before a checkpoint is written",
    ),
    (
        "an adapter is frozen or switched off; an optimizer, a precision or a learning rate moves nothing",
        "refused before the first step, with the way to make it trainable; stopped where no bit of the trained tensors "
        f"has changed for {signals.SOON} logs",
    ),
    ("a loss is NaN though its gradients are finite", "stopped at that step's log"),
    ("the disk is full or read-only", "one sentence; the earlier checkpoint stays whole"),
    (
        "SwanLab hangs, refuses or is not there",
        "the run goes on: SwanLab reads `metrics.jsonl` from a process of its own, online, else offline, else not at "
        "all",
    ),
]
TEXT = """\
<!-- written by `make docs`; a test says when it is stale -->
# Runs that survive

A session dies, a reward returns `inf`, a key is misspelt. A run here goes on where it can, and stops in one clear
sentence where it cannot.

| what goes wrong | what happens |
|---|---|
{rows}

A *seal* is the last file written into a checkpoint. It holds the size and the hash of all the others, so that a
checkpoint which was cut short is never mistaken for a whole one.

## Measured

{sentence}

They are of {cases} kinds: {kinds}. [benchmarks/survival.py](../benchmarks/survival.py)
measures them anew; `make test` repeats {tested}.

## Where it ends

- On a drive without locks a file stands for one, and stays if its machine is lost: the refusal says which to delete. On
  one that does not say when something is written, a power cut can cost the newest checkpoint. Both print a warning.
- On Colab the disk goes with the session. Mount Drive and set `GRPO_NB_OUTPUTS` to a folder on it before the first
  cell, or nothing is left to go on from.
- On a GPU profile GRPO trains the SFT adapter itself. After a stop, run the same cell again: a trainer that is made
  anew starts from other weights and is refused, unless `train.warm_start` has run again before it. After a restart of
  the kernel, run all cells.
- Equal bits need the same machine, the same number of threads and one process. On a GPU, and with vLLM, a resumed run
  goes on, but no claim of equality is made.
- TRL and transformers lose two things when they resume. Both are put back here: the trained adapter, where TRL keeps a
  reference adapter beside it (`beta` above 0), and the order of the rows after the first epoch.
"""


def record() -> dict:
    """What was recorded."""
    return json.loads((ROOT / "benchmarks" / "results" / "survival.json").read_text(encoding="utf8"))


def page(recorded: dict) -> str:
    """The text of docs/survival.md."""
    return TEXT.format(
        rows="\n".join(f"| {wrong} | {then} |" for wrong, then in ROWS),
        sentence=survival.sentence(recorded),
        cases=len(recorded["cases"]),
        kinds="; ".join(recorded["cases"]),
        tested=read("tests/test_survival.py", r'"benchmarks\.survival", "(\d+)"'),
    )


if __name__ == "__main__":
    files.write_text(PAGE, page(record()))
