"""A ratio of each token or of the whole answer, and what is done with ratios that are too large?

TRL takes two ratios. π/π_old, of the policy to the one that sampled: `importance_sampling_level` makes it per token, or
the geometric *mean* over the answer (GSPO). And π_old over π as vLLM computed it, which corrects for another engine's
rounding and is kept within bounds by one of four modes: those of the sequence take the *product* over the answer, which
leaves any bounds if only the answer is long enough. The figure reads one line of log-ratios both ways.
"""

import math
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from matplotlib.ticker import LogLocator, MaxNLocator, NullLocator
from torch import Tensor

from grpo_nb import losses, plots
from grpo_nb.explorers.panel import Choice, Number, Panel, Words, numbers_in

LONGEST = 32  # tokens of a typed answer
LARGEST = 5.0  # nats, of a typed log-ratio; e⁵ = 148
MODES = ("token_truncate", "token_mask", "sequence_truncate", "sequence_mask")
OUTLIER = "0.1 -0.1 0 2 0.1 -0.1 0 0.05"


@dataclass(frozen=True)
class Ratios:
    """The ratios of one answer of T tokens.

    Attributes:
        token: exp of the typed log-ratios, [T].
        mean, product: geometric mean and product over the answer.
        importance: what multiplies each token's advantage, at the level that was chosen, [T].
        correction: what the vLLM mode multiplies each token's loss by, [T]; 0 is masked.
        bounds: (least, most) of the correction, None for none.
        tokens_within: the longest answer whose product stays within the bounds at this mean; None for any.
        level, mode: as given.
    """

    token: Tensor
    mean: float
    product: float
    importance: Tensor
    correction: Tensor
    bounds: tuple[float | None, float | None]
    tokens_within: int | None
    level: str
    mode: str


def compute(
    *,
    log_ratios: str = OUTLIER,
    importance_sampling_level: str = "token",
    vllm_importance_sampling_mode: str = "sequence_mask",
    vllm_importance_sampling_clip_max: float = 3.0,
    vllm_importance_sampling_clip_min: float = 0.0,
) -> Ratios:
    """What one line of log-ratios is worth as π/π_old, and as π_old over vLLM's π.

    Args:
        log_ratios: of the answer's tokens, in nats, typed with spaces between.
        vllm_importance_sampling_clip_max, vllm_importance_sampling_clip_min: 0 for none.
    Raises: ValueError if the line is not 1 to 32 numbers between −5 and 5, or the bounds are in the wrong order.
    """
    typed = numbers_in(
        log_ratios, what="log-ratios", count=(1, LONGEST), bounds=(-LARGEST, LARGEST), example="0.05 0 -0.05"
    )
    least, most = vllm_importance_sampling_clip_min or None, vllm_importance_sampling_clip_max or None
    if least and most and least > most:
        raise ValueError(f"clip_min must not be above clip_max (got {least:g} and {most:g}). Try 0 for none.")
    log_ratio = torch.tensor([typed], dtype=torch.float64)  # [1, T]
    ones, zeros = torch.ones_like(log_ratio), torch.zeros_like(log_ratio)
    mean = losses.importance_ratio(log_ratio, ones, level="sequence").item()
    product = losses.sampling_ratio(log_ratio, zeros, ones, mode="sequence_truncate", bounds=(None, None)).item()
    importance = losses.importance_ratio(log_ratio, ones, level=importance_sampling_level)
    correction = losses.sampling_ratio(log_ratio, zeros, ones, mode=vllm_importance_sampling_mode, bounds=(least, most))
    return Ratios(
        losses.importance_ratio(log_ratio, ones)[0],
        mean,
        product,
        importance.expand_as(ones)[0],
        correction.expand_as(ones)[0],
        (least, most),
        tokens_within(mean, least, most),
        importance_sampling_level,
        vllm_importance_sampling_mode,
    )


def tokens_within(mean: float, least: float | None, most: float | None) -> int | None:
    """The largest n for which meanⁿ stays within the bounds; None if every n does.

    >>> tokens_within(1.05, None, 3.0)  # 1.05²² = 2.93, 1.05²³ = 3.07
    22
    """
    bound = most if mean > 1 else least
    if bound is None or abs(math.log(mean)) < 1e-12:
        return None
    return max(0, math.floor(math.log(bound) / math.log(mean)))


