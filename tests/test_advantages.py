"""Advantages equal those of TRL's trainer; shifting, scaling and permuting rewards do what they should."""

import itertools
import random

import pytest
import torch

from grpo_nb import advantages, data, train

NAN = float("nan")


def test_a_group_by_hand():
    """Rewards 0 0 1 0: mean 0.25, squares 3·0.0625 + 0.5625 = 0.75, std √(0.75 / 3) = 0.5."""
    found = advantages.group_advantages(torch.tensor([[0.0, 0.0, 1.0, 0.0]]))
    torch.testing.assert_close(found, torch.tensor([[-0.25, -0.25, 0.75, -0.25]]) / 0.5001)


def test_batch_scaling_keeps_the_groups_own_mean():
    """Two groups with means 1 and 11: std over all four is √(101.33…), each distance ±1."""
    found = advantages.group_advantages(torch.tensor([[0.0, 2.0], [10.0, 12.0]]), scale_rewards="batch")
    expected = torch.tensor([[-1.0, 1.0], [-1.0, 1.0]]) / (torch.tensor([0.0, 2.0, 10.0, 12.0]).std() + 1e-4)
    torch.testing.assert_close(found, expected)


@pytest.mark.parametrize("scale_rewards", ["group", "batch", "none"])
def test_laws(scale_rewards):
    rewards = torch.randn(5, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    found = advantages.group_advantages(rewards, scale_rewards=scale_rewards)
    torch.testing.assert_close(found.sum(1), torch.zeros(5, dtype=torch.float64))
    shifted = rewards + torch.arange(5.0)[:, None] if scale_rewards != "batch" else rewards + 3
    torch.testing.assert_close(advantages.group_advantages(shifted, scale_rewards=scale_rewards), found)
    order = torch.tensor([2, 0, 3, 1])
    torch.testing.assert_close(
        advantages.group_advantages(rewards[:, order], scale_rewards=scale_rewards), found[:, order]
    )
    equal = advantages.group_advantages(torch.full((2, 4), 7.0), scale_rewards=scale_rewards)
    assert not equal.any(), "equal rewards teach nothing"
    if scale_rewards == "group":
        changed = rewards.clone()
        changed[1:] *= 100
        torch.testing.assert_close(advantages.group_advantages(changed)[0], found[0])


def test_scaling_by_the_group_pays_a_rare_and_a_common_difference_alike():
    """A group that differs by 0.01 and one that differs by 10 get nearly the same advantages: 10⁻⁴ is all there is."""
    found = advantages.group_advantages(torch.tensor([[0.0, 0.01], [0.0, 10.0]]))
    assert found[1, 1] / found[0, 1] == pytest.approx(1.0, abs=0.02)
    unscaled = advantages.group_advantages(torch.tensor([[0.0, 0.01], [0.0, 10.0]]), scale_rewards="none")
    assert unscaled[1, 1] / unscaled[0, 1] == pytest.approx(1000)


def test_a_completion_without_reward_neither_pays_nor_is_paid():
    found = advantages.group_advantages(torch.tensor([[NAN, 1.0, 3.0]]), scale_rewards="none")
    assert found.tolist() == [[0.0, -1.0, 1.0]]
    alone = advantages.group_advantages(torch.tensor([[NAN, NAN, 3.0]]))
    assert alone.tolist() == [[0.0, 0.0, 0.0]]


OPTIONS = [
    *itertools.product(["group", "batch", "none"], ["sum_then_normalize"], [None, [0.5, 2.0]]),
    ("group", "normalize_then_sum", None),
    ("none", "normalize_then_sum", [2.0, 0.1]),
]


@pytest.mark.parametrize(("scale", "aggregation", "weights"), OPTIONS)
@pytest.mark.parametrize("seed", [0, 1])
def test_equal_to_what_the_trainer_computes(scale, aggregation, weights, seed, profile, rows, tiny):
    """Two reward functions that say what a table says, None and equal groups among it; the trainer's own advantages."""
    rng = random.Random(seed)
    table = [[rng.choice([0.0, 1.0, 2.5, None]), rng.gauss(0, 1) if rng.random() < 0.8 else None] for _ in range(16)]
    table[:4] = [[1.0, 1.0]] * 4  # a dead group
    table[4] = [None, None]  # a completion that nobody scores

    def first(completions, **columns):
        return [row[0] for row in table]

    def second(completions, **columns):
        return [row[1] for row in table]

    trainer = train.grpo_trainer(
        *tiny,
        data.grpo_rows(rows, system_prompt="Add."),
        [lambda completions, **columns: [0.0] * len(completions), second_stand_in],
        profile,
        per_device_train_batch_size=16,
        scale_rewards=scale,
        multi_objective_aggregation=aggregation,
        reward_weights=weights,
    )
    trainer.reward_funcs = [first, second]
    batch = list(itertools.islice(iter(trainer.get_train_dataloader()), 1))[0]
    trainer.model.train()
    theirs = trainer._generate_and_score_completions(batch)["advantages"]
    per_function = torch.tensor([[NAN if value is None else value for value in row] for row in table])
    ours = advantages.combine_rewards(
        per_function,
        num_generations=4,
        reward_weights=weights,
        scale_rewards=scale,
        multi_objective_aggregation=aggregation,
    )
    torch.testing.assert_close(ours, theirs)


def second_stand_in(completions, **columns):
    return [0.0] * len(completions)


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"num_generations": 3}, r"multiple of num_generations \(got 4, 3\)"),
        ({"num_generations": 0}, r"multiple of num_generations \(got 4, 0\)"),
        ({"reward_weights": [1.0]}, r"one for each of 2 functions \(got 1\)"),
        ({"scale_rewards": "std"}, r"scale_rewards must be .*\(got 'std'\)"),
        ({"multi_objective_aggregation": "sum"}, r"must be 'sum_then_normalize' .*\(got 'sum'\)"),
    ],
)
def test_refusals(changes, sentence):
    with pytest.raises(ValueError, match=sentence):
        advantages.combine_rewards(torch.zeros(4, 2), **{"num_generations": 2, **changes})


def test_luck_by_counting():
    """All 2³ outcomes of three fair tries: 7 have a hit, 2 are dead; and a sure or hopeless task is always dead."""
    outcomes = list(itertools.product([0, 1], repeat=3))
    assert advantages.hit_probability(0.5, 3) == sum(any(o) for o in outcomes) / 8
    assert advantages.dead_probability(0.5, 3) == sum(len(set(o)) == 1 for o in outcomes) / 8
    assert advantages.dead_probability(torch.tensor([0.0, 1.0]), 8).tolist() == [1.0, 1.0]
