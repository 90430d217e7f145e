"""A well-known table, made again term by term: GRPO on Llama 3.1 8B at 20K tokens, 8 completions of one prompt.

It stands in Unsloth's RL guide and first in its announcement of 20 February 2025 (unsloth.ai/blog/grpo): 510.8 "GB" for
a standard implementation with FlashAttention 2, 54.3 for Unsloth. Two of its rows follow from the model's shape. The
row on training does not; it agrees with a straight line through the vendor's own longest contexts
(docs.unsloth.ai/basics/unsloth-benchmarks), continued to 8 · 20480 tokens and cut off at the point.
"""

from grpo_nb.memory.decoders import MODELS, decoder, gib, parameters
from grpo_nb.memory.kv_cache import kv_bytes
from grpo_nb.memory.steps import logits_bytes, loss_bytes

COMPLETIONS, LENGTH = 8, 20 * 1024
STANDARD, UNSLOTH = "standard", "unsloth"
TABLE: dict[str, dict[str, float]] = {  # as printed, in "GB"
    "training": {STANDARD: 414, UNSLOTH: 42},
    "loss": {STANDARD: 78.3, UNSLOTH: 9.8},
    "inference weights": {STANDARD: 16, UNSLOTH: 0},
    "KV cache": {STANDARD: 2.5, UNSLOTH: 2.5},
    "total": {STANDARD: 510.8, UNSLOTH: 54.33},
}
# Longest context that fits: (card in GB, tokens); Llama 3.1 8B, 4-bit QLoRA of rank 32 on all linear layers, batch 1.
LONGEST = {
    STANDARD: ((12, 932), (16, 2551), (24, 5789), (40, 12264), (48, 15502), (80, 28454)),
    UNSLOTH: ((8, 2972), (12, 21848), (16, 40724), (24, 78475), (40, 153977), (48, 191728), (80, 342733)),
}


def line(points: tuple[tuple[float, int], ...]) -> tuple[float, float]:
    """(GB at no token, GB per token) of the straight line through the first and the last of these measurements.

    The others lie on it to the token, so most of them are themselves computed from a line.
    """
    (low, few), (high, many) = points[0], points[-1]
    slope = (high - low) / (many - few)
    return low - slope * few, slope


def reproduced() -> dict[str, dict[str, float]]:
    """Each row of the table from its formula, in the unit that its printed number turns out to have.

    training: a + b · 8 · 20480, GB · loss: 2 · 2 bytes · 8 · 20480 · V, GiB; an eighth of it · inference weights:
    2 bytes · parameters, GB; none where they are shared · KV cache: 2 · layers · kv_heads · head_dim · 2 bytes · 20480,
    GiB · total: the sum of the printed rows.

    >>> {name: round(row["standard"], 1) for name, row in reproduced().items()}
    {'training': 414.5, 'loss': 78.3, 'inference weights': 16.1, 'KV cache': 2.5, 'total': 510.8}
    >>> {name: round(row["unsloth"], 1) for name, row in reproduced().items()}
    {'training': 42.1, 'loss': 9.8, 'inference weights': 0.0, 'KV cache': 2.5, 'total': 54.3}
    """
    llama = MODELS["Llama-3.1-8B"]
    trained = {column: line(points) for column, points in LONGEST.items()}
    tokens = COMPLETIONS * LENGTH
    two_logits = 2 * 2 * tokens * decoder(llama).vocabulary
    cache = gib(kv_bytes(llama, tokens=LENGTH))
    return {
        "training": {column: start + slope * tokens for column, (start, slope) in trained.items()},
        "loss": {STANDARD: gib(two_logits), UNSLOTH: gib(two_logits / 8)},
        "inference weights": {STANDARD: 2 * parameters(llama)["total"] / 1e9, UNSLOTH: 0.0},
        "KV cache": {STANDARD: cache, UNSLOTH: cache},
        "total": {column: sum(row[column] for name, row in TABLE.items() if name != "total") for column in trained},
    }


def remarks() -> dict[str, str]:
    """Where the table's arithmetic is off: one sentence each, its numbers computed here."""
    llama = MODELS["Llama-3.1-8B"]
    vocabulary, weights = decoder(llama).vocabulary, 2 * parameters(llama)["total"]
    two_logits, short = (2 * 2 * COMPLETIONS * length * vocabulary for length in (LENGTH, 20000))
    one, all_of_them = (gib(kv_bytes(llama, tokens=LENGTH, sequences=n)) for n in (1, COMPLETIONS))
    rows = [row for name, row in TABLE.items() if name != "total"]
    total, sums = TABLE["total"], {column: sum(row[column] for row in rows) for column in TABLE["total"]}
    saved = TABLE["training"][STANDARD] - TABLE["training"][UNSLOTH]
    one_row = {"rows": 1, "completion_tokens": LENGTH}
    step = logits_bytes(llama, **one_row) + loss_bytes(llama, **one_row)
    checkpoints = 2 * decoder(llama).layers * decoder(llama).hidden
    per_token = line(LONGEST[STANDARD])[1] * 1e9
    rest = (per_token - checkpoints) / vocabulary
    return {
        "GiB and GB": f"The two logits take {two_logits / 1e9:.2f} GB; the 78.3 beside them are {gib(two_logits):.2f} "
        f"GiB. The weights' 16 are {weights / 1e9:.2f} GB, or {gib(weights):.2f} GiB: one column adds both units.",
        "20K": f"20K is 20480 here; with 20000 tokens the two logits take {gib(short):.2f} GiB.",
        "KV cache": f"{one:.1f} GiB are the cache of one sequence; the {COMPLETIONS} that are sampled take "
        f"{all_of_them:.0f} GiB at full length.",
        "total": f"The rows add up to {sums[UNSLOTH]:.1f}, not {total[UNSLOTH]}; no row has a second digit.",
        "saving": f"{total[UNSLOTH]} of {total[STANDARD]} saves {1 - total[UNSLOTH] / total[STANDARD]:.1%}, less than "
        "90 %.",
        "checkpoints": f"The two training rows differ by {saved}; the guide's text says that 52 are saved.",
        "training": f"The line behind 414 rises by {per_token / 1e6:.2f} MB per token, of which the inputs of all "
        f"layers, in 16 bits, are {checkpoints / 1e6:.2f} MB; what remains is {rest:.0f} bytes per token and word of "
        "the vocabulary. So this row seems to hold the logits of SFT's loss, and the next one counts logits again.",
        "today": "TRL 1.14.2 makes the logits of per_device_train_batch_size rows at a time: one row of "
        f"{LENGTH} tokens peaks at {gib(step):.1f} GiB in float32, gradients included.",
    }
