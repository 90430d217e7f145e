"""Are the bytes that `grpo_nb.memory` predicts those that are allocated? `python benchmarks/memory.py`.

Measured by torch's own profiler (`memory.peak_bytes`), which notes every block that the CPU allocator hands out and
takes back: the running sum and its highest point. Temporaries inside an operator are in it, scratch of the matrix
library is not. tracemalloc sees none of these blocks; the resident set of a process also holds what the allocator keeps
for later and the pages of every library, up to twice as much. Each case runs in a process of its own. Writes
results/memory.json.
"""

import json
import os
import platform
import subprocess
import sys
import tempfile
from importlib.metadata import version
from pathlib import Path
from types import SimpleNamespace

import torch

from grpo_nb import data, memory, models, profiles
from grpo_nb.runs import files

RESULTS = Path(__file__).parent / "results"
TOLERANCE = 0.15
PROMPT = 24  # tokens; some rows have fewer, and are padded
CPU = profiles.CPU["policy"]
WIDE = {
    **{"hidden_size": 768, "intermediate_size": 2048, "num_hidden_layers": 4, "vocab_size": 8192},
    **{"num_attention_heads": 12, "num_key_value_heads": 4, "head_dim": 64, "tie_word_embeddings": True},
}
CASES = {
    "cpu profile, LoRA": {"lora": profiles.CPU["lora"], "rows": 128, "completion": 40},
    "cpu profile, all weights": {"lora": None, "rows": 32, "completion": 40},
    "wide, LoRA": {"config": WIDE, "lora": {"r": 16, "target_modules": "all-linear"}, "rows": 8, "completion": 104},
    "wide, all weights": {"config": WIDE, "lora": None, "rows": 8, "completion": 104},
    "cpu profile, checkpoints": {"lora": None, "rows": 32, "completion": 40, "checkpointing": True},
    "wide, checkpoints": {"config": WIDE, "lora": None, "rows": 8, "completion": 104, "checkpointing": True},
}


class HeadOnly(torch.nn.Module):
    """A model without a body: fixed hidden states, then the given head."""

    def __init__(self, head: torch.nn.Module, hidden: torch.Tensor):
        super().__init__()
        self.head, self.hidden = head, hidden

    def forward(self, input_ids, attention_mask, logits_to_keep, use_cache):
        return SimpleNamespace(logits=self.head(self.hidden[:, -logits_to_keep:]))


def trainer_of(case: dict, folder: str):
    """A `GRPOTrainer` for one case, and its model's config; nothing is sampled, the batch is made by hand."""
    import peft
    from datasets import Dataset
    from transformers import Qwen3Config, Qwen3ForCausalLM
    from trl import GRPOConfig, GRPOTrainer

    models.no_progress_bars()
    rows, _ = data.addition(num_train=64, num_held_out=0, digits=2)
    tokenizer = models.tiny_tokenizer(rows)
    if "config" in case:
        policy = Qwen3ForCausalLM(Qwen3Config(**case["config"], bos_token_id=None, eos_token_id=1, pad_token_id=0))
    else:
        policy = models.tiny_policy(CPU, tokenizer)
    config = policy.config.to_dict()
    if case["lora"]:
        policy = peft.get_peft_model(policy, peft.LoraConfig(task_type="CAUSAL_LM", **case["lora"]))
    settings = GRPOConfig(
        output_dir=folder,
        per_device_train_batch_size=case["rows"],
        num_generations=8,
        max_completion_length=case["completion"],
        gradient_checkpointing=case.get("checkpointing", False),
        **{"bf16": False, "use_cpu": True, "report_to": "none", "disable_tqdm": True, "save_strategy": "no"},
    )
    prompts = Dataset.from_list([{"prompt": "1 + 1 ="}] * case["rows"])
    trainer = GRPOTrainer(
        policy, [lambda completions, **_: [0.0] * len(completions)], settings, prompts, None, tokenizer
    )
    trainer.current_gradient_accumulation_steps = 1
    if settings.gradient_checkpointing:  # what `train()` does before its first step
        trainer.model.gradient_checkpointing_enable(settings.gradient_checkpointing_kwargs)
    return trainer, config


def batch_of(case: dict, vocabulary: int) -> dict:
    """What TRL's loss is given: random tokens, prompts padded on the left, completions of full length."""
    generator = torch.Generator().manual_seed(0)
    rows, length = case["rows"], case["completion"]
    ids = torch.randint(0, vocabulary, (rows, PROMPT + length), generator=generator)
    prompt_mask = torch.ones(rows, PROMPT, dtype=torch.long)
    prompt_mask[::2, :8] = 0
    return {
        "prompt_ids": ids[:, :PROMPT],
        "prompt_mask": prompt_mask,
        "completion_ids": ids[:, PROMPT:],
        "completion_mask": torch.ones(rows, length, dtype=torch.long),
        "advantages": torch.randn(rows, generator=generator),
        "num_items_in_batch": torch.tensor(float(rows * length)),
    }


