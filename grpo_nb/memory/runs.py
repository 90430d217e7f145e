"""All the terms of one GRPO run on one card, their peaks, and whether the card holds them."""

from dataclasses import dataclass

from grpo_nb.memory.decoders import parameters
from grpo_nb.memory.sampling import kv_bytes, pool_bytes
from grpo_nb.memory.states import trained_bytes, weight_bytes
from grpo_nb.memory.steps import activation_bytes, chunked_head_bytes, logits_bytes, loss_bytes

# What torch sees of a card: less than its name says, and a few tenths of a GiB more or less with the driver.
CARDS = {
    name: round(size * 2**30)
    for name, size in {"T4": 14.56, "L4": 22.16, "A100-40": 39.49, "A100-80": 79.15, "H200": 139.80}.items()
}
# The keys that are read here, and what TRL takes where they are missing.
DEFAULTS = {
    "per_device_train_batch_size": 8,
    "gradient_accumulation_steps": 1,
    "num_generations": 8,
    "max_completion_length": 512,
    "optim": "adamw_torch_fused",
    "gradient_checkpointing": True,
    "beta": 0.0,
    "use_liger_kernel": False,
    "use_vllm": False,
    "vllm_gpu_memory_utilization": 0.3,
    "vllm_enable_sleep_mode": False,
}
CUDA_ITSELF = 2**29  # half a GiB: context and libraries
UNSLOTH_PIECE = 2 * 2**30  # UNSLOTH_LOGPROB_CHUNK_GB
RESIDENT = ("weights", "adapter", "optimizer", "reference")


@dataclass(frozen=True)
class Budget:
    """Bytes of a run, term by term, on one card; not all of them are there at one moment."""

    terms: dict[str, int]
    system: int  # offloaded to the system's memory, not on the card
    is_pool_kept: bool  # whether vLLM's pool stays while the policy trains

    @property
    def sampling(self) -> dict[str, int]:
        """Terms while completions are sampled; the gradients are gone by then."""
        return {name: self.terms[name] for name in (*RESIDENT, "kv_cache", "vllm_pool")}

    @property
    def training(self) -> dict[str, int]:
        """Terms during a backward pass, at its start (logits) or inside a layer, whichever is more."""
        at_start = {name: self.terms[name] for name in ("logits", "loss")}
        inside = {"layer_backward": self.terms["layer_backward"]}
        largest = max(at_start, inside, key=lambda terms: sum(terms.values()))
        names = (*RESIDENT, "gradients", "activations", *(("vllm_pool",) if self.is_pool_kept else ()))
        return {name: self.terms[name] for name in names} | largest

    @property
    def at_peak(self) -> dict[str, int]:
        """The larger of the two: terms that add up to `peak`, the bars of a picture."""
        return max(self.sampling, self.training, key=lambda terms: sum(terms.values()))

    @property
    def peak(self) -> int:
        """What the card must hold."""
        return sum(self.at_peak.values())

    def fits(self, card: int) -> bool:
        """Whether the card holds the peak and half a GiB for CUDA itself."""
        return self.peak + CUDA_ITSELF <= card


