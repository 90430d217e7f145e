"""Does a run that is killed again and again end as if nobody had? `python benchmarks/survival.py [RUNS]`.

Every run trains a tiny policy with GRPO and is killed three times with SIGKILL, by turns at a random moment and inside
a save (the checkpoint's folder is there, its seal is not), then left to finish. Compared with a run that nobody killed:
the trained weights, bit for bit, and every line of metrics.jsonl but its times. Writes results/survival.json.
Needs a system with fork: Linux or macOS.
"""

import gc
import hashlib
import json
import os
import platform
import random
import signal
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import torch

from grpo_nb import data, models, profiles, train
from grpo_nb.rewards import parsing
from grpo_nb.runs import checkpoints, files, tracking

RESULTS = Path(__file__).parent / "results"
KILLS = 3
STEPS = 16
# Each can go wrong in a way of its own: the place in a generation, the reference adapter, the order of an epoch.
CASES = {
    "plain": {},
    "two passes over each generation": {"num_iterations": 2},
    "accumulated, a generation in two updates": {"gradient_accumulation_steps": 2, "steps_per_generation": 4},
    "with KL to the base": {"beta": 0.04},
    "epochs of three steps": {"num_rows": 6},
}


def small_run(folder: Path, case: str, policy, tokenizer, rows: list[dict]) -> dict:
    """Start or resume one run of `STEPS` steps in `folder`; its final weights as a digest, and its metrics."""
    os.environ["GRPO_NB_OUTPUTS"] = str(folder)
    changes = dict(CASES[case])
    profile = small_profile()
    run = tracking.Run("run", profile, mode="off")
    prompts = data.grpo_rows(rows[: changes.pop("num_rows", len(rows))], system_prompt="Add.")
    trainer = train.grpo_trainer(
        policy, tokenizer, prompts, [variety], profile, run=run, guard="skip", save_steps=2, **changes
    )
    train.resume_or_start(trainer)
    digest = hashlib.sha256()
    for name, parameter in trainer.model.named_parameters():
        digest.update(name.encode() + parameter.detach().numpy().tobytes())
    lines = [{key: value for key, value in row.items() if key != "step_time"} for row in run.rows()]
    return {"weights": digest.hexdigest(), "lines": lines}


def variety(completions, **columns) -> list[float]:
    """Different characters in a completion: a random policy's groups differ in it, so that every step moves weights."""
    return [float(len(set(parsing.text(completion)))) for completion in completions]


def small_profile():
    """The ci profile with short completions and two prompts a step: a step takes a fraction of a second."""
    profile = profiles.current("ci")
    profile.grpo.update(
        max_steps=STEPS, per_device_train_batch_size=8, num_generations=4, max_completion_length=8, warmup_steps=0
    )
    return profile


def survive(case: str, seed: int, policy, tokenizer, rows: list[dict]) -> tuple[dict, list[dict]]:
    """Kill one run `KILLS` times, then let it finish: what it ended with, and where each kill hit."""
    rng, kills = random.Random(seed), []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        while True:
            child = os.fork()
            if child == 0:
                _attempt(folder, case, policy, tokenizer, rows)
            if len(kills) == KILLS:
                _, status = os.waitpid(child, 0)
                assert status == 0, (folder / "errors.txt").read_text(encoding="utf8")
                return json.loads((folder / "result.json").read_text(encoding="utf8")), kills
            kills.append(_kill(child, folder, rng, in_save=len(kills) % 2 == seed % 2))


def _attempt(folder: Path, case: str, policy, tokenizer, rows: list[dict]) -> None:
    """The child: train quietly, leave the result, and never come back into the parent's code."""
    errors = (folder / "errors.txt").open("w", encoding="utf8")
    os.dup2(errors.fileno(), 1)
    os.dup2(errors.fileno(), 2)
    try:
        files.write_text(folder / "result.json", json.dumps(small_run(folder, case, policy, tokenizer, rows)))
    except BaseException:
        import traceback

        traceback.print_exc()
        errors.flush()
        os._exit(1)
    os._exit(0)


