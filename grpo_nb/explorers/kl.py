"""What do the three estimates of KL(π ‖ π_ref) say, and how hard do they pull?

Over tokens that the policy sampled, k1 and k3 average to the KL divergence; k2 does not. But a loss acts through its
slope, and the mean slope of k3 is that of the other divergence, KL(π_ref ‖ π). Multiplied by the ratio π/π_old, which
is differentiated too, it is that of KL(π ‖ π_ref), even over tokens that an older policy sampled. TRL does so unless
`use_bias_correction_kl` is False. See: DeepSeek-V3.2, arXiv:2512.02556, §3.1; Tang and Munos 2025, arXiv:2506.09477.
"""

import math
from dataclasses import dataclass

import torch
from matplotlib.figure import Figure
from torch import Tensor

from grpo_nb import losses, plots
from grpo_nb.explorers.panel import Choice, Number, Panel

REFERENCE = (2.0, 1.0, 0.0, -1.0, -2.0)  # logits of π_ref over a vocabulary of five tokens
DIRECTION = (-1.0, -0.5, 0.0, 0.5, 1.0)  # in which the policy leaves it: from the likely tokens to the unlikely
LOG_RATIOS = (-1.5, 1.5)  # nats, of the curves
REF_LOGP = -4.0  # nats, of their token; the policy's and the older policy's stay below 0
STYLES = {  # colour, line, width; k3 lies beneath, for at ratio 1 its corrected slope is that of k2
    "k1": (plots.OKABE_ITO["orange"], "--", 2),
    "k2": (plots.OKABE_ITO["green"], "-.", 2),
    "k3": (plots.COLOURS["policy"], "-", 4),
}


@dataclass(frozen=True)
class Estimates:
    """Estimates of one token, and of a whole distribution summed exactly. "k3" is TRL's term: corrected if that is on.

    Attributes:
        log_ratio: log(π/π_ref) of the token, [R].
        value: "k1", "k2", "k3" → nats, [R].
        slope: the same, differentiated by the token's log π, [R].
        kl: KL(π ‖ π_ref) of the distribution, in nats.
        mean: "k1", "k2", "k3" → mean over tokens sampled from π_old.
        kl_pull: ∂KL/∂logit, [V].
        pull: mean over tokens sampled from π_old of ∂k3/∂logit, [V].
        settings: what `compute` was given.
    """

    log_ratio: Tensor
    value: dict[str, Tensor]
    slope: dict[str, Tensor]
    kl: float
    mean: dict[str, float]
    kl_pull: Tensor
    pull: Tensor
    settings: dict


def compute(
    *,
    beta: float = 1.0,
    use_bias_correction_kl: bool = True,
    ratio: float = 1.0,
    shift: float = 1.5,
    drift: float = 0.0,
) -> Estimates:
    """Curves of one token, and means over a vocabulary of five.

    Args:
        ratio: π/π_old of the one token.
        shift: how far the policy has left the reference: nats that the last token's logit has gained, the first's lost.
        drift: how far of this it went since it sampled; where drift = shift, π_old is the reference.
    """
    settings = {"beta": beta, "use_bias_correction_kl": use_bias_correction_kl, "ratio": ratio, "drift": drift}
    log_ratio = torch.linspace(*LOG_RATIOS, 121, dtype=torch.float64)
    logps = (REF_LOGP + log_ratio).requires_grad_()
    old_logps, ref_logps = logps.detach() - math.log(ratio), torch.full_like(log_ratio, REF_LOGP)
    value = estimates(logps, ref_logps, old_logps, use_bias_correction_kl)
    slope = {name: torch.autograd.grad(values.sum(), logps)[0] for name, values in value.items()}
    reference, direction = (torch.tensor(numbers, dtype=torch.float64) for numbers in (REFERENCE, DIRECTION))
    logits = (reference + shift * direction).requires_grad_()
    policy, ref_logps = logits.log_softmax(0), reference.log_softmax(0)
    old_logps = (reference + (shift - drift) * direction).log_softmax(0)
    by_token = estimates(policy, ref_logps, old_logps, use_bias_correction_kl)
    mean = {name: (old_logps.exp() * values).sum() for name, values in by_token.items()}
    kl = (policy.exp() * (policy - ref_logps)).sum()  # the definition: a sum over the vocabulary, no sampling
    return Estimates(
        log_ratio,
        {name: values.detach() for name, values in value.items()},
        slope,
        kl.item(),
        {name: number.item() for name, number in mean.items()},
        torch.autograd.grad(kl, logits, retain_graph=True)[0],
        torch.autograd.grad(mean["k3"], logits)[0],
        settings,
    )


def estimates(logps: Tensor, ref_logps: Tensor, old_logps: Tensor, is_corrected: bool) -> dict[str, Tensor]:
    """k1, k2 and k3 of R tokens, [R]; k3 is `grpo_loss`'s own term, of R completions of one token each."""
    columns = {"old_logps": old_logps.unsqueeze(1), "ref_logps": ref_logps.unsqueeze(1)}
    ones = torch.ones_like(columns["old_logps"])
    settings = {"beta": 1.0, "use_bias_correction_kl": is_corrected}
    term = losses.grpo_loss(logps.unsqueeze(1), ones[:, 0], ones, **columns, **settings).kl
    return {"k1": losses.kl_k1(logps, ref_logps), "k2": losses.kl_k2(logps, ref_logps), "k3": term.squeeze(1)}


