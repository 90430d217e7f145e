"""Where the seconds of a training step go: a clock that is put on one of TRL's trainers, or ours."""

import time

PARTS = {"sample": "_generate_single_turn", "loss": "_compute_loss", "backward": "backward"}


class Clock:
    """Seconds of each step of a trainer, in parts: wraps three of its methods, and is a callback of its steps."""

    def __init__(self, trainer):
        from transformers import TrainerCallback

        clock, self.now, self.steps = self, dict.fromkeys(PARTS, 0.0), []
        for part, name in PARTS.items():
            self._wrap(trainer.accelerator if part == "backward" else trainer, name, part)

        class Steps(TrainerCallback):
            def on_train_begin(self, *_, **__):
                clock.last = (time.perf_counter(), time.process_time())

            def on_step_end(self, *_, **__):
                clock.end_step()

        trainer.add_callback(Steps())

    def _wrap(self, owner, name: str, part: str) -> None:
        work = getattr(owner, name)

        def timed(*args, **settings):
            start = time.perf_counter()
            result = work(*args, **settings)
            self.now[part] += time.perf_counter() - start
            return result

        setattr(owner, name, timed)

    def end_step(self) -> None:
        """Close a step: what is in no part is the rest."""
        end = (time.perf_counter(), time.process_time())
        whole, cpu = end[0] - self.last[0], end[1] - self.last[1]
        self.steps.append({**self.now, "rest": whole - sum(self.now.values()), "step": whole, "cpu": cpu})
        self.last, self.now = end, dict.fromkeys(PARTS, 0.0)
