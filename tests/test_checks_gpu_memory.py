"""What learners write about a card's memory."""

import numpy as np
import torch
from check_answers import Answers

from grpo_nb import memory


def cache(layers, kv_heads, head_dim, tokens, b, S, G):
    return layers * 2 * kv_heads * head_dim * 2 * tokens * b * S / 2**30


def cache_by_package(layers, kv_heads, head_dim, tokens, b, S, G):
    keys = ("num_hidden_layers", "num_key_value_heads", "head_dim")
    config = memory.MODELS["Qwen3-8B"] | dict(zip(keys, (layers, kv_heads, head_dim), strict=True))
    return memory.gib(memory.kv_bytes(config, tokens=tokens)) * b * S


def cache_by_torch(layers, kv_heads, head_dim, tokens, b, S, G):
    one = torch.empty(kv_heads, head_dim, dtype=torch.float16, device="meta")
    return np.float64(2 * layers * one.nbytes * tokens * b * S / 1024**3)


def one_row(layers, hidden, words, prompt, tokens):
    return layers * (prompt + tokens) * hidden * 2 + 3 * (tokens + 1) * words * 4


def largest(free_gib, *sizes):
    return free_gib * 2**30 // one_row(*sizes)


def counted_up(free_gib, *sizes):
    b = 0
    while (b + 1) * one_row(*sizes) <= free_gib * 2**30:
        b += 1
    return torch.tensor(b)


def half(settings, **further):
    b, steps = settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]
    return {"per_device_train_batch_size": b // 2, "gradient_accumulation_steps": 2 * steps} | further


def one_at_a_time(settings):
    b, steps = settings["per_device_train_batch_size"], settings["gradient_accumulation_steps"]
    return {"per_device_train_batch_size": 1, "gradient_accumulation_steps": b * steps}


ANSWERS = [
    Answers(
        check="check_cache",
        right=[cache, cache_by_package, cache_by_torch],
        wrong={
            "times G": (lambda *given: cache(*given) * given[-1], "multiplies by G"),
            "prompts": (lambda *given: cache(*given) / given[-1], "counts the prompts of a round"),
            "b": (lambda *given: cache(*given) / given[5], "counts one micro-step"),
            "one": (lambda *given: cache(*given) / given[4] / given[5], "counts one completion only"),
            "GB": (lambda *given: cache(*given) * 2**30 / 1e9, "these are GB, not GiB"),
            "keys": (lambda *given: cache(*given) / 2, "a key and a value"),
            "bytes": (lambda *given: cache(*given) * 2**30, "gives bytes"),
            "MiB": (lambda *given: cache(*given) * 1024, "must give 0.875 (yours: 896)"),
        },
        almost=(lambda *given: round(cache(*given), 1), "must give 0.875 (yours: 0.9)"),
    ),
    Answers(
        check="check_largest_batch",
        right=[largest, counted_up, lambda *given: [float(largest(*given))]],
        wrong={
            "logits only": (
                lambda free, layers, hidden, words, prompt, tokens: (
                    free * 2**30 // (layers * (prompt + tokens) * hidden * 2 + (tokens + 1) * words * 4)
                ),
                "without the loss's two",
            ),
            "16 bits": (
                lambda free, layers, hidden, words, prompt, tokens: (
                    free * 2**30 // (layers * (prompt + tokens) * hidden * 2 + 3 * (tokens + 1) * words * 2)
                ),
                "takes 2 bytes for a logit",
            ),
            "no activations": (
                lambda free, layers, hidden, words, prompt, tokens: free * 2**30 // (3 * (tokens + 1) * words * 4),
                "leaves out the activations",
            ),
            "no prompt": (
                lambda free, layers, hidden, words, prompt, tokens: (
                    free * 2**30 // one_row(layers, hidden, words, 0, tokens)
                ),
                "leaves the prompt out",
            ),
            "T places": (
                lambda free, layers, hidden, words, prompt, tokens: (
                    free * 2**30 // (layers * (prompt + tokens) * hidden * 2 + 3 * tokens * words * 4)
                ),
                "the one before the first scores it",
            ),
            "GB": (lambda free, *sizes: int(free * 1e9 / one_row(*sizes)), "takes GB for GiB"),
            "up": (lambda *given: largest(*given) + 1, "rounds up"),
            "a share": (lambda free, *sizes: free * 2**30 / one_row(*sizes), "must give 10 (yours: 10"),
        },
        almost=(lambda *given: max(1, largest(*given)), "no room"),
    ),
    Answers(
        check="check_leaner_run",
        right=[half, one_at_a_time, lambda settings: settings | half(settings, beta=0.0)],
        wrong={
            "b alone": (lambda s: {"per_device_train_batch_size": s["per_device_train_batch_size"] // 2}, "b alone"),
            "G": (lambda s: {"num_generations": s["num_generations"] // 2}, "though G is in no term"),
            "length": (lambda s: {"max_completion_length": s["max_completion_length"] // 2}, "completions' length"),
            "A alone": (
                lambda s: {"gradient_accumulation_steps": 2 * s["gradient_accumulation_steps"]},
                "doubles gradient_accumulation_steps alone",
            ),
            "liger": (lambda s: {"use_liger_kernel": True}, "spares the logits only"),
            "nothing": (lambda s: {}, "changes nothing"),
            "a broken group": (lambda s: half(s, num_generations=5), "a refusal: the generation batch must be"),
            "no count": (lambda s: half(s, per_device_train_batch_size="4"), "a refusal: per_device_train_batch_size"),
        },
        almost=(lambda s: half(s, gradient_accumulation_steps=2), "accumulated already"),
    ),
]
