"""The exact schedule of a GRPO run: which completion trains when, and on which process."""

from collections.abc import Iterator
from dataclasses import dataclass
from fractions import Fraction

from grpo_nb.batchflow import arithmetic, limits, orders


@dataclass(frozen=True)
class MicroStep:
    """One forward and backward pass on every process.

    Fields:
        step: number of the micro-step, 0…
        epoch: pass over the data set, 0…
        generation: generation round, 0…
        replay: which of the μ = num_iterations passes over the round, 0…μ−1
        slices: per process, the prompt of each of its per_device_train_batch_size completions
        optimizer_update: number, 0…, of the optimizer step that this one completes; None if it only accumulates
        staleness: optimizer steps taken since the policy that sampled these completions
    """

    step: int
    epoch: int
    generation: int
    replay: int
    slices: tuple[tuple[int, ...], ...]
    optimizer_update: int | None
    staleness: int


@dataclass(frozen=True)
class Plan:
    """The micro-steps of a run, its totals, and every setting that it was made of, as resolved.

    Fields:
        unique_prompts: of a generation round.
        optimizer_steps: of one epoch.
        prompts_dropped: of one epoch: those that fill no generation round.
        needs_old_logps: whether TRL stores the log-probs of the policy that sampled, for ratio and clip; where vLLM
            samples and its correction is on, it always does.
        notes: what else one has to know, a sentence each.
    """

    num_prompts: int
    per_device_train_batch_size: int
    num_generations: int
    gradient_accumulation_steps: int
    steps_per_generation: int
    generation_batch_size: int
    num_processes: int
    num_iterations: int
    num_train_epochs: int
    seed: int
    shuffle: bool
    backend: str
    unique_prompts: int
    completions_per_update: int
    optimizer_steps: int
    optimizer_steps_per_generation: Fraction
    prompts_dropped: int
    needs_old_logps: bool
    notes: tuple[str, ...]
    micro_steps: tuple[MicroStep, ...]


def plan(
    num_prompts: int,
    *,
    per_device_train_batch_size: int,
    num_generations: int,
    gradient_accumulation_steps: int = 1,
    steps_per_generation: int | None = None,
    generation_batch_size: int | None = None,
    num_processes: int = 1,
    num_iterations: int = 1,
    num_train_epochs: int = 1,
    seed: int = 42,
    shuffle: bool = True,
    backend: str = "trl",
) -> Plan:
    """The schedule that TRL follows with these settings of `GRPOConfig`.

    With `shuffle`, the prompts come in the order of the run with this seed. TRL also permutes the completions of a
    round, on each process, before it cuts them into micro-batches. That permutation is the run's own if sampling draws
    no random number; a run that samples has drawn some before, and gets another permutation of the same rows.

    Args:
        num_prompts: rows of the data set.
        per_device_train_batch_size: completions, not prompts, of a micro-step on one process.
        shuffle: False takes the prompts as they stand in the data set and cuts completions as they were sampled, which
            is what tables show.
        backend: "unsloth" changes per_device_train_batch_size where Unsloth does, and a note says so.
    Raises: ValueError where TRL refuses or would train no step, and for what is no count.
    See: `GRPOTrainer._get_train_sampler`, `GRPOTrainer._prepare_inputs`.

    >>> flow = plan(4, per_device_train_batch_size=4, num_generations=2, gradient_accumulation_steps=2, shuffle=False)
    >>> [(step.slices[0], step.optimizer_update) for step in flow.micro_steps]
    [((0, 0, 1, 1), None), ((2, 2, 3, 3), 0)]
    """
    settings = {
        "per_device_train_batch_size": per_device_train_batch_size,
        "gradient_accumulation_steps": gradient_accumulation_steps,
        "num_generations": num_generations,
        arithmetic.STEPS: steps_per_generation,
        arithmetic.SIZE: generation_batch_size,
    }
    run = {"num_processes": num_processes, "num_iterations": num_iterations, "num_train_epochs": num_train_epochs}
    limits.check_run(settings, {**run, "seed": seed, "shuffle": shuffle, "backend": backend})
    used = used_batch(settings, num_processes=num_processes, backend=backend)
    limits.check_num_prompts(used, num_prompts, num_processes=num_processes)
    numbers = arithmetic.batch_numbers(used, num_processes=num_processes)
    counts = {key: int(n) for key, n in {**used, **numbers, **run, "num_prompts": num_prompts, "seed": seed}.items()}
    passes, accumulation = counts[arithmetic.STEPS] * counts["num_iterations"], counts["gradient_accumulation_steps"]
    return Plan(
        **counts,
        shuffle=shuffle,
        backend=backend,
        optimizer_steps=int(arithmetic.updates({**used, **run}, num_prompts, num_processes=num_processes)),
        optimizer_steps_per_generation=Fraction(passes, accumulation),
        prompts_dropped=counts["num_prompts"] % counts["unique_prompts"],
        needs_old_logps=accumulation % passes != 0,
        notes=tuple(_notes(settings, counts)),
        micro_steps=tuple(_micro_steps(counts, shuffle)),
    )


