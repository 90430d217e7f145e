"""How long is a step, and what fits into N minutes: operations counted from the config, seconds measured on two steps.

Operations are floating-point ones, a multiplication and an addition counted as two:

| pass                  | per token                                    | why                                           |
|-----------------------|----------------------------------------------|-----------------------------------------------|
| forward               | 2 · parameters                               | each weight multiplies and adds once          |
| backward, all weights | 4 · parameters: 6 in all                     | gradient of the input, gradient of the weight |
| backward, LoRA        | 2 · parameters: 4 in all, adapter 6          | frozen weights need no gradient of their own  |
| attention             | 4 · layers · heads · head_dim · positions    | scores, then values; backward twice that      |

`parameters` are those that a token is multiplied with: the layers' matrices and the head, not the embedding's table.
Checkpointing runs the layers forward once more.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

from grpo_nb.memory.budgets import DEFAULTS, check_spelling, steps_per_round
from grpo_nb.memory.decoders import decoder, matmul_parameters
from grpo_nb.memory.states import adapter_parameters


class Speed(NamedTuple):
    """seconds of a step = overhead_s + operations / per_second."""

    overhead_s: float
    per_second: float


def forward_work(config, *, tokens: float, head_tokens: float, sequences: int = 1, adapter: int = 0) -> float:
    """Operations of a forward pass: 2 · (body · tokens + head · head_tokens) + 4 · L · heads · head_dim · Σ positions.

    Args:
        tokens: of one sequence; the position of token i costs attention over i.
        head_tokens: of one sequence, those whose logits are made.
        adapter: parameters of a LoRA adapter.
    """
    d, counts = decoder(config), matmul_parameters(config)
    products = 2 * (counts["body"] + adapter) * tokens + 2 * counts["head"] * head_tokens
    attention = 4 * d.layers * d.q_width * tokens * (tokens + 1) // 2
    return sequences * (products + attention)


def step_work(
    config,
    grpo: dict,
    *,
    prompt_tokens: float,
    completion_tokens: float | None = None,
    lora: dict | None = None,
    num_processes: int = 1,
) -> dict[str, float]:
    """Tokens and operations of one optimizer step on one process.

    Args:
        grpo: settings as for `GRPOConfig`; missing ones take TRL's defaults.
        prompt_tokens: mean over the data.
        completion_tokens: mean length; None: max_completion_length, the worst case.
        lora: adapter settings, or None.
        num_processes: that train; a generation batch is that of all of them.
    Returns: `sampled_tokens` and `trained_tokens` of completions; operations of `sampling`, `scoring` (old and
    reference log-probs), `training`, and their sum `operations`.
    Raises: ValueError where settings cannot be meant, or TRL would refuse the batch.

    >>> from grpo_nb.memory import MODELS
    >>> work = step_work(MODELS["Qwen3-0.6B"], {"num_iterations": 2}, prompt_tokens=10, completion_tokens=100)
    >>> work["sampled_tokens"], work["trained_tokens"]
    (400.0, 800.0)
    """
    settings = {**DEFAULTS, **grpo}
    check_spelling(grpo)
    micro_steps = steps_per_round(settings, num_processes=num_processes)
    length = settings["max_completion_length"] if completion_tokens is None else completion_tokens
    if prompt_tokens < 1 or length < 1:
        raise ValueError(
            f"prompt and completion must have at least one token each (got {prompt_tokens} and {length}). Count them."
        )
    trained = settings["per_device_train_batch_size"] * settings["gradient_accumulation_steps"]
    sampled = trained / settings["num_iterations"]  # each completion is trained on num_iterations times
    adapter = 0 if lora is None else adapter_parameters(config, lora)
    tokens = prompt_tokens + length
    once = forward_work(config, tokens=tokens, head_tokens=length + 1, adapter=adapter)
    # A cache spares sampling every second look: one forward pass over the sequence, the head once per new token.
    sampling = sampled * forward_work(config, tokens=tokens, head_tokens=length, adapter=adapter)
    scoring = sampled * once * (_needs_old_logps(settings, micro_steps) + bool(settings["beta"]))
    training = trained * (once + backward_work(config, tokens=tokens, head_tokens=length + 1, adapter=adapter))
    if settings["gradient_checkpointing"]:
        training += trained * forward_work(config, tokens=tokens, head_tokens=0, adapter=adapter)
    found = {"sampling": sampling, "scoring": scoring, "training": training}
    counts = {"sampled_tokens": sampled * length, "trained_tokens": float(trained * length)}
    return {**counts, **found, "operations": sum(found.values())}


def _needs_old_logps(settings: dict, micro_steps: int) -> bool:
    """Whether an update may come after another one since its completions were sampled, or vLLM sampled them: as TRL."""
    accumulation = settings["gradient_accumulation_steps"]
    is_corrected = settings["use_vllm"] and settings.get("vllm_importance_sampling_correction", True)
    return bool(accumulation % (micro_steps * settings["num_iterations"]) or is_corrected)


def backward_work(config, *, tokens: float, head_tokens: float, adapter: int) -> float:
    """Operations of one sequence's backward pass: twice the forward, but once for matrices that are frozen."""
    whole = 2 * forward_work(config, tokens=tokens, head_tokens=head_tokens, adapter=adapter)
    if not adapter:
        return whole
    counts = matmul_parameters(config)
    return whole - 2 * (counts["body"] * tokens + counts["head"] * head_tokens)


