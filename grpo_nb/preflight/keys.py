"""Keys: what TRL knows, and today's name for what it no longer does."""

import dataclasses
import difflib
import enum
from collections.abc import Mapping

# Today's name in TRL → what older releases, other libraries and tutorials call it.
NAMES = {
    "beta": "kl_coef kl_beta init_kl_coef kl_loss_coef kl_penalty",
    "epsilon": "clip_range cliprange clip_ratio epsilon_low",
    "eval_strategy": "evaluation_strategy",
    "hub_model_id": "push_to_hub_model_id",
    "hub_token": "push_to_hub_token",
    "learning_rate": "lr",
    "log_unique_prompts": "wandb_log_unique_prompts",
    "max_completion_length": "max_new_tokens max_tokens max_length response_length max_response_length",
    "num_generations": "n group_size num_samples num_return_sequences num_sample_generations",
    "num_iterations": "ppo_epochs num_ppo_epochs mu",
    "num_train_epochs": "epochs num_epochs",
    "per_device_eval_batch_size": "eval_batch_size per_gpu_eval_batch_size",
    "per_device_train_batch_size": "batch_size train_batch_size micro_batch_size per_gpu_train_batch_size",
    "use_cpu": "no_cuda",
    "use_liger_kernel": "use_liger_loss",
    "use_transformers_continuous_batching": "use_transformers_paged",
    "vllm_importance_sampling_clip_max": "vllm_importance_sampling_cap",
    "vllm_max_model_length": "vllm_max_model_len",
    "vllm_structured_outputs_regex": "vllm_guided_decoding_regex",
}
# Old key → what to do instead, where that is no other key.
ELSEWHERE = {
    "adafactor": "optim = 'adafactor'",
    "group_by_length": "train_sampling_strategy = 'group_by_length'",
    "max_prompt_length": "no key: filter the rows with data.keep_short",
    "max_seq_length": "max_length in SFTConfig; a policy's key in a profile",
    "query": "prompt, a column of the data set",
    "rank": "no key: r in the profile's lora",
    "vllm_sampling_params": "temperature, top_p, top_k, min_p, generation_kwargs",
    "warmup_ratio": "warmup_steps below 1, which is a share",
    **dict.fromkeys(
        ("reward_function", "reward_functions", "reward_fn", "reward_func", "reward_funcs"),
        "reward_funcs, an argument of the trainer (here: rewards)",
    ),
    **dict.fromkeys(
        ("tokenizer", "processing_class"), "processing_class, an argument of the trainer (here: tokenizer)"
    ),
    **{
        name: f"{name}, an argument of the trainer{here}"
        for name, here in {
            "model": " (here: policy)",
            "train_dataset": " (here: rows)",
            "eval_dataset": "",
            "peft_config": " (here: the profile's lora)",
            "callbacks": " (here: trainer.add_callback)",
            "optimizers": "",
            "tools": "",
        }.items()
    },
    **dict.fromkeys(("data_collator", "compute_metrics", "args"), "no key: the trainer makes its own"),
    **dict.fromkeys(("do_sample", "num_beams"), "no key: GRPO draws every token"),
    **dict.fromkeys(("logging_dir", "overwrite_output_dir"), "no key: tracking.Run has a folder of its own"),
    **dict.fromkeys(("num_processes", "num_gpus"), "no key: `accelerate launch --num_processes` sets WORLD_SIZE"),
}
RENAMED = {old: new for new, olds in NAMES.items() for old in olds.split()} | ELSEWHERE
DEPRECATED = {"use_transformers_paged", "vllm_importance_sampling_cap"}  # TRL still takes them, for now


def check_keys(settings: dict, config_class: type) -> None:
    """Refuse keys that the config class does not know, or will soon forget.

    Plain TRL raises a TypeError for the former; under Unsloth they are dropped and training goes on without them.

    Raises: ValueError naming each such key and today's name for it.
    """
    if not isinstance(settings, Mapping):
        raise ValueError(
            f"the settings must be a dict (got {type(settings).__name__}). Write the keys as a dict; "
            f"the trainer makes the {config_class.__name__}."
        )
    known = {field.name for field in dataclasses.fields(config_class)}
    outdated = [key for key in settings if key not in known or key in DEPRECATED]
    if outdated:
        raise ValueError(
            f"every key must be a field of {config_class.__name__} (got {', '.join(map(str, outdated))}). "
            f"Today's names: {'; '.join(f'{key} → {_today(str(key), known)}' for key in outdated)}."
        )


def completed(settings: Mapping, config_class: type) -> dict:
    """Every field of a config class: the settings, and where they are silent its default; enumerations as text."""
    full = {**{field.name: default(field) for field in dataclasses.fields(config_class)}, **settings}
    return {key: value.value if isinstance(value, enum.Enum) else value for key, value in full.items()}


def default(field: dataclasses.Field) -> object:
    """What a field is where nobody sets it."""
    return field.default if field.default_factory is dataclasses.MISSING else field.default_factory()


def _today(key: str, known: set[str]) -> str:
    today = RENAMED.get(key)
    if today and (today in known or today not in NAMES):  # a GRPO key is no advice for an SFT config
        return today
    near = difflib.get_close_matches(key, known - DEPRECATED, n=1)
    return near[0] if near else "no such setting"
