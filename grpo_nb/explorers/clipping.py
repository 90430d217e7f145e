"""Which ratios to the old policy still teach? The objective of one token, and its gradient, under every loss type."""

import functools
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure

from grpo_nb import losses, plots
from grpo_nb.explorers.panel import Choice, Number, Panel

OLD_LOGP = -1.0  # nats: of the token when it was sampled; the ratios keep its log-prob below 0 (e^-1 · 2.5 < 1)
RATIOS = (0.05, 2.5)
CISPO_CAP = 5.0  # what TRL's docs recommend as epsilon_high for cispo, after ScaleRL, arXiv:2510.13786
STYLES = {
    "grpo": (plots.COLOURS["policy"], "-"),
    "cispo": (plots.OKABE_ITO["red"], "--"),
    "sapo": (plots.OKABE_ITO["green"], "-."),
    "vespo": (plots.OKABE_ITO["purple"], ":"),
}


@dataclass(frozen=True)
class Curves:
    """Objective and gradient of one token against its ratio, for each family of losses.

    Attributes:
        ratio: ρ, [R].
        objective: loss type → −loss of the token, [R]. "grpo" stands for the five that clip alike.
        gradient: loss type → its derivative by log πθ(token), [R]: what the update does with the token.
        advantage: A; `low` and `high` are the ends of the clip interval, `cap` is that of cispo's ratio.
    """

    ratio: torch.Tensor
    objective: dict[str, torch.Tensor]
    gradient: dict[str, torch.Tensor]
    advantage: float
    low: float
    high: float
    cap: float


def compute(
    *,
    advantage: float = 1.0,
    epsilon: float = 0.2,
    epsilon_high: float = 0.2,
    delta: float = 0.0,
    points: int = 246,
    loss_types: tuple[str, ...] = tuple(STYLES),
) -> Curves:
    """A token's objective and gradient for `points` ratios: `losses.grpo_loss` of that many one-token completions.

    Args:
        epsilon_high: cispo takes it for the cap of its ratio, and is drawn with `CISPO_CAP` where it is below 1: such a
            cap, as TRL's default is, would cut even a token whose ratio is 1.
        delta: 0 for none.
        loss_types: which of `STYLES` are drawn.
    """
    ratio = torch.linspace(*RATIOS, points, dtype=torch.float64)
    old = torch.full((points, 1), OLD_LOGP, dtype=torch.float64)
    objective, gradient, cap = {}, {}, epsilon_high if epsilon_high >= 1 else CISPO_CAP
    for loss_type in loss_types:
        logps = (old + ratio.log().unsqueeze(1)).requires_grad_()
        result = losses.grpo_loss(
            logps,
            torch.full((points,), advantage, dtype=torch.float64),
            torch.ones(points, 1),
            old_logps=old,
            loss_type=loss_type,
            epsilon=epsilon,
            epsilon_high=cap if loss_type == "cispo" else epsilon_high,
            delta=delta or None,
        )
        objective[loss_type] = -result.per_token.detach().squeeze(1)
        gradient[loss_type] = -torch.autograd.grad(result.per_token.sum(), logps)[0].squeeze(1)
    return Curves(ratio, objective, gradient, advantage, 1 - epsilon, 1 + epsilon_high, cap)


def figure(curves: Curves, frame=plots.frame) -> Figure:
    """Objective on the left, gradient on the right; the clip interval is shaded."""
    drawing = frame(1, 2, wspace=0.27)
    left, right = drawing.axes
    for axes, values, name in [(left, curves.objective, "objective"), (right, curves.gradient, "gradient by log π")]:
        axes.axvspan(curves.low, curves.high, color="0.92", zorder=0)
        axes.axhline(0, color="0.6", linewidth=0.8)
        for loss_type, line in values.items():
            colour, style = STYLES[loss_type]
            axes.plot(curves.ratio, line, style, color=colour, linewidth=2, label=loss_type)
        axes.set_xlim(0, RATIOS[1])
        plots.plain(axes, xlabel="ratio ρ = π / π_old", ylabel=name)
    left.set_title(f"A = {curves.advantage:+g}", fontsize=11, loc="left")
    names = [", ".join(losses.CLIPPED) if name == "grpo" else name for name in curves.objective]
    plots.key(drawing, dict(zip(names, left.get_lines()[1:], strict=True)))
    return drawing


def caption(curves: Curves) -> str:
    """Where the clipped losses stop teaching, in words."""
    ends = [f"{low:.2f} to {high:.2f}" for low, high in without_gradient(curves)]
    at_one = int((curves.ratio - 1).abs().argmin())
    slopes = [f"{name} {float(values[at_one]):+.2f}" for name, values in curves.gradient.items()]
    said = (
        f"A token with advantage {curves.advantage:+g}; clip interval {curves.low:.2f} to {curves.high:.2f}, shaded. "
        f"The five clipped losses have no gradient for ratios {' and '.join(ends) or '(none of these)'}. "
        f"At ratio 1 the gradient is {', '.join(slopes)}."
    )
    if "cispo" not in curves.gradient:
        return said
    cap = f" cispo caps its ratio at {curves.cap:g}"
    if curves.cap != curves.high - 1:
        cap += f", as TRL recommends, not at epsilon_high = {curves.high - 1:.2g}, which a run takes unless you set it"
    return f"{said}{cap}. (The values of cispo and vespo only carry their gradient.)"


def without_gradient(curves: Curves) -> list[tuple[float, float]]:
    """The intervals of ratios, of those drawn, at which a clipped loss has gradient zero."""
    flat = (curves.gradient["grpo"] == 0).tolist()
    starts = [i for i, is_flat in enumerate(flat) if is_flat and (i == 0 or not flat[i - 1])]
    ends = [i for i, is_flat in enumerate(flat) if is_flat and (i == len(flat) - 1 or not flat[i + 1])]
    return [(float(curves.ratio[start]), float(curves.ratio[end])) for start, end in zip(starts, ends, strict=True)]


def explorer(*loss_types: str) -> Panel:
    """Controls: the sign of the advantage, `epsilon`, `epsilon_high`, `delta` (0: none).

    Args:
        loss_types: the lines drawn, of `STYLES`; "grpo" is always one. All of them where none is named.
    """
    drawn = tuple(name for name in STYLES if not loss_types or name in {"grpo", *loss_types})

    controls = {
        "advantage": Choice(1.0, (1.0, -1.0)),
        "epsilon": Number(0.2, 0.0, 0.9, 0.02),
        "epsilon_high": Number(0.2, 0.0, 5.0, 0.02),
        "delta": Number(0.0, 0.0, 4.0, 0.1),
    }
    presets = {
        "TRL's defaults": {},
        "a bad token: A < 0": {"advantage": -1.0},
        "DAPO: clip higher": {"epsilon_high": 0.28},
        "two-sided: delta 1.5, A < 0": {"advantage": -1.0, "delta": 1.5},
    }
    if "cispo" in drawn:
        presets["CISPO: cap at 2"] = {"epsilon_high": 2.0}
    return Panel((functools.partial(compute, loss_types=drawn), figure, caption), controls, presets)
