"""Values beside each other and beside this package: what is legal alone, and still cannot be meant."""

import importlib.util
import re
from collections.abc import Callable

from grpo_nb import models
from grpo_nb.memory import decoders

MODE, LOW, HIGH = (f"vllm_importance_sampling_{name}" for name in ("mode", "clip_min", "clip_max"))

# Off, always: key → why.
OFF = {
    "auto_find_batch_size": "half a generation batch may cut a group in two",
    "logging_nan_inf_filter": "it logs the mean of earlier losses where one is NaN",
    "remove_unused_columns": "it takes the answers away before the rewards see them",
    "sync_ref_model": "the reference of a LoRA adapter is the policy without it, and the policy stays",
}
# (is broken, what must hold, the keys that arrived, what to do), on settings filled up with TRL's defaults.
RULES: list[tuple[Callable[[dict], bool], str, tuple, str]] = [
    (
        lambda s: s["fp16"] and s["bf16"],
        "at most one of fp16 and bf16 may be on",
        ("fp16", "bf16"),
        "Turn both off on a CPU; keep bf16 on cards of compute capability 8 and later, fp16 on older ones",
    ),
    (
        lambda s: s["fp16"] and s["use_cpu"],
        "fp16 must be off on a CPU, which ignores it",
        ("fp16", "use_cpu"),
        "Try fp16 = False",
    ),
    (
        lambda s: {"swanlab", "all"} & {*([s["report_to"]] if isinstance(s["report_to"], str) else s["report_to"])},
        "report_to must leave SwanLab to tracking.Run: the callback of transformers waits for a run that nobody starts",
        ("report_to",),
        "Try report_to = 'none', and set GRPO_NB_TRACK to offline or online",
    ),
    (
        lambda s: s["neftune_noise_alpha"] is not None,
        "neftune_noise_alpha must be None: a ratio would compare log-probabilities of two different noises",
        ("neftune_noise_alpha",),
        "Try neftune_noise_alpha = None",
    ),
    (
        lambda s: needs_bitsandbytes(s["optim"]) and not has_package("bitsandbytes"),
        "this optimizer must find the package bitsandbytes",
        ("optim",),
        "Try optim = 'adamw_torch', or install the gpu extra",
    ),
    (
        lambda s: s["use_vllm"] and not has_package("vllm"),
        "use_vllm must find the package vllm",
        ("use_vllm",),
        "Try use_vllm = False, or install the gpu extra",
    ),
    (
        lambda s: s["use_liger_kernel"] and not has_package("liger_kernel"),
        "use_liger_kernel must find the package liger_kernel",
        ("use_liger_kernel",),
        "Try use_liger_kernel = False",
    ),
    (
        lambda s: None not in (s[LOW], s[HIGH]) and s[LOW] >= s[HIGH],
        f"{LOW} must be below {HIGH}",
        (LOW, HIGH),
        f"Try {LOW} = None",
    ),
    (
        lambda s: s[MODE].endswith("truncate") and s[LOW] is None and s[HIGH] is None,
        "a truncating mode must have a bound to truncate at",
        (MODE, LOW, HIGH),
        f"Try {HIGH} = 3.0",
    ),
    (
        lambda s: s["loss_type"] == "vespo" and s["use_vllm"] and not s[MODE].startswith("token"),
        "vespo must correct vLLM's log-probabilities token by token",
        ("loss_type", MODE),
        f"Try {MODE} = 'token_truncate'",
    ),
]
ENDS = ("embed_tokens", "lm_head")  # of a model; in a tied one they are one tensor


def check_together(full: dict) -> None:
    """Refuse settings that contradict each other, or ask for what is not there.

    Args:
        full: every field of `GRPOConfig`, each of a kind and range that it may have; enumerations as text.
    Raises: ValueError for the first of them.
    """
    for key, why in OFF.items():
        if full[key]:
            raise ValueError(f"{key} must be off: {why} (got {full[key]}). Try {key} = False.")
    for is_broken, must, keys, advice in RULES:
        if is_broken(full):
            raise ValueError(f"{must} (got {', '.join(f'{key} = {full[key]!r}' for key in keys)}). {advice}.")


def check_engine(profile) -> None:
    """Refuse the package's trainer beside Unsloth, which puts passes of its own into the model and trains them."""
    if profile.policy["backend"] == "unsloth" and (on := sorted(k for k, is_on in profile.kernels.items() if is_on)):
        raise ValueError(
            f"one engine must train the policy, and this one is Unsloth's (got profile.kernels with {', '.join(on)}). "
            "Try profile.kernels = {}."
        )


def check_adapter(profile, *, is_tied: bool | None = None) -> None:
    """Refuse an adapter that could not train, or that could not be merged.

    Args:
        is_tied: whether the policy's head is its embedding; None: as in the policy that the profile names.
    """
    lora = profile.lora
    if lora.get("inference_mode"):
        raise ValueError(
            f"an adapter must be trainable (got inference_mode = {lora['inference_mode']!r}, which freezes it). "
            "Leave inference_mode out of profile.lora."
        )
    if is_tied is None:
        found = decoders.named(profile.policy.get("model_name", "")) or {}
        published = found.get("tie_word_embeddings", False)  # unknown: `models.add_lora` looks
        is_tied = published if "model_name" in profile.policy else True
    named = [lora.get(key) or () for key in ("target_modules", "modules_to_save", "target_parameters")]
    if not lora.get("exclude_modules"):  # else PEFT knows, and `models.add_lora` looks
        models.refuse_tied([end for end in ENDS if any(_names(kind, end) for kind in named)], is_tied=is_tied)


def _names(modules: str | list[str], end: str) -> bool:
    """Whether PEFT would find a module there: a text is a pattern of its whole path, a list has ends of paths."""
    if isinstance(modules, str):
        return any(re.fullmatch(modules, path) for path in (end, f"model.{end}"))
    return any(name.removesuffix(".weight").split(".")[-1] == end for name in modules)


def needs_bitsandbytes(optimizer: str) -> bool:
    """Whether transformers takes this optimizer from bitsandbytes."""
    return "bnb" in optimizer or optimizer == "adamw_8bit" or optimizer.startswith(("paged_", "lion_", "ademamix"))


def has_package(name: str) -> bool:
    return importlib.util.find_spec(name) is not None