def figure(shown: Estimates, frame=plots.frame) -> Figure:
    """One token's estimates, their slopes times β, and the pull on every logit of a whole distribution."""
    drawing = frame(1, 3, points=8, left=0.07, wspace=0.25)
    left, middle, right = drawing.axes
    beta = shown.settings["beta"]
    for axes, curves, scale in [(left, shown.value, 1.0), (middle, shown.slope, beta)]:
        for name, (colour, style, width) in STYLES.items():
            axes.plot(shown.log_ratio, scale * curves[name], style, color=colour, linewidth=width, zorder=4 - width / 2)
        axes.set_ylim(*limits(*curves.values()))
        plots.plain(axes, xlabel="log π/π_ref, nats")
    places = range(1, len(shown.pull) + 1)
    hatched = {"color": "white", "edgecolor": plots.COLOURS["reference"], "hatch": "/////"}
    right.bar([i - 0.2 for i in places], (beta * shown.kl_pull).tolist(), 0.4, **hatched)
    right.bar([i + 0.2 for i in places], (beta * shown.pull).tolist(), 0.4, color=plots.COLOURS["policy"])
    right.set_xticks(places)
    right.set_ylim(*limits(shown.kl_pull, shown.pull))
    plots.plain(right, xlabel="token of five")
    for axes, title in [(left, "one token: nats"), (middle, "β · slope by log π"), (right, "mean: β · slope by logit")]:
        axes.axhline(0, color="0.6", linewidth=0.8, zorder=0)
        axes.set_title(title, fontsize=9, loc="left")
        axes.xaxis.label.set_size(9)
    names = [*(f"{name_of(shown, name)}: mean {mean:.3f}" for name, mean in shown.mean.items()), f"KL: {shown.kl:.3f}"]
    plots.key(drawing, dict(zip(names, [*left.get_lines()[:3], right.patches[0]], strict=True)))
    return drawing


def limits(*curves: Tensor) -> tuple[float, float]:
    """Ends of an axis on which all of these fit, and 0. They do not follow β, so that a small one shows as small."""
    values = torch.cat([*curves, torch.zeros(1)])
    margin = float(values.max() - values.min()) / 12 or 1.0
    return float(values.min()) - margin, float(values.max()) + margin


def name_of(shown: Estimates, name: str) -> str:
    return "k3 · ratio" if name == "k3" and shown.settings["use_bias_correction_kl"] else name


def caption(shown: Estimates) -> str:
    """The means against the divergence, and TRL's pull against its gradient, in words."""
    beta, is_on_policy = shown.settings["beta"], shown.settings["drift"] == 0
    means = ", ".join(f"{name_of(shown, name)} {mean:.3f}" for name, mean in shown.mean.items())
    if shown.settings["use_bias_correction_kl"]:
        followed = "KL(π ‖ π_ref)"
    else:
        followed = "KL(π_ref ‖ π) instead" if is_on_policy else "neither KL"
    wrong = beta * float((shown.pull - shown.kl_pull).abs().max())
    low, high = (f"{beta * float(shown.slope['k3'][end]):+.2f}" for end in (0, -1))
    sampler = "π" if is_on_policy else "an older policy"
    return (
        f"KL(π ‖ π_ref) is {shown.kl:.3f} nats; over tokens sampled from {sampler} the means are {means}. "
        f"On the five logits {name_of(shown, 'k3')} has the mean slope of {followed}: times β = {beta:g} it is at most "
        f"{wrong:.3f} away from that of KL(π ‖ π_ref). On one token, at ratio {shown.settings['ratio']:g}, it is {low} "
        f"where log π/π_ref is {LOG_RATIOS[0]:+g} and {high} where it is {LOG_RATIOS[1]:+g}."
    )


def explorer() -> Panel:
    """Controls: `beta`, `use_bias_correction_kl`; a token's ratio; how far the policy is from reference and sampler."""

    controls = {
        "beta": Number(1.0, 0.0, 1.0, 0.01),
        "use_bias_correction_kl": Choice(True, (True, False)),
        "ratio": Number(1.0, 0.2, 3.0, 0.1),
        "shift": Number(1.5, -4.0, 4.0, 0.1),
        "drift": Number(0.0, -2.0, 2.0, 0.1),
    }
    plain, stale = {"use_bias_correction_kl": False}, {"ratio": 1.6, "drift": 0.5}
    presets = {
        "on policy, corrected": {},
        "on policy, plain k3: the wrong pull": plain,
        "older samples, corrected": stale,
        "older samples, plain k3: wrong mean too": {**stale, **plain},
        "DeepSeekMath: plain k3, beta 0.04": {"beta": 0.04, **plain},
    }
    return Panel((compute, figure, caption), controls, presets)
