"""Which policy a profile asks for: one that did not exist before, a pretrained one, or one that Unsloth loads."""

from pathlib import Path
from types import SimpleNamespace

from grpo_nb import templates
from grpo_nb.models import adapters, pretrained, tiny, with_unsloth


def load_policy(
    profile: SimpleNamespace, rows: list[dict] | None = None, *, path: str | Path | None = None, seed: int = 0
):
    """The profile's policy and its tokenizer, with the series' chat template in place (or its own, if it asks so).

    Args:
        profile: from `profiles.current()`; one with a `model_name` starts from that, any other from nothing.
        rows: training rows, the tiny tokenizer's corpus; needed only where a tiny policy is built from nothing.
        path: folder of an earlier stage, a whole model, or with a `model_name` an adapter; None starts at the
            beginning. Unsloth's vLLM fills a card: the kernel's policy itself goes back to the adapter, a second one is
            refused.
        seed: of the random weights.
    Returns: (policy, tokenizer). The policy has no adapter yet unless `path` holds one, then it can be trained on.
    Raises: ValueError if there is neither `path` nor `rows`; ImportError if unsloth is missing or comes too late; what
        `load_pretrained` raises.
    """
    system_prompt = profile.task["system_prompt"] or templates.SYSTEM_PROMPT
    if profile.policy["backend"] == "unsloth":
        policy, tokenizer = with_unsloth.load(profile, path)
        tokenizer.chat_template = templates.chat_template(system_prompt)
        return policy, tokenizer
    pretrained.no_progress_bars()
    if "model_name" in profile.policy:
        return _pretrained(profile.policy, path, system_prompt)
    if path is not None:
        from transformers import AutoModelForCausalLM, AutoTokenizer

        return AutoModelForCausalLM.from_pretrained(path), AutoTokenizer.from_pretrained(path)
    if not rows:
        raise ValueError(
            "a tiny policy needs rows to train its tokenizer on (got none). Pass rows=data.load_task(...)[0]."
        )
    tokenizer = tiny.tiny_tokenizer(rows, system_prompt=system_prompt, vocab_size=profile.policy["vocab_size"])
    return tiny.tiny_policy(profile.policy, tokenizer, seed=seed), tokenizer


def _pretrained(given: dict, path: str | Path | None, system_prompt: str):
    """The model that a profile names, with the adapter of `path` if it holds one; or the whole model that is there."""
    is_adapter = path is not None and (Path(path) / "adapter_config.json").is_file()
    settings = {key: given[key] for key in ("dtype", "chat_template") if key in given}
    name = given["model_name"] if path is None or is_adapter else Path(path)
    policy, tokenizer = pretrained.load_pretrained(name, system_prompt=system_prompt, **settings)
    return (adapters.with_adapter(policy, path, is_trainable=True) if is_adapter else policy), tokenizer


def prepare(profile: SimpleNamespace) -> None:
    """Import what must come first: unsloth in the GPU profiles, before anything imports transformers, trl or peft."""
    if profile.policy["backend"] == "unsloth":
        with_unsloth.import_unsloth()


def parameter_counts(policy) -> dict[str, int]:
    """Number of parameters: `total` and `trainable`."""
    return {
        "total": sum(p.numel() for p in policy.parameters()),
        "trainable": sum(p.numel() for p in policy.parameters() if p.requires_grad),
    }
