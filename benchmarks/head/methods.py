"""Every way from hidden states to GRPO's loss: the peers' functions, called as their trainers call them, and ours.

A method gives (loss, log-probs [B, S] or None); it may read all of `batch.hidden`, prompt included. Methods that give
log-probs end in the same loss text, `batch.loss`. Not here: quack, whose cross entropy is a mean or a sum, where GRPO
weighs every token by itself.
"""

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.nn import functional

from benchmarks import peers
from benchmarks.head.cases import Batch
from grpo_nb import kernels

OURS = "grpo_nb"


def entropy_has_no_gradient(batch: Batch) -> str | None:
    """Of a method whose entropies, if there are any, are for the log only."""
    return "no gradient through the entropy" if batch.wants_entropy else None


def needs_a_card(batch: Batch) -> str | None:
    """Of what runs on CUDA only."""
    return None if batch.hidden.is_cuda else "on CUDA only"


def has_no_triton(batch: Batch) -> str | None:
    """Of what a peer does only where it has no Triton."""
    return "on a CPU only" if batch.hidden.is_cuda else None


def needs_a_sum_over_tokens(batch: Batch) -> str | None:
    """Of our fused engine."""
    is_sequence = batch.options.get("importance_sampling_level") == "sequence"
    return "the ratio is a whole completion's: left to the direction engine" if is_sequence else None


def needs_a_frozen_head(batch: Batch) -> str | None:
    """Of our direction engine where it writes over the hidden states."""
    frozen = not batch.weight.requires_grad and not batch.wants_entropy
    return None if frozen else "no direction is kept where the head or the entropy trains"


@dataclass(frozen=True)
class Method:
    """One row of the tables.

    Attributes:
        run: batch → (loss, log-probs or None).
        limits: each says of a batch why the method is not run on it, or None.
        entropy: whether each token's entropy comes with the log-probs, as trainers log it.
        full_logits: bytes for each logit that it holds at once at least; 0 if it never holds them all.
    """

    name: str
    run: Callable[[Batch], tuple[Tensor, Tensor | None]]
    limits: tuple[Callable[[Batch], str | None], ...] = ()
    entropy: bool = True
    full_logits: int = 0

    def why_not(self, batch: Batch) -> str | None:
        """Why there is nothing to measure in this case; None if there is."""
        return next((why for limit in self.limits if (why := limit(batch))), None)


