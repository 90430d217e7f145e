"""Exercises about a card's memory: a cache by hand, the largest batch that fits, a run in half of the memory."""

from collections.abc import Callable

from grpo_nb import memory
from grpo_nb.checks.exercises import exercise, judge, plain

GIB, GB = 2**30, 10**9


@exercise
def check_cache(your_cache_gib):
    """Whether `your_cache_gib` is the KV cache of a generation round, in 16 bits, in GiB.

    Args:
        your_cache_gib: f(layers, kv_heads, head_dim, tokens, b, S, G): tokens of a sequence, prompt and completion
            together; per_device_train_batch_size, steps_per_generation, num_generations -> GiB.
    See: `memory.kv_bytes`.

    >>> check_cache(lambda layers, kv_heads, head_dim, tokens, b, S, G: 1.0)
    check_cache: a small model, layers = 28, kv_heads = 8, head_dim = 128, tokens = 1024, b = 4, S = 2, G = 4: must give
    0.875 (yours: 1).
    False
    """
    cases = [
        ("a small model", (28, 8, 128, 1024, 4, 2, 4)),
        ("a larger one", (36, 8, 128, 2048, 8, 1, 8)),
        ("one completion at a time", (16, 8, 64, 4096, 1, 8, 4)),
        ("many heads", (32, 32, 128, 512, 2, 3, 2)),
    ]

    def cache(*, sequences=lambda b, S, G: b * S, bytes_each=2, two=2, unit=GIB):
        def compute(layers, kv_heads, head_dim, tokens, b, S, G):
            return layers * two * kv_heads * head_dim * bytes_each * tokens * sequences(b, S, G) / unit

        return compute

    def right(layers, kv_heads, head_dim, tokens, b, S, G):
        config = {**memory.MODELS["Qwen3-0.6B"], "num_hidden_layers": layers, "head_dim": head_dim}
        config["num_key_value_heads"] = kv_heads
        return memory.gib(memory.kv_bytes(config, tokens=tokens, sequences=b * S))

    usual = {
        "multiplies by G, though b · S counts completions already": cache(sequences=lambda b, S, G: b * S * G),
        "counts the prompts of a round, b · S / G": cache(sequences=lambda b, S, G: b * S / G),
        "counts one micro-step, b, though the whole round is sampled together": cache(sequences=lambda b, S, G: b),
        "counts one completion only": cache(sequences=lambda b, S, G: 1),
        "divides by 10⁹: these are GB, not GiB": cache(unit=GB),
        "forgets that there is a key and a value": cache(two=1),
        "takes 4 bytes for a number of 16 bits": cache(bytes_each=4),
        "gives bytes, not GiB": cache(unit=1),
    }
    return judge(your_cache_gib, cases, right=right, usual=usual)


@exercise
def check_largest_batch(your_largest_b):
    """Whether `your_largest_b` is the largest b whose activations (checkpointed, 16 bits), logits and loss fit.

    Args:
        your_largest_b: f(free_gib, layers, hidden, words, prompt, tokens) -> completions of a micro-step; tokens of a
            completion, and prompt + tokens of a sequence.
    See: `memory.activation_bytes`, `memory.logits_bytes`, `memory.loss_bytes`.

    >>> check_largest_batch(lambda free_gib, layers, hidden, words, prompt, tokens: 8)
    check_largest_batch: a small model, free_gib = 10, layers = 28, hidden = 2048, words = 151936, prompt = 256,
    tokens = 512: must give 10 (yours: 8).
    False
    """
    cases = [
        ("a small model", (10, 28, 2048, 151_936, 256, 512)),
        ("a larger one", (20, 36, 4096, 151_936, 512, 1024)),
        ("a long prompt", (16, 36, 2560, 151_936, 6000, 256)),
        ("few words", (12, 32, 4096, 32_000, 512, 512)),
        ("no room", (1, 32, 4096, 128_256, 512, 4096)),
        ("hardly any tokens", (40, 16, 2048, 128_256, 16, 16)),
    ]

    def largest(*, tensors=3, width=4, scored=lambda prompt, tokens: tokens + 1, seen=lambda p, t: p + t, unit=GIB):
        def compute(free_gib, layers, hidden, words, prompt, tokens):
            activations = layers * seen(prompt, tokens) * hidden * 2
            return free_gib * unit / (activations + tensors * scored(prompt, tokens) * words * width)

        return compute

    def down(made: Callable) -> Callable:
        return lambda *given: int(made(*given))

    def right(free_gib, layers, hidden, words, prompt, tokens):
        config = {
            **memory.MODELS["Qwen3-0.6B"],
            "num_hidden_layers": layers,
            "hidden_size": hidden,
            "vocab_size": words,
        }
        sizes = {"rows": 1, "completion_tokens": tokens}
        one = memory.activation_bytes(config, rows=1, tokens=prompt + tokens)["kept"]
        one += memory.logits_bytes(config, **sizes) + memory.loss_bytes(config, **sizes)
        return free_gib * GIB // one

    usual = {
        "counts one tensor of logits, without the loss's two": down(largest(tensors=1)),
        "counts the loss's two tensors, but not the logits": down(largest(tensors=2)),
        "takes 2 bytes for a logit": down(largest(width=2)),
        "leaves out the activations": down(largest(seen=lambda prompt, tokens: 0)),
        "leaves the prompt out of the activations": down(largest(seen=lambda prompt, tokens: tokens)),
        "scores the prompt's tokens, too": down(largest(scored=lambda prompt, tokens: prompt + tokens + 1)),
        "keeps logits at the completion's places only: the one before the first scores it": down(
            largest(scored=lambda prompt, tokens: tokens)
        ),
        "takes GB for GiB": down(largest(unit=GB)),
        "rounds up: the last one does not fit": lambda *given: int(largest()(*given)) + 1,
        "rounds to the nearest": lambda *given: round(largest()(*given)),
    }
    return judge(your_largest_b, cases, right=right, usual=usual)