def budget(
    config,
    grpo: dict,
    *,
    prompt_tokens: int,
    lora: dict | None = None,
    bits: int = 16,
    card: int | None = None,
    backend: str = "trl",
    attention: str = "sdpa",
) -> Budget:
    """Every term of a run, in bytes, on one card.

    Args:
        config: of the model, as for `decoder`.
        grpo: settings as for `GRPOConfig`; missing ones take TRL's defaults.
        prompt_tokens: of the longest prompt.
        lora: adapter settings as for `peft.LoraConfig`; None: all weights train.
        bits: of the weights: 4, 8, 16 or 32. The KV cache has 32 with 32, else 16; so have activations, but mixed
            precision (TRL's default, bf16) makes them 16.
        card: bytes of the card; needed for vLLM's pool, which is a share of it.
        backend: "trl", or "unsloth": then vLLM shares its weights with training, checkpoints go to the system's
            memory, and the loss makes its logits in pieces of 2 GiB (told of it; not run here).
    Returns: `Budget`.
    Raises: ValueError where settings cannot be meant.

    >>> from grpo_nb.memory import MODELS
    >>> made = budget(MODELS["Qwen3-0.6B"], {"beta": 0.04}, prompt_tokens=256)
    >>> made.terms["reference"] == made.terms["weights"]
    True
    """
    if backend not in ("trl", "unsloth"):
        raise ValueError(f'backend must be "trl" or "unsloth" (got {backend!r}). Take "trl".')
    is_unsloth, settings = backend == "unsloth", {**DEFAULTS, **grpo}
    rows, completion = settings["per_device_train_batch_size"], settings["max_completion_length"]
    numbers = {"prompt_tokens": prompt_tokens, "per_device_train_batch_size": rows, "max_completion_length": completion}
    for name, value in numbers.items():
        if value < 1:
            raise ValueError(f"{name} must be at least 1 (got {value}). Count it first, or take 256.")
    is_mixed = settings.get("bf16") is not False or settings.get("fp16")
    tokens, width, cached = prompt_tokens + completion, 16 if is_mixed else max(16, bits), max(16, bits)
    weights = weight_bytes(config, bits=bits)["total"]
    trained = trained_bytes(config, lora=lora, bits=bits, optim=settings["optim"])
    checkpointing = settings["gradient_checkpointing"] and ("unsloth" if is_unsloth else True)
    kept = activation_bytes(
        config, rows=rows, tokens=tokens, lora=lora, bits=width, checkpointing=checkpointing, attention=attention
    )
    logits, loss = _head(
        config, settings, rows=rows, completion=completion, lora=lora, is_unsloth=is_unsloth, bits=width
    )
    cache, pool = _sampling(config, settings, tokens=tokens, weights=weights, card=card, bits=cached, shared=is_unsloth)
    terms = {
        "weights": weights,
        "adapter": trained["adapter"],
        "optimizer": trained["optimizer"],
        "reference": weights if settings["beta"] and lora is None else 0,
        "gradients": trained["gradients"],
        "activations": kept["kept"],
        "layer_backward": kept["backward"],
        "logits": logits,
        "loss": loss,
        "kv_cache": cache,
        "vllm_pool": pool,
    }
    return Budget(terms, system=kept["system"], is_pool_kept=not settings["vllm_enable_sleep_mode"])


def _head(config, settings: dict, *, rows: int, completion: int, lora, is_unsloth: bool, bits: int) -> tuple[int, int]:
    """(logits, loss): whole logits of a micro-step, TRL's tiles, or Unsloth's pieces."""
    if settings["use_liger_kernel"]:
        return 0, chunked_head_bytes(config, tokens=rows * completion, trains_head=lora is None, compute_bits=bits)
    logits = logits_bytes(config, rows=rows, completion_tokens=completion)
    loss = loss_bytes(config, rows=rows, completion_tokens=completion)
    return (0, min(UNSLOTH_PIECE, logits + loss)) if is_unsloth else (logits, loss)


def _sampling(config, settings: dict, *, tokens: int, weights: int, card, bits: int, shared: bool) -> tuple[int, int]:
    """(KV cache, vLLM's pool): the one where transformers generates, the other where vLLM does."""
    if settings["use_vllm"]:
        if card is None:
            raise ValueError('vLLM\'s pool is a share of a card (got no card). Pass card=memory.CARDS["A100-80"].')
        share = settings["vllm_gpu_memory_utilization"]
        own = weights if shared else 2 * parameters(config)["total"]
        return 0, pool_bytes(card, share, weights=own, is_shared=shared)
    rows = settings["per_device_train_batch_size"]
    each = settings.get("steps_per_generation") or settings["gradient_accumulation_steps"]
    at_once = settings.get("generation_batch_size") or rows * each
    return kv_bytes(config, tokens=tokens, sequences=at_once, bits=bits), 0