def used_batch(settings: dict, *, num_processes: int, backend: str) -> dict:
    """The batch settings that TRL gets to see: those given, or what Unsloth makes of them.

    Raises: ValueError for what is no count.
    """
    arithmetic.check_counts(settings, num_processes=num_processes)
    return settings if backend == "trl" else {**settings, **unsloths_rescue(settings, num_processes=num_processes)}


def unsloths_rescue(settings: dict, *, num_processes: int) -> dict[str, int]:
    """What Unsloth changes of a batch that TRL would refuse: a micro-batch becomes one group, be it larger or smaller.

    See: `check_num_generations` in unsloth/models/rl.py.

    >>> unsloths_rescue({"per_device_train_batch_size": 8, "num_generations": 6}, num_processes=1)
    {'per_device_train_batch_size': 6}
    """
    device, accumulation, group = arithmetic.counts_of(settings)
    is_given = settings.get(arithmetic.STEPS) is not None or settings.get(arithmetic.SIZE) is not None
    if is_given or device * accumulation * num_processes % group == 0:
        return {}
    return {"per_device_train_batch_size": group}


def _micro_steps(counts: dict[str, int], shuffle: bool) -> Iterator[MicroStep]:
    """Every micro-step, in order; an accumulation ends with the epoch, a generation round never straddles two."""
    steps, accumulation = counts[arithmetic.STEPS], counts["gradient_accumulation_steps"]
    passes = steps * counts["num_iterations"]
    in_epoch = counts["num_prompts"] // counts["unique_prompts"] * passes
    updates = 0
    for generation, slices in enumerate(_sampled(counts, shuffle)):
        sampled_at = updates
        for at in range(passes):
            epoch, before = divmod(generation * passes + at, in_epoch)
            is_update = (before + 1) % accumulation == 0 or before + 1 == in_epoch
            yield MicroStep(
                step=generation * passes + at,
                epoch=epoch,
                generation=generation,
                replay=at // steps,
                slices=slices[at % steps],
                optimizer_update=updates if is_update else None,
                staleness=updates - sampled_at,
            )
            updates += is_update


def _sampled(counts: dict[str, int], shuffle: bool) -> Iterator[list[tuple[tuple[int, ...], ...]]]:
    """For each generation round, the slices of each of its micro-steps."""
    device, steps, epochs = (
        counts[key] for key in ("per_device_train_batch_size", arithmetic.STEPS, "num_train_epochs")
    )
    prompts, rounds = counts["unique_prompts"], counts["num_prompts"] // counts["unique_prompts"]
    length, seed = device * steps, counts["seed"]
    taken = orders.prompt_orders(counts["num_prompts"], epochs, seed=seed, shuffle=shuffle)
    permuted = [
        orders.local_orders(length, rounds, epochs, process=process, seed=seed, shuffle=shuffle)
        for process in range(counts["num_processes"])
    ]
    for generation in range(epochs * rounds):
        epoch, at = divmod(generation, rounds)
        chosen = taken[epoch][at * prompts : (at + 1) * prompts]
        completions = [prompt for prompt in chosen for _ in range(counts["num_generations"])]
        held = [
            [completions[process * length + row] for row in order[generation]] for process, order in enumerate(permuted)
        ]  # per process, contiguous rows of the round, permuted
        yield [tuple(tuple(rows[k * device : (k + 1) * device]) for rows in held) for k in range(steps)]


def _notes(settings: dict, counts: dict[str, int]) -> Iterator[str]:
    """What the totals do not say."""
    device, accumulation, group = arithmetic.counts_of(settings)
    if counts["per_device_train_batch_size"] != device:
        yield (
            f"Unsloth sets per_device_train_batch_size to {group} = num_generations instead of {device}, because "
            f"{device} × {accumulation} × {counts['num_processes']} completions are no multiple of {group}."
        )
    rounds = counts["num_prompts"] // counts["unique_prompts"]
    left = rounds * counts[arithmetic.STEPS] * counts["num_iterations"] % accumulation
    if left:
        yield f"The last optimizer step of an epoch accumulates {left} of {accumulation} micro-steps."
