"""The package's own advantages and loss in TRL's trainer: what `advantages` and `losses` say is what trains.

TRL samples, calls the rewards and scores the tokens; from the rewards on it is `advantages.combine_rewards`, from the
log-probs on `losses.grpo_loss`. TRL's loss types give its weights bit for bit (tests/test_kernels_package_loss.py).
"""

import functools
import inspect
from collections.abc import Callable

import torch
from jaxtyping import Float
from torch import Tensor
from trl.trainer.utils import nanmax, nanmin

from grpo_nb import advantages, losses

OF_A_BATCH = "old_logps ref_logps sampling_logps entropies num_items_in_batch num_processes surrogate".split()


def settings(args) -> dict:
    """The settings of a `GRPOConfig` that the loss reads, by their names there."""
    names = [p.name for p in inspect.signature(losses.grpo_loss).parameters.values() if p.kind is p.KEYWORD_ONLY]
    found = {name: getattr(args, name) for name in names if name not in OF_A_BATCH}
    return found | {"epsilon_high": args.epsilon if args.epsilon_high is None else args.epsilon_high}


def why_not(trainer, inputs: dict) -> str | None:
    """In words, what only TRL's own loss does; None if it is nothing.

    Args:
        inputs: a micro-batch, or {} before there is one.
    """
    if trainer.use_adaptive_entropy:
        return "the coefficient of the entropy bonus adapts"
    if trainer.aux_loss_enabled:
        return "the router's loss of a mixture of experts is added"
    if trainer.top_entropy_quantile < 1.0 and trainer.accelerator.num_processes > 1:
        return "the quantile of the entropy is that of all processes"
    is_corrected = not trainer.use_vllm or trainer.vllm_importance_sampling_correction
    if trainer.off_policy_mask_threshold is not None and not is_corrected:
        return "the off-policy mask looks at log-probs of vLLM that nothing corrects for"
    if {"pixel_values", "token_type_ids", "mm_token_type_ids"} & inputs.keys():
        return "images are scored"
    return None


def check_loss(loss: Callable, args) -> None:
    """Try a loss of the reader's own on two completions of three tokens, before a model loads.

    Torch's random numbers stay where they were.

    Args:
        loss: `f(logps, old_logps, advantages, mask, **settings)`, see `losses.grpo_loss`.
        args: a `trl.GRPOConfig`.
    Raises: ValueError saying what it must take or return.
    """
    name = getattr(loss, "__name__", type(loss).__name__)
    if not callable(loss):
        raise ValueError(f"loss must be a function (got {loss!r}). Write def, and pass its name without ().")
    try:
        inspect.signature(loss).bind(None, None, None, None, **settings(args))
    except (TypeError, ValueError) as error:  # a builtin has no signature
        raise ValueError(
            f"the loss {name} must take (logps, old_logps, advantages, mask, **settings) (got one that does not: "
            f"{error}). Write def {name}(logps, old_logps, advantages, mask, **settings)."
        ) from None
    old_logps, mask = torch.tensor([[-1.0, -2.0, -0.5], [-1.5, -0.1, 0.0]]), torch.tensor([[1, 1, 1], [1, 1, 0]])
    logps = (old_logps + 0.1).requires_grad_()

    def own(*tensors):
        try:
            per_token = loss(*tensors, **settings(args))
        except Exception as error:  # the reader's own code: anything may come
            raise ValueError(
                f"the loss {name} must compute on any batch (got {type(error).__name__}: {error}, in a try with logps, "
                f"old_logps and mask [2, 3] and advantages [2, 1]). Its settings are {', '.join(settings(args))}."
            ) from error
        if isinstance(per_token, Tensor) and not per_token.isfinite().all():
            raise ValueError(
                f"a loss must be finite, outside of the mask too, for 0 · NaN is NaN (got {per_token.tolist()}). "
                "Look for log(0) and 0/0, and divide by nothing that may be 0."
            )
        return per_token

    try:
        with torch.random.fork_rng(range(torch.cuda.device_count()) if torch.cuda.is_initialized() else []):
            losses.grpo_loss(logps, torch.tensor([1.0, -1.0]), mask, old_logps=old_logps, surrogate=own)
    except ValueError as error:
        raise ValueError(f"the loss {name}, tried on 2 completions of 3 tokens: {error}") from error


def advantages_of(trainer, per_function: Float[Tensor, "N K"], *, num_generations: int) -> Float[Tensor, " N"]:
    """Advantages of all completions of all processes, with the trainer's settings.

    Args:
        per_function: what each reward function paid each completion, NaN for None.
    """
    return advantages.combine_rewards(
        per_function,
        num_generations=num_generations,
        reward_weights=trainer.reward_weights.tolist(),
        scale_rewards=trainer.scale_rewards,
        multi_objective_aggregation=trainer.multi_objective_aggregation,
    )


