"""Adapter → saved, proved to have learned, reloaded bit-equal, merged to 16 bit, reloaded again.

Everything is written under a temporary name and renamed, so no folder with a final name is half written.
"""

import contextlib
import json
import re
from collections.abc import Iterator
from pathlib import Path, PureWindowsPath
from types import SimpleNamespace

from grpo_nb import models
from grpo_nb.runs import files

MERGED, MERGED_IN_16_BITS = 1e-3, 0.1  # how far logits may be from the policy's, relative to their norm


def save_adapter(policy, tokenizer, path: str | Path) -> Path:
    """Save the LoRA adapter and the tokenizer, nothing of the base but its name.

    A base that lies in a local folder is named by that folder alone: where it lies is this machine's business.

    Args:
        policy: a `peft.PeftModel`.
        path: folder to write; an older adapter of that name is replaced.
    Raises: ValueError if the policy carries no adapter, or if something else has that name.
    """
    _check_adapted(policy)
    path = _replaceable(path, "adapter_config.json")
    with files.replacing(path) as draft:
        with _naming_no_folder(policy.get_base_model()):  # README.md is written from the base
            policy.save_pretrained(draft)
        for file in draft.rglob("adapter_config.json"):  # TRL's reference adapter has one too
            config = json.loads(file.read_text(encoding="utf8"))
            config["base_model_name_or_path"] = _public_name(config["base_model_name_or_path"] or "")
            file.write_text(json.dumps(config, indent=2, sort_keys=True), encoding="utf8")
        tokenizer.save_pretrained(draft)
    return path


def _replaceable(path: str | Path, sign: str) -> Path:
    """The folder to write, if it is new, empty, or one in which `sign` says that an export wrote it."""
    path = Path(path).expanduser()
    held = sorted(file.name for file in path.iterdir()) if path.is_dir() else [path.name] if path.exists() else []
    if held and (sign not in held or "seal.json" in held):
        raise ValueError(
            f"the folder of an export must be new, for what has its name is replaced (got {path}, where there is "
            f"{', '.join(held[:3])}). Take a name of its own, such as {path.absolute().name + '-export'!r}."
        )
    return path


@contextlib.contextmanager
def _naming_no_folder(base) -> Iterator[None]:
    """Within the block a model says its name, not in which folder it lies."""
    before = base.config._name_or_path, getattr(base, "name_or_path", "")
    base.config._name_or_path, base.name_or_path = map(_public_name, before)
    try:
        yield
    finally:
        base.config._name_or_path, base.name_or_path = before


def _public_name(name: str) -> str:
    r"""The name of a base on a hub, as it is; of a folder, on this machine or another, its last part.

    >>> [_public_name(name) for name in ("Qwen/Qwen3-4B", "/home/me/base/", r"C:\Users\me\base", "~/base")]
    ['Qwen/Qwen3-4B', 'base', 'base', 'base']
    """
    is_on_hub = re.fullmatch(r"[\w-][\w.-]*(/[\w.-]+)?", name, re.ASCII) and not Path(name).is_dir()
    return name if is_on_hub else PureWindowsPath(name).name


def _check_adapted(policy) -> None:
    if not hasattr(policy, "peft_config"):
        raise ValueError(
            f"the policy must carry a LoRA adapter (got {type(policy).__name__}). Use models.add_lora first."
        )


def adapter_report(path: str | Path) -> SimpleNamespace:
    """Scan a saved adapter's tensors for the two ways in which it can be worthless.

    Returns: `tensors` (count), `all_zero` and `non_finite` (names). A fresh adapter has every `lora_B` in `all_zero`.
    Raises: FileNotFoundError if the folder holds no adapter, ValueError if its file cannot be read.
    """
    import torch

    tensors = models.adapter_tensors(path)
    return SimpleNamespace(
        tensors=len(tensors),
        all_zero=[name for name, tensor in tensors.items() if not tensor.any()],
        non_finite=[name for name, tensor in tensors.items() if not torch.isfinite(tensor).all()],
    )


def verify_adapter(path: str | Path) -> SimpleNamespace:
    """The adapter's report, if it passes: no tensor all zero, none non-finite.

    Raises: ValueError naming the first offending tensor, or if there is none at all.
    """
    report = adapter_report(path)
    if not report.tensors:
        raise ValueError(f"an adapter must have tensors (got none in {path}). Save it with export.save_adapter.")
    for problem, names in {"zero": report.all_zero, "not finite": report.non_finite}.items():
        if names:
            raise ValueError(
                "every tensor of a trained adapter must be finite and somewhere non-zero "
                f"(got {len(names)} of {report.tensors} {problem}, first {names[0]}). "
                "Train it, or lower the learning rate if it diverged."
            )
    return report


