"""What generation adds to memory: the KV cache of transformers, or the pool that vLLM takes at its start."""

from grpo_nb.batchflow import arithmetic
from grpo_nb.memory.decoders import decoder, gib


def kv_bytes_per_token(config, *, bits: int = 16) -> int:
    """Keys and values of one token: 2 · layers · kv_heads · head_dim · bits / 8.

    >>> from grpo_nb.memory import MODELS
    >>> kv_bytes_per_token(MODELS["Llama-3.1-8B"])
    131072
    """
    d = decoder(config)
    return 2 * d.layers * d.kv_width * bits // 8


def kv_bytes(config, *, tokens: int, sequences: int = 1, bits: int = 16) -> int:
    """KV cache of some sequences at their full length: sequences · tokens · `kv_bytes_per_token`.

    Sliding windows, which would cap it, are not counted.

    Raises: ValueError unless both are whole numbers, at least 1.

    >>> from grpo_nb.memory import MODELS
    >>> gib(kv_bytes(MODELS["Llama-3.1-8B"], tokens=20480)), gib(kv_bytes(MODELS["Llama-3.1-8B"], tokens=20480,
    ...     sequences=8))
    (2.5, 20.0)
    """
    for name, value in {"tokens": tokens, "sequences": sequences}.items():
        if not arithmetic.is_count(value):
            raise ValueError(f"{name} must be a whole number, at least 1 (got {value!r}). Count them first.")
    return sequences * tokens * kv_bytes_per_token(config, bits=bits)


def side_by_side(config, *, tokens: int, free: int, bits: int = 16) -> int:
    """Completions that transformers may generate together: their KV cache, at full length, takes half of `free` bytes.

    The other half is for the prompts' activations and for the cache's growth, which copies. It is at least 1.

    Args:
        tokens: of the longest sequence, prompt and completion together.
        free: bytes of the card that nothing holds.

    >>> from grpo_nb.memory import MODELS
    >>> side_by_side(MODELS["Qwen3-8B"], tokens=2048, free=9 * 2**30)
    16
    """
    return max(1, free // 2 // kv_bytes(config, tokens=tokens, bits=bits))


def pool_bytes(card: int, utilization: float, *, weights: int, is_shared: bool = False) -> int:
    """vLLM's part of a card, beside the weights that training holds: utilization · card (− weights if shared).

    The pool holds vLLM's weights and as many KV blocks as are left. TRL loads the weights a second time; Unsloth's
    training uses those in the pool.

    Args:
        card: bytes of the card.
        utilization: `vllm_gpu_memory_utilization` (TRL, 0.3 by default), `gpu_memory_utilization` (Unsloth, which
            takes this share of what is free when it loads: with an empty card, nearly the same).
        weights: bytes of vLLM's weights.
    Raises: ValueError for a share outside 0 … 1, or a pool that the weights fill.

    >>> pool_bytes(80 * 10**9, 0.5, weights=16 * 10**9, is_shared=True)
    24000000000
    """
    if not 0 < utilization <= 1:
        raise ValueError(f"the pool must be a share of the card, above 0 and at most 1 (got {utilization}). Take 0.3.")
    pool = round(card * utilization)
    if pool <= weights:
        least = -(-weights * 100 // card) / 100
        advice = f"Try {min(least + 0.1, 0.95):.2f}" if least < 0.95 else "Take a larger card or fewer bits"
        raise ValueError(
            "vLLM's pool must hold the weights and some KV blocks "
            f"(got {utilization} · {gib(card):.1f} GiB for weights of {gib(weights):.1f} GiB). {advice}."
        )
    return pool - weights if is_shared else pool