def compute_loss(trainer, model, inputs: dict, *, loss: Callable | None = None) -> Tensor:
    """The loss of a micro-batch, and TRL's metrics of it, from the package's own functions.

    Args:
        inputs: a micro-batch as TRL's `_generate_and_score_completions` makes it.
        loss: a loss per token of the reader's own, in place of the loss type's.
    See: TRL's `GRPOTrainer._compute_loss`, which it stands for.
    """
    ids = torch.cat([inputs["prompt_ids"], inputs["completion_ids"]], dim=1)
    attended = torch.cat([inputs["prompt_mask"], inputs["completion_mask"]], dim=1)
    width, mask = inputs["completion_ids"].shape[1], inputs["completion_mask"]
    mask = mask * inputs["tool_mask"] if "tool_mask" in inputs else mask
    logps, entropies, _ = trainer._get_per_token_logps_and_entropies(model, ids, attended, width, compute_entropy=True)
    options = settings(trainer.args)
    surrogate = functools.partial(loss, **options) if loss else None
    if trainer.model.training:
        options["gradient_accumulation_steps"] = trainer.current_gradient_accumulation_steps  # the last may be shorter
    else:  # an evaluation's batch is neither split across steps nor accumulated
        options |= {"gradient_accumulation_steps": 1, "steps_per_generation": 1}
    is_corrected = trainer.use_vllm and trainer.vllm_importance_sampling_correction
    old_logps = inputs.get("old_per_token_logps")
    result = losses.grpo_loss(
        logps,
        inputs["advantages"],
        mask,
        old_logps=old_logps,
        ref_logps=inputs.get("ref_per_token_logps"),
        sampling_logps=inputs.get("sampling_per_token_logps") if is_corrected else None,
        entropies=entropies,
        num_items_in_batch=inputs["num_items_in_batch"],
        num_processes=trainer.accelerator.num_processes,
        surrogate=surrogate,
        **options,
    )
    log = functools.partial(_log, trainer, mask=mask)
    if result.kl is not None:
        log("kl", result.kl)
    log("entropy", entropies)
    if surrogate is None:
        _log_clipping(trainer, log, result, mask)
        if trainer.loss_type == "vespo":
            log("vespo/phi_seq_mean", _phi(inputs, logps.detach(), mask, options))
    if trainer._entropy_bonus_enabled:
        _log_bonus(trainer, result, options["gradient_accumulation_steps"])
    return result.loss


def _metrics(trainer) -> dict[str, list]:
    return trainer._metrics["train" if trainer.model.training else "eval"]


def _log(trainer, name: str, values: Float[Tensor, "N #T"], *, mask: Tensor) -> None:
    """A metric: the mean over the tokens that count, or over the completions where each has one value."""
    if values.shape[1] == 1:
        parts = values.sum(), torch.tensor(float(len(values)), device=values.device)
    else:
        parts = (values * mask).sum(), mask.sum().float()
    total, count = trainer.accelerator.reduce(torch.stack(parts), reduction="sum")
    _metrics(trainer)[name].append((total / count.clamp(min=1.0)).item())


def _log_clipping(trainer, log: Callable, result: losses.Loss, mask: Tensor) -> None:
    low, high = ((result.clipped == side).float() for side in (-1, 1))
    if trainer.loss_type == "cispo":
        log("cispo_clip_ratio", high)
    if trainer.loss_type not in losses.CLIPPED:
        return
    log("clip_ratio/low_mean", low)
    log("clip_ratio/high_mean", high)
    log("clip_ratio/region_mean", low + high)
    for name, side, pick in (("low_min", low, nanmin), ("high_max", high, nanmax)):
        per_row = side.squeeze(1) if side.shape[1] == 1 else (side * mask).sum(1) / mask.sum(1)
        _metrics(trainer)[f"clip_ratio/{name}"].append(pick(trainer.accelerator.gather(per_row)).item())


def _phi(inputs: dict, logps: Tensor, mask: Tensor, options: dict) -> Tensor:
    """What vespo multiplies a completion's gradient by, [N, 1]."""
    better, worse = ((options[f"vespo_k_{side}"], options[f"vespo_lambda_{side}"]) for side in ("pos", "neg"))
    return losses.gamma_weights(
        logps - inputs.get("old_per_token_logps", logps),
        inputs["advantages"].unsqueeze(1),
        mask,
        correction=inputs.get("importance_sampling_ratio"),
        k_and_lambda=(better, worse),
    )


def _log_bonus(trainer, result: losses.Loss, accumulated: int) -> None:
    loss = (result.weights * result.per_token).sum().detach()
    loss = loss if trainer.loss_type in losses.BY_UPDATE else loss * accumulated
    _metrics(trainer)["policy_loss"].append(trainer.accelerator.gather(loss).nanmean().item())
    if trainer.model.training and trainer.accelerator.sync_gradients:
        _metrics(trainer)["entropy_coef"].append(trainer.entropy_coef)
