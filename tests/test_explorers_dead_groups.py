"""The dead-groups explorer's numbers by counting, its laws, and what its words claim."""

from itertools import product

import pytest
import torch

from grpo_nb import advantages
from grpo_nb.explorers import dead_groups


# Golden: 0.9⁸ = 0.43046721 all wrong and 0.1⁸ all right.
def test_one_in_ten_and_eight_tries():
    luck = dead_groups.compute(p=0.1, num_generations=8)
    assert luck.wrong_here == pytest.approx(0.43046721, rel=1e-12)
    assert luck.right_here == pytest.approx(1e-8, rel=1e-6)
    assert luck.dead_here == pytest.approx(0.43046722, rel=1e-12)
    assert luck.teaching[8 - 2] == pytest.approx(1 - 0.43046722, rel=1e-12)


def test_two_tries_at_even_odds():
    luck = dead_groups.compute(p=0.5, num_generations=2)
    assert (luck.dead_here, luck.wrong_here, luck.right_here) == (0.5, 0.25, 0.25)
    assert luck.teaching[:3] == [0.5, 0.75, 0.875]  # 1 − 2/2ᴳ for G = 2, 3, 4


# Oracle: all 2⁴ groups of four, weighed by their probability, and the advantages that TRL would give them.
@pytest.mark.parametrize("p", [0.2, 0.75])
def test_dead_groups_are_those_without_advantages(p):
    groups = torch.tensor(list(product([0.0, 1.0], repeat=4)), dtype=torch.float64)
    chance = (p**groups * (1 - p) ** (1 - groups)).prod(1)
    is_dead = (advantages.group_advantages(groups) == 0).all(1)
    luck = dead_groups.compute(p=p, num_generations=4)
    assert luck.dead_here == pytest.approx((chance * is_dead).sum().item(), rel=1e-12)
    assert luck.wrong_here == pytest.approx((chance * (groups.sum(1) == 0)).sum().item(), rel=1e-12)
    assert luck.right_here == pytest.approx((chance * (groups.sum(1) == 4)).sum().item(), rel=1e-12)


# Law: right and wrong are mirror images, more tries kill fewer groups, and the parts add up.
@pytest.mark.parametrize("num_generations", [2, 7, 64])
def test_laws_of_the_curves(num_generations):
    luck = dead_groups.compute(p=0.03, num_generations=num_generations)
    torch.testing.assert_close(luck.dead, luck.dead.flip(0))
    torch.testing.assert_close(luck.all_wrong + luck.all_wrong.flip(0), luck.dead)
    torch.testing.assert_close(luck.hit + luck.all_wrong, torch.ones_like(luck.hit))
    assert luck.dead[0] == luck.dead[-1] == 1 and luck.dead.argmin() == len(luck.dead) // 2
    assert luck.teaching == sorted(luck.teaching) and luck.teaching[0] < luck.teaching[-1]
    assert luck.wrong_here + luck.right_here == pytest.approx(luck.dead_here, rel=1e-12)


def test_the_figure_draws_what_was_computed():
    luck = dead_groups.compute(p=0.3, num_generations=5)
    left, right = dead_groups.figure(luck).axes
    curves = {line.get_label(): line for line in left.get_lines()}
    assert (curves["all the same: dead"].get_ydata() == luck.dead.numpy()).all()
    assert (curves["at least one right"].get_ydata() == luck.hit.numpy()).all()
    assert curves["all the same: dead"].get_linestyle() != curves["at least one right"].get_linestyle()
    wrong, good = left.collections
    assert set(luck.all_wrong.tolist()) <= set(wrong.get_paths()[0].vertices[:, 1].tolist())
    assert {*luck.all_wrong.tolist(), *luck.dead.tolist()} <= set(good.get_paths()[0].vertices[:, 1].tolist())
    assert wrong.get_hatch() != good.get_hatch()
    assert list(right.get_lines()[0].get_ydata()) == luck.teaching
    dots = [(line.get_xdata()[0], line.get_ydata()[0]) for axes in (left, right) for line in axes.get_lines()[-1:]]
    assert dots == [(0.3, luck.dead_here), (5, 1 - luck.dead_here)]
    assert luck.teaching[5 - 2] == 1 - luck.dead_here, "the dot stands on the line"


def test_the_words_follow_the_controls():
    shown = dead_groups.explorer()
    shown.preset.value = "p 1 %, G 8"  # 0.99⁸ = 0.9227
    assert "one hit takes 100 completions on average" in shown.caption
    assert "7.7 % of the prompts have one among their 8." in shown.caption
    assert "92.3 % of the groups are dead, every advantage 0: 92.3 % all wrong, under 0.1 % all right" in shown.caption
    shown.preset.value = "p 95 %, G 8 (too easy)"  # 0.95⁸ = 0.6634
    assert "under 0.1 % all wrong, 66.3 % all right. The other 33.7 % of the prompts teach" in shown.caption
    shown.fields["num_generations"].value = 64  # 0.95⁶⁴ = 0.0375
    assert "3.8 % of the groups are dead" in shown.caption
