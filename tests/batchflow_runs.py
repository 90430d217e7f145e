"""Real runs of TRL that write down what every micro-step trained on, for tests/test_batchflow.py.

Nothing is replaced but sampling: each completion is the end token alone. With the environment that torchrun gives
(RANK, LOCAL_RANK, WORLD_SIZE), `python -m tests.batchflow_runs CASES.json FOLDER` is one process of a run. They
find each other through a file: torchrun's own store asks the name server for the name of 127.0.0.1.
"""

import contextlib
import faulthandler
import gc
import json
import math
import os
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace

import torch
from datasets import Dataset
from transformers import Qwen3Config, Qwen3ForCausalLM, TrainerCallback
from trl import GRPOConfig, GRPOTrainer
from trl.trainer import grpo_trainer

from benchmarks import survival
from grpo_nb import data, models

WORKER_SECONDS = 240  # then a launched process ends itself, wherever it waits


class Recorded(GRPOTrainer):
    """A trainer that samples nothing and notes each micro-step before it trains."""

    def _generate_single_turn(self, prompt_ids, *args, **kwargs):
        self.generations += 1
        self.sampled_at = self.state.global_step
        return [[self.processing_class.eos_token_id]] * len(prompt_ids), None

    def compute_loss(self, model, inputs, *args, **kwargs):
        prompts = [
            self.known[tuple(ids[mask.bool()].tolist())]
            for ids, mask in zip(inputs["prompt_ids"], inputs["prompt_mask"], strict=True)
        ]
        before = [step for step in self.steps if step["generation"] == self.generations - 1]
        self.steps.append(
            {
                "step": self._step,
                "epoch": self.epochs - 1,
                "generation": self.generations - 1,
                "replay": sum(step["batch"] == id(inputs) for step in before),  # the buffer hands out the same objects
                "slice": prompts,
                "optimizer_update": None,
                "staleness": self.state.global_step - self.sampled_at,
                "has_old_logps": "old_per_token_logps" in inputs,
                "batch": id(inputs),
            }
        )
        return super().compute_loss(model, inputs, *args, **kwargs)


class Notes(TrainerCallback):
    """Counts epochs and optimizer steps for a `Recorded` trainer."""

    def __init__(self, trainer):
        self.trainer = trainer

    def on_epoch_begin(self, args, state, control, **kwargs):
        self.trainer.epochs += 1

    def on_step_end(self, args, state, control, **kwargs):
        self.trainer.steps[-1]["optimizer_update"] = state.global_step - 1


def smallest_policy() -> tuple:
    """(policy, tokenizer): one layer, eight numbers wide; the tiny policy's tokenizer."""
    rows, _ = data.addition(num_train=64, num_held_out=0, digits=2)
    policy, tokenizer = models.load_policy(survival.small_profile(), rows)
    shape = Qwen3Config(
        vocab_size=policy.config.vocab_size,
        hidden_size=8,
        intermediate_size=8,
        num_hidden_layers=1,
        num_attention_heads=1,
        num_key_value_heads=1,
        head_dim=8,
        max_position_embeddings=64,
    )
    return Qwen3ForCausalLM(shape), tokenizer


@contextlib.contextmanager
def few_objects() -> Iterator[None]:
    """Let what exists now be no garbage: a run of TRL collects them again and again, which takes longer than it."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


def config(folder: str, **settings) -> GRPOConfig:
    """A config of a run that writes, logs and saves nothing."""
    quiet = {"report_to": "none", "save_strategy": "no", "logging_strategy": "no", "disable_tqdm": True}
    cheap = {"use_cpu": True, "bf16": False, "gradient_checkpointing": False, "max_completion_length": 2}
    return GRPOConfig(output_dir=folder, **quiet, **cheap, optim="sgd", **{"num_train_epochs": 1, **settings})


def recorded(small: tuple, num_prompts: int, *, shuffle: bool, num_processes: int = 1, **settings) -> SimpleNamespace:
    """What a real run trained on: `steps` of this process, and the totals as TRL has them.

    Args:
        shuffle: False switches off the order of the sampler and, a function that has no switch, the local permutation.
        num_processes: not used here: the launcher has decided.
        settings: keys of GRPOConfig.
    """
    policy, tokenizer = small
    texts = [str(prompt) for prompt in range(num_prompts)]
    with tempfile.TemporaryDirectory() as folder, contextlib.ExitStack() as stack:
        if not shuffle:
            stack.callback(setattr, grpo_trainer, "shuffle_sequence_dict", grpo_trainer.shuffle_sequence_dict)
            grpo_trainer.shuffle_sequence_dict = lambda rows: rows
        trainer = Recorded(
            model=policy,
            reward_funcs=[lambda completions, **columns: [0.0] * len(completions)],
            args=config(folder, shuffle_dataset=shuffle, **settings),
            train_dataset=Dataset.from_dict({"prompt": texts}),
            processing_class=tokenizer,
        )
        trainer.known = {tuple(tokenizer(text)["input_ids"]): prompt for prompt, text in enumerate(texts)}
        trainer.steps, trainer.generations, trainer.epochs = [], 0, 0
        trainer.add_callback(Notes(trainer))
        with contextlib.redirect_stdout(None):  # the Trainer prints its summary
            trainer.train()
    args = trainer.args
    return SimpleNamespace(
        steps=trainer.steps,
        totals={
            "num_processes": args.world_size,
            "generation_batch_size": args.generation_batch_size,
            "steps_per_generation": args.steps_per_generation,
            "unique_prompts": trainer._get_train_sampler().batch_size,
            "optimizer_steps": trainer.state.max_steps / math.ceil(args.num_train_epochs),
            "optimizer_steps_taken": trainer.state.global_step,
        },
    )


def main(cases: str, folder: str) -> None:
    """Run every case in this process of a launched run, and leave what it trained on."""
    faulthandler.dump_traceback_later(WORKER_SECONDS, exit=True)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rank, size = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
    meeting = (Path(folder) / "meeting").as_uri()
    torch.distributed.init_process_group("gloo", init_method=meeting, rank=rank, world_size=size)
    small = smallest_policy()
    with few_objects():
        found = [vars(recorded(small, **case)) for case in json.loads(Path(cases).read_text(encoding="utf8"))]
    (Path(folder) / f"process-{rank}.json").write_text(json.dumps(found), encoding="utf8")
    torch.distributed.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
