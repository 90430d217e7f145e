"""Our head inside TRL's `GRPOTrainer`: log-probs and entropies without logits.

Both known versions of TRL ask one method for log-probs, `_get_per_token_logps_and_entropies`, and compute every loss
from them. That method is what is replaced, so every loss type works. Images and the loss of an MoE's router go to TRL's
own method; models that several processes share, or split, are refused.
"""

import contextlib
import math
from importlib.metadata import version

import torch
from torch import Tensor, nn

from grpo_nb.kernels import equality, prefix, tree
from grpo_nb.kernels.logps import linear_logps
from grpo_nb.kernels.rows import Logit

KNOWN_TRL = ("1.14.2", "1.16.0")


class Plug:
    """The replaced method, and what it remembers: whether it was tested, and which models share beginnings."""

    def __init__(self, trainer, own, *, shared_prefix: bool):
        """`own` is TRL's method, for what is not covered here and for the self-test."""
        check_trainer(trainer)
        self.trainer, self.own, self.shared_prefix, self.tested = trainer, own, shared_prefix, False
        self.droppers = prefix.droppers(trainer.model)
        self.shared: list = []  # configs whose attention is `prefix.ATTENTION`

    def close(self) -> None:
        """Give the models their own attention back."""
        for config in self.shared:
            prefix.remove(config)
        self.shared.clear()

    def logps_and_entropies(
        self,
        model,
        input_ids,
        attention_mask,
        logits_to_keep,
        batch_size=None,
        compute_entropy=False,
        compute_aux_loss=False,
        **media,
    ):
        """TRL's method, with its arguments and its values: (log-probs [B, T], entropies [B, T] or None, None)."""
        ids = (input_ids, attention_mask, logits_to_keep)
        if compute_aux_loss or any(value is not None for value in media.values()):
            options = {"compute_entropy": compute_entropy, "compute_aux_loss": compute_aux_loss, **media}
            return self.own(model, *ids, batch_size=batch_size, **options)
        if not self.tested and torch.is_grad_enabled():
            self.tested = equality.check(self, model, *ids)
        size = batch_size or len(input_ids)
        parts = [
            self.part(model, input_ids[i : i + size], attention_mask[i : i + size], logits_to_keep, compute_entropy)
            for i in range(0, len(input_ids), size)
        ]
        logps, entropies = (None if x[0] is None else torch.cat(x) for x in zip(*parts, strict=True))
        return logps, entropies, None

    def part(self, model, input_ids, attention_mask, width: int, compute_entropy: bool, *, worth: float = tree.WORTH):
        """Log-probs and entropies of rows in one pass of the model, [B, T] each; `worth` as in `tree.layout`."""
        model = inner_model(model)
        backbone, scored, layout = model.base_model, attention_mask[:, -width:].bool(), None
        if self._shares(backbone):
            layout = tree.layout(input_ids, attention_mask, width, worth=worth)
        with self.trainer.accelerator.autocast():
            if layout:
                hidden, targets = prefix.hidden_states(backbone, layout), layout.targets
            else:
                out = backbone(input_ids=input_ids, attention_mask=attention_mask, use_cache=False)
                hidden, targets = out.last_hidden_state[:, -width - 1 : -1][scored], input_ids[:, -width:][scored]
            values = self._linear_logps(model, hidden, targets, compute_entropy)  # [m] each
        if layout:
            values = [None if x is None else x.index_select(0, layout.answers) for x in values]
        return [None if x is None else x.new_zeros(scored.shape).masked_scatter(scored, x) for x in values]

    def _shares(self, backbone) -> bool:
        """Whether beginnings can be shared; the model learns how, the first time."""
        if not self.shared_prefix or any(module.training for module in self.droppers):
            return False
        if backbone.config._attn_implementation == prefix.ATTENTION:  # installed here, or by another plug
            return True
        if prefix.why_not(backbone):
            return False
        prefix.install(backbone.config)
        self.shared.append(backbone.config)
        return True

    def _linear_logps(self, model, hidden: Tensor, targets: Tensor, compute_entropy: bool):
        """In the precision in which TRL multiplies with the head: autocast's, unless the head is kept in float32."""
        in_float32 = self.trainer.args.cast_lm_head_to_fp32
        has_bonus, head = "grad" if self.trainer._entropy_bonus_enabled else "metric", model.get_output_embeddings()
        with torch.autocast(hidden.device.type, enabled=False) if in_float32 else contextlib.nullcontext():
            return linear_logps(
                hidden.float() if in_float32 else hidden,
                head.weight,
                targets,
                bias=head.bias,
                **logit_of(model, self.trainer.temperature)._asdict(),
                entropy=has_bonus if compute_entropy else "none",
                inplace_hidden=True,  # gathered for this and read by nobody else
            )


