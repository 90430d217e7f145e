"""LoRA layers computed as W + sBA, one product for three, for as long as a context lasts; in fewer bits if asked."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn


@contextlib.contextmanager
def merged(model: nn.Module, *, dtype: torch.dtype | None = None) -> Iterator[None]:
    """Inside, the model's LoRA layers are merged; afterwards every parameter holds the very tensor of before.

    What cannot be merged without loss stays as it is and is merely slower: variants of LoRA, biases of its own, weights
    that another layer shares, disabled adapters, and products in 16 bits, which would round W + sBA as a whole.

    Args:
        model: a `peft.PeftModel`; any other has nothing to merge.
        dtype: what every parameter is rounded to inside, W + sBA as a whole too. None: nothing is rounded.
    Raises: ValueError if a merged weight is not finite.
    """
    kept: dict[nn.Parameter, Tensor] = {}
    layers = _mergeable(model)
    try:
        for layer in layers:
            weight = layer.get_base_layer().weight
            kept[weight] = weight.data
            weight.data = _whole(layer).to(dtype or weight.dtype)
            layer.merged_adapters.extend(_adapters(layer))
        for parameter in model.parameters() if dtype else ():
            if parameter not in kept and parameter.is_floating_point():
                kept[parameter] = parameter.data
                parameter.data = parameter.data.to(dtype)
        yield
    finally:
        for parameter, data in kept.items():
            parameter.data = data  # PEFT's `unmerge` would subtract, and be off by a rounding
        for layer in layers:
            layer.merged_adapters.clear()


def _adapters(layer: Any) -> list[str]:
    return [name for name in layer.active_adapters if name in layer.lora_A]


@torch.no_grad()
def _whole(layer: Any) -> Tensor:
    """W + sBA: PEFT's `merge(safe_merge=True)` to the bit, which reads and writes a weight seven times for it."""
    whole = layer.get_base_layer().weight.data
    for name in _adapters(layer):
        whole = layer.get_delta_weight(name).to(whole.dtype).add_(whole)
    if not whole.sum().isfinite():
        raise ValueError(f"W + sBA must be finite (got NaN or ∞ in {layer}). Look for the step at which weights broke.")
    return whole


def _mergeable(model: nn.Module) -> list[Any]:
    if not hasattr(model, "peft_config") or torch.is_autocast_enabled("cpu"):
        return []
    from peft.tuners import lora

    uses = Counter(id(parameter) for module in model.modules() for parameter in module._parameters.values())
    layers: list[Any] = list(model.modules())
    return [
        layer
        for layer in layers
        if type(layer) is lora.Linear
        and not (layer.disable_adapters or layer.merged or layer.lora_variant or any(layer.lora_bias.values()))
        and type(layer.get_base_layer()) is nn.Linear
        and layer.get_base_layer().weight.dtype in (torch.float32, torch.float64)
        and uses[id(layer.get_base_layer().weight)] == 1
    ]
