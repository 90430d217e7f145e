"""Completions of a small policy on the CPU: the tokens of `model.generate` in about half of its time.

A group's prompt is read once and what all prompts begin with once, a completion that has ended leaves the batch, and a
LoRA adapter is added to its weights for as long as sampling lasts. The forward pass but for a new token's attention
(`grouped`), the cache, and what temperature or top-k do to the scores remain transformers' own. Two departures from
`generate`:

1. Every completion has its own row of uniform numbers, drawn before the first token. So what others do, or how soon
   they end, changes no token of it, and a batch moves torch's random state by N·T numbers however long it turns out.
2. Dropout is off. Under TRL, `generate` samples in training mode: from a policy that drops what `lora_dropout` says.

Weights may be rounded to bfloat16 while sampling (`dtype`), where the processor multiplies them faster. Completions
then come from a policy that is a rounding away from the one that trains, as vLLM's do: log-probs of the loss are of the
float32 weights, so a ratio to `old_logps` is what it was, and what lies between the two policies is not corrected for.
docs/kernels.md says how much that is.

Not here, for it was measured: a preallocated cache saves 2 % at 40 tokens (11 % at 400), and costs a class; products of
queries, keys and values in one, or of gate and up, take the time of the single ones.
"""

import contextlib
import functools
import inspect
import os.path
import time
from collections.abc import Callable, Iterator
from typing import Any

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn

from grpo_nb import shapes
from grpo_nb.kernels import prefix
from grpo_nb.kernels.grouped import heads_grouped
from grpo_nb.kernels.merged import merged

SERVED = """
do_sample temperature top_k top_p min_p top_h typical_p epsilon_cutoff eta_cutoff repetition_penalty
no_repeat_ngram_size bad_words_ids sequence_bias suppress_tokens min_new_tokens renormalize_logits
max_new_tokens max_length eos_token_id bos_token_id pad_token_id disable_compile _from_model_config transformers_version
""".split()
DROP_SHARE = 1 / 8  # of the batch that must have ended before the cache is copied without it; 0 and 1/4 cost 2 % more


def why_not(model: nn.Module, generation_config, eos_token_ids: list[int]) -> str | None:
    """Why completions must come from `model.generate`, in one clause; None where `sample` may take its place.

    Args:
        model: as TRL hands it to `generate`, a `peft.PeftModel` or not.
        generation_config: the `transformers.GenerationConfig` that goes with it.
        eos_token_ids: at the first of which TRL cuts a completion.
    """
    from transformers import DynamicCache, GenerationMixin
    from transformers.cache_utils import DynamicLayer

    adapter = getattr(model, "active_peft_config", None)
    if adapter is not None and (adapter.is_prompt_learning or getattr(adapter, "alora_invocation_tokens", None)):
        return f"the {adapter.peft_type.value} adapter changes the input, not the layers alone"
    decoder = _decoder(model)
    kind = type(decoder)
    if decoder.device.type != "cpu":
        return f"the model is on {decoder.device}, and this sampler was measured on the CPU"
    if decoder.config.is_encoder_decoder:
        return f"{kind.__name__} is an encoder with a decoder"
    for name in ("generate", "prepare_inputs_for_generation"):
        if getattr(getattr(decoder, name, None), "__func__", None) is not getattr(GenerationMixin, name):
            return f"{kind.__name__} has a {name} of its own"
    missing = {"position_ids", "past_key_values", "logits_to_keep"} - set(inspect.signature(kind.forward).parameters)
    if missing:
        return f"{kind.__name__}.forward takes no {', '.join(sorted(missing))}"
    layers = DynamicCache(config=decoder.config.get_text_config(decoder=True)).layers
    others = {type(layer).__name__ for layer in layers if type(layer) is not DynamicLayer}
    if others or not layers:
        return f"{kind.__name__} caches more than keys and values of every token ({', '.join(others) or 'unknown'})"
    if reason := prefix.moving_angles(decoder.config):
        return reason
    return _unserved_option(_options(decoder, generation_config), eos_token_ids)


def _unserved_option(options, eos_token_ids: list[int]) -> str | None:
    """The first option that is set to something that `sample` would not do."""
    from transformers import GenerationConfig

    usual = GenerationConfig()
    usual.update(**usual._get_default_generation_params())
    for name, value in options.to_dict().items():
        default = getattr(usual, name, None)
        if name not in SERVED and value != default and (value or default):
            return f"generation asks for {name} = {value!r}"
    if options.max_new_tokens is None:
        return "generation has no max_new_tokens"
    ends = options.eos_token_id if isinstance(options.eos_token_id, list) else [options.eos_token_id]
    return None if set(ends) == set(eos_token_ids) else f"generation ends at {ends}, completions at {eos_token_ids}"


