"""Completions that cannot move the weights, left out of the step that does: same gradient, less work.

A row is dead if its advantage is exactly 0: all eight losses multiply by it. What is left out still counts where a loss
divides by the number of rows or tokens, so the loss of the others is scaled.

Exact: the loss, its gradient, and TRL's metrics. To `clip_ratio/*` and `cispo_clip_ratio` a dead row adds 0. For
`entropy` dead rows go through the model after all, but not back: groups that are all right are surer than others, and
without them the metric is up to three times as high. Only `vespo/phi_seq_mean` is the mean over the rows that remain.
"""

import math

import torch
from jaxtyping import Bool
from torch import Tensor

from grpo_nb import losses
from grpo_nb.kernels import prefix

OF_TOKENS = (
    "completion_ids completion_mask tool_mask old_per_token_logps ref_per_token_logps sampling_per_token_logps "
    "importance_sampling_ratio advantages"
).split()  # those of [B, T]; the last two may be [B, 1] and [B]
KNOWN = "grpo bnpo dr_grpo dapo cispo sapo luspo vespo".split()  # by `loss_scale`
MEANS = "clip_ratio/low_mean clip_ratio/high_mean clip_ratio/region_mean cispo_clip_ratio".split()


def compute_loss(trainer, own, model, inputs: dict, *, droppers=()) -> Tensor:
    """TRL's `_compute_loss` without dead rows and without columns that are padding in all the others.

    Args:
        trainer: a `trl.GRPOTrainer`; the metrics that `own` appends are corrected there.
        own: its own `_compute_loss(model, inputs)`.
        droppers: modules with dropout; while one of them trains, every row stays.
    """
    if why_keep_all(trainer, inputs, droppers):
        return own(model, inputs)
    live = live_rows(inputs["advantages"])
    if not live.any():
        live[counted(inputs).argmax()] = True  # its loss is a zero that can be differentiated
    kept = trimmed({key: _of_rows(value, live) for key, value in inputs.items()})
    loss = own(model, kept)
    rows, tokens = len(kept["advantages"]) / len(live), _tokens(kept) / _tokens(inputs)
    is_per_row = trainer.importance_sampling_level == "sequence" or inputs["completion_mask"].shape[1] == 1
    has_zeros = not live.all() if is_per_row else (counted(inputs) > 0)[~live].any()
    metrics = trainer._metrics["train" if trainer.model.training else "eval"]
    correct_metrics(metrics, mean_by=rows if is_per_row else tokens, has_zeros=bool(has_zeros))
    if not live.all():
        dead = trimmed({key: _of_rows(value, ~live) for key, value in inputs.items()})
        is_mean_of_rows = inputs["completion_mask"].shape[1] == 1  # as TRL takes a value of [B, 1]
        share = rows if is_mean_of_rows else tokens
        metrics["entropy"][-1] = share * metrics["entropy"][-1] + (1 - share) * mean_entropy(trainer, model, dead)
    return loss * loss_scale(trainer.loss_type, rows=rows, tokens=tokens)


@torch.no_grad()
def mean_entropy(trainer, model, inputs: dict) -> float:
    """TRL's metric `entropy` of a micro-batch whose loss nobody needs: the mean over the tokens that count, in nats."""
    from trl.models.utils import disable_gradient_checkpointing

    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    mask, width = (
        torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1),
        inputs["completion_ids"].shape[1],
    )
    with disable_gradient_checkpointing(model, trainer.args.gradient_checkpointing_kwargs):
        _, entropies, _ = trainer._get_per_token_logps_and_entropies(model, ids, mask, width, compute_entropy=True)
    counts = inputs["completion_mask"] * inputs.get("tool_mask", 1)
    return ((entropies * counts).sum() / counts.sum().clamp(min=1)).item()


def why_keep_all(trainer, inputs: dict, droppers=()) -> str | None:
    """In words, what makes a row with advantage 0 train here, or its going felt by others; None if nothing does."""
    if trainer.loss_type not in KNOWN:
        return f"how {trainer.loss_type} divides is not known here"
    if trainer.beta != 0.0:
        return "the KL penalty trains every row"
    if trainer._entropy_bonus_enabled:
        return "the entropy bonus trains every row"
    if trainer.top_entropy_quantile < 1.0:
        return "every row takes part in the quantile of the entropy"
    if trainer.aux_loss_enabled:
        return "the router's loss trains on every row"
    if trainer.accelerator.num_processes > 1:
        return "the metrics of several processes are gathered before they can be corrected"
    if {"pixel_values", "token_type_ids", "mm_token_type_ids"} & inputs.keys():
        return "images are not sorted by row"
    if any(module.training for module in droppers):
        return "dropout draws one mask for all rows"
    return prefix.moving_angles(trainer.model.config)


def counted(inputs: dict) -> Tensor:
    """How many tokens of each row the loss counts, [B]."""
    mask = inputs["completion_mask"]
    return (mask * inputs["tool_mask"] if "tool_mask" in inputs else mask).sum(1)


def live_rows(advantages: Tensor) -> Bool[Tensor, " B"]:
    """True for each row with an advantage, [B] or [B, T], other than exactly 0.

    What rounding leaves of equal rewards, about 1e-5, trains in TRL and so trains here.

    >>> live_rows(Tensor([1e-5, 0.0, -2.0]))
    tensor([ True, False,  True])
    """
    return advantages.flatten(1).ne(0).any(1) if advantages.dim() > 1 else advantages.ne(0)


def trimmed(inputs: dict) -> dict:
    """Without the last columns in which no row has a token; two stay, since TRL takes [B, 1] for one value per row."""
    columns = inputs["completion_mask"].any(0).nonzero()
    width = max(2, int(columns.max()) + 1 if len(columns) else 0)
    return {key: value[:, :width] if key in OF_TOKENS and value.dim() > 1 else value for key, value in inputs.items()}


def loss_scale(loss_type: str, *, rows: float, tokens: float) -> float:
    """What the loss of the kept rows is multiplied by, so that it is that of all.

    Args:
        rows: B′/B, the share of the rows that is kept; tokens: M′/M, that of the tokens that count.
    Returns: 1 for dapo, cispo and vespo, which divide by the tokens of the whole generation batch.

    >>> [loss_scale(kind, rows=0.5, tokens=0.25) for kind in ("grpo", "bnpo", "dapo")]
    [0.5, 0.25, 1.0]
    """
    if loss_type in losses.BY_UPDATE:
        return 1.0
    return tokens if loss_type == "bnpo" else rows


def correct_metrics(metrics: dict[str, list], *, mean_by: float, has_zeros: bool) -> None:
    """Make the last clip ratios in TRL's metrics those of all rows, of which the dead clip nothing.

    Args:
        mean_by: what means are multiplied by; has_zeros: whether a dead row has a ratio, which is then 0.
    """
    for name in MEANS:
        if metrics.get(name):
            metrics[name][-1] *= mean_by
    for name, pick in (("clip_ratio/low_min", min), ("clip_ratio/high_max", max)):
        if has_zeros and metrics.get(name):
            last = metrics[name][-1]
            metrics[name][-1] = 0.0 if math.isnan(last) else pick(last, 0.0)


def _tokens(inputs: dict) -> float:
    return max(1.0, counted(inputs).sum().item())


def _of_rows(value, live: Tensor):
    """A value of `inputs` for the live rows: what has an entry per row is indexed, anything else is left as it is."""
    if isinstance(value, Tensor):
        return value[live] if value.dim() and len(value) == len(live) else value
    if isinstance(value, list) and len(value) == len(live):
        return [item for item, keep in zip(value, live.tolist(), strict=True) if keep]
    return value
