"""Bounds: which numbers a setting may be, as numbers; the sentence is written from them."""

import math
import numbers
import operator
from typing import NamedTuple

from grpo_nb.batchflow import limits


class Bound(NamedTuple):
    """Which numbers a setting may be; the refusal's words are made from it.

    >>> str(Bound(above=0, at_most=1)), Bound(above=0, at_most=1).holds(0)
    ('above 0 and at most 1', False)
    >>> str(Bound(exactly=-1, at_least=1, why="for 0 means num_train_epochs"))
    '-1 or at least 1, for 0 means num_train_epochs'
    """

    above: float | None = None
    at_least: float | None = None
    at_most: float | None = None
    below: float | None = None
    exactly: float | None = None  # legal too, whatever the other bounds say
    why: str = ""

    def holds(self, number: float) -> bool:
        """Whether a number is within the bound; NaN, infinity and what 64 bits cannot hold never are."""
        ends = (
            (operator.gt, self.above),
            (operator.ge, self.at_least),
            (operator.le, self.at_most),
            (operator.lt, self.below),
        )
        is_within = all(end is None or compare(number, end) for compare, end in ends)
        return fits(number) and (is_within or number == self.exactly)

    def __str__(self) -> str:
        names = ("above", "at_least", "at_most", "below")
        ends = [f"{name.replace('_', ' ')} {getattr(self, name)}" for name in names if getattr(self, name) is not None]
        other = "" if self.exactly is None else f"{self.exactly} or "
        return other + " and ".join(ends) + (f", {self.why}" if self.why else "")


def fits(number: float) -> bool:
    """Whether a number is finite, and a whole one within 64 bits."""
    return abs(number) < 2**63 if isinstance(number, numbers.Integral) else math.isfinite(number)


# What a number must be, and the keys of which that holds.
BOUNDS = [
    (Bound(above=0, at_most=0.01), "learning_rate"),
    (
        Bound(above=0),
        "temperature epsilon epsilon_high delta repetition_penalty num_train_epochs logging_steps save_steps "
        "eval_steps off_policy_mask_threshold sapo_temperature_neg sapo_temperature_pos adam_epsilon "
        "neftune_noise_alpha",
    ),
    (Bound(above=0, at_most=1), "top_p top_entropy_quantile vllm_gpu_memory_utilization"),
    (Bound(at_least=0), "beta weight_decay max_grad_norm warmup_steps eval_delay dataloader_num_workers"),
    (Bound(at_least=0, at_most=1), "min_p ref_model_mixup_alpha"),
    (Bound(at_least=0, below=1), "adam_beta1 adam_beta2"),
    (Bound(at_least=0, at_most=limits.SEEDS - 1), "seed data_seed"),
    (
        Bound(at_least=1),
        "max_completion_length num_iterations ref_model_sync_steps torch_empty_cache_steps pad_to_multiple_of "
        "num_generations_eval per_device_eval_batch_size eval_accumulation_steps "
        "per_device_train_batch_size gradient_accumulation_steps",
    ),
    (Bound(at_least=2, why="or the old checkpoint is deleted before the new one is sealed"), "save_total_limit"),
    (Bound(exactly=-1, at_least=1, why="for 0 means num_train_epochs"), "max_steps"),
    (Bound(exactly=0, at_least=2, why="for with 1 all completions of a prompt are the same"), "top_k"),
]
RANGES = {key: bound for bound, keys in BOUNDS for key in keys.split()}
