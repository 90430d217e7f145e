"""A small Llama as a GGUF file: what llama.cpp's converter writes, with random weights."""

from pathlib import Path

import numpy

HIDDEN, INNER, HEADS, KV_HEADS, LAYERS = 32, 64, 4, 2, 1
SPECIALS = ("<|endoftext|>", "<|im_start|>", "<|im_end|>")
TEMPLATE = "{% for m in messages %}{{ '<|im_start|>' + m['content'] + '<|im_end|>' }}{% endfor %}"


def write(path: Path, *, end: int | None = 2, without: str = "", template: str = TEMPLATE) -> Path:
    """Write the file, all but the tensors whose name holds `without`.

    Args:
        end: id of the end token; None names none.
    """
    import gguf
    from tokenizers import pre_tokenizers

    letters = sorted(pre_tokenizers.ByteLevel.alphabet())
    tokens = [*SPECIALS, *letters, "12", "34"]
    file = gguf.GGUFWriter(path, "llama")
    file.add_context_length(64)
    file.add_embedding_length(HIDDEN)
    file.add_block_count(LAYERS)
    file.add_feed_forward_length(INNER)
    file.add_head_count(HEADS)
    file.add_head_count_kv(KV_HEADS)
    file.add_rope_dimension_count(HIDDEN // HEADS)
    file.add_rope_freq_base(10000.0)
    file.add_layer_norm_rms_eps(1e-5)
    file.add_vocab_size(len(tokens))
    file.add_tokenizer_model("gpt2")
    file.add_tokenizer_pre("smollm")
    file.add_token_list(tokens)
    file.add_token_types([gguf.TokenType.CONTROL] * len(SPECIALS) + [gguf.TokenType.NORMAL] * (len(letters) + 2))
    file.add_token_merges(["1 2", "3 4"])
    file.add_bos_token_id(1)
    file.add_unk_token_id(0)
    if end is not None:
        file.add_eos_token_id(end)
    if template:
        file.add_chat_template(template)
    made, kv = numpy.random.default_rng(0), HIDDEN * KV_HEADS // HEADS
    shapes = {"token_embd": (len(tokens), HIDDEN), "output_norm": (HIDDEN,)}
    for layer in range(LAYERS):
        of_a_layer = {
            "attn_norm": (HIDDEN,),
            "attn_q": (HIDDEN, HIDDEN),
            "attn_k": (kv, HIDDEN),
            "attn_v": (kv, HIDDEN),
            "attn_output": (HIDDEN, HIDDEN),
            "ffn_norm": (HIDDEN,),
            "ffn_gate": (INNER, HIDDEN),
            "ffn_up": (INNER, HIDDEN),
            "ffn_down": (HIDDEN, INNER),
        }
        shapes |= {f"blk.{layer}.{name}": shape for name, shape in of_a_layer.items()}
    for name, shape in shapes.items():
        if not without or without not in name:
            values = numpy.ones(shape) if "norm" in name else made.normal(size=shape) * 0.4
            file.add_tensor(f"{name}.weight", values.astype(numpy.float32))
    file.write_header_to_file()
    file.write_kv_data_to_file()
    file.write_tensors_to_file()
    file.close()
    return path
