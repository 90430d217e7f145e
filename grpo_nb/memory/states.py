"""What lies in memory all the time: weights, an adapter, and the two numbers that Adam keeps of every weight."""

from grpo_nb.batchflow import arithmetic
from grpo_nb.memory.decoders import LINEARS, decoder, linears, parameters

BITS = (4, 8, 16, 32)
# Bytes that an optimizer keeps per trained parameter: (that follow the parameter's own width, fixed ones).
# 8-bit optimizers: a byte each, and a float32 scale per block of 256 (seen in bitsandbytes 0.50.2; it leaves tensors
# below 4096 elements at 32 bits, which is not counted). "paged" ones may move to the system's memory; they are counted
# where they start.
EIGHT_BIT = 1 + 4 / 256
OPTIMIZERS = {
    "adamw_torch": (2, 0),
    "adamw_torch_fused": (2, 0),
    "adamw_8bit": (0, 2 * EIGHT_BIT),
    "adamw_bnb_8bit": (0, 2 * EIGHT_BIT),
    "paged_adamw_8bit": (0, 2 * EIGHT_BIT),
    "paged_adamw_32bit": (0, 8),
    "lion_32bit": (0, 4),
    "lion_8bit": (0, EIGHT_BIT),
    "sgd": (0, 0),
}


def weight_bytes(config, *, bits: int = 16, double_quant: bool = True) -> dict[str, int]:
    """Weights as a loader holds them: `matrices`, `scales`, `rest` (embedding, head, norms, biases), and `total`.

    matrices = their parameters · bits / 8. With 4 or 8 bits only the layers' matrices are quantised; the rest stays at
    16 bits, which is why a small model with a large vocabulary shrinks so little.

    Args:
        bits: 4 (NF4, blocks of 64), 8 (LLM.int8, a float32 scale per output), 16 or 32.
        double_quant: the scales of the 4-bit blocks are themselves stored in a byte, as QLoRA does.
    Raises: ValueError for another number of bits.
    See: Dettmers et al. 2023, arXiv:2305.14314, §3.

    >>> from grpo_nb.memory import MODELS
    >>> weight_bytes({**MODELS["Llama-3.1-8B"]}, bits=16)["total"]
    16060522496
    """
    if bits not in BITS:
        raise ValueError(f"weights must have 4, 8, 16 or 32 bits (got {bits!r}). Take bits = 16.")
    d, counts = decoder(config), parameters(config)
    outputs = d.layers * sum(outputs for _, outputs in linears(d).values())
    blocks = counts["matrices"] // 64
    scales = {4: blocks + blocks // 256 * 4 if double_quant else 4 * blocks, 8: 4 * outputs}.get(bits, 0)
    found = {
        "matrices": counts["matrices"] * bits // 8,
        "scales": scales,
        "rest": (counts["total"] - counts["matrices"]) * max(bits, 16) // 8,
    }
    return {**found, "total": sum(found.values())}


def adapter_parameters(config, lora: dict) -> int:
    """Trainable parameters of a LoRA adapter: Σ r · (inputs + outputs) over targeted matrices and layers.

    Args:
        lora: as for `peft.LoraConfig`: `r` and `target_modules` (names, or "all-linear").
    Raises: ValueError for a rank that is none, or a target that is no matrix of a layer.
    See: Hu et al. 2021, arXiv:2106.09685.

    >>> from grpo_nb.memory import MODELS
    >>> adapter_parameters(MODELS["Llama-3.1-8B"], {"r": 32, "target_modules": "all-linear"})
    83886080
    """
    d, shapes = decoder(config), linears(config)
    aimed = targets(lora)
    return d.layers * lora["r"] * sum(sum(shapes[name]) for name in aimed)


def targets(lora: dict) -> list[str]:
    """The matrices that an adapter changes, in the order of a layer.

    Raises: ValueError for a rank that is no whole number from 1 up, or target modules that are none or unknown; where
    PEFT would choose some by the family, they must be named.
    """
    rank, wanted = lora.get("r"), lora.get("target_modules")
    if not arithmetic.is_count(rank):
        raise ValueError(f"an adapter's r must be a whole number, at least 1 (got {rank!r}). Take r = 16.")
    wanted = LINEARS if wanted == "all-linear" else wanted
    is_list = isinstance(wanted, list | tuple | set | frozenset)
    if not is_list or not wanted or any(name not in LINEARS for name in wanted):
        raise ValueError(
            f'target_modules must be names out of {", ".join(LINEARS)}, or "all-linear" (got {wanted!r}). '
            'Take "all-linear".'
        )
    return [name for name in LINEARS if name in wanted]


def trained_bytes(config, *, lora: dict | None = None, bits: int = 16, optim: str = "adamw_torch_fused") -> dict:
    """What training adds to the weights: `adapter`, `gradients`, `optimizer`, and the `trainable` parameters.

    gradients = trainable · width; optimizer = trainable · (2 · width for Adam, 2 · (1 + 4/256) for its 8-bit form),
    where width is the bytes of a trained parameter: those of the weights, or of an adapter 4 (PEFT keeps it in
    float32), and 2 on a base of 4 or 8 bits (TRL then makes it bfloat16).

    Args:
        bits: of the base's weights.
        optim: as in `GRPOConfig`.
    Raises: ValueError for an unknown optimizer, or weights of 4 or 8 bits without an adapter.

    >>> from grpo_nb.memory import MODELS
    >>> trained_bytes(MODELS["Qwen3-0.6B"], bits=32)["optimizer"] == 8 * 596049920
    True
    """
    if optim not in OPTIMIZERS:
        raise ValueError(f"optim must be one of {', '.join(OPTIMIZERS)} (got {optim!r}). Take adamw_torch_fused.")
    if lora is None and bits < 16:
        raise ValueError(
            f"weights of {bits} bits must stay frozen (got no LoRA adapter to train instead). Pass lora, or bits = 16."
        )
    count = parameters(config)["total"] if lora is None else adapter_parameters(config, lora)
    width = bits // 8 if lora is None else 2 if bits < 16 else 4
    following, fixed = OPTIMIZERS[optim]
    return {
        "trainable": count,
        "adapter": 0 if lora is None else count * width,
        "gradients": count * width,
        "optimizer": round(count * (following * width + fixed)),
    }
