"""What of a policy trains: a fresh LoRA adapter on a copy of it, or what it has already; and what must not."""

import copy
import re
from pathlib import Path
from types import SimpleNamespace

from grpo_nb.models import with_unsloth


def add_lora(policy, profile: SimpleNamespace, *, seed: int = 0):
    """The policy with a fresh LoRA adapter, or unchanged if it carries one already (the SFT adapter of a GPU profile).

    Returns: a `peft.PeftModel` on a copy of the policy, which stays as it is (Unsloth adapts the policy itself); only
    the adapter is trainable, and it changes nothing yet (every `lora_B` is zero).
    Raises: ValueError for an adapter that training would not change, or that adapts a tied embedding.
    See: Hu et al. 2021, arXiv:2106.09685.
    """
    if not hasattr(policy, "peft_config"):
        policy = _with_fresh_lora(policy, profile, seed)
    check_trains(policy)
    check_untied(policy)
    return policy


def _with_fresh_lora(policy, profile: SimpleNamespace, seed: int):
    if profile.policy["backend"] == "unsloth":
        return with_unsloth.fresh_lora(policy, profile, seed)
    import torch
    from peft import LoraConfig, get_peft_model

    own = own_copy(policy)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return get_peft_model(own, LoraConfig(task_type="CAUSAL_LM", **profile.lora))


def with_adapter(base, path: str | Path, *, is_trainable: bool):
    """A saved adapter on top of its base, in place of one that it carries; see `export.load_adapter`."""
    from peft import PeftConfig, PeftModel, get_peft_model_state_dict

    path = Path(path).expanduser()
    saved, problem = adapter_tensors(path), ""
    base = base.unload() if hasattr(base, "peft_config") and hasattr(base, "unload") else base
    try:
        if PeftConfig.from_pretrained(str(path)).peft_type is None:
            raise KeyError("peft_type")
    except (KeyError, TypeError, ValueError) as error:
        raise ValueError(
            f"an adapter's folder must hold an adapter_config.json that PEFT can read (got {type(error).__name__}: "
            f"{error}). Copy the whole folder again, or update peft to the version that wrote it."
        ) from error
    try:
        policy = PeftModel.from_pretrained(base, str(path), is_trainable=is_trainable)
        loaded = get_peft_model_state_dict(policy, save_embedding_layers=False)
        missing = {name for name in loaded.keys() ^ saved.keys() if "lora_" in name}
        problem = f"{len(missing)} tensors of one have no partner, first {min(missing)}" if missing else ""
    except (RuntimeError, ValueError) as error:
        problem = next(
            (s.strip() for s in str(error).splitlines() if re.search("size mismatch|^Target modules", s)), ""
        )
        if not problem:
            raise
    if problem:
        raise ValueError(
            f"an adapter must go onto the base that it was trained on (got {problem}). Load that base anew; its name "
            f"stands in {path / 'adapter_config.json'}."
        )
    return policy


