"""The gradient before the optimizer applies it, the weights before the policy samples: one look at each per step."""

import functools
import math

from grpo_nb.guards import signals
from grpo_nb.runs import callbacks

HALVINGS = 20  # of a scale that begins at 2¹⁶
TIMES_LARGER, LARGE_WEIGHT = 10.0, 0.5  # one update made the weights 10 times larger, 0.5 or more in the quadratic mean


class Gradients(callbacks.Callback):
    """Stop a gradient that is not finite before it is applied, or leave the whole update out ("skip").

    `Trainer` clips first, and clipping by a norm of NaN makes every gradient NaN. So a hook on each trainable tensor
    notes its largest gradient as soon as that is there, on the device; they are read together once per update.

    In fp16 with a `GradScaler` infinite gradients are expected: the scaler leaves the update out and halves its scale,
    which starts at 2¹⁶. Only `HALVINGS` of them in a row are no matter of scale. With several processes each watches
    its own share of the batch.
    """

    def __init__(self, watch):
        self.watch, self.handles, self.largest, self.zero = watch, [], {}, signals.Streak()
        self.left_out = 0  # updates in a row, by the scaler
        self.applied = 0.0  # the largest |gradient| of the newest update; 0 if it is left out
        self.is_spoiled = False  # whether one since the last log was not finite

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self._let_go()
        self.zero, self.is_spoiled = signals.Streak(), False
        for name, parameter in model.named_parameters():
            if parameter.requires_grad and parameter.numel():
                hook = functools.partial(self._note, name)
                self.handles.append(parameter.register_post_accumulate_grad_hook(hook))

    def _note(self, name: str, parameter) -> None:
        import torch

        # A dict keeps the place of a key's first entry: the order is that of the first backward pass.
        self.largest[name] = torch.linalg.vector_norm(parameter.grad, ord=math.inf)

    def on_pre_optimizer_step(self, args, state, control, model=None, optimizer=None, **kwargs):
        largest = self._taken()
        bad = [name for name, value in largest.items() if not math.isfinite(value)]
        self.applied = 0.0 if bad else max(largest.values(), default=0.0)
        self.is_spoiled |= bool(bad)
        if not bad:
            if largest:
                self.zero.see(not any(largest.values()))
                self.left_out = 0
            return
        if getattr(optimizer, "scaler", None) is not None:
            self.left_out += 1
            if self.left_out < HALVINGS:
                return
        self.watch.found(
            "gradients",
            f"every gradient must be finite before it is applied (got {largest[bad[0]]} in {bad[0]}, the first in "
            f"backward order, and in {len(bad)} of {len(largest)} tensors, in step {state.global_step + 1}). "
            "The weights are as before this step. Look for log(0), 0/0 or the root of 0 in the loss, or lower "
            "learning_rate; guard={'gradients': 'skip'} leaves such updates out.",
        )
        for parameter in model.parameters():
            parameter.grad = None  # the optimizer passes such a tensor over: weight, moments and decay stay

    def _taken(self) -> dict[str, float]:
        """Tensor → largest |gradient|, taken from the notes, which are empty then; this waits for the device."""
        import torch

        noted, self.largest = self.largest, {}
        if not noted:
            return {}
        device = next(iter(noted.values())).device
        values = torch.stack([value.to(device, torch.float32) for value in noted.values()]).tolist()
        return dict(zip(noted, values, strict=True))

    def on_train_end(self, args, state, control, **kwargs):
        self._let_go()

    def on_stop(self, error=None, **kwargs):
        self._let_go()

    def _let_go(self):
        for handle in self.handles:
            handle.remove()
        self.handles, self.largest = [], {}


class Weights(callbacks.Callback):
    """Stop before the policy samples from weights that are not finite, and after an update that blew them up.

    Both are looked at after each update too, so that no checkpoint of such weights is written: at the step's log,
    which comes before the save, or at once if the step logs nothing. Weights that are not finite stop any policy.
    """

    def __init__(self, watch):
        self.watch, self.norm, self.finding = watch, math.inf, None

    def on_train_begin(self, args, state, control, model=None, **kwargs):
        self.norm, self.finding = _examined(model, f"before step {state.global_step + 1}")
        self._report()

    on_step_begin = on_train_begin

    def on_step_end(self, args, state, control, model=None, **kwargs):
        before = self.norm
        self.norm, self.finding = _examined(model, f"after step {state.global_step}")
        count = sum(p.numel() for p in model.parameters() if p.requires_grad)
        if self.finding is None and self.norm > TIMES_LARGER * before and self.norm > LARGE_WEIGHT * count**0.5:
            self.finding = (
                f"an update must not make the weights {TIMES_LARGER:g} times larger (got a norm of the trained weights "
                f"of {before:.4g} before step {state.global_step} and {self.norm:.4g} after it, with learning_rate = "
                f"{args.learning_rate:g}). Lower learning_rate: LoRA takes 1e-6 to 1e-3, and start again.",
                False,
            )
        if not control.should_log:
            self._report()

    def on_log(self, args, state, control, **kwargs):
        self._report()

    def _report(self) -> None:
        if self.finding is not None:
            (message, always), self.finding = self.finding, None
            self.watch.found("weights", message, always=always)


def _examined(model, when: str) -> tuple[float, tuple[str, bool] | None]:
    """The norm of the trained weights, and which weights are not finite: a message that always stops, or None."""
    import torch

    named = [(name, p.detach()) for name, p in model.named_parameters() if _can_be_summed(p)]
    trained = [p.detach() for p in model.parameters() if p.requires_grad and _can_be_summed(p)]
    norms = [torch.nn.utils.get_total_norm(tensors) for tensors in (trained, [p for _, p in named])]
    norm, norm_of_all = torch.stack([n.to(norms[0].device, torch.float32) for n in norms]).tolist()
    if math.isfinite(norm_of_all):
        return norm, None
    bad = [name for name, p in named if not torch.isfinite(p).all()]
    if not bad:
        return norm, None  # finite, but a sum of squares beyond its type
    message = (
        f"every weight must be finite before the policy samples (got NaN or infinity in {bad[0]} and in "
        f"{len(bad)} of {len(named)} tensors, {when}). Start again from the last checkpoint or from the base "
        "model, with a lower learning_rate if an update did it."
    )
    return norm, (message, True)


def _can_be_summed(parameter) -> bool:
    """Whether it is in memory, and in 16 bits or more; quantized weights cannot hold a NaN or are not ours to add."""
    return parameter.is_floating_point() and parameter.element_size() > 1 and parameter.device.type != "meta"
