"""A clean end before the last step: the time is used up, or the reader interrupts the kernel."""

import contextlib
import numbers
import signal
import threading
import time
from collections.abc import Iterator

from grpo_nb.runs import callbacks, resumable


class Stopper(callbacks.Callback):
    """Ends training, with a checkpoint, at the first step from which the run can be resumed.

    Args:
        minutes: time budget, from the start of training; None for none. The run stops where it can be resumed, once
            the next such place would probably come too late.
    Attributes:
        reason: "interrupt", "minutes", or None while nothing asked for an end.
    """

    def __init__(self, minutes: float | None = None):
        is_time = isinstance(minutes, numbers.Real) and not isinstance(minutes, bool) and minutes > 0
        if minutes is not None and not is_time:
            raise ValueError(f"minutes must be a time above 0, or None for no limit (got {minutes!r}). Try minutes=30.")
        self.budget_s = None if minutes is None else 60 * minutes
        self.reason = self.started = self.stepped = self.epoch = None

    def on_train_begin(self, args, state, control, train_dataloader=None, **kwargs):
        self.started = self.stepped = time.monotonic()
        self.epoch = resumable.updates_per_epoch(args, train_dataloader)

    def on_step_end(self, args, state, control, **kwargs):
        now, step = time.monotonic(), state.global_step
        step_s, self.stepped = now - self.stepped, now
        if not resumable.can_cut(args, step, updates_per_epoch=self.epoch):
            return
        ahead_s = (resumable.next_cut(args, step, updates_per_epoch=self.epoch) - step) * step_s
        if self.reason is None and self.budget_s is not None and now + ahead_s - self.started > self.budget_s:
            self.reason = "minutes"
        if self.reason is not None:
            control.should_save = control.should_training_stop = True

    @contextlib.contextmanager
    def catching_interrupts(self) -> Iterator[None]:
        """Within the block, the first interrupt asks for a clean end and the second one ends at once.

        In a thread other than the main one interrupts do not arrive, and nothing changes.
        """
        if threading.current_thread() is not threading.main_thread():
            yield
            return
        before = signal.signal(signal.SIGINT, self._interrupted)
        try:
            yield
        finally:
            signal.signal(signal.SIGINT, before)

    def finish(self, state) -> None:
        """Print how far the run came if it was cut.

        Raises: KeyboardInterrupt if an interrupt cut it: that ends the cell, as interrupts do.
        """
        if self.reason is None:
            return
        said = f"stopped after step {state.global_step} of {state.max_steps}, sealed: run the cell again to go on"
        if self.reason == "interrupt":
            raise KeyboardInterrupt(said)
        if state.global_step < state.max_steps:
            print(f"Time is up, {said}.")

    def _interrupted(self, number, frame):
        if self.reason == "interrupt":
            raise KeyboardInterrupt
        self.reason = "interrupt"
        with contextlib.suppress(RuntimeError):  # where the signal came in the middle of another print
            print("Interrupted: stops and seals at the next step from which it can go on. Again: stops at once.")
