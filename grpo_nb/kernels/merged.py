"""LoRA layers computed as W + sBA, one product for three, for as long as a context lasts."""

import contextlib
from collections import Counter
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


@contextlib.contextmanager
def merged(model: nn.Module) -> Iterator[None]:
    """Inside, the model's LoRA layers are merged; afterwards their base weights are the very tensors of before.

    What cannot be merged without loss stays as it is and is merely slower: variants of LoRA, biases of its own, weights
    that another layer shares, disabled adapters, and products in 16 bits, which would round W + sBA as a whole.

    Args:
        model: a `peft.PeftModel`; any other stays as it is.
    Raises: ValueError from PEFT if a merged weight is not finite.
    """
    kept = []
    try:
        for layer in _mergeable(model):
            kept.append((layer, [(parameter, parameter.data) for parameter in layer.get_base_layer().parameters()]))
            layer.merge(safe_merge=True)  # into a copy
        yield
    finally:
        for layer, parameters in kept:
            for parameter, data in parameters:
                parameter.data = data  # PEFT's `unmerge` would subtract, and be off by a rounding
            layer.merged_adapters.clear()


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