def why_not_bf16(model: nn.Module) -> str | None:
    """Why rounding the weights to bfloat16 would gain nothing here, in one clause; None where it would."""
    if any(parameter.dtype != torch.float32 for parameter in _decoder(model).parameters()):
        return "some weights are not float32"
    return None if bf16_is_faster() else "this processor multiplies bfloat16 no faster than float32, as was measured"


@functools.cache
@torch.no_grad()
def bf16_is_faster(repeats: int = 9) -> bool:
    """Whether a product in bfloat16 takes less than 4/5 of float32's time here: measured once, for flags do not tell.

    With AVX512_BF16 or AMX it takes half of it or less; without, torch converts, and it takes several times as long.
    """
    x, weight = torch.randn(32, 512), torch.randn(1536, 512)
    seconds = {torch.float32: 9e9, torch.bfloat16: 9e9}
    for dtype in [*seconds] * repeats:
        rows, columns = x.to(dtype), weight.to(dtype)
        begin = time.perf_counter()
        nn.functional.linear(rows, columns)
        seconds[dtype] = min(seconds[dtype], time.perf_counter() - begin)
    return seconds[torch.bfloat16] < 0.8 * seconds[torch.float32]


@torch.no_grad()
def sample(
    model: nn.Module,
    prompt_ids: list[list[int]],
    *,
    generation_config,
    eos_token_ids: list[int],
    pad_token_id: int = 0,
    dtype: torch.dtype | None = None,
) -> list[list[int]]:
    """One completion for each prompt, drawn with torch's global random state; `why_not` must have said None.

    Args:
        model: whose weights and mode are afterwards what they were, to the bit, also if this raises.
        prompt_ids: token ids; a prompt that comes again is read once.
        generation_config: `transformers.GenerationConfig`.
        eos_token_ids: a completion ends with the first of them, or after `max_new_tokens`.
        pad_token_id: what transformers' processors (a repetition penalty) see to the left of a shorter prompt.
        dtype: that the weights are rounded to for as long as this lasts. None: none are.
    Returns: token ids with the final eos, as TRL's `_generate_single_turn` returns them.
    Raises: ValueError for an empty prompt, or where the model's scores are no distribution.
    """
    if not prompt_ids or not all(prompt_ids):
        raise ValueError(f"every prompt must have a token (got {prompt_ids[:4]} …). Drop the row, or use a template.")
    decoder = _decoder(model)
    options = _options(decoder, generation_config)
    distinct: dict[tuple, int] = {}
    of_row = torch.tensor([distinct.setdefault(tuple(prompt), len(distinct)) for prompt in prompt_ids])
    width, room = max(map(len, distinct)), options.max_new_tokens
    shared = _beginning(list(distinct))
    ids = torch.full((len(distinct), width + room), pad_token_id)  # [P, L + T], prompts to the left of column L
    mask = torch.ones_like(ids)  # of the cache's places: what all begin with, padding, the rest
    for row, prompt in enumerate(distinct):
        ids[row, width - len(prompt) : width] = torch.tensor(prompt)
        mask[row, len(shared) : len(shared) + width - len(prompt)] = 0
    choose = _chooser(decoder, options, len(prompt_ids), width)
    with _evaluating(model), merged(model, dtype=dtype), heads_grouped(decoder), _rows_in_a_row(decoder):
        logits, cache = _read(decoder, torch.tensor([shared]).long(), ids[:, len(shared) : width], mask[:, :width])
        cache.batch_select_indices(of_row)  # from here on N rows
        ids, mask = ids[of_row], mask[of_row]
        eos = torch.tensor(eos_token_ids)
        lengths = _complete(decoder, ids, mask, logits[of_row], cache, choose=choose, eos=eos)
    return [row[:length] for row, length in zip(ids[:, width:].tolist(), lengths.tolist(), strict=True)]


def _beginning(prompts: list[tuple]) -> tuple:
    """The tokens that all prompts begin with, of several prompts; each keeps a token of its own.

    >>> _beginning([(1, 2, 3), (1, 2), (1, 2, 5)])
    (1,)
    """
    return tuple(os.path.commonprefix(prompts)[: min(map(len, prompts)) - 1]) if len(prompts) > 1 else ()


def _read(decoder, shared: Tensor, rest: Tensor, mask: Tensor) -> tuple[Tensor, Any]:
    """Logits of the first token, [P, V], and the cache of the prompts: `shared` [1, S], then the `rest` [P, L − S]."""
    from transformers import DynamicCache

    cache = DynamicCache(config=decoder.config.get_text_config(decoder=True))
    positions = (mask.cumsum(1) - 1).clamp(min=0)
    if span := shared.shape[1]:
        _logits(decoder, shared, mask[:1, :span], positions[:1, :span], cache)
        cache.batch_select_indices(torch.zeros(len(rest), dtype=torch.long))
    return _logits(decoder, rest, mask, positions[:, span:], cache), cache