def calibrate(first: tuple[float, float], second: tuple[float, float]) -> Speed:
    """The speed of this machine from two measured steps: the line through (operations, seconds) of both.

    Measure after a warm-up step, with completions of clearly different length, so that the line has two points; of two
    equal steps the mean counts, and nothing is known of the overhead.

    Args:
        first: (operations, seconds) of a step; `second` alike.
    Raises: ValueError if the step with more work took no longer.

    >>> calibrate((100, 3.0), (300, 5.0))
    Speed(overhead_s=2.0, per_second=100.0)
    """
    (few, short), (many, long) = sorted([first, second])
    if not all(math.isfinite(value) and value > 0 for value in (*first, *second)):
        raise ValueError(
            f"operations and seconds must be positive and finite (got {first} and {second}). Measure again."
        )
    if few == many:
        return Speed(0.0, 2 * few / (short + long))
    if long <= short:
        raise ValueError(
            f"the step with more work must take longer (got {short} s for {few:.3g} operations, {long} s for "
            f"{many:.3g}). Measure after a warm-up step, with lengths farther apart."
        )
    slope = (long - short) / (many - few)
    overhead = short - slope * few
    # Below nothing there is no overhead: the line then starts at zero and keeps to the slower of the two.
    return Speed(overhead, 1 / slope) if overhead >= 0 else Speed(0.0, min(few / short, many / long))


def seconds_per_step(operations: float, speed: Speed) -> float:
    """overhead + operations / per_second.

    Raises: ValueError for a speed at which no step ends, or each takes no time.

    >>> seconds_per_step(200, Speed(2.0, 100.0))
    4.0
    """
    overhead, rate = speed
    if not (math.isfinite(rate) and rate > 0 and math.isfinite(overhead) and overhead >= 0):
        raise ValueError(
            f"a speed must have an overhead from 0 s up and a positive rate, both finite (got {overhead} s and {rate} "
            "operations per second). Take it from calibrate."
        )
    if not (math.isfinite(operations) and operations > 0):
        raise ValueError(f"the operations must be positive and finite (got {operations}). Take them from step_work.")
    return overhead + operations / speed.per_second


def steps_in(minutes: float, operations: float, speed: Speed) -> int:
    """Whole optimizer steps of this much work that fit into some minutes.

    >>> steps_in(1, 200, Speed(2.0, 100.0))
    15
    """
    if not (math.isfinite(minutes) and minutes >= 0):
        raise ValueError(f"the minutes must not be negative, and finite (got {minutes}). Take 10.")
    return int(60 * minutes / seconds_per_step(operations, speed))


def what_fits(
    minutes: float,
    speed: Speed,
    config,
    candidates: Sequence[dict],
    *,
    prompt_tokens: int,
    lora: dict | None = None,
    min_steps: int = 1,
    num_processes: int = 1,
) -> list[dict]:
    """Which settings reach `min_steps` optimizer steps in the time, the most trained tokens first.

    Args:
        speed: from `calibrate`, on the same model and machine; best not too far from the settings that were measured,
            for a GPU that is half empty does more work in the same time.
        candidates: dicts of `GRPOConfig` settings.
        num_processes: that train, as measured.
    Returns: for each that fits, `settings`, `steps`, `seconds_per_step`, `trained_tokens` of all steps.
    """
    found: list[dict] = []
    for settings in candidates:
        work = step_work(config, settings, prompt_tokens=prompt_tokens, lora=lora, num_processes=num_processes)
        steps = steps_in(minutes, work["operations"], speed)
        each = seconds_per_step(work["operations"], speed)
        trained = steps * work["trained_tokens"]
        found.append({"settings": settings, "steps": steps, "seconds_per_step": each, "trained_tokens": trained})
    return sorted((row for row in found if row["steps"] >= min_steps), key=lambda row: -row["trained_tokens"])