def measured(name: str) -> dict[str, int]:
    """Bytes of one case: `logits`, `loss step`, `whole step`, `optimizer`, `chunked head`."""
    torch.set_num_threads(1)
    case = CASES[name]
    with tempfile.TemporaryDirectory() as folder:
        trainer, config = trainer_of(case, folder)
        model, batch, found = trainer.model.train(), batch_of(case, config["vocab_size"]), {}
        head, width = model.get_output_embeddings(), config["hidden_size"]
        hook = head.register_forward_hook(
            lambda module, given, made: found.update(logits=made.untyped_storage().nbytes())
        )
        hidden = torch.randn(case["rows"], case["completion"] + 1, width, requires_grad=True)

        def loss_step(policy) -> None:
            trainer._compute_loss(policy, batch).backward()

        loss_step(model)  # warm-up; from now on every gradient is there, as in the second micro-step of an update
        hook.remove()
        found["whole step"], _ = memory.peak_bytes(lambda: loss_step(model))
        found["optimizer"] = optimizer_bytes(trainer)
        found["loss step"], _ = memory.peak_bytes(lambda: loss_step(HeadOnly(head, hidden)))
        found["chunked head"], _ = memory.peak_bytes(
            lambda: chunked_step(head, hidden[:, :-1], batch["completion_ids"])
        )
    return found


def optimizer_bytes(trainer) -> int:
    """What the first step of the trainer's own optimizer leaves allocated."""
    optimizer = trainer.create_optimizer()
    _, kept = memory.peak_bytes(optimizer.step)
    return kept


def chunked_step(head: torch.nn.Module, hidden: torch.Tensor, ids: torch.Tensor) -> None:
    """Log-probs and their gradient by TRL's chunked head; the hidden states are a leaf, the head as it is."""
    from trl.trainer import utils

    leaf = hidden.detach().reshape(-1, hidden.shape[-1]).requires_grad_()
    weight = head.weight
    logps, _ = utils._ChunkedLogProbFunction.apply(leaf, weight, None, ids.reshape(-1), 1.0, 8192)
    torch.autograd.grad(logps.sum(), [leaf, *([weight] if weight.requires_grad else [])])


def predicted(case: dict, config: dict) -> dict[str, int]:
    """The same by `grpo_nb.memory`, from the config alone."""
    sizes = {"rows": case["rows"], "completion_tokens": case["completion"]}
    logits, loss = memory.logits_bytes(config, **sizes), memory.loss_bytes(config, **sizes)
    kept = memory.activation_bytes(
        config,
        rows=case["rows"],
        tokens=PROMPT + case["completion"],
        lora=case["lora"],
        bits=32,
        checkpointing=case.get("checkpointing", False),
    )
    trained = memory.trained_bytes(config, lora=case["lora"], bits=32)
    tokens, trains_head = case["rows"] * case["completion"], case["lora"] is None
    return {
        "logits": logits,
        "loss step": logits + loss,
        "whole step": kept["kept"] + max(kept["backward"], logits + loss),
        "optimizer": trained["optimizer"],
        "chunked head": memory.chunked_head_bytes(config, tokens=tokens, trains_head=trains_head, compute_bits=32),
    }


def main() -> None:
    """Measure each case in a process of its own, print a line for each, write the JSON."""
    results = {}
    for name, case in CASES.items():
        command = [sys.executable, "-m", "benchmarks.memory", name]
        ran = subprocess.run(command, capture_output=True, text=True, check=True, cwd=RESULTS.parent.parent)
        found = json.loads(ran.stdout.splitlines()[-1])
        config, bytes_measured = found["config"], found["measured"]
        ours = predicted(case, config)
        ratios = {key: round(value / bytes_measured[key], 3) for key, value in ours.items()}
        results[name] = {"case": case, "predicted": ours, "measured": bytes_measured, "ratio": ratios}
        results[name]["config"] = {key: config[key] for key in ("model_type", *WIDE)}
        print(f"{name}: predicted / measured {ratios}", flush=True)
    record = {
        "method": "torch.profiler with profile_memory: every block of the CPU allocator, summed over time",
        "tolerance": TOLERANCE,
        "prompt_tokens": PROMPT,
        "cases": results,
        "versions": {name: version(name) for name in ("torch", "transformers", "trl", "peft", "accelerate")},
        "machine": {"python": platform.python_version(), "processor": platform.machine(), "cores": os.cpu_count()},
    }
    RESULTS.mkdir(exist_ok=True)
    files.write_text(RESULTS / "memory.json", json.dumps(record, indent=1))
    print(f"wrote {RESULTS / 'memory.json'}")


if __name__ == "__main__":
    if len(sys.argv) == 1:
        main()
    else:
        with tempfile.TemporaryDirectory() as folder:
            config = trainer_of(CASES[sys.argv[1]], folder)[1]
        shown = {key: config[key] for key in ("model_type", *WIDE)}
        print(json.dumps({"config": shown, "measured": measured(sys.argv[1])}))
