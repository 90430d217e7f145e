"""How often do all completions of a prompt earn the same, so that nothing is learned? P(dead) against p and G."""

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from grpo_nb import advantages, plots
from grpo_nb.explorers.panel import Number, Panel

SIZES = range(2, 65)  # num_generations of the right picture


@dataclass(frozen=True)
class Luck:
    """What a reward of 0 or 1 leaves to learn from, if every completion is right with probability p on its own.

    Attributes:
        chances: the p of the left picture, [C].
        dead: P(all G earn the same) at each, [C]; `all_wrong` is the part of it in which none is right.
        hit: P(at least one is right), [C].
        teaching: share of the prompts that teach at the chosen p, for each G in `SIZES`.
        p: the chosen one; `num_generations` the chosen G.
        dead_here, wrong_here, right_here: share of dead groups there, and its two parts.
    """

    chances: torch.Tensor
    dead: torch.Tensor
    all_wrong: torch.Tensor
    hit: torch.Tensor
    teaching: list[float]
    p: float
    num_generations: int
    dead_here: float
    wrong_here: float
    right_here: float


def compute(*, p: float = 0.1, num_generations: int = 8, points: int = 201) -> Luck:
    """`advantages.dead_probability` and `hit_probability`: over p for the chosen G, and over G for the chosen p.

    Args:
        p: probability that a completion is right.
        num_generations: G.
    """
    chances = torch.linspace(0, 1, points, dtype=torch.float64)
    hit = advantages.hit_probability(chances, num_generations)
    return Luck(
        chances,
        advantages.dead_probability(chances, num_generations),
        1 - hit,
        hit,
        [1 - advantages.dead_probability(p, size) for size in SIZES],
        p,
        num_generations,
        advantages.dead_probability(p, num_generations),
        1 - advantages.hit_probability(p, num_generations),
        1 - advantages.hit_probability(1 - p, num_generations),
    )


def figure(luck: Luck, frame=plots.frame) -> Figure:
    """Over p on the left, the dead groups in two hatched parts; over G on the right. A dot marks the chosen one."""
    drawing = frame(1, 2, wspace=0.27)
    left, right = drawing.axes
    for low, high, colour, hatch, label in [
        (torch.zeros_like(luck.dead), luck.all_wrong, plots.COLOURS["before"], "///", "all wrong"),
        (luck.all_wrong, luck.dead, plots.COLOURS["reward"], "\\\\\\", "all right"),
    ]:
        look = {"facecolor": "white", "edgecolor": colour, "hatch": hatch, "linewidth": 0.8}
        left.fill_between(luck.chances, low, high, label=label, **look)
    left.plot(luck.chances, luck.dead, color=plots.COLOURS["warning"], linewidth=2, label="all the same: dead")
    left.plot(luck.chances, luck.hit, "--", color=plots.COLOURS["policy"], linewidth=2, label="at least one right")
    right.plot(SIZES, luck.teaching, color=plots.COLOURS["loss"], linewidth=2)
    left.axvline(luck.p, color="0.5", linewidth=0.8, linestyle=":")
    for axes, x, y, colour in [
        (left, luck.p, luck.dead_here, plots.COLOURS["warning"]),
        (right, luck.num_generations, 1 - luck.dead_here, plots.COLOURS["loss"]),
    ]:
        axes.plot([x], [y], "o", color=colour, markersize=8, markeredgecolor="white", zorder=4)
        axes.set_ylim(-0.03, 1.05)
    plots.plain(left, xlabel="p: probability of a right completion", ylabel="share of prompts")
    plots.plain(right, xlabel="num_generations", ylabel="prompts that teach")
    right.set_xticks([2, 8, 16, 32, 64])
    left.set_title(f"num_generations = {luck.num_generations}: {_percent(luck.dead_here)} dead", fontsize=9, loc="left")
    right.set_title(f"p = {luck.p:.3g}: {_percent(1 - luck.dead_here)} teach", fontsize=9, loc="left")
    plots.key(drawing, {artist.get_label(): artist for artist in [*left.collections, *left.get_lines()[:2]]})
    return drawing


def caption(luck: Luck) -> str:
    """The chosen point in words: how long a hit takes, and what becomes of a batch."""
    return (
        f"A completion is right with p = {luck.p:.3g}: one hit takes {1 / luck.p:.4g} completions on average, and "
        f"{_percent(1 - luck.wrong_here)} of the prompts have one among their {luck.num_generations}. "
        f"{_percent(luck.dead_here)} of the groups are dead, every advantage 0: {_percent(luck.wrong_here)} all wrong, "
        f"{_percent(luck.right_here)} all right. The other {_percent(1 - luck.dead_here)} of the prompts teach "
        "(rewards of 0 or 1, each completion on its own)."
    )


def explorer() -> Panel:
    """Controls: the probability that a completion is right, and `num_generations`."""

    controls = {"p": Number(0.1, 0.001, 0.999, 0.001), "num_generations": Number(8, SIZES[0], SIZES[-1], 1)}
    presets = {
        "p 1 %, G 8": {"p": 0.01, "num_generations": 8},
        "p 1 %, G 64": {"p": 0.01, "num_generations": 64},
        "p 50 %, G 8": {"p": 0.5, "num_generations": 8},
        "p 95 %, G 8 (too easy)": {"p": 0.95, "num_generations": 8},
        "p 50 %, G 2 (too few)": {"p": 0.5, "num_generations": 2},
    }
    return Panel((compute, figure, caption), controls, presets)


def _percent(share: float) -> str:
    """A share with one decimal; never 0 or 100 %, which p within its bounds does not reach.

    >>> _percent(1e-20), _percent(0.57), _percent(0.99999)
    ('under 0.1 %', '57.0 %', 'over 99.9 %')
    """
    if share < 0.001:
        return "under 0.1 %"
    return "over 99.9 %" if share > 0.999 else f"{100 * share:.1f} %"
