"""One arm with one seed: trained now, gone on with, or read from the disk; and what is measured of it.

A run that is finished leaves `metrics.jsonl` and `summary.json`, and no checkpoint. One that was cut leaves its sealed
checkpoints, and goes on from the newest.
"""

import dataclasses
import datetime
import itertools
import json
import math
import re
import shutil
import statistics
import time
from collections.abc import Callable, Sequence

from grpo_nb import data, evaluate, guards, train
from grpo_nb.lab import arms
from grpo_nb.rewards import parsing
from grpo_nb.runs import callbacks, fingerprints, tracking

KEPT = (
    "reward",
    "frac_reward_zero_std",
    "entropy",
    "kl",
    "grad_norm",
    "completions/mean_length",
    "completions/clipped_ratio",
)  # of the metrics: what the curves can show
SUM = re.compile(r"(\d{1,3})\+(\d{1,3})(?:\+(\d{1,3}))?=(\d{1,4})")
BROKEN = {"training rows": 0.0, "kl": math.inf, "other sizes, format": 0.0, "other sizes, sums": 0.0}
ASKED = 50  # training rows, and problems of another size, that are asked in the end


@dataclasses.dataclass
class Measured:
    """What came out of one arm with one seed.

    Attributes:
        source: "trained", "cached" or "recorded": where it was taken from.
        rows: one dict for each logged step, TRL's names.
        samples: completions of each held-out prompt.
        shares: `sampled`, `greedy` and `format`: of each held-out prompt, in [0, 1].
        other: `training rows`: the share that is answered rightly; of additions with one digit more, on which nothing
            trained, `other sizes, format` (share in the layout) and `other sizes, sums` (share of the column sums that
            are true); `kl` to the start, in nats per token, over the whole vocabulary, on sampled held-out
            completions.
        tokens: that it read and wrote in training; `seconds` of processor time for that.
        stopped: what a guard said when it ended the run; "" if it came to its end.
        date, versions, machine: when and where it was trained.
    """

    source: str
    rows: list[dict]
    samples: int
    shares: dict[str, list[float]]
    other: dict[str, float]
    tokens: int
    seconds: float
    stopped: str
    date: str
    versions: dict
    machine: dict

    @property
    def is_whole(self) -> bool:
        """Whether all is there that a result shows; what is read from a file may have been edited or cut."""
        try:
            shares = [self.shares[key] for key in ("sampled", "greedy", "format")]
            logged = [value for row in self.rows for value in row.values() if not isinstance(value, (str, type(None)))]
            steps = [row["step"] for row in self.rows if "reward" in row]
            numbers = [self.other["training rows"], self.other["kl"], self.tokens, self.seconds, *sum(shares, [])]
            words = [self.date, self.stopped, self.versions["torch"], self.versions["trl"], self.machine["processor"]]
        except (KeyError, TypeError, AttributeError):
            return False
        return (
            all(isinstance(number, (int, float)) for number in [*numbers, *logged, *steps])
            and all(isinstance(word, str) for word in words)
            and bool(self.rows or self.stopped)  # a guard may end the first step
            and len(shares[0]) == len(shares[1]) == len(shares[2]) > 0
            and all(0 <= share <= 1 for share in sum(shares, []))
        )


class Progress(callbacks.Callback):
    """Says how far a run is, and counts the processor time of its steps."""

    def __init__(self, say: Callable[[str], None]):
        self.say, self.seconds, self.steps = say, 0.0, 0

    def on_step_begin(self, args, state, control, **kwargs):
        self.began = time.process_time()

    def on_step_end(self, args, state, control, **kwargs):
        self.seconds, self.steps = self.seconds + time.process_time() - self.began, self.steps + 1
        self.say(f"step {state.global_step} of {state.max_steps}")


