"""A model run on a `tree.Layout`: each distinct beginning of a micro-batch once, in plain torch.

Every layer but attention treats tokens one by one, so the tree stands in a row. Attention unpacks it: prompts attend to
themselves, completions to their prompt and themselves. The numbers are TRL's, since every token keeps its position in
TRL's layout; gradients of the copies of a token are added up where the row is unpacked.
"""

import torch
from torch import Tensor
from torch.nn import functional as F

from grpo_nb.kernels.tree import Layout

ATTENTION = "grpo_nb_shared_prefix"  # its name among transformers' implementations


def why_not(backbone) -> str | None:
    """In words, what about this model makes shared beginnings inexact or impossible; None if nothing does."""
    config = backbone.config
    kinds = set(getattr(config, "layer_types", None) or ())
    windowed = not kinds and getattr(config, "sliding_window", None) is not None
    if getattr(config, "is_encoder_decoder", False):
        return "an encoder reads the prompt as a whole"
    if kinds - {"full_attention"} or windowed:
        return f"its layers do not attend to every earlier token ({', '.join(sorted(kinds)) or 'a sliding window'})"
    if any(getattr(config, name, None) for name in ("num_experts", "num_local_experts", "n_routed_experts")):
        return "the choice of its experts may flip on a rounding error"
    if reason := moving_angles(config):
        return reason
    if not backbone._supports_attention_backend or config._attn_implementation not in ("sdpa", ATTENTION):
        return f"its attention must be 'sdpa' (it is {config._attn_implementation!r})"
    return None


def moving_angles(config) -> str | None:
    """In words, if the longest row of a batch changes the rotary angles of every row: then no row can be left out."""
    parameters = getattr(config.get_text_config(), "rope_parameters", None) or {}
    layered = [parameters, *(value for value in parameters.values() if isinstance(value, dict))]
    moving = {"dynamic", "longrope"} & {part.get("rope_type") for part in layered}
    return f"the longest row decides the angles of all (rope_type {', '.join(sorted(moving))})" if moving else None


def droppers(model) -> list[torch.nn.Module]:
    """Modules that drop some of their values while they train: their masks depend on how tokens are laid out."""
    kinds = torch.nn.modules.dropout._DropoutNd
    return [
        module
        for module in model.modules()
        if (isinstance(module, kinds) and module.p > 0)
        or any(isinstance(p := getattr(module, n, 0), float) and p > 0 for n in ("attention_dropout", "dropout"))
    ]


def install(config) -> None:
    """Give a model an attention that knows layouts; without one it is transformers' "sdpa".

    It has to stay for as long as a backward pass may come: gradient checkpointing looks it up again there.
    """
    register(ATTENTION, attention)
    config._attn_implementation = ATTENTION


def register(name: str, function) -> None:
    """Let transformers know an attention by a name, with the masks of "sdpa"."""
    from transformers import AttentionInterface, AttentionMaskInterface
    from transformers.masking_utils import sdpa_mask

    AttentionInterface.register(name, function)
    AttentionMaskInterface.register(name, sdpa_mask)


def remove(config) -> None:
    """Give "sdpa" back to a model that had it before `install`."""
    if config._attn_implementation == ATTENTION:
        config._attn_implementation = "sdpa"


def attention(module, query, key, value, attention_mask, *, scaling=None, dropout=0.0, layout=None, **options):
    """Softmax attention over a `Layout`'s row: query [1, heads, n, d] → [1, n, heads, d]; see transformers' `sdpa`."""
    if layout is None:
        from transformers.integrations.sdpa_attention import sdpa_attention_forward

        options |= {"dropout": dropout, "scaling": scaling}
        return sdpa_attention_forward(module, query, key, value, attention_mask, **options)
    q, k, v = (x[0].transpose(0, 1) for x in (query, key, value))  # [n, heads, d]
    keys, values = _rows(k, layout.prompts), _rows(v, layout.prompts)  # [R, P, heads, d]
    of_prompts = _attend(_rows(q, layout.prompts), keys, values, layout.prompt_mask, scaling)
    keys, values = (
        torch.cat([shared.index_select(0, layout.group), _rows(own, layout.completions)], dim=1)
        for shared, own in ((keys, k), (values, v))
    )  # [B, P + T′, heads, d]
    of_completions = _attend(_rows(q, layout.completions), keys, values, layout.completion_mask, scaling)
    padded = torch.cat([of_prompts.flatten(0, 1), of_completions.flatten(0, 1)])
    return padded.index_select(0, layout.unpadded).unsqueeze(0), None


def _rows(tokens: Tensor, places: Tensor) -> Tensor:
    """tokens [n, heads, d] at places [rows, length] → [rows, length, heads, d]."""
    return tokens.index_select(0, places.flatten()).unflatten(0, places.shape)


def _attend(q: Tensor, k: Tensor, v: Tensor, mask: Tensor, scaling: float | None) -> Tensor:
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))  # [rows, heads, length, d]
    out = F.scaled_dot_product_attention(q, k, v, mask, scale=scaling, enable_gqa=q.shape[1] != k.shape[1])
    return out.transpose(1, 2)


def hidden_states(backbone, layout: Layout) -> Tensor:
    """The last hidden state at each of `layout.scored`, [m, H]."""
    out = backbone(
        input_ids=layout.ids.unsqueeze(0),
        position_ids=layout.positions.unsqueeze(0),
        attention_mask=layout.completion_mask,  # of four dimensions: handed on as it is
        use_cache=False,
        layout=layout,
    )
    return out.last_hidden_state[0].index_select(0, layout.scored)