@exercise
def check_leaner_run(your_change):
    """Whether `your_change` halves the memory of a micro-step and leaves every update what it was.

    Args:
        your_change: f(settings) -> the keys of `GRPOConfig` to change, and their values.
    See: `memory.budget`.

    >>> check_leaner_run(lambda settings: {"num_generations": settings["num_generations"] // 2})
    check_leaner_run: a small model: your answers are those of one who halves the groups, though G is in no term of a
    micro-step. It must give {'completions of an update': 8, 'of a group': 4, 'tokens': 512, 'memory of a micro-step':
    'half or less'} (yours: {'completions of an update': 8, 'of a group': 2, 'tokens': 512, 'memory of a micro-step':
    'more than half'}).
    False
    """
    tiny = {**memory.MODELS["Qwen3-0.6B"], "num_hidden_layers": 2, "hidden_size": 256, "vocab_size": 320}
    cases = [
        ("a small model", (_settings(8, 4, 1, 512), dict(memory.MODELS["Qwen3-0.6B"]))),
        ("accumulated already", (_settings(16, 4, 2, 1024), dict(memory.MODELS["Qwen3-8B"]))),
        ("the tiny policy", (_settings(32, 8, 1, 32), tiny)),
    ]
    b, steps = "per_device_train_batch_size", "gradient_accumulation_steps"

    def scaled(**factors):
        return lambda settings: {key: int(settings[key] * factor) for key, factor in factors.items()}

    usual = {
        "halves b alone, so that an update trains on half as many completions": scaled(**{b: 1 / 2}),
        "halves the groups, though G is in no term of a micro-step": scaled(num_generations=1 / 2),
        "halves the completions' length": scaled(max_completion_length=1 / 2),
        "doubles gradient_accumulation_steps alone: more completions, none of them smaller": scaled(**{steps: 2}),
        "halves b and G": scaled(**{b: 1 / 2, "num_generations": 1 / 2}),
        "spares the logits only, which are small where there are few words": lambda settings: {
            "use_liger_kernel": True
        },
        "changes nothing": lambda settings: {},
    }

    def call(change, settings, model):  # many changes will do: their outcomes are compared
        return _outcome(change(dict(settings)), settings, model)

    return judge(your_change, cases, right=scaled(**{b: 1 / 2, steps: 2}), usual=usual, call=call)


def _settings(b: int, G: int, A: int, tokens: int) -> dict:
    return {
        "per_device_train_batch_size": b,
        "num_generations": G,
        "gradient_accumulation_steps": A,
        "max_completion_length": tokens,
    }


def _outcome(change: object, settings: dict, model: dict) -> object:
    """What a run is after a change: its update, and whether a micro-step takes half the memory; else what came back."""
    if not isinstance(change, dict):
        return plain(change)
    made = settings | change
    try:
        before, after = (_micro_step(model, grpo) for grpo in (settings, made))
        completions = made["per_device_train_batch_size"] * made["gradient_accumulation_steps"]
    except (ValueError, TypeError) as error:
        return f"a refusal: {error}"
    return {
        "completions of an update": completions,
        "of a group": made["num_generations"],
        "tokens": made["max_completion_length"],
        "memory of a micro-step": "half or less" if after <= before / 2 else "more than half",
    }


def _micro_step(model: dict, grpo: dict) -> int:
    terms = memory.budget(model, grpo, prompt_tokens=16, lora={"r": 16, "target_modules": "all-linear"}).terms
    return sum(terms[name] for name in ("activations", "logits", "loss"))