def trained(
    arm: arms.Arm, seed: int, start: Callable, held_out: Sequence[dict], say: Callable, *, fresh: bool
) -> Measured:
    """Train an arm, or go on with it.

    Args:
        start: () → (policy, tokenizer), the warm start.
        held_out: rows, as `data.grpo_rows` makes them.
        say: gets a few words at every step.
        fresh: begin anew whatever is there.
    Raises: KeyboardInterrupt at an interrupt, once a checkpoint is sealed; ValueError from `train.grpo_trainer`.
    """
    run = tracking.Run(f"lab-{arm.key(seed)}", arm.profile, mode="off", live=(progress := Progress(say)))
    policy, tokenizer = start()
    watch = guards.Watch()
    trainer = train.grpo_trainer(
        policy, tokenizer, arm.rows, arm.rewards, arm.profile, loss=arm.loss, run=run, guard=watch, seed=seed
    )
    import torch

    trainer.model.to(getattr(torch, arm.dtype))
    stopped = ""
    try:
        train.resume_or_start(trainer, fresh=fresh)
    except ValueError as error:
        if not any(watch.counts.values()):
            raise
        stopped = str(error)
    rows = run.rows()
    found = Measured(
        source="trained",
        rows=rows,
        samples=arm.profile.evaluate["num_return_sequences"],
        tokens=max((int(row["num_tokens"]) for row in rows if "num_tokens" in row), default=0),
        seconds=round(progress.seconds * trainer.state.global_step / max(1, progress.steps), 1),
        stopped=stopped,
        date=datetime.date.today().isoformat(),
        versions=fingerprints.versions(),
        machine=fingerprints.machine(),
        **measure(trainer.model, tokenizer, arm, held_out),
    )
    run.save_summary({key: value for key, value in vars(found).items() if key not in ("rows", "source")})
    shutil.rmtree(run.folder / "trainer", ignore_errors=True)
    return found


def finished(arm: arms.Arm, seed: int) -> Measured | None:
    """What an earlier call left on the disk; None where nothing is, or not all of it."""
    folder = tracking.outputs_dir() / arm.profile.name / f"lab-{arm.key(seed)}"
    try:
        summary = json.loads((folder / "summary.json").read_text(encoding="utf8"))
        found = Measured(source="cached", rows=tracking.read_jsonl(folder / "metrics.jsonl"), **summary)
    except (OSError, ValueError, TypeError, RecursionError):  # none, torn, or of another version: it is trained again
        return None
    return found if found.is_whole else None


def measure(policy, tokenizer, arm: arms.Arm, held_out: Sequence[dict]) -> dict:
    """`shares` and `other` of a trained policy, see `Measured`; of one with broken weights nothing is right."""
    if not all(parameter.isfinite().all() for parameter in policy.parameters()):
        nothing = [0.0] * len(held_out)
        return {"shares": dict.fromkeys(("sampled", "greedy", "format"), nothing), "other": BROKEN}
    settings = {
        "max_new_tokens": arm.start.grpo["max_completion_length"],  # the same for all arms
        "batch_size": arm.profile.evaluate["batch_size"],
    }
    many = {"num_return_sequences": arm.profile.evaluate["num_return_sequences"], **settings}
    sampled = evaluate.completions(policy, tokenizer, arm.rows[:ASKED], **settings)
    right = [evaluate.is_correct(texts[0], row["answer"]) for texts, row in zip(sampled, arm.rows, strict=False)]
    nats = evaluate.kl_to_base(policy, tokenizer, held_out, **settings)  # without its adapter it is the warm start
    other = {"training rows": sum(right) / len(right), "kl": statistics.fmean(itertools.chain(*nats))}
    if arm.start.task["name"] == "addition":
        rows, _ = data.addition(num_train=ASKED, num_held_out=0, digits=arm.start.task["digits"] + 1)
        rows = data.grpo_rows(rows, system_prompt=arm.start.task["system_prompt"])
        texts = [group[0] for group in evaluate.completions(policy, tokenizer, rows, **settings)]
        other["other sizes, format"] = sum(parsing.solution(text) is not None for text in texts) / len(texts)
        other["other sizes, sums"] = true_sums(texts)
    return {"shares": evaluate.shares(policy, tokenizer, held_out, **many), "other": other}


def true_sums(texts: Sequence[str]) -> float:
    """The share of the column sums in some texts that are true, "7+5+1=13"; 0 where there is none.

    >>> true_sums(["7+5=12 3+4+1=9", "none"])
    0.5
    """
    found = [sum_ for text in texts for sum_ in SUM.findall(text)]
    return sum(int(a) + int(b) + int(carry or 0) == int(c) for a, b, carry, c in found) / max(1, len(found))
