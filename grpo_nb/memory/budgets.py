"""All the terms of one GRPO run on one card, their peaks, and whether the card holds them."""

import difflib
from dataclasses import dataclass

from grpo_nb.batchflow import arithmetic, limits
from grpo_nb.memory.decoders import parameters
from grpo_nb.memory.kv_cache import kv_bytes, pool_bytes
from grpo_nb.memory.states import trained_bytes, weight_bytes
from grpo_nb.memory.steps import activation_bytes, chunked_head_bytes, logits_bytes, loss_bytes

# What torch sees of a card: less than its name says, and a few tenths of a GiB more or less with the driver.
CARDS = {
    name: round(size * 2**30)
    for name, size in {"T4": 14.56, "L4": 22.16, "A100-40": 39.49, "A100-80": 79.15, "H200": 139.80}.items()
}
# The keys that are read here, and what TRL takes where they are missing.
DEFAULTS = {
    **arithmetic.DEFAULTS,
    "optim": "adamw_torch_fused",
    "gradient_checkpointing": True,
    "beta": 0.0,
    "use_liger_kernel": False,
    "use_vllm": False,
    "vllm_mode": "colocate",
    "vllm_gpu_memory_utilization": 0.3,
    "vllm_enable_sleep_mode": False,
}
# Read as well, without a default. Of TRL 1.14.2's other keys none is so near to one that is read as a slip of the pen.
READ = (*DEFAULTS, arithmetic.STEPS, arithmetic.SIZE, "bf16", "fp16", "vllm_importance_sampling_correction")
SLIP = 0.87
CUDA_ITSELF = 2**29  # half a GiB: context and libraries
UNSLOTH_PIECE = 2 * 2**30  # UNSLOTH_LOGPROB_CHUNK_GB
RESIDENT = ("weights", "adapter", "optimizer", "reference")


@dataclass(frozen=True)
class Budget:
    """Bytes of a run, term by term, on one card; not all of them are there at one moment."""

    terms: dict[str, int]
    system: int  # offloaded to the system's memory, not on the card
    is_pool_kept: bool  # whether vLLM's pool stays while the policy trains
    are_gradients_kept: bool = False  # whether completions are sampled in the middle of an update's micro-steps, too

    @property
    def sampling(self) -> dict[str, int]:
        """Terms while completions are sampled; gradients only where a round may begin before the update is made."""
        gradients = ("gradients",) if self.are_gradients_kept else ()
        return {name: self.terms[name] for name in (*RESIDENT, *gradients, "kv_cache", "vllm_pool")}

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
    num_processes: int = 1,
    evaluated: int = 0,
) -> Budget:
    """Every term of a run, in bytes, on the card of one process.

    Args:
        config: of the model, as for `decoder`.
        grpo: settings as for `GRPOConfig`; missing ones take TRL's defaults.
        prompt_tokens: of the longest prompt.
        lora: adapter settings as for `peft.LoraConfig`; None: all weights train.
        bits: of the weights: 4, 8, 16 or 32. The KV cache has 32 with 32, else 16; so have activations, but mixed
            precision (TRL's default, bf16) makes them 16.
        card: bytes of the card; needed for vLLM's pool, which is a share of it. With vllm_mode "server" the pool lies
            on another card and is none here.
        backend: "trl", or "unsloth": then vLLM shares its weights with training, an adapter is float32 on any base,
            checkpoints go to the system's memory, and the loss makes its logits in pieces of 2 GiB (as its source says;
            not run here).
        num_processes: that train, one card each; every one holds all weights and its part of a generation batch.
        evaluated: completions side by side before and after training, `evaluate["batch_size"]`; vLLM's are in its pool.
    Returns: `Budget`.
    Raises: ValueError where settings cannot be meant, or TRL would refuse the batch.

    >>> from grpo_nb.memory import MODELS
    >>> made = budget(MODELS["Qwen3-0.6B"], {"beta": 0.04}, prompt_tokens=256)
    >>> made.terms["reference"] == made.terms["weights"]
    True
    """
    limits.check_backend(backend)
    is_unsloth, settings = backend == "unsloth", {**DEFAULTS, **grpo}
    rows, completion = settings["per_device_train_batch_size"], settings["max_completion_length"]
    check_spelling(grpo)
    micro_steps = steps_per_round(settings, num_processes=num_processes)
    for name, value in {"prompt_tokens": prompt_tokens, "max_completion_length": completion}.items():
        if not arithmetic.is_count(value):
            raise ValueError(f"{name} must be a whole number, at least 1 (got {value!r}). Count it first, or take 256.")
    is_mixed = settings.get("bf16") is not False or settings.get("fp16")
    tokens, width, cached = prompt_tokens + completion, 16 if is_mixed else max(16, bits), max(16, bits)
    weights = weight_bytes(config, bits=bits)["total"]
    base = max(16, bits) if is_unsloth and lora is not None else bits
    trained = trained_bytes(config, lora=lora, bits=base, optim=settings["optim"])
    checkpointing = settings["gradient_checkpointing"] and ("unsloth" if is_unsloth else True)
    kept = activation_bytes(
        config, rows=rows, tokens=tokens, lora=lora, bits=width, checkpointing=checkpointing, attention=attention
    )
    logits, loss = _head(
        config, settings, rows=rows, completion=completion, lora=lora, is_unsloth=is_unsloth, bits=width
    )
    sequences = max(rows * micro_steps, evaluated)
    cache = 0 if settings["use_vllm"] else kv_bytes(config, tokens=tokens, sequences=sequences, bits=cached)
    pool = _pool(config, settings, weights=weights, card=card, is_shared=is_unsloth)
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
    return Budget(
        terms,
        system=kept["system"],
        is_pool_kept=not settings["vllm_enable_sleep_mode"],
        are_gradients_kept=micro_steps * settings["num_iterations"] % settings["gradient_accumulation_steps"] > 0,
    )