def _logits(decoder, ids: Tensor, mask: Tensor, positions: Tensor, cache) -> Tensor:
    """Of the token after the last of `ids`, which are appended to the cache."""
    seen = None if mask.all() else mask  # without a mask, keys and values need not be expanded to the query heads
    inputs = {"input_ids": ids, "attention_mask": seen, "position_ids": positions, "past_key_values": cache}
    return decoder(**inputs, use_cache=True, logits_to_keep=1).logits[:, -1]


def _complete(decoder, ids: Tensor, mask: Tensor, logits: Tensor, cache, *, choose: Callable, eos: Tensor) -> Tensor:
    """Fill in the tokens that the cache lacks; returns how many of them each completion has, [N]."""
    width, end = cache.get_seq_length(), ids.shape[1]
    alive = torch.arange(len(ids))  # the completions that are in the cache, in its order
    has_ended = torch.zeros(len(ids), dtype=torch.bool)  # those of them that wait to be dropped
    lengths = torch.full((len(ids),), end - width)
    for column in range(width, end):
        tokens = choose(ids[alive, :column], logits, alive)
        ids[alive, column] = tokens
        ends = torch.isin(tokens, eos) & ~has_ended
        lengths[alive[ends]] = column + 1 - width
        has_ended |= ends
        if has_ended.all() or column + 1 == end:
            break
        if has_ended.sum() > DROP_SHARE * len(alive):
            stays = ~has_ended
            cache.batch_select_indices(stays)
            alive, tokens, has_ended = alive[stays], tokens[stays], has_ended[stays]
        seen = mask[alive, : column + 1]
        logits = _logits(decoder, tokens[:, None], seen, seen.sum(1, keepdim=True) - 1, cache)
    return lengths


def _chooser(decoder, options, rows: int, width: int) -> Callable[[Tensor, Tensor, Tensor], Tensor]:
    """(ids so far, logits, completions) → the next token of each: the likeliest, or a draw."""
    decoder._prepare_special_tokens(options, device="cpu")
    processors = decoder._get_logits_processor(options, input_ids_seq_length=width, device="cpu")
    uniforms = torch.rand(rows, options.max_new_tokens, dtype=torch.float64) if options.do_sample else None

    def choose(ids: Tensor, logits: Tensor, completions: Tensor) -> Tensor:
        scores = processors(ids, logits.float())  # float32, as `generate` does
        if uniforms is None:
            return scores.argmax(-1)
        return drawn(scores, uniforms[completions, ids.shape[1] - width])

    return choose


@shapes.shaped
def drawn(scores: Float[Tensor, "N V"], uniforms: Float[Tensor, " N"]) -> Int[Tensor, " N"]:
    """The token at which the cumulated softmax of the scores first exceeds a uniform number: one number for a draw.

    `torch.multinomial` draws V exponential numbers for one: 1.4 ms against 0.08 for 128 rows of V = 320.

    >>> drawn(torch.tensor([[0.25, 0.0, 0.75]]).log().expand(3, 3), torch.tensor([0.0, 0.2, 0.3], dtype=torch.float64))
    tensor([0, 0, 2])
    """
    cumulated = scores.softmax(-1).cumsum(-1, dtype=torch.float64)
    if not cumulated[:, -1].isfinite().all():
        raise ValueError("the scores must be finite or −inf (got NaN or ∞). Look for the step at which weights broke.")
    marks = uniforms.double() * cumulated[:, -1]  # below the sum, which is 1 but for rounding
    return torch.searchsorted(cumulated, marks[:, None], right=True)[:, 0]


@contextlib.contextmanager
def _rows_in_a_row(decoder) -> Iterator[None]:
    """Inside, the head gets its rows one behind the other: of a view torch would multiply each with a weight's copy."""
    head = decoder.get_output_embeddings()
    hook = head.register_forward_pre_hook(lambda module, hidden: hidden[0].contiguous())
    try:
        yield
    finally:
        hook.remove()


def _decoder(model: Any) -> Any:
    """The model whose forward pass PEFT's `generate` runs, its adapters in its layers."""
    return model.get_base_model() if hasattr(model, "peft_config") and hasattr(model, "get_base_model") else model


def _options(decoder, generation_config):
    """A copy of the configuration, with what it leaves open filled in as `generate` does."""
    return decoder._prepare_generation_config(generation_config)[0]


@contextlib.contextmanager
def _evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode; afterwards each module has the mode that it had."""
    training = [module for module in model.modules() if module.training]
    model.eval()
    try:
        yield
    finally:
        for module in training:
            module.training = True