def figure(ratios: Ratios, frame=plots.frame) -> Figure:
    """Each token's ratio as a bar from 1; what it is replaced by as a dot, or as a cross at the bottom for 0."""
    drawing = frame(1, 2, sharey=True, bottom=0.3, wspace=0.08)
    left, right = drawing.axes
    places, ends = range(1, len(ratios.token) + 1), span(ratios)
    left.axhline(ratios.mean, color=plots.OKABE_ITO["green"], linestyle="--", label=f"geometric mean {ratios.mean:.3g}")
    right.axhline(
        ratios.product, color=plots.OKABE_ITO["purple"], linestyle="-.", label=f"product {ratios.product:.3g}"
    )
    for bound in filter(None, ratios.bounds):
        right.axhline(bound, color=plots.COLOURS["warning"], linestyle=":", linewidth=2, label=f"bound {bound:g}")
    for axes, used in [(left, ratios.importance), (right, ratios.correction)]:
        axes.set_yscale("log")
        axes.set_ylim(*ends)
        axes.axhline(1, color="0.6", linewidth=0.8, zorder=0)
        bars = axes.bar(places, (ratios.token - 1).tolist(), 0.7, bottom=1, color="0.85", edgecolor="0.5")
        bars[0].set_label("token's ratio")
        axes.plot(
            places, used.where(used > 0, torch.nan), "o", color=plots.COLOURS["policy"], markersize=4, label="used"
        )
        masked = [place for place, factor in zip(places, used, strict=True) if factor == 0]
        bottom = {"transform": axes.get_xaxis_transform(), "color": plots.COLOURS["warning"]}
        axes.plot(masked, [0.06] * len(masked), "x", label="masked: 0", **bottom)
        axes.xaxis.set_major_locator(MaxNLocator(integer=True))
        axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5) if ends[1] < 1e4 * ends[0] else (1,)))
        axes.yaxis.set_major_formatter("{x:g}")
        axes.yaxis.set_minor_locator(NullLocator())
        axes.set_xlim(0.3, len(places) + 0.7)
    plots.plain(left, xlabel="token", ylabel="ratio", title=f"π / π_old: {ratios.level}")
    plots.plain(right, xlabel="token", title=f"π_old / π_vLLM: {ratios.mode}")
    named = {artist.get_label(): artist for artist in [*left.lines, *left.patches[:1], *right.lines]}
    plots.key(drawing, {name: artist for name, artist in named.items() if not name.startswith("_")})
    return drawing


def span(ratios: Ratios) -> tuple[float, float]:
    """Ends of a logarithmic axis on which every ratio fits."""
    shown = [*ratios.token.tolist(), ratios.mean, ratios.product, *filter(None, ratios.bounds), 0.5, 2.0]
    margin = (max(shown) / min(shown)) ** 0.06
    return min(shown) / margin, max(shown) * margin


def caption(ratios: Ratios) -> str:
    """Mean against product, and what is left of the answer, in words."""
    own = f"each by its own ratio, {ratios.token.min():.3g} to {ratios.token.max():.3g}"
    return (
        f"{len(ratios.token)} tokens: the geometric mean of their ratios is {ratios.mean:.3g}, the product "
        f"{ratios.product:.3g}. At the {ratios.level} level advantages are multiplied "
        f"{own if ratios.level == 'token' else f'all by the mean, {ratios.mean:.3g}'}. {left_over(ratios)}"
    )


def left_over(ratios: Ratios) -> str:
    """What the vLLM mode does to the answer, in a sentence."""
    names = [f"{name} {bound:g}" for name, bound in zip(("at least", "at most"), ratios.bounds, strict=True) if bound]
    mode, count = f"{ratios.mode} ({' and '.join(names) or 'no bounds'})", len(ratios.token)
    if ratios.mode.startswith("token"):
        changed = int((ratios.correction != ratios.token).sum())
        verb, where = ("cuts", " to the bound") if ratios.mode == "token_truncate" else ("masks", "")
        return f"{mode} {verb} {changed} of {count} tokens{where}; the others keep their own ratio."
    factor, longest = float(ratios.correction[0]), ratios.tokens_within
    leaves = "" if longest is None else f", which at this mean leaves the bounds after {longest} tokens"
    untrained = " and the answer is not trained" if factor == 0 else ""
    return f"{mode} takes the product{leaves}: every token's loss is multiplied by {factor:.3g}{untrained}."


def explorer() -> Panel:
    """Controls: the typed log-ratios, `importance_sampling_level`, vLLM's mode and its two bounds (0: none)."""

    controls = {
        "log_ratios": Words(OUTLIER),
        "importance_sampling_level": Choice("token", ("token", "sequence")),
        "vllm_importance_sampling_mode": Choice("sequence_mask", MODES),
        "vllm_importance_sampling_clip_max": Number(3.0, 0.0, 10.0, 0.1),
        "vllm_importance_sampling_clip_min": Number(0.0, 0.0, 1.0, 0.05),
    }
    sequence, truncate = {"importance_sampling_level": "sequence"}, {"vllm_importance_sampling_mode": "token_truncate"}
    presets = {
        "on policy": {"log_ratios": "0 0 0 0 0 0 0 0"},
        "one outlier token": {},
        "one outlier token: GSPO": sequence,
        "one outlier token: truncated": truncate,
        "long drift of +0.05 per token": {"log_ratios": " ".join(["0.05"] * 24)},
        "noise that cancels": {"log_ratios": " ".join(["0.4 -0.4"] * 8)},
    }
    return Panel((compute, figure, caption), controls, presets)