def adapter_tensors(path: str | Path) -> dict:
    """Name → tensor of a saved adapter.

    Raises: FileNotFoundError if the folder holds none, ValueError if its file cannot be read.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    file = Path(path).expanduser() / "adapter_model.safetensors"
    if not file.exists():
        raise FileNotFoundError(
            f"the folder must hold adapter_model.safetensors (got {path}). Save it with export.save_adapter."
        )
    try:
        return load_file(file)
    except (OSError, SafetensorError) as error:
        raise ValueError(
            f"{file.name} must be a whole safetensors file (got {error}, of {file.stat().st_size} bytes). Copy or "
            "download it again; where Git LFS has left its pointer, run git lfs pull."
        ) from error


def check_trains(policy) -> None:
    """Raise ValueError, with the way to make it trainable, for a policy that no training step would change.

    An adapter must be the one called "default": TRL's reference and the saved folder are made of that one.
    """
    from peft.tuners.tuners_utils import BaseTuner

    if hasattr(policy, "peft_config") and not hasattr(policy, "get_base_model"):
        raise ValueError(
            f"an adapter must come as a peft.PeftModel (got a {type(policy).__name__} with add_adapter). Make it with "
            "models.add_lora or peft.get_peft_model."
        )
    if isinstance(getattr(policy, "base_model", None), BaseTuner):
        _check_adapter_trains(policy, policy.get_model_status())
    if not any(parameter.requires_grad for parameter in policy.parameters()):
        raise ValueError(
            f"some tensor of the policy must be trainable (got {type(policy).__name__} with every one frozen). "
            "Call policy.requires_grad_(True), or take an adapter from models.add_lora."
        )


def _check_adapter_trains(policy, state) -> None:
    """`state`: PEFT's `get_model_status()`."""
    loaded = "export.load_adapter(base, folder, is_trainable=True)"
    back = "policy.set_adapter('default')"
    troubles = [  # (is so, what arrived, what to do)
        (state.enabled is not True, "that is disabled", "Call policy.enable_adapter_layers()."),
        (bool(state.merged_adapters), "that is merged into its base", "Call policy.unmerge_adapter()."),
        (
            "default" not in policy.peft_config,
            f"called {', '.join(policy.peft_config)}",
            f"Call policy.save_pretrained(path), then {loaded} with the folder that is there.",
        ),
        (state.active_adapters != ["default"], f"beside the active {state.active_adapters}", f"Call {back}."),
        (not state.requires_grad.get("default"), "that is frozen", f"Load it with {loaded}, or call {back}."),
    ]
    for is_so, got, advice in troubles:
        if is_so:
            raise ValueError(f"training must change the adapter called default (got one {got}). {advice}")


def check_untied(policy) -> None:
    """Raise ValueError if an adapter changes the embedding or the head of a model in which both are one tensor.

    Single tokens (`trainable_token_indices` of the embedding) PEFT adapts in both alike.
    """
    from peft.tuners.tuners_utils import BaseTunerLayer
    from peft.utils.other import AuxiliaryTrainingWrapper, TrainableTokensWrapper

    base = policy.get_base_model()
    ends = {"the embedding": base.get_input_embeddings(), "the head": base.get_output_embeddings()}
    adapted = [name for name, end in ends.items() if isinstance(end, BaseTunerLayer | AuxiliaryTrainingWrapper)]
    if not all(isinstance(end, TrainableTokensWrapper) for end in ends.values()):
        refuse_tied(adapted, is_tied=base.config.get_text_config().tie_word_embeddings)


def refuse_tied(adapted: list[str], *, is_tied: bool) -> None:
    """Raise ValueError if any of these modules, ends of a model, are adapted though they are tied.

    See: https://github.com/huggingface/peft/issues/2018.
    """
    if adapted and is_tied:
        raise ValueError(
            "where embedding and head are one tensor (tie_word_embeddings) neither may be adapted, for what is meant "
            f"for one would be merged into both (got an adapter of {' and '.join(adapted)}). Leave lm_head and "
            "embed_tokens out of target_modules and modules_to_save; what is trained already works unmerged: "
            "export.load_adapter."
        )


def own_copy(policy):
    """A copy that can be trained while the original stays as it is; what is frozen there is frozen here.

    Both share memory until either is written to (torch's copy on write): with a LoRA adapter, whose base is only read,
    for ever. Weights that lie in a mapped file are copied at once.

    Not `copy.deepcopy`: a trainer binds `forward` to its model, and a deep copy would go on calling the original's.
    """
    from accelerate import init_empty_weights

    with init_empty_weights(include_buffers=False):
        own = type(policy)(copy.deepcopy(policy.config))
    own.load_state_dict({name: _shared(tensor) for name, tensor in policy.state_dict().items()}, assign=True)
    own.tie_weights()
    for parameter, original in zip(own.parameters(), policy.parameters(), strict=True):
        parameter.requires_grad_(original.requires_grad)
    own.generation_config = copy.deepcopy(policy.generation_config)
    return own


def _shared(tensor):
    import torch

    try:
        return torch._lazy_clone(tensor)
    except RuntimeError:  # its memory is not torch's own
        return tensor.clone()