def completion_logps(policy, tokenizer, prompts: list[str], completions: list[str]):
    """log πθ of each completion given its prompt, summed over its tokens.

    Args:
        prompts: templated texts, generation prompt included.
        completions: what follows each prompt.
    Returns: float tensor [N], nats, no gradient.
    """
    import torch

    starts = [len(ids) for ids in tokenizer(prompts, add_special_tokens=False)["input_ids"]]
    texts = [prompt + completion for prompt, completion in zip(prompts, completions, strict=True)]
    batch = tokenizer(texts, add_special_tokens=False, return_tensors="pt", padding=True, padding_side="right").to(
        policy.device
    )
    with torch.no_grad():
        logits = policy(**batch).logits[:, :-1].float()  # [N, T-1, V]
    logps = logits.log_softmax(-1).gather(-1, batch["input_ids"][:, 1:, None]).squeeze(-1)  # [N, T-1]
    positions = torch.arange(1, logps.shape[1] + 1, device=logps.device)
    mask = (positions >= torch.tensor(starts, device=logps.device)[:, None]) & batch["attention_mask"][:, 1:].bool()
    return (logps * mask).sum(-1)


def logp_change(policy, tokenizer, prompts: list[str], completions: list[str]) -> float:
    """Largest absolute change that the adapter makes to a completion's log-probability, in nats; 0 if it is fresh."""
    with_adapter = completion_logps(policy, tokenizer, prompts, completions)
    with policy.disable_adapter():
        without = completion_logps(policy, tokenizer, prompts, completions)
    return (with_adapter - without).abs().max().item()


def load_adapter(base, path: str | Path, *, is_trainable: bool = False):
    """A saved adapter on top of its base, ready to generate: frozen, or `is_trainable`, to train it on.

    Args:
        base: the model that it was trained on; the adapter is put into it, in place of one that it carries.
    Raises: ValueError if the adapter does not fit the base; FileNotFoundError if the folder holds none.
    """
    return models.with_adapter(base, path, is_trainable=is_trainable).eval()


def merge(policy, tokenizer, path: str | Path, *, dtype: str = "bfloat16") -> Path:
    """Fold the adapter into the base weights, W + (α/r)·BA, and save a whole model that needs no PEFT.

    The sum is taken in the base's own precision and rounded once, at the end. `policy` itself is left as it was.

    Args:
        policy: a `peft.PeftModel`; one that Unsloth loaded is merged by Unsloth.
        path: folder to write; an older model of that name is replaced.
        dtype: "bfloat16", "float16" or "float32" of the saved weights.
    Returns: path; `transformers.AutoModelForCausalLM.from_pretrained(path)` loads it.
    Raises: ValueError if there is no adapter, or one that cannot be merged: of tied embeddings, on a quantized base, or
        such that the merged model would compute something else; or if something else has that name.
    See: Hu et al. 2021, arXiv:2106.09685, section 4.1; `peft.LoraModel.merge_and_unload`.
    """
    import torch

    if dtype not in ("bfloat16", "float16", "float32"):
        raise ValueError(f"dtype must be bfloat16, float16 or float32 (got {dtype!r}). Try 'bfloat16'.")
    is_unsloths = hasattr(policy, "save_pretrained_merged")
    if is_unsloths and dtype != "bfloat16":
        raise ValueError(f"Unsloth merges to 16 bit in the model's own type (got dtype={dtype!r}). Leave dtype out.")
    _check_adapted(policy)
    models.check_untied(policy)
    path = _replaceable(path, "config.json")
    with files.replacing(path) as draft:
        if is_unsloths:
            policy.save_pretrained_merged(str(draft), tokenizer, save_method="merged_16bit")
        else:
            _merged(policy).to(getattr(torch, dtype)).save_pretrained(draft)
            tokenizer.save_pretrained(draft)
    return path


def _merged(policy):
    """A copy of the whole model, the adapter folded into it; it computes what the policy does."""
    import copy

    import torch

    unmerged = "It works unmerged: export.save_adapter and export.load_adapter."
    try:
        if quantized := policy.get_model_status().quantization_backend:
            raise ValueError(f"a base in {quantized}, where weights of 16 bits or more are needed")
        own = copy.deepcopy(policy).eval()
        probe = torch.arange(min(64, own.config.get_text_config().vocab_size), device=policy.device)[None]
        with torch.no_grad():
            before = own.get_base_model()(probe).logits.float()
            merged = own.merge_and_unload(safe_merge=True)
            after = merged(probe).logits.float()
    except (RuntimeError, TypeError, ValueError) as error:  # what PEFT cannot merge, in its words
        raise ValueError(f"an adapter must be one that can be merged (got {error}). {unmerged}") from error
    difference = ((after - before).norm() / before.norm()).item()
    allowed = MERGED if merged.dtype.itemsize > 2 else MERGED_IN_16_BITS
    if not difference <= allowed:
        raise ValueError(
            f"a merged model must compute what the policy does (got logits {difference:.2g} of their size apart; "
            f"{allowed:g} would be rounding). Is the adapter switched on, and of nothing that the model uses twice? "
            f"{unmerged}"
        )
    return merged


def load_merged(path: str | Path):
    """A merged model, in the precision it was saved in, ready to generate.

    Raises: FileNotFoundError if the folder holds none.
    """
    from transformers import AutoModelForCausalLM

    path = Path(path).expanduser()
    if not (path / "config.json").is_file():
        raise FileNotFoundError(
            f"the folder must hold config.json of a whole model (got {path}). Save it with export.merge, or load an "
            "adapter with export.load_adapter."
        )
    models.no_progress_bars()
    return AutoModelForCausalLM.from_pretrained(path, dtype="auto").eval()
