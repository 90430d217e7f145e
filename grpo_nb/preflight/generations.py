"""What sampling is told beyond the settings: `generation_kwargs`, and variables for the tokenizer's chat template."""

import inspect
import reprlib
from collections.abc import Sequence
from types import SimpleNamespace

from grpo_nb.preflight import bounds

# Keys of `generate` and of vLLM that would overrule a setting in silence → that setting.
OWNERS = {
    **{key: key for key in "temperature top_p top_k min_p repetition_penalty cache_implementation".split()},
    **dict.fromkeys(("max_new_tokens", "max_length", "max_tokens"), "max_completion_length"),
    **dict.fromkeys(("num_return_sequences", "n"), "num_generations"),
}
# What changes the draw of a single token, and nothing else of a completion.
SERVED = """
typical_p top_h epsilon_cutoff eta_cutoff no_repeat_ngram_size bad_words_ids sequence_bias suppress_tokens
begin_suppress_tokens forced_eos_token_id min_new_tokens exponential_decay_length_penalty renormalize_logits
""".split()
AS_ALWAYS = {"do_sample": True, "num_return_sequences": 1, "num_beams": 1, "use_cache": True}  # said again, no harm
# Numbers that transformers takes without a word, and then without an effect.
RANGES = {
    **dict.fromkeys(("typical_p", "top_h"), bounds.Bound(above=0, at_most=1)),
    **dict.fromkeys(("epsilon_cutoff", "eta_cutoff"), bounds.Bound(above=0, below=1)),
    "no_repeat_ngram_size": bounds.Bound(at_least=1),
}
GIVEN_BY_TRANSFORMERS = {"messages", "tools", "documents", "add_generation_prompt", "raise_exception", "strftime_now"}


def check_generation(full: dict, *, tokenizer=None) -> None:
    """Refuse `generation_kwargs` that overrule a setting, break GRPO's sampling, or have no effect.

    Args:
        full: every field of `GRPOConfig`.
        tokenizer: says which token ids there are; None: any.
    Raises: ValueError with the dict that is left without the first wrong key.
    """
    given = full["generation_kwargs"] or {}
    _check_dict("generation_kwargs", given)
    for key, value in given.items():
        rest = {k: v for k, v in given.items() if k != key}
        owner = OWNERS.get(key)
        if key in AS_ALWAYS and repr(value) == repr(AS_ALWAYS[key]):
            continue
        if owner is not None:
            raise ValueError(
                f"generation_kwargs must leave {key} to the setting {owner}, which it would overrule in silence "
                f"(got {reprlib.repr(value)}). Try {_moved(owner, value)}generation_kwargs = {rest!r}."
            )
        if full["use_vllm"]:
            continue  # the rest are vLLM's own
        if key not in SERVED:
            raise ValueError(
                "generation_kwargs must hold nothing but what changes the draw of a token: "
                f"{', '.join(SERVED)} (got {key} = {reprlib.repr(value)}). Try generation_kwargs = {rest!r}."
            )
        if reason := _fault(key, value, full["max_completion_length"], tokenizer):
            raise ValueError(
                f"generation_kwargs must hold values that transformers can follow (got {key} = {reprlib.repr(value)}: "
                f"{reason}). Try generation_kwargs = {rest!r}."
            )


def _check_dict(name: str, given: object) -> None:
    if not isinstance(given, dict) or not all(isinstance(key, str) for key in given):
        raise ValueError(f"{name} must be a dict with text as keys (got {reprlib.repr(given)}). Try {name} = {{}}.")


def _moved(owner: str, value: object) -> str:
    """The advice to say it with the setting, where this value is one that the setting may have alone."""
    bound, kind = bounds.RANGES.get(owner), int if owner in ("top_k", "max_completion_length") else (int, float)
    fits = bound is not None and isinstance(value, kind) and not isinstance(value, bool) and bound.holds(value)
    return f"{owner} = {value!r} and " if fits else ""


