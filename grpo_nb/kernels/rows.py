"""What is done to a tile of logits [n, v], row by row: fold it into running sums, or turn it into gradients. In torch.

A row's softmax needs the whole vocabulary, a tile holds a slice of it. The sums that make up for the rest are kept
relative to the largest logit so far and rescaled when a larger one comes (Milakov & Gimelshein 2018,
arXiv:1805.02867). The target's own logit is kept apart: log p = log σ(z_target − log Σ_others exp z) and
1 − p = −expm1(log p) are exact where p is nearly 1, and 1 − softmax is not. (So does unsloth_zoo.)

`rows_triton` has the same three functions for NVIDIA cards.
"""

import math
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import logsigmoid

LOWEST = -1e30  # a logit that weighs nothing; unlike −inf it can be multiplied by 0


class Logit(NamedTuple):
    """From a raw product x = h·w + b to the logit z = softcap · tanh(logit_scale · x / softcap) / temperature."""

    temperature: float = 1.0
    softcap: float | None = None
    logit_scale: float = 1.0

    @property
    def slope(self) -> float:
        """dz/dx without the softcap's 1 − tanh²."""
        return self.logit_scale / self.temperature


@dataclass
class Running:
    """Sums over the part of the vocabulary that has been seen, for n rows; in logits relative to `top`.

    Attributes:
        top: largest logit but for the target's, [n].
        total: Σ exp(z − top) over all but the target, [n].
        moment: Σ (z − top) · exp(z − top) over all but the target, [n]; for the entropy.
        target: the target's logit, [n].
    """

    top: Tensor
    total: Tensor
    moment: Tensor
    target: Tensor

    @classmethod
    def start(cls, n: int, like: Tensor) -> "Running":
        """Sums over nothing, in the dtype and on the device of `like`."""
        return cls(like.new_full((n,), LOWEST), *(like.new_zeros(n) for _ in range(3)))

    def __getitem__(self, rows) -> "Running":
        return Running(self.top[rows], self.total[rows], self.moment[rows], self.target[rows])


class Scores(NamedTuple):
    """What a row's sums say: log p of the target, 1 − p, entropy in nats; each [n]."""

    logps: Tensor
    rest: Tensor
    entropy: Tensor


def scores(running: Running) -> Scores:
    """Log-prob, remaining probability and entropy once the whole vocabulary has been folded in."""
    lead = running.target - running.top - running.total.log()  # over the log-sum of the others
    logps, log_rest = logsigmoid(lead), logsigmoid(-lead)
    rest = -torch.expm1(logps)
    among_others = running.total.log() - running.moment / running.total
    return Scores(logps, rest, rest * (among_others - log_rest) - logps.exp() * logps)


def fold(tile: Tensor, targets: Tensor, start: int, running: Running, logit: Logit, *, moment: bool) -> Tensor:
    """Add a tile's columns start … start + v to the sums; the tile becomes exp(z − top), 0 at the target.

    Args:
        tile: raw products, [n, v]; overwritten.
        targets: column of each row's target in the whole vocabulary, [n].
        running: sums so far; updated in place.
        moment: whether the entropy's sum is wanted.
    Returns: exp(old top − new top), [n]: what earlier exponentials must be multiplied by.
    """
    is_here, column = _target_columns(tile, targets, start)
    _to_logits(tile, logit)
    seen = tile.gather(1, column).squeeze(1)
    running.target.copy_(torch.where(is_here, seen, running.target))
    _set_targets(tile, is_here, column, LOWEST)
    top = torch.maximum(running.top, tile.amax(1))
    shrink = (running.top - top).exp()
    tile.sub_(top.unsqueeze(1))
    if moment:  # Σ e^d · d, shifted to the new top: (d + old − new) summed over the earlier columns
        earlier = shrink * (running.moment + (running.top - top) * running.total)
        distances = tile.clone()
        running.moment.copy_(earlier + distances.mul_(_exp(tile)).sum(1))
    else:
        _exp(tile)
    running.total.copy_(shrink * running.total + tile.sum(1))
    running.top.copy_(top)
    return shrink