def _kept(batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
    """(mask [B, S] of bool, the hidden states of the completions [live, H], their tokens [live])."""
    kept = batch.mask.bool()
    return kept, batch.hidden[kept], batch.ids[kept]


def _spread(kept: Tensor, values: Tensor) -> Tensor:
    """[live] → [B, S], 0 elsewhere."""
    return values.new_zeros(kept.shape).masked_scatter(kept, values)


def _completions(batch: Batch) -> tuple[Tensor, Tensor]:
    """(hidden states [B, T, H], tokens [B, T]) of the completions, padding included."""
    return batch.hidden[:, batch.case.prompt :], batch.ids[:, batch.case.prompt :]


def _padded(batch: Batch, values: Tensor) -> Tensor:
    """[B, T] → [B, S]: zeros where the prompt is and after the end of a completion."""
    return functional.pad(values, (batch.case.prompt, 0)) * batch.mask


def naive(batch: Batch) -> tuple[Tensor, Tensor]:
    """logits → log_softmax → gather, for the live tokens; the entropies only if the loss needs them."""
    kept, hidden, ids = _kept(batch)
    table = functional.log_softmax(functional.linear(hidden, batch.weight).float(), dim=-1)  # [live, V]
    logps = _spread(kept, table.gather(1, ids.unsqueeze(1)).squeeze(1))
    entropies = _spread(kept, -(table.exp() * table).sum(-1)) if batch.wants_entropy else None
    return batch.loss(logps, entropies), logps


def trl_full_logits(batch: Batch) -> tuple[Tensor, Tensor]:
    """`GRPOTrainer._full_logits_logps` of TRL 1.14: logits of the completions, then a row at a time."""
    utils = peers.trl_installed()
    hidden, ids = _completions(batch)
    logps, entropies = utils.selective_log_softmax_and_entropy(
        functional.linear(hidden, batch.weight),
        ids,
        entropy_requires_grad=batch.wants_entropy,
        row_mask=batch.mask[:, batch.case.prompt :].long(),  # as TRL's trainer has it; its kernel takes no float
    )
    logps = _padded(batch, logps)
    return batch.loss(logps, _padded(batch, entropies)), logps


def trl_chunked(batch: Batch) -> tuple[Tensor, Tensor]:
    """`GRPOTrainer._chunked_logps` of TRL 1.14: `use_liger_kernel=True`."""
    kept, hidden, ids = _kept(batch)
    function = peers.trl_installed()._ChunkedLogProbFunction
    logps, entropies = (_spread(kept, x) for x in function.apply(hidden, batch.weight, None, ids, 1.0, 8192))
    return batch.loss(logps, entropies), logps


def trl_1_16(batch: Batch, *, compact: bool) -> tuple[Tensor, Tensor]:
    """`add_fused_lm_head` of TRL 1.16: with Triton the live tokens, without it every position (`compact=False`)."""
    function = peers.trl_1_16().ChunkedLogProbFunction
    kept, hidden, ids = batch.mask.bool(), batch.hidden.flatten(0, 1), batch.ids.flatten()
    if compact:
        _, hidden, ids = _kept(batch)
    found = function.apply(hidden, batch.weight, None, ids, 1.0, 32_768, None, 1.0, ("entropy",))[:2]
    shaped = (_spread(kept, x) if compact else x.view(kept.shape).masked_fill(~kept, 0) for x in found)
    logps, entropies = shaped
    return batch.loss(logps, entropies), logps


def liger(batch: Batch, *, compiled: bool) -> tuple[Tensor, None]:
    """`LigerFusedLinearGRPOLoss`: loss and gradients in one forward, a completion at a time."""
    hidden, ids = _completions(batch)
    options = batch.options
    loss_of = peers.liger().LigerFusedLinearGRPOLoss(
        beta=0.0,
        compiled=compiled,
        use_ref_model=False,
        loss_type=options["loss_type"],
        importance_sampling_level=options.get("importance_sampling_level", "token"),
    )
    mask = batch.mask[:, batch.case.prompt :]
    old = None if batch.old_logps is None else batch.old_logps[:, batch.case.prompt :]
    loss, _ = loss_of(hidden, batch.weight, ids, mask, batch.advantages, old_per_token_logps=old)
    return loss, None


def liger_scaled(batch: Batch) -> tuple[Tensor, Tensor]:
    """Liger's fused scaled cross entropy: −log p and entropy of each live token, a kernel of its own on Hopper."""
    kept, hidden, ids = _kept(batch)
    function = peers.liger_scaled().LigerFusedLinearScaledCrossEntropyFunction
    nll, entropies = function.apply(hidden, batch.weight, ids, 1.0, -100, 1, True)
    logps = _spread(kept, -nll)
    return batch.loss(logps, _spread(kept, entropies.float())), logps


def unsloth(batch: Batch) -> tuple[Tensor, Tensor]:
    """Unsloth-zoo's `fused_linear_logprobs`; here it is also told which tokens count."""
    logps, entropies = peers.unsloth().fused_linear_logprobs(
        batch.hidden,
        batch.weight,
        batch.ids,
        mask=batch.mask,
        return_entropy=True,
        entropy_requires_grad=batch.wants_entropy,
    )
    return batch.loss(logps, entropies), logps


def torchs_own(batch: Batch) -> tuple[Tensor, Tensor]:
    """torch's chunked `linear_cross_entropy`, not reduced, for GRPO weighs every token by itself."""
    if not hasattr(functional, "linear_cross_entropy"):
        raise peers.Missing(f"torch {torch.__version__} has no linear_cross_entropy")
    kept, hidden, ids = _kept(batch)
    options = torch.nn.LinearCrossEntropyOptions()
    nll = functional.linear_cross_entropy(hidden, batch.weight, ids, reduction="none", options=options)
    logps = _spread(kept, -nll.float())
    return batch.loss(logps), logps


def cut_cross_entropy(batch: Batch) -> tuple[Tensor, Tensor]:
    """Apple's cut cross entropy, not reduced and with its filter of small gradients, as it comes."""
    kept, hidden, ids = _kept(batch)
    nll = peers.cut_cross_entropy().linear_cross_entropy(hidden, batch.weight, ids, reduction="none")
    logps = _spread(kept, -nll.float())
    return batch.loss(logps), logps


class AsComputed(torch.autograd.Function):
    """The same storage as what a model computed: not a leaf, nor a view of one, which ours would not write over."""

    @staticmethod
    def forward(ctx, leaf):
        return torch.empty(0, dtype=leaf.dtype, device=leaf.device).set_(leaf.detach())

    @staticmethod
    def backward(ctx, grad):
        return grad


def direction(batch: Batch, **settings) -> tuple[Tensor, Tensor]:
    """Ours, `linear_logps`: keeps dlogp/dh of each row in the forward pass, scales it in the backward pass."""
    kept = batch.mask.bool()
    found = kernels.linear_logps(
        AsComputed.apply(batch.hidden).flatten(0, 1),
        batch.weight,
        batch.ids.flatten(),
        keep=kept.flatten(),
        entropy="grad" if batch.wants_entropy else "metric",
        **settings,
    )
    logps = found.logps.view(kept.shape)
    return batch.loss(logps, found.entropy.view(kept.shape)), logps


def fused(batch: Batch, **settings) -> tuple[Tensor, Tensor]:
    """Ours, `linear_grpo_loss`: loss, dX and dW in one pass over each chunk."""
    given = (AsComputed.apply(batch.hidden), batch.weight, batch.ids, batch.advantages, batch.mask)
    found = kernels.linear_grpo_loss(*given, **batch.options, engine="fused", **settings)
    return found.loss, found.logps


METHODS = [
    Method("naive logits", naive, entropy=False, full_logits=12),
    Method("TRL 1.14, full logits", trl_full_logits, full_logits=4),
    Method("TRL 1.14, chunked", trl_chunked),
    Method("TRL 1.16 on a CPU: every position", lambda b: trl_1_16(b, compact=False), (has_no_triton,)),
    Method("TRL 1.16 on a card: live tokens", lambda b: trl_1_16(b, compact=True)),
    Method("Liger GRPO loss", lambda b: liger(b, compiled=False), (entropy_has_no_gradient,), entropy=False),
    Method(
        "Liger GRPO loss, compiled",
        lambda b: liger(b, compiled=True),
        (entropy_has_no_gradient, needs_a_card),
        entropy=False,
    ),
    Method("Liger scaled cross entropy", liger_scaled),
    Method("Unsloth-zoo (on a CPU its fallback)", unsloth),
    Method("torch linear_cross_entropy", torchs_own, (entropy_has_no_gradient,), entropy=False),
    Method("cut_cross_entropy", cut_cross_entropy, (entropy_has_no_gradient, needs_a_card), entropy=False),
    Method(f"{OURS}, direction", direction),
    Method(f"{OURS}, direction, over hidden", lambda b: direction(b, inplace_hidden=True), (needs_a_frozen_head,)),
    Method(f"{OURS}, fused", fused, (needs_a_sum_over_tokens,)),
    Method(f"{OURS}, fused, over hidden", lambda b: fused(b, inplace_hidden=True), (needs_a_sum_over_tokens,)),
]


def sweep(sizes: tuple[float, ...]) -> list[Method]:
    """Both of ours at each size of a tile in MiB, by name "grpo_nb, direction, 4 MiB"."""
    return [
        Method(f"{OURS}, {engine.__name__}, {size:g} MiB", lambda b, engine=engine, size=size: engine(b, tile_mib=size))
        for engine in (direction, fused)
        for size in sizes
    ]