def _fault(key: str, value: object, length: int, tokenizer) -> str | None:
    """Why transformers could not draw a token with this option, or would in silence do without it."""
    if key in RANGES and not (type(value) in (int, float) and RANGES[key].holds(value)):
        return f"it must be {RANGES[key]}"
    if key == "min_new_tokens" and not (type(value) is int and 1 <= value <= length):
        return f"it must be from 1 to max_completion_length = {length}"
    if key == "renormalize_logits" and not isinstance(value, bool):
        return "it must be True or False"
    ids = _token_ids(key, value)
    vocabulary = len(tokenizer) if tokenizer is not None else max([0, *(i for i in ids if type(i) is int)]) + 2
    if wrong := [i for i in ids if type(i) is not int or not 0 <= i < vocabulary]:
        return f"{reprlib.repr(wrong[0])} is no token id"
    try:
        _try_out(key, value, vocabulary)
    except Exception as error:  # whatever transformers' processor of this option raises
        return str(error).strip().splitlines()[0].rstrip(".") if str(error).strip() else type(error).__name__
    return None


def _token_ids(key: str, value: object) -> list:
    """The ids that an option names, at any depth; empty where it names none."""
    if key == "sequence_bias" and isinstance(value, dict):
        value = list(value)
    elif key == "sequence_bias" and isinstance(value, list):
        value = [pair[0] for pair in value if isinstance(pair, Sequence) and pair]
    elif key not in ("bad_words_ids", "suppress_tokens", "begin_suppress_tokens", "forced_eos_token_id"):
        return []
    flat, rest = [], [value]
    while rest:
        found = rest.pop()
        rest += found if isinstance(found, list | tuple) else []
        flat += [] if isinstance(found, list | tuple) else [found]
    return flat


def _try_out(key: str, value: object, vocabulary: int) -> None:
    """Let transformers' processor of an option look at equal scores of one prompt of one token."""
    import torch
    from transformers import GenerationConfig, GenerationMixin

    mixin = GenerationMixin()
    mixin.config = SimpleNamespace(is_encoder_decoder=False)
    options = GenerationConfig(do_sample=True, eos_token_id=0, max_length=9, **{key: value})
    options.validate()
    options._eos_token_tensor = torch.tensor([0])
    process = mixin._get_logits_processor(options, input_ids_seq_length=1, device="cpu")
    process(torch.zeros(1, 2, dtype=torch.long), torch.zeros(1, vocabulary))


def check_template(full: dict, *, is_text: bool, tokenizer=None) -> None:
    """Refuse `chat_template_kwargs` without an effect: text prompts have no template, and a template knows its names.

    Args:
        full: every field of `GRPOConfig`.
        is_text: whether the prompts are text, to which no template is applied.
        tokenizer: whose template is asked; None skips that.
    Raises: ValueError with the variables that there are.
    """
    given = full["chat_template_kwargs"] or {}
    _check_dict("chat_template_kwargs", given)
    if given and is_text:
        raise ValueError(
            "chat_template_kwargs must come with prompts of messages, for text goes through no template (got "
            f"{', '.join(given)}). Try chat_template_kwargs = {{}}."
        )
    template = getattr(tokenizer, "chat_template", None)
    if not given or not isinstance(template, str):
        return
    known = _variables(template) - GIVEN_BY_TRANSFORMERS - set(getattr(tokenizer, "special_tokens_map", ()))
    taken = set(inspect.signature(tokenizer.apply_chat_template).parameters)
    if unknown := [key for key in given if key not in known or key in taken]:
        rest = {key: value for key, value in given.items() if key not in unknown}
        raise ValueError(
            "chat_template_kwargs must be variables of the tokenizer's chat template, which are "
            f"{', '.join(sorted(known - taken)) or 'none'} (got {', '.join(unknown)}). "
            f"Try chat_template_kwargs = {rest!r}."
        )


def _variables(template: str) -> set[str]:
    """The names that a chat template reads and does not set, or sets only where they are not defined."""
    from jinja2 import nodes
    from transformers.utils import chat_template_utils

    read = chat_template_utils._get_template_variables(template)
    tree = chat_template_utils._compile_jinja_template(template).environment.parse(template)
    set_here = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "store"}
    asked_for = {test.node.name for test in tree.find_all(nodes.Test) if isinstance(test.node, nodes.Name)}
    return set(read) - (set_here - asked_for)
