"""Last resort: updates that have a gradient, and move nothing."""

from grpo_nb import models
from grpo_nb.guards import signals
from grpo_nb.runs import callbacks


class Movement(callbacks.Callback):
    """Stop a run before its first step if nothing in it is trainable, and later if its updates change no bit.

    The norm that `updates.Weights` takes at each step tells whether anything has moved since the last log. A norm that
    stands still may be rounding: then the trained tensors are copied once, and later logs compare them to that. An
    update says nothing if its gradient is zero, or if a guard or an fp16 scaler left it out; nor does DeepSpeed, which
    trains copies of its own.

    Args:
        watch: the `guards.Watch` with the policies and the counts.
        weights, gradients: the `updates.Weights` and `updates.Gradients` of the same run, called before this.
    """

    def __init__(self, watch, weights, gradients):
        self.watch, self.weights, self.gradients = watch, weights, gradients

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        models.check_trains(model)
        self.norm, self.still, self.has_moved = self.weights.norm, 0, False
        self.copies: list = []

    def on_step_end(self, args, state, control, **kwargs):
        before, self.norm = self.norm, self.weights.norm
        self.has_moved |= self.norm != before

    def on_log(self, args, state, control, logs=None, model=None, optimizer=None, **kwargs):
        if logs is None or "loss" not in logs or not self.gradients.applied or args.deepspeed:
            return
        trained = [p for p in model.parameters() if p.requires_grad]
        moved, self.has_moved = self.has_moved, False
        if moved or not _are_equal(trained, self.copies):
            self.copies, self.still = [], 0
        elif not self.copies:
            self.copies = [p.detach().to("cpu", copy=True) for p in trained]
        else:
            self.still += 1
        if self.still >= signals.SOON:
            self.still = 0
            self.watch.found("movement", f"step {state.global_step}: {self._sentence(trained, optimizer)}")

    def _sentence(self, trained: list, optimizer) -> str:
        held = {id(p) for group in optimizer.param_groups for p in group["params"]}
        types = ", ".join(sorted({str(p.dtype).removeprefix("torch.") for p in trained}))
        cause = f"so small an update rounds away in {types}"
        advice = "Keep the trained weights in float32, or raise learning_rate"
        if not any(group["lr"] for group in optimizer.param_groups):
            cause, advice = "the learning rate is 0", "Look at learning_rate, lr_scheduler_type and warmup_steps"
        elif held.isdisjoint(map(id, trained)):
            cause, advice = (
                "the optimizer holds none of them",
                "Adapt and unfreeze the policy before the trainer is made",
            )
        return (
            f"an update with a gradient must move something (got {len(trained)} trainable tensors of which no bit has "
            f"changed in the last {signals.SOON} logs: {cause}). {advice}."
        )


def _are_equal(trained: list, copies: list) -> bool:
    """Whether every tensor has the bits of its copy; True without copies."""
    import torch

    return not copies or (
        len(copies) == len(trained) and all(torch.equal(p.cpu(), c) for p, c in zip(trained, copies, strict=True))
    )
