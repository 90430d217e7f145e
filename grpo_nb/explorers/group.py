"""What advantages do these rewards give? One group of completions, or two that share a batch."""

from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from grpo_nb import advantages, plots
from grpo_nb.explorers.panel import Choice, Panel, Words, numbers_in

NOT_APPLICABLE = ("-", "none")  # typed for a reward that does not apply; NaN in the tensor
MOST = 16
NAMES = ("rewards", "other_rewards")
LOOKS = ({}, {"hatch": "//", "edgecolor": "white"})  # of the bars of each group
FLAT = 8  # with more bars than these the numbers on them are turned upright


@dataclass(frozen=True)
class Groups:
    """The groups of a batch, as typed.

    Attributes:
        rewards: for each group [G], NaN where a reward does not apply.
        advantages: for each group [G].
        means, stds: of the rewards of each group; NaN where there are too few.
        batch_std: of all rewards of all groups.
        scale_rewards: as in `advantages.group_advantages`.
        reasons: for each group why all its advantages are 0; empty if they are not.
    """

    rewards: list[torch.Tensor]
    advantages: list[torch.Tensor]
    means: list[float]
    stds: list[float]
    batch_std: float
    scale_rewards: str
    reasons: list[str]


def compute(*, rewards: str = "1 0 0 0", scale_rewards: str = "group", other_rewards: str = "") -> Groups:
    """The advantages of typed rewards: `advantages.group_advantages` of one or two groups.

    Args:
        other_rewards: those of a second prompt of the batch, as many as `rewards`; empty for none.
    Raises: ValueError for what is no number, for too few or too many, and for groups of two sizes.
    """
    typed = {"count": (2, MOST), "absent": NOT_APPLICABLE, "example": "1 0 0 1"}
    groups = [numbers_in(rewards, what="rewards", **typed)]
    if other_rewards.strip():
        groups.append(numbers_in(other_rewards, what="other_rewards", **typed))
    sizes = [len(group) for group in groups]
    if min(sizes) != max(sizes):
        raise ValueError(
            "other_rewards must be as many as rewards, for num_generations is the same for all prompts "
            f"(got {sizes[1]} and {sizes[0]}). Type {sizes[0]}, or none at all."
        )
    batch = torch.tensor(groups, dtype=torch.float64)  # [P, G]
    return Groups(
        list(batch),
        list(advantages.group_advantages(batch, scale_rewards=scale_rewards)),
        batch.nanmean(dim=1).tolist(),
        advantages.nan_std(batch, dim=1).flatten().tolist(),
        advantages.nan_std(batch.flatten(), dim=0).item(),
        scale_rewards,
        [_reason(group) for group in batch],
    )


def figure(groups: Groups, frame=plots.frame) -> Figure:
    """Rewards above, advantages beneath, a column for each group; the dashed line is the group's mean."""
    count = len(groups.rewards)
    drawing = frame(2, count, sharex=True, sharey="row", bottom=0.15, right=0.92)
    tops, bottoms = drawing.axes[:count], drawing.axes[count:]
    _bars(tops, groups.rewards, colour=plots.COLOURS["reward"], text="{:.3g}".format)
    _bars(bottoms, groups.advantages, colour=plots.COLOURS["policy"], text=_signed)
    for i, (top, bottom) in enumerate(zip(tops, bottoms, strict=True)):
        if (mean := groups.means[i]) == mean:  # not NaN
            top.axhline(mean, color=plots.COLOURS["loss"], linewidth=1, linestyle="--", zorder=1.5)
            top.annotate("mean", (1.01, mean), xycoords=("axes fraction", "data"), va="center", fontsize=8)
        plots.plain(top, ylabel="reward" * (i == 0))
        plots.plain(bottom, xlabel="completion", ylabel="advantage" * (i == 0))
        top.set_title(f"{NAMES[i]}: {_spread(groups, i)}", fontsize=8, loc="left")
        if groups.reasons[i]:
            bottom.text(0.5, 0.75, f"all 0: {groups.reasons[i]}", transform=bottom.transAxes, ha="center", fontsize=9)
    return drawing