def inner_model(model):
    """The transformers model inside a PEFT model, or the model itself."""
    from peft import PeftModel

    return model.base_model.model if isinstance(model, PeftModel) else model


def logit_of(model, temperature: float) -> Logit:
    """What a model does to the products of its head, by the names that configs have for it.

    See: TRL 1.16's `add_fused_lm_head`, which knows the same names.
    """
    config = model.config.get_text_config()
    names = ("logit_scale", "output_multiplier", "lm_head_multiplier")
    scale = next((v for name in names if (v := getattr(config, name, None)) is not None), None)
    scaling = getattr(config, "logits_scaling", None)
    if scale is None and scaling is not None:
        scale = scaling if config.model_type == "hyperclovax" else 1 / scaling  # Granite divides by it
    softcap = getattr(config, "final_logit_softcapping", None)
    return Logit(temperature, softcap, 1.0 if scale is None else scale)


TRLS_OWN = "train with TRL's own trainer (profile.kernels = {})."


def check_version() -> None:
    """Raise ValueError for a TRL whose private methods may be others than those that are replaced here."""
    if (found := version("trl")) not in KNOWN_TRL:
        raise ValueError(
            f"this trainer replaces private methods of TRL and knows {' and '.join(KNOWN_TRL)} (got {found}). "
            f"Install one of them, or {TRLS_OWN}"
        )


def check_trainer(trainer) -> None:
    """Raise ValueError, in one sentence, for a trainer that this cannot serve."""
    check_version()
    args = trainer.args
    is_split = trainer.is_fsdp_enabled or trainer.is_deepspeed_enabled
    if is_split or args.world_size > 1 or args.n_gpu > 1 or args.torch_compile:
        raise ValueError(
            "the linear head needs the whole model in one process, uncompiled (got FSDP, DeepSpeed, torch_compile or "
            f"{args.world_size} processes with {args.n_gpu} cards). Train on one, or {TRLS_OWN}"
        )
    homes = [type(model).forward.__module__ for model in (trainer.model, inner_model(trainer.model))]
    if any(home.startswith("unsloth") for home in homes):  # it leaves the class, and puts a function of its own there
        raise ValueError(
            f"one engine must train a model (got one whose passes come from {' and '.join(homes)}). Load it with "
            f"transformers, or {TRLS_OWN}"
        )
    if not any(parameter.requires_grad for parameter in trainer.model.parameters()):
        raise ValueError(
            "some tensor of the model must be trainable (got one with every tensor frozen). Load an adapter with "
            "is_trainable=True, or call requires_grad_(True) on the model."
        )
    if any(config.is_prompt_learning for config in getattr(trainer.model, "peft_config", {}).values()):
        raise ValueError(
            "the linear head needs an adapter of the layers, such as LoRA (got one that learns prompts, which TRL puts "
            f"in front of every row). Take another adapter, or {TRLS_OWN}"
        )
    for model in filter(None, (trainer.model, trainer.ref_model)):
        head = inner_model(model).get_output_embeddings()
        if type(head) is not nn.Linear or not math.prod(head.weight.shape):
            raise ValueError(
                f"the head must be a plain torch.nn.Linear (got {type(head).__name__}, an adapter or a quantized one). "
                "Leave lm_head out of target_modules and modules_to_save, take no trainable_token_indices, or "
                f"{TRLS_OWN}"
            )