def exponentials(tile: Tensor, targets: Tensor, start: int, running: Running, logit: Logit) -> None:
    """The tile of raw products becomes exp(z − top), 0 at the target, for sums that are complete already."""
    is_here, column = _target_columns(tile, targets, start)
    _to_logits(tile, logit)
    _set_targets(tile, is_here, column, LOWEST)
    _exp(tile.sub_(running.top.unsqueeze(1)))


def gradient(
    tile: Tensor,
    targets: Tensor,
    start: int,
    running: Running,
    logit: Logit,
    scored: Scores,
    coefficient: Tensor,
    entropy_coefficient: Tensor | None = None,
) -> None:
    """The tile of exp(z − top) becomes dL/dx, the gradient at the raw products.

    dL/dz_v = c (δ_v − p_v) − e p_v (log p_v + entropy), with c = dL/dlogp and e = dL/dentropy of the row.

    Args:
        coefficient: c, [n].
        entropy_coefficient: e, [n]; None: 0.
    """
    is_here, column = _target_columns(tile, targets, start)
    share = scored.rest / running.total  # of one unit of exp(z − top): its probability
    slope = _softcap_slope(tile.log().add_(running.top.unsqueeze(1)), logit) if logit.softcap else None
    at_target = coefficient * scored.rest
    if entropy_coefficient is None:
        tile.mul_((-coefficient * share).unsqueeze(1))
    else:
        log_p = tile.log().add_(share.log().unsqueeze(1)).clamp_(min=LOWEST)
        inner = log_p.add_(scored.entropy.unsqueeze(1)).mul_(entropy_coefficient.unsqueeze(1))
        tile.mul_(share.unsqueeze(1)).mul_(inner.add_(coefficient.unsqueeze(1))).neg_()
        at_target = at_target - entropy_coefficient * scored.logps.exp() * (scored.logps + scored.entropy)
    if slope is not None:
        tile.mul_(slope)
        at_target = at_target * _softcap_slope(running.target, logit)
    if logit.slope != 1.0:
        tile.mul_(logit.slope)
    _set_targets(tile, is_here, column, at_target * logit.slope)


def times_softcap_slope(tile: Tensor, running: Running, logit: Logit) -> Tensor:
    """Of exp(z − top): each times the softcap's slope, 1 − tanh², at its place; the tile itself without a softcap."""
    if not logit.softcap:
        return tile
    return tile.mul_(_softcap_slope(tile.log().add_(running.top.unsqueeze(1)), logit))


def target_softcap_slope(running: Running, logit: Logit) -> Tensor | float:
    """The softcap's slope at the targets, [n]; 1 without a softcap."""
    return _softcap_slope(running.target.clone(), logit) if logit.softcap else 1.0


def _to_logits(tile: Tensor, logit: Logit) -> None:
    if logit.softcap:
        tile.mul_(logit.logit_scale / logit.softcap).tanh_().mul_(logit.softcap / logit.temperature)
    elif logit.slope != 1.0:
        tile.mul_(logit.slope)


def _exp(tile: Tensor) -> Tensor:
    """exp in place, by way of 2^x: torch's exp2 takes a third of exp's time on a CPU, and a card has only that."""
    return tile.mul_(1 / math.log(2)).exp2_()


def _softcap_slope(z: Tensor, logit: Logit) -> Tensor:
    """1 − tanh² where the logits are z."""
    tanh = z * (logit.temperature / logit.softcap)
    return (1 - tanh * tanh).clamp(min=0.0)


def _target_columns(tile: Tensor, targets: Tensor, start: int) -> tuple[Tensor, Tensor]:
    """Whether each row's target lies in this tile, [n], and in which of its columns (any if it does not), [n, 1]."""
    column = targets - start
    is_here = (column >= 0) & (column < tile.shape[1])
    return is_here, column.clamp(0, tile.shape[1] - 1).unsqueeze(1)


def _set_targets(tile: Tensor, is_here: Tensor, column: Tensor, value: Tensor | float) -> None:
    old = tile.gather(1, column).squeeze(1)
    tile.scatter_(1, column, torch.where(is_here, value, old).to(tile.dtype).unsqueeze(1))