def caption(groups: Groups) -> str:
    """Every number of the figure, and why a group teaches nothing."""
    said = []
    for i, (rewards, values) in enumerate(zip(groups.rewards, groups.advantages, strict=True)):
        line = ", ".join("none" if reward != reward else f"{reward:.3g}" for reward in rewards.tolist())
        gained = ", ".join(_signed(value) for value in values.tolist())
        said.append(f"{NAMES[i]} {line} ({_spread(groups, i)}) give advantages {gained}")
        said[-1] += f": the group teaches nothing, {groups.reasons[i]}. " * bool(groups.reasons[i]) or ". "
    if groups.scale_rewards == "none":
        divisor = "Distances from the group's mean are not divided."
    elif groups.scale_rewards == "group":
        divisor = "Distances from the group's mean are divided by its own std."
    else:
        alone = " (this group alone; type other_rewards to see a difference)" * (len(groups.rewards) == 1)
        divisor = f"Distances from the group's mean are divided by the batch's std, {_short(groups.batch_std)}{alone}."
    return "".join(said) + divisor


def explorer() -> Panel:
    """Controls: the rewards of a prompt's completions, `scale_rewards`, and the rewards of another prompt."""

    controls = {
        "rewards": Words("1 0 0 0"),
        "scale_rewards": Choice("group", ("group", "batch", "none")),
        "other_rewards": Words(""),
    }
    two = {"rewards": "1 1 1 0.9", "other_rewards": "0 0 1 0"}
    presets = {
        "one right out of four": {"rewards": "1 0 0 0"},
        "all wrong": {"rewards": "0 0 0 0"},
        "all right": {"rewards": "1 1 1 1"},
        "seven right, one wrong": {"rewards": "1 1 1 0 1 1 1 1"},
        "graded: 13 5 -2 -10": {"rewards": "13 5 -2 -10"},
        "one reward does not apply": {"rewards": "1 0 - 0"},
        "an easy and a hard group, by group": two,
        "an easy and a hard group, by batch": {**two, "scale_rewards": "batch"},
    }
    return Panel((compute, figure, caption), controls, presets)


def _reason(rewards: torch.Tensor) -> str:
    there = rewards[~rewards.isnan()]
    if len(there) < 2:
        return "fewer than two rewards"
    return "its rewards are equal" if there.min() == there.max() else ""


def _bars(row, groups: list[torch.Tensor], *, colour: str, text) -> None:
    """Bars with their numbers, one axes for each group, and room for the numbers above and below."""
    count = sum(len(values) for values in groups)
    heights = [[round(height, 6) for height in values.nan_to_num(0.0).tolist()] for values in groups]
    longest = {True: 0, False: 0}  # of the numbers above, and of those below
    behind = {"facecolor": "white", "edgecolor": "none", "alpha": 0.8, "pad": 0.5}
    for axes, values, height, look in zip(row, groups, heights, LOOKS, strict=False):
        places = range(1, len(values) + 1)
        labels = ["none" if value != value else text(value + 0.0) for value in values.tolist()]
        bars = axes.bar(places, height, 0.7, color=colour, **look)
        axes.bar_label(bars, labels, padding=2, fontsize=8, rotation=90 * (count > FLAT), bbox=behind)
        axes.axhline(0, color="0.6", linewidth=0.8)
        axes.set_xticks(places[:: 1 + (count > 2 * FLAT)])
        for label, tall in zip(labels, height, strict=True):
            longest[tall >= 0] = max(longest[tall >= 0], len(label))
    low, high = (pick(0.0, *map(pick, heights)) for pick in (min, max))
    high += high == low
    above, below = ((0.03 + 0.06 * size if count > FLAT else 0.2) * bool(size) for size in longest.values())
    shrink = min(1.0, 0.75 / (above + below))  # above and below are parts of the height, which is about an inch
    span = (high - low) / (1 - shrink * (above + below))
    row[0].set_ylim(low - shrink * below * span, high + shrink * above * span)


def _spread(groups: Groups, i: int) -> str:
    return f"mean {_short(groups.means[i])}, std {_short(groups.stds[i])}"


def _short(number: float) -> str:
    return "none" if number != number else f"{round(number, 9):.3g}"  # equal rewards may have a std of 1e-17


def _signed(number: float) -> str:
    """With its sign and two decimals; a plain 0 if it is none of both.

    >>> _signed(1.4997), _signed(-0.001)
    ('+1.50', '0')
    """
    return f"{number:+.2f}" if abs(number) >= 0.005 else "0"