def _kill(child: int, folder: Path, rng: random.Random, *, in_save: bool) -> dict:
    """SIGKILL once the child has come some steps further: inside its next save, or at any moment of a step."""
    metrics, trainer_folder = folder / "ci" / "run" / "metrics.jsonl", folder / "ci" / "run" / "trainer"
    sealed = max((_step(path) for path in checkpoints.all_checkpoints(trainer_folder)), default=0)
    target = min(STEPS - 4, sealed + rng.randint(0, 2))

    def is_there() -> bool:
        try:
            if not in_save:
                return metrics.read_bytes().count(b"\n") >= target
            found = checkpoints.all_checkpoints(trainer_folder)
            return bool(found) and _step(found[-1]) > sealed and not (found[-1] / checkpoints.SEAL).exists()
        except FileNotFoundError:  # not yet there, or just being renamed
            return False

    while not is_there():
        done, status = os.waitpid(child, os.WNOHANG)
        time.sleep(0.001)
        assert not done, f"ended before it could be killed: {(folder / 'errors.txt').read_text(encoding='utf8')}"
    time.sleep(rng.uniform(0, 0.02 if in_save else 0.1))  # less than the steps that are left take
    os.kill(child, signal.SIGKILL)
    _, status = os.waitpid(child, 0)
    found = checkpoints.all_checkpoints(trainer_folder)
    broken = bool(found) and not (found[-1] / checkpoints.SEAL).exists()
    return {"hit": "inside a save" if broken else "elsewhere", "was_killed": os.WIFSIGNALED(status)}


def _step(checkpoint: Path) -> int:
    return int(checkpoint.name.removeprefix("checkpoint-"))


def measure(runs: int) -> dict:
    """Kill `runs` runs, the cases by turns; how many ended equal to the uninterrupted run of their case."""
    torch.set_num_threads(1)  # a forked child of a process with more OpenMP threads may hang
    profile = small_profile()
    rows, _ = data.addition(num_train=64, num_held_out=0, digits=2)
    policy, tokenizer = models.load_policy(profile, rows)
    expected, results = {}, []
    for i in range(runs):
        case = list(CASES)[i % len(CASES)]
        if case not in expected:
            with tempfile.TemporaryDirectory() as folder:
                expected[case] = small_run(Path(folder), case, policy, tokenizer, rows)
            gc.collect()
            gc.freeze()  # or every child would look for garbage in what it was born with
        ended, kills = survive(case, i, policy, tokenizer, rows)
        same_weights = ended["weights"] == expected[case]["weights"]
        same_lines = ended["lines"] == expected[case]["lines"]
        results.append({"case": case, "same_weights": same_weights, "same_lines": same_lines, "kills": kills})
        print(f"run {i + 1} of {runs}, {case}: weights {same_weights}, metrics {same_lines}", flush=True)
    hits = [kill["hit"] for result in results for kill in result["kills"] if kill["was_killed"]]
    return {
        "runs": runs,
        "kills": len(hits),
        "kills_inside_a_save": hits.count("inside a save"),
        "same_weights": sum(result["same_weights"] for result in results),
        "same_lines": sum(result["same_lines"] for result in results),
        "steps_logged": [row["step"] for row in expected["plain"]["lines"]],
        "different_weights_between_cases": len({run["weights"] for run in expected.values()}),
        "cases": {case: sum(result["case"] == case for result in results) for case in CASES},
    }


def sentence(record: dict) -> str:
    """The record in one sentence, as docs/survival.md has it."""
    return (
        f"Of {record['runs']} tiny runs, each killed {KILLS} times with SIGKILL ({record['kills_inside_a_save']} of "
        f"{record['kills']} kills hit inside a save), {record['same_weights']} ended with the weights of the "
        f"uninterrupted run, bit for bit, and {record['same_lines']} with its metrics, no step missing or twice."
    )


if __name__ == "__main__":
    wanted = int(sys.argv[1]) if len(sys.argv) > 1 else 100
    where = Path(sys.argv[2]) if len(sys.argv) > 2 else RESULTS / "survival.json"
    record = measure(wanted)
    record["versions"] = {name: version(name) for name in ("torch", "transformers", "trl", "peft")}
    record["machine"] = {"python": platform.python_version(), "cores": os.cpu_count(), "system": platform.system()}
    print(json.dumps(record, indent=1))
    files.write_text(where, json.dumps(record, indent=1))
