"""The language-model head as the engines see it: a matrix that is never multiplied with all rows at once."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from grpo_nb.kernels.rows import LOWEST, Logit

MIB = 2**20


@dataclass(frozen=True)
class Head:
    """h → logits: weight [V, H], bias [V] or None, and what a model does to a product before the softmax.

    Attributes:
        dtype: of the products' inputs: autocast's where it is on.
    """

    weight: Tensor
    bias: Tensor | None
    logit: Logit
    dtype: torch.dtype

    @property
    def sums(self) -> torch.dtype:
        """Of logits and sums: float32, float64 for float64."""
        return torch.float64 if self.dtype == torch.float64 else torch.float32

    def products(self, x: Tensor, start: int, out: Tensor) -> Tensor:
        """x · w + b for the vocabulary's columns start … start + v, [n, v], rounded to `sums` only.

        Args:
            x: rows of hidden states in `dtype`, [n, H].
            out: where they go, [n, v].
        """
        rows = self.weight[start : start + out.shape[1]]
        _multiply(x, rows.to(self.dtype).t(), out)
        if self.bias is not None:
            out.add_(self.bias[start : start + out.shape[1]].to(out.dtype).clamp(min=LOWEST))
        return out

    def add_directions(self, tile: Tensor, start: int, out: Tensor) -> None:
        """out += tile · W, over the columns of the tile: [n, v] · [v, H] → [n, H]."""
        _multiply(tile, self.weight[start : start + tile.shape[1]].to(self.dtype), out, add=True)


def _multiply(a: Tensor, b: Tensor, out: Tensor, *, add: bool = False) -> None:
    """out (+)= a · b: in the lower precision of the two where the card adds up in float32, else in `out`'s own."""
    low = a.dtype if a.dtype.itemsize < b.dtype.itemsize else b.dtype
    if out.is_cuda and low.itemsize < out.dtype.itemsize:
        options: dict = {"out_dtype": out.dtype}
        a, b = a.to(low), b.to(low)
    else:
        options = {}
        a, b = a.to(out.dtype), b.to(out.dtype)
    if add:
        torch.addmm(out, a, b, out=out, **options)
    else:
        torch.mm(a, b, out=out, **options)


def add_outer(tile: Tensor, x: Tensor, out: Tensor) -> None:
    """out += tileᵀ · x: what n rows add to the gradient of v rows of the weight, [v, H]."""
    _multiply(tile.t(), x, out, add=True)


def spans(count: int, width: int) -> Iterator[tuple[int, int]]:
    """(start, end) of slices of `width` of which the last may be shorter.

    >>> list(spans(5, 2))
    [(0, 2), (2, 4), (4, 5)]
    """
    return ((start, min(start + width, count)) for start in range(0, count, width))


def tile_shape(
    n: int, vocabulary: int, dtype: torch.dtype, *, tile_mib: float | None, on_cuda: bool
) -> tuple[int, int]:
    """(rows, columns) of the tiles of `linear_logps`, as large as `tile_mib` allows.

    The weight is read once for every chunk of rows, so chunks are high, about half as high as wide, and equally so;
    columns come in multiples of 64. More than 2,048 rows read the weight no more cheaply, and each brings some vectors
    [H] along. None: 2 MiB on a CPU, which stays in a core's cache, 128 MiB on a card.

    >>> tile_shape(416, 32_768, torch.float32, tile_mib=2, on_cuda=False)
    (416, 1216)
    """
    cells = max(1, int(_mib(tile_mib, 128 if on_cuda else 2) * MIB) // dtype.itemsize)
    rows = max(1, min(n, int((cells / 2) ** 0.5), 2048))
    rows = -(-n // -(-n // rows)) if n else 1
    columns = cells // rows
    return rows, max(1, min(vocabulary, columns - columns % 64 or columns))


def row_count(n: int, vocabulary: int, dtype: torch.dtype, *, tile_mib: float | None, on_cuda: bool) -> int:
    """Rows that have all their logits in a tile, for the fused engine. None: 16 MiB on a CPU, 512 MiB on a card.

    At least 4: a CPU's library sums the products of fewer rows in an order that rounds ten times as much.
    """
    rows = max(4, int(_mib(tile_mib, 512 if on_cuda else 16) * MIB) // (dtype.itemsize * vocabulary))
    rows = max(1, min(n, rows))
    return -(-n // -(-n // rows)) if n else 1


def _mib(given: float | None, usual: float) -> float:
    if given is not None and not given > 0:
        raise ValueError(f"tile_mib must be above 0, or None for {usual} MiB (got {given}). Try None.")
    return usual if given is None else given