def check_spelling(grpo: dict) -> None:
    """Refuse a key that is nearly, but not quite, one that is read here; all others are TRL's own business.

    Raises: ValueError.
    """
    for key in grpo:
        near = [] if key in READ else difflib.get_close_matches(str(key), READ, 1, SLIP)
        if near:
            raise ValueError(f"each setting must be a key of GRPOConfig (got {key!r}). Write {near[0]}.")


def steps_per_round(settings: dict, *, num_processes: int = 1) -> int:
    """Micro-steps of one process that a generation batch feeds: it samples so many times per_device_train_batch_size.

    Raises: ValueError where TRL would refuse the batch, in `batchflow`'s words, or for passes that are none.
    """
    for name, value in {"num_processes": num_processes, "num_iterations": settings["num_iterations"]}.items():
        if not arithmetic.is_count(value):
            raise ValueError(f"{name} must be a whole number, at least 1 (got {value!r}). Take 1.")
    return arithmetic.batch_numbers(settings, num_processes=num_processes)[arithmetic.STEPS]


def _head(config, settings: dict, *, rows: int, completion: int, lora, is_unsloth: bool, bits: int) -> tuple[int, int]:
    """(logits, loss): whole logits of a micro-step, TRL's tiles, or Unsloth's pieces."""
    if settings["use_liger_kernel"]:
        return 0, chunked_head_bytes(config, tokens=rows * completion, trains_head=lora is None, compute_bits=bits)
    logits = logits_bytes(config, rows=rows, completion_tokens=completion)
    loss = loss_bytes(config, rows=rows, completion_tokens=completion)
    return (0, min(UNSLOTH_PIECE, logits + loss)) if is_unsloth else (logits, loss)


def _pool(config, settings: dict, *, weights: int, card: int | None, is_shared: bool) -> int:
    """vLLM's pool on the card that trains: none where transformers generates, or a vLLM server on another card."""
    if not settings["use_vllm"] or settings["vllm_mode"] == "server":
        return 0
    if card is None:
        raise ValueError('vLLM\'s pool is a share of a card (got no card). Pass card=memory.CARDS["A100-80"].')
    own = weights if is_shared else 2 * parameters(config)["total"]
    return pool_bytes(card, settings["vllm_gpu_memory_utilization"], weights=own, is_shared=is_shared)
