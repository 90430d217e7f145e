"""The orders of a run: of the prompts, drawn by the sampler, and of the completions, permuted before they are cut."""


def prompt_orders(num_prompts: int, epochs: int, *, seed: int, shuffle: bool) -> list[list[int]]:
    """The prompts in the order in which each epoch takes them: one generator, seeded once, for all epochs.

    See: `RepeatSampler.__iter__`.

    >>> prompt_orders(3, 2, seed=42, shuffle=False)
    [[0, 1, 2], [0, 1, 2]]
    """
    if not shuffle:
        return [list(range(num_prompts))] * epochs
    import torch

    generator = torch.Generator().manual_seed(seed)
    return [torch.randperm(num_prompts, generator=generator).tolist() for _ in range(epochs)]


def local_orders(length: int, rounds: int, epochs: int, *, process: int, seed: int, shuffle: bool) -> list[list[int]]:
    """The order of one process's completions in every generation round of a run in which sampling draws no number.

    Args:
        length: completions of one process in a generation round.
        rounds: generation rounds of an epoch.
    See: `GRPOTrainer.__init__` seeds process k with seed + k; `shuffle_sequence_dict` permutes.

    >>> local_orders(3, 1, 2, process=0, seed=42, shuffle=False)
    [[0, 1, 2], [0, 1, 2]]
    """
    if not shuffle:
        return [list(range(length))] * (rounds * epochs)
    import torch

    generator, orders = torch.Generator().manual_seed(seed + process), []
    for _ in range(epochs):
        torch.empty((), dtype=torch.int64).random_(generator=generator)  # a DataLoader draws a seed for its workers
        orders += [torch.randperm(length, generator=generator).tolist() for _ in range(rounds)]
    return orders
