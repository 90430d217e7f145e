"""A checkpoint that Unsloth loads, with vLLM inside. The only file that imports unsloth, and before trl."""

import json
import os
import sys
import weakref
from pathlib import Path
from types import SimpleNamespace

from grpo_nb import profiles

HELD: dict = {}  # what Unsloth loaded with vLLM in this kernel: a card has room for one engine


def unsloth_load_kwargs(profile: SimpleNamespace, path: str | Path | None = None) -> dict:
    """Keyword arguments for `FastLanguageModel.from_pretrained`."""
    given = {key: value for key, value in profile.policy.items() if key != "backend"}
    if path is not None:
        given["model_name"] = str(path)
    return {**given, "max_lora_rank": profile.lora["r"]}


def unsloth_lora_kwargs(profile: SimpleNamespace, *, seed: int = 0) -> dict:
    """Keyword arguments for `FastLanguageModel.get_peft_model`."""
    return {**profile.lora, "use_gradient_checkpointing": "unsloth", "random_state": seed}


def load(profile: SimpleNamespace, path: str | Path | None):
    """(policy, tokenizer) of a checkpoint, or of an adapter's folder; the kernel's own policy where it holds one."""
    settings = unsloth_load_kwargs(profile, path)
    held = HELD.get("policy", lambda: None)()
    if held is None:
        policy, tokenizer = import_unsloth().FastLanguageModel.from_pretrained(**settings)
        HELD.update(settings=settings, tokenizer=tokenizer)
        return hold(policy), tokenizer
    if settings == HELD["settings"] and not hasattr(held, "peft_config"):
        return held, HELD["tokenizer"]
    if not _is_adapter_of(held, path) or {**settings, "model_name": ""} != {**HELD["settings"], "model_name": ""}:
        raise ValueError(
            f"a kernel must keep to one policy of Unsloth's, whose vLLM fills the card (got {settings['model_name']} "
            f"beside {HELD['settings']['model_name']}). Restart the kernel: a run goes on from its newest checkpoint."
        )
    from peft import set_peft_model_state_dict
    from safetensors.torch import load_file

    set_peft_model_state_dict(held, load_file(Path(path) / "adapter_model.safetensors"))
    print(f"The policy of this kernel goes back to {path}: a card has room for one vLLM, so there is no second policy.")
    return held, HELD["tokenizer"]


def fresh_lora(policy, profile: SimpleNamespace, seed: int):
    """The policy itself with a fresh adapter."""
    adapted = import_unsloth().FastLanguageModel.get_peft_model(policy, **unsloth_lora_kwargs(profile, seed=seed))
    return hold(adapted)


def hold(policy):
    """Remember a policy that has vLLM inside; what Unsloth writes for its requests stays out of the working folder."""
    if hasattr(policy, "vllm_engine"):
        HELD["policy"] = weakref.ref(policy)
    if load := getattr(policy, "load_lora", None):
        folder = _unsloths_folder()
        policy.load_lora = lambda name, load_tensors=False, **options: load(
            str(folder / name) if load_tensors else name, load_tensors=load_tensors, **options
        )
    return policy


def _is_adapter_of(policy, path: str | Path | None) -> bool:
    """Whether a folder holds the matrices of just this policy's adapter: same base, same places, same size."""
    file = Path(path or "") / "adapter_config.json"
    if path is None or not file.exists() or not hasattr(policy, "peft_config"):
        return False
    saved, ours = json.loads(file.read_text(encoding="utf8")), policy.peft_config["default"]
    bases = {Path(base).name for base in (saved["base_model_name_or_path"], ours.base_model_name_or_path)}
    sizes = [saved[key] == getattr(ours, key) for key in ("r", "lora_alpha", "use_rslora")]
    return len(bases) == 1 and all(sizes) and set(saved["target_modules"]) == set(ours.target_modules)


def _unsloths_folder() -> Path:
    """Where Unsloth's compiled code goes, and the adapter's config that goes with each request to vLLM."""
    return (profiles.outputs_dir() / "unsloth").resolve()


def import_unsloth():
    """Unsloth, imported while it can still patch the libraries that it speeds up."""
    if (capability := profiles.card_capability()) and capability < profiles.LEAST_CAPABILITY:
        least, got = (".".join(map(str, pair)) for pair in (profiles.LEAST_CAPABILITY, capability))
        raise ValueError(
            f"the profiles t4 and a100 need cards of compute capability {least} or more (got {got}, which the gpu "
            "extra's torch has no kernels for). Choose a T4 or a newer card, or set GRPO_NB_PROFILE=cpu."
        )
    late = [name for name in ("trl", "transformers", "peft") if name in sys.modules]
    if "unsloth" not in sys.modules and late:
        raise ImportError(
            f"unsloth must be imported before trl, transformers and peft (already imported: {', '.join(late)}). "
            "Restart the kernel and run the notebook from the top."
        )
    os.environ.setdefault("UNSLOTH_COMPILE_LOCATION", str(_unsloths_folder() / "unsloth_compiled_cache"))
    try:
        import unsloth
    except ImportError as error:
        raise ImportError(
            "the t4 and a100 profiles need Unsloth and vLLM (unsloth cannot be imported). "
            "Install the gpu extra, or set GRPO_NB_PROFILE=cpu."
        ) from error
    return unsloth
