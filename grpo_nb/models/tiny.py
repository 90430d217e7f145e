"""A policy that did not exist before: a small Qwen3 with random weights, and a byte-level BPE trained on the spot."""

import json

from grpo_nb import templates

END_OF_TURN = "<|im_end|>"  # Qwen3's eos
PADDING = "<|endoftext|>"  # Qwen3's pad


def tiny_tokenizer(rows: list[dict], *, system_prompt: str | None = None, vocab_size: int = 512):
    """Byte-level BPE of class Qwen2Tokenizer: every digit one token, the four tags one token each and *not* special.

    Args:
        rows: {"problem", "working"}; their words become tokens.
        system_prompt: default system turn of the chat template, also part of the corpus.
        vocab_size: upper bound, bytes, merges, tags and specials together.
    Returns: `transformers.Qwen2Tokenizer`, eos <|im_end|>, pad <|endoftext|>, padding on the left.
    See: TRL decodes completions with skip_special_tokens=True; a special tag would vanish before a reward function
    saw it.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers, trainers
    from transformers import Qwen2Tokenizer
    from transformers.models.qwen2.tokenization_qwen2 import PRETOKENIZE_REGEX

    system_prompt = system_prompt or templates.SYSTEM_PROMPT
    bpe = Tokenizer(models.BPE())
    bpe.normalizer = normalizers.NFC()
    split = pre_tokenizers.Split(Regex(PRETOKENIZE_REGEX), behavior="isolated")
    bpe.pre_tokenizer = pre_tokenizers.Sequence(
        [split, pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)]
    )
    reserved = len(templates.TAGS) + 2
    trainer = trainers.BpeTrainer(
        vocab_size=vocab_size - reserved, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    corpus = [f"{system_prompt} {row['problem']} {row['working']}" for row in rows[:1000]]
    bpe.train_from_iterator(corpus, trainer)
    model = json.loads(bpe.to_str())["model"]
    tokenizer = Qwen2Tokenizer(
        vocab=model["vocab"],
        merges=[tuple(merge) for merge in model["merges"]],
        unk_token=None,
        eos_token=END_OF_TURN,
        pad_token=PADDING,
        padding_side="left",
    )
    tokenizer.add_tokens([AddedToken(tag, special=False, normalized=False) for tag in templates.TAGS])
    tokenizer.chat_template = templates.chat_template(system_prompt)
    return tokenizer


def tiny_policy(policy: dict, tokenizer, *, seed: int = 0):
    """A `Qwen3ForCausalLM` with random weights, tied embeddings, float32.

    Args:
        policy: a profile's `policy` dict: `hidden_size`, `intermediate_size`, … as in `Qwen3Config`, and
            `max_seq_length`.
        tokenizer: fixes the vocabulary, rounded up to a multiple of 64, and the eos and pad ids.
        seed: of the weights.
    Raises: ValueError if a width is no multiple of 256: llama.cpp's K-quants work on blocks of 256 and would silently
        store such a matrix in another type.
    """
    import torch
    from transformers import Qwen3Config, Qwen3ForCausalLM

    heads_width = policy["num_attention_heads"] * policy["head_dim"]
    widths = {
        "hidden_size": policy["hidden_size"],
        "intermediate_size": policy["intermediate_size"],
        "heads × head_dim": heads_width,
    }
    for name, width in widths.items():
        if width % 256:
            raise ValueError(
                f"{name} must be a multiple of 256 (got {width}). Try {max(256, round(width / 256) * 256)}."
            )
    config = Qwen3Config(
        vocab_size=-(-len(tokenizer) // 64) * 64,
        hidden_size=policy["hidden_size"],
        intermediate_size=policy["intermediate_size"],
        num_hidden_layers=policy["num_hidden_layers"],
        num_attention_heads=policy["num_attention_heads"],
        num_key_value_heads=policy["num_key_value_heads"],
        head_dim=policy["head_dim"],
        max_position_embeddings=policy["max_seq_length"],
        tie_word_embeddings=True,
        bos_token_id=None,
        eos_token_id=tokenizer.eos_token_id,
        pad_token_id=tokenizer.pad_token_id,
    )
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Qwen3ForCausalLM(config)
