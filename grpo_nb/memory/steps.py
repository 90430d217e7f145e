"""What one micro-step adds to memory: activations that wait for the backward pass, the logits, and the loss.

Activations are counted tensor by tensor for the layers of Llama and Qwen3 as transformers 5.17 runs them, all in one
dtype. Departures: 1. under autocast with float32 weights the inputs of q, k and v are cast one by one, which keeps up
to three copies of one tensor; 2. Gemma's and OLMo's further norms are counted like the first two; 3. Unsloth's own
layers keep less.
"""

from grpo_nb.memory.decoders import Decoder, decoder
from grpo_nb.memory.states import targets

CHECKPOINTING = (True, False, "unsloth")
ATTENTION = ("sdpa", "flash_attention_2")
TILE_TOKENS, TILE_VOCABULARY = 2048, 8192  # TRL 1.14.2's chunked head


def activation_bytes(
    config,
    *,
    rows: int,
    tokens: int,
    lora: dict | None = None,
    bits: int = 16,
    checkpointing: bool | str = True,
    attention: str = "sdpa",
    is_padded: bool = True,
) -> dict[str, int]:
    """Activations that wait for the backward pass: `kept`, what going `backward` adds, and `system` (offloaded).

    Without checkpointing kept = layers · one layer. With it kept = layers · rows · tokens · hidden, the layers' inputs;
    later, when the logits are gone, one layer at a time is made again. "unsloth" moves the inputs to the system's
    memory, all but two. In a layer's backward pass three gradients of intermediate width replace one activation; the
    gradient of a tied head waits all along for that of the embedding.

    Args:
        rows: sequences in a micro-step, per_device_train_batch_size.
        tokens: of a sequence, prompt and completion together.
        lora: adapter settings; None: all weights train.
        bits: 16 or 32, of an activation.
        attention: "sdpa" or "flash_attention_2".
        is_padded: whether some row is shorter: sdpa then copies keys and values for every head, and keeps a mask of
            rows · tokens² for each layer.
    Returns: bytes; the logits and what leads to them are not among them, see `logits_bytes`.
    Raises: ValueError for an option that is not counted here.
    """
    if checkpointing not in CHECKPOINTING:
        raise ValueError(f'checkpointing must be True, False or "unsloth" (got {checkpointing!r}). Take True.')
    if attention not in ATTENTION:
        raise ValueError(f"attention must be one of {', '.join(ATTENTION)} (got {attention!r}). Take sdpa.")
    d = decoder(config)
    is_masked = is_padded and attention == "sdpa"
    layer = rows * _layer_bytes(d, tokens=tokens, lora=lora, width=bits // 8, is_masked=is_masked)
    inputs = d.layers * rows * tokens * d.hidden * bits // 8
    backward = rows * tokens * 2 * d.intermediate * bits // 8
    backward += d.vocabulary * d.hidden * bits // 8 * (lora is None and d.is_tied)
    if not checkpointing:
        return {"kept": d.layers * layer, "backward": backward, "system": 0}
    if checkpointing == "unsloth":
        return {"kept": 2 * inputs // d.layers, "backward": layer + backward, "system": inputs}
    return {"kept": inputs, "backward": layer + backward, "system": 0}


def _layer_bytes(d: Decoder, *, tokens: int, lora: dict | None, width: int, is_masked: bool) -> int:
    """What one row leaves in one layer: tokens · (values in `width` bytes + values in float32), and the mask."""
    aimed = [] if lora is None else targets(lora)
    trains = lora is None  # every weight: then each matrix and each norm needs its input
    kv = d.q_width if is_masked else d.kv_width  # keys and values, copied for every head where there is a mask
    qk = {None: 0, "head": d.q_width + d.kv_width, "all heads": d.q_width + d.kv_width}[d.qk_norm]
    qk_rows = {None: 0, "head": d.heads + d.kv_heads, "all heads": 2}[d.qk_norm]
    values = 2 * d.q_width + 2 * kv + 3 * d.intermediate  # query, output, keys, values; gate, silu(gate), up
    values += d.hidden * (trains or bool({"q_proj", "k_proj", "v_proj"} & set(aimed)))
    values += d.hidden * (trains or bool({"gate_proj", "up_proj"} & set(aimed)))
    values += d.intermediate * (trains or "down_proj" in aimed)
    values += (d.norms * d.hidden + qk) * trains  # normalised, before the norm's weight
    values += 0 if lora is None else lora["r"] * len(aimed)
    # An RMSNorm keeps its input and one root per row, both in float32; attention one log-sum per head.
    floats = d.norms * d.hidden + d.norms + qk + qk_rows + d.heads
    return tokens * (values * width + floats * 4) + is_masked * tokens * tokens * width


def logits_bytes(config, *, rows: int, completion_tokens: int, width: int = 4) -> int:
    """Logits of one micro-step: rows · (T + 1) · V · width.

    TRL 1.14.2 asks the model for T + 1 positions of per_device_train_batch_size rows at a time, and drops the last.
    Mixed precision changes nothing: accelerate turns a model's outputs back into float32.

    Args:
        completion_tokens: T, of the longest completion in the micro-step.
        width: bytes of a logit.
    See: `GRPOTrainer._full_logits_logps`; `accelerate.utils.convert_outputs_to_fp32`.

    >>> from grpo_nb.memory import MODELS
    >>> logits_bytes(MODELS["Llama-3.1-8B"], rows=1, completion_tokens=1) == 2 * 128256 * 4
    True
    """
    return rows * (completion_tokens + 1) * decoder(config).vocabulary * width


def loss_bytes(config, *, rows: int, completion_tokens: int, width: int = 4) -> int:
    """What the loss adds to its logits while it goes backward: 2 · rows · (T + 1) · V · width.

    Once for the gradient of the T logits that count, once for the same among T + 1. Forward it is less: one copy for
    the entropy. So a loss step's peak is three times its logits.
    """
    return 2 * logits_bytes(config, rows=rows, completion_tokens=completion_tokens, width=width)


def chunked_head_bytes(config, *, tokens: int, trains_head: bool = False, compute_bits: int = 16) -> int:
    """Peak of the head and loss where no logits are made (`use_liger_kernel=True`): tiles of 2048 tokens · 8192 words.

    n · 8192 · (compute + 4) for two buffers, n · min(V, 8192) · 3 · 4 for the probabilities and their gradients,
    tokens · H · 4 for the gradient of the hidden states, V · H · 4 for that of the head.

    Args:
        tokens: completion tokens that count, of all rows.
        trains_head: whether the head, or the embedding that it is tied to, has a gradient.
        compute_bits: of the product: 16 in mixed precision, else 32.
    See: TRL 1.14.2, `_ChunkedLogProbFunction.backward`.
    """
    d = decoder(config)
    n, words = min(tokens, TILE_TOKENS), min(d.vocabulary, TILE_VOCABULARY)
    buffers = n * TILE_VOCABULARY * (compute_bits // 8 + 4)
    tiles = n * words * 4 * 3
    return buffers + tiles + 4 * d.hidden * (tokens + d.vocabulary * trains_head)
