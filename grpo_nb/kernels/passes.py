"""The three ways through the vocabulary. Each is a plain function without autograd, and none holds [N, V].

| pass        | what it gives                     | products, each 2NHV operations                                   |
|-------------|-----------------------------------|------------------------------------------------------------------|
| `direction` | log p, entropy and dlogp/dh       | 2: logits, directions. A gradient is then a row times a number   |
| `recompute` | gradients, after a `direction`    | 3: logits again, dX, dW                                          |
| `whole_rows`| log p, entropy, dX and dW at once | 3: logits, dX, dW; the loss of a chunk must not need other rows  |

All take rows that count (`rows`, indices into hidden) and touch no others.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from grpo_nb.kernels import heads
from grpo_nb.kernels import rows as torch_rows
from grpo_nb.kernels.heads import Head, add_outer, spans
from grpo_nb.kernels.rows import Running, Scores


class Gradients(NamedTuple):
    """At hidden [N, H], weight [V, H] and bias [V]; None where none was wanted."""

    hidden: Tensor | None
    weight: Tensor | None
    bias: Tensor | None

    @classmethod
    def zeros(cls, head: Head, hidden: Tensor, wants: tuple[bool, bool, bool]) -> "Gradients":
        """Weight and bias add up over all rows, so in the precision of sums; a row of hidden is written once.

        Not in float16, which a gradient leaves at the bottom before the loss's scale has reached it.
        """
        dtype = head.sums if hidden.dtype == torch.float16 else hidden.dtype
        return cls(
            torch.zeros_like(hidden, dtype=dtype) if wants[0] else None,
            torch.zeros_like(head.weight, dtype=head.sums) if wants[1] else None,
            torch.zeros_like(head.bias, dtype=head.sums) if wants[2] else None,
        )


def row_functions(backend: str, device: torch.device):
    """The module with `fold`, `exponentials` and `gradient`: `rows`, or `rows_triton` on a card that has Triton.

    Args:
        backend: "auto", "torch" or "triton".
    Raises: ValueError for another name, or Triton without a card; ImportError where Triton is asked for and missing.
    """
    if backend not in ("auto", "torch", "triton"):
        raise ValueError(f"backend must be 'auto', 'torch' or 'triton' (got {backend!r}). Try 'auto'.")
    if backend == "torch" or (backend == "auto" and device.type != "cuda"):
        return torch_rows
    try:
        from grpo_nb.kernels import rows_triton
    except ImportError as error:
        if backend == "auto":
            return torch_rows
        raise ImportError("backend='triton' needs the triton package (not installed). Try backend='torch'.") from error
    if device.type != "cuda" and not rows_triton.IS_INTERPRETED:
        raise ValueError(
            f"backend='triton' needs tensors on an NVIDIA card (got {device.type}). Try backend='auto'; to run the "
            "kernels on a CPU, slowly, set TRITON_INTERPRET=1 before triton is imported."
        )
    return rows_triton


def direction(
    head: Head, hidden: Tensor, targets: Tensor, rows: Tensor, out: Tensor | None, *, moment: bool, kernel, tile
) -> tuple[Running, Scores]:
    """Log p and entropy of each row, and (into `out`) the direction U = dlogp/dh, tile by tile.

    U = (1 − p) · k · (w_target − Σ q_v w_v), q the softmax over the others, k the logit's slope: an expectation of rows
    of the weight, so it can be summed up like the softmax's own denominator.

    Args:
        rows: which rows of hidden count, [M].
        out: [N, H], filled at `rows`, 0 elsewhere; may be `hidden` itself. None: no direction, half the products.
        kernel, tile: from `row_functions`, `heads.tile_shape`.
    Returns: sums and scores of the rows, [M] each.
    """
    if out is None and kernel is not torch_rows and head.dtype != torch.float64:
        from grpo_nb.kernels import forward_triton  # Triton is there: `kernel` is written in it

        return forward_triton.linear_scores(head, hidden, targets, rows, moment=moment)
    device, parts = hidden.device, []
    height, width = tile
    vocabulary = head.weight.shape[0]
    buffer = torch.empty(height * width, dtype=head.sums, device=device)
    if out is not None:
        out.index_fill_(0, _others(rows, len(hidden)), 0.0)
    for a, b in spans(len(rows), height):
        x, y = hidden[rows[a:b]].to(head.dtype), targets[rows[a:b]]
        running = Running.start(b - a, buffer)
        mean = None if out is None else buffer.new_zeros(b - a, hidden.shape[1])
        for start, end in spans(vocabulary, width):
            z = head.products(x, start, buffer[: (b - a) * (end - start)].view(b - a, end - start))
            shrink = kernel.fold(z, y, start, running, head.logit, moment=moment)
            if mean is not None:
                mean.mul_(shrink.unsqueeze(1))
                head.add_directions(torch_rows.times_softcap_slope(z, running, head.logit), start, mean)
        scored = torch_rows.scores(running)
        parts.append((running, scored))
        if mean is not None:
            at_target = torch_rows.target_softcap_slope(running, head.logit)
            own = head.weight[y].to(head.sums)
            own = own if isinstance(at_target, float) else own.mul_(at_target.unsqueeze(1))
            step = own.sub_(mean.div_(running.total.unsqueeze(1)))
            out[rows[a:b]] = step.mul_((scored.rest * head.logit.slope).unsqueeze(1)).to(out.dtype)
    return _joined(parts, buffer)


def recompute(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    rows: Tensor,
    known: tuple[Running, Scores],
    coefficients: tuple[Tensor, Tensor | None],
    wants: tuple[bool, bool, bool],
    *,
    kernel,
    tile,
) -> Gradients:
    """Gradients of Σ c·logp + e·entropy over the rows; the logits are computed a second time, tile by tile.

    Args:
        known: what `direction` returned for these rows.
        coefficients: c and e of each row, [M]; e may be None.
        wants: gradients at hidden, weight, bias?
    """
    (height, width), (running, scored), (c, e) = tile, known, coefficients
    grads = Gradients.zeros(head, hidden, wants)
    buffer = torch.empty(height * width, dtype=head.sums, device=hidden.device)
    for a, b in spans(len(rows), height):
        chosen = rows[a:b]
        x, y, sums = hidden[chosen].to(head.dtype), targets[chosen], running[a:b]
        chunk = Scores(*(values[a:b] for values in scored))
        step = buffer.new_zeros(b - a, hidden.shape[1]) if wants[0] else None
        for start, end in spans(head.weight.shape[0], width):
            z = head.products(x, start, buffer[: (b - a) * (end - start)].view(b - a, end - start))
            kernel.exponentials(z, y, start, sums, head.logit)
            kernel.gradient(z, y, start, sums, head.logit, chunk, c[a:b], None if e is None else e[a:b])
            _add(head, z, x, start, step, grads)
        if step is not None:
            grads.hidden[chosen] = step.to(grads.hidden.dtype)
    return grads


def whole_rows(
    head: Head,
    hidden: Tensor,
    targets: Tensor,
    rows: Tensor,
    coefficients_of: Callable[[slice, Scores], tuple[Tensor, Tensor | None]],
    wants: tuple[bool, bool, bool],
    *,
    kernel,
    height: int,
    inplace: bool = False,
) -> tuple[Scores, Gradients, int]:
    """Scores and gradients in one pass, a chunk of rows with all their logits at a time.

    Args:
        coefficients_of: what a chunk's loss is differentiated to, (slice of rows, scores) → c and e, [n] each. Rows
            where both are 0 take no part in the products that follow.
        inplace: write the gradient at hidden over hidden.
    Returns: scores, gradients, and how many rows were left out.
    """
    inplace = inplace and wants[0] and hidden.dtype != torch.float16
    grads, skipped, parts = Gradients.zeros(head, hidden, (wants[0] and not inplace, *wants[1:])), 0, []
    if inplace:
        grads = grads._replace(hidden=hidden)
        hidden.index_fill_(0, _others(rows, len(hidden)), 0.0)
    vocabulary = head.weight.shape[0]
    buffer = torch.empty(height * vocabulary, dtype=head.sums, device=hidden.device)
    for a, b in spans(len(rows), height):
        chosen = rows[a:b]
        x, y, running = hidden[chosen].to(head.dtype), targets[chosen], Running.start(b - a, buffer)
        z = head.products(x, 0, buffer[: (b - a) * vocabulary].view(b - a, vocabulary))
        kernel.fold(z, y, 0, running, head.logit, moment=True)
        scored = torch_rows.scores(running)
        parts.append((running, scored))
        if not any(wants):
            continue
        c, e = coefficients_of(slice(a, b), scored)
        if inplace:
            hidden[chosen] = 0.0
        live = (c != 0 if e is None else (c != 0) | (e != 0)).nonzero().flatten()
        skipped += b - a - len(live)
        if len(live) < b - a:
            z, x, y, chosen, running = z[live], x[live], y[live], chosen[live], running[live]
            c, e, scored = c[live], None if e is None else e[live], Scores(*(values[live] for values in scored))
        kernel.gradient(z, y, 0, running, head.logit, scored, c, e)
        step = buffer.new_zeros(len(live), hidden.shape[1]) if wants[0] else None
        _add(head, z, x, 0, step, grads)
        if step is not None:
            grads.hidden[chosen] = step.to(grads.hidden.dtype)
    return _joined(parts, buffer)[1], grads, skipped


def _add(head: Head, tile: Tensor, x: Tensor, start: int, step: Tensor | None, grads: Gradients) -> None:
    """What a tile of dL/dx adds to each gradient that is wanted."""
    end = start + tile.shape[1]
    if step is not None:
        head.add_directions(tile, start, step)
    if grads.weight is not None:
        add_outer(tile, x, grads.weight[start:end])
    if grads.bias is not None:
        grads.bias[start:end] += tile.sum(0)


def _others(rows: Tensor, n: int) -> Tensor:
    """The indices 0 … n − 1 that are not among `rows`."""
    dropped = torch.ones(n, dtype=torch.bool, device=rows.device)
    dropped[rows] = False
    return dropped.nonzero().flatten()


def _joined(parts: list[tuple[Running, Scores]], like: Tensor) -> tuple[Running, Scores]:
    if not parts:
        nothing = like.new_zeros(0)
        return Running.start(0, like), Scores(nothing, nothing, nothing)
    fields = ("top", "total", "moment", "target")
    sums = Running(*(torch.cat([getattr(running, name) for running, _ in parts]) for name in fields))
    return sums, Scores(*(torch.cat(values) for values in zip(*(scored for _, scored in parts), strict=True)))


def head_of(hidden: Tensor, weight: Tensor, bias: Tensor | None, logit) -> Head:
    """The head in the dtype that its products are computed in: autocast's, or the wider one of its inputs."""
    kind = hidden.device.type
    own = torch.promote_types(hidden.dtype, weight.dtype)
    dtype = torch.get_autocast_dtype(kind) if torch.is_autocast_enabled(kind) else own
    return heads.Head(weight, bias, logit, dtype)
