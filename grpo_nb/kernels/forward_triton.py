"""Log-probs and entropy without a gradient, for NVIDIA cards: no logit ever leaves the chip.

A program takes a block of rows [n, H] and walks through the vocabulary. A block of logits [n, v] is multiplied together
in registers, folded into four numbers for each row, and forgotten: the memory is that of the answers. It is the pass
for old and reference log-probs, and the first half of training a head. The sums are those of `rows.fold`.

Eight programs share a block of rows, each walks through an eighth of the vocabulary, and their sums are `merged`: a
softmax can be summed up in any order, and in parallel. On an H200 132 programs run at a time; so they work on 17 blocks
of rows and 8 of the weight, which fit into the cache, and not on 132 of rows, which do not. If rows are so few that
processors would be idle, more programs share a block.
"""

import torch
import triton
import triton.language as tl
from torch import Tensor

from grpo_nb.kernels import rows as torch_rows
from grpo_nb.kernels.heads import Head
from grpo_nb.kernels.rows import Running, Scores
from grpo_nb.kernels.rows_triton import IS_INTERPRETED, LOWEST, exp, logits, scales

DTYPES = {torch.float32: tl.float32, torch.bfloat16: tl.bfloat16, torch.float16: tl.float16}
SHARING = (8, 64)  # fewest and most programs that share a block of rows


def linear_scores(head: Head, hidden: Tensor, targets: Tensor, rows: Tensor, *, moment: bool) -> tuple[Running, Scores]:
    """Sums and scores of the rows, [M] each: what `passes.direction` returns where no direction is asked for.

    Args:
        head: in float32, bfloat16 or float16.
        hidden, targets: [N, H] and [N], in place; they are read through `rows`, nothing is copied.
        moment: whether the entropy is wanted.
    """
    generation, processors = _card(hidden.device)
    stored = max(hidden.element_size(), head.weight.element_size())
    options = blocks(head.dtype, stored, generation)
    groups = triton.cdiv(len(rows), options["BLOCK_N"])
    splits = split_count(groups, triton.cdiv(len(head.weight), options["BLOCK_V"]), processors)
    parts = torch.empty(4, splits, len(rows), dtype=torch.float32, device=hidden.device)  # [4, S, M]
    dtype, weight = DTYPES[head.dtype], head.weight
    if IS_INTERPRETED:  # it truncates where a card rounds, and multiplies the bits of bfloat16
        hidden, weight, dtype = hidden.to(head.dtype).float(), weight.to(head.dtype).float(), tl.float32
    inputs = (hidden, weight, None if head.bias is None else head.bias.contiguous(), targets.contiguous())
    options |= {"V": len(weight), "H": hidden.shape[1], "SPLITS": splits, "DTYPE": dtype}
    options |= {"CAPPED": bool(head.logit.softcap), "MOMENT": moment}
    strides = (*hidden.stride(), *weight.stride())
    chosen = (rows.contiguous(), parts, len(rows))
    with torch.cuda.device_of(hidden):
        _linear_scores[(groups * splits,)](*inputs, *chosen, *strides, *scales(head.logit), **options)
    running = merged(Running(*parts))
    return running, torch_rows.scores(running)


def merged(parts: Running) -> Running:
    """Sums over S parts of the vocabulary, [S, M] each, as sums over all of it, [M].

    >>> whole = torch.tensor([[1.0], [2.0]])
    >>> merged(Running(top=whole.log(), total=torch.ones(2, 1), moment=torch.zeros(2, 1), target=0 * whole)).total
    tensor([1.5000])
    """
    top = parts.top.amax(0)
    shrink = (parts.top - top).exp()
    moment = shrink * (parts.moment + (parts.top - top) * parts.total)
    return Running(top, (shrink * parts.total).sum(0), moment.sum(0), parts.target.sum(0))


def blocks(dtype: torch.dtype, stored: int, generation: int) -> dict[str, int]:
    """Sizes of the blocks of rows, vocabulary and hidden: as large as one processor's registers and memory hold.

    A product of blocks n × v × h takes (n + v) · h numbers from memory for n · v · h operations. While it runs, those
    of the next `num_stages` − 1 are fetched: (n + v) · width bytes each, of 227 KiB on Hopper, 99 on the smallest.

    Args:
        stored: bytes of a number in memory; under autocast it may have more than `dtype`.
        generation: of the card: 9 is Hopper (H100, H200), 8 Ampere, 7 Turing.
    """
    if dtype == torch.float32 or generation < 8:  # without tensor cores, which would round float32 to 10 bits
        n, v, width, warps, stages = 64, 64, 128, 4, 2
    elif generation == 9:
        n, v, width, warps, stages = 128, 256, 128, 8, 3
    else:
        n, v, width, warps, stages = 128, 128, 64, 8, 3
    return {"BLOCK_N": n, "BLOCK_V": v, "BLOCK_H": width // stored, "num_warps": warps, "num_stages": stages}


def split_count(groups: int, tiles: int, processors: int) -> int:
    """How many programs share each of `groups` blocks of rows: a power of two, for every number is compiled.

    >>> split_count(1280, tiles=501, processors=132), split_count(4, tiles=501, processors=132)
    (8, 64)
    """
    wanted = max(SHARING[0], 2 * processors // max(groups, 1))
    return 1 << min(wanted, tiles, SHARING[1]).bit_length() - 1


def _card(device: torch.device) -> tuple[int, int]:
    """(generation, processors); the interpreter passes for a small card."""
    if device.type != "cuda":
        return 8, 1
    card = torch.cuda.get_device_properties(device)
    return card.major, card.multi_processor_count


@triton.jit(do_not_specialize=["count"])
def _linear_scores(
    hidden, weight, bias, targets, rows, parts, count, hidden_row, hidden_column, weight_row, weight_column,
    inner: tl.float64, outer: tl.float64, V: tl.constexpr, H: tl.constexpr, SPLITS: tl.constexpr, DTYPE: tl.constexpr,
    CAPPED: tl.constexpr, MOMENT: tl.constexpr,
    BLOCK_N: tl.constexpr, BLOCK_V: tl.constexpr, BLOCK_H: tl.constexpr,
):  # fmt: skip
    group, split = tl.program_id(0) // SPLITS, tl.program_id(0) % SPLITS
    place = group.to(tl.int64) * BLOCK_N + tl.arange(0, BLOCK_N)  # [n], among the M rows
    row = tl.load(rows + place, mask=place < count, other=0)  # [n], among the N of hidden
    target = tl.load(targets + row).to(tl.int32)  # [n]
    x_rows = hidden + row[:, None] * hidden_row  # [n, 1], where rows begin, in 64 bits
    top = tl.full([BLOCK_N], LOWEST, tl.float32)
    total = tl.zeros([BLOCK_N], tl.float32)
    moment = tl.zeros([BLOCK_N], tl.float32)
    own = tl.zeros([BLOCK_N], tl.float32)  # the target's logit

    for first in range(0, V, BLOCK_V * SPLITS):
        column = first + split * BLOCK_V + tl.arange(0, BLOCK_V)  # [v], this program's part of the vocabulary
        inside = column < V
        w_rows = weight + column.to(tl.int64)[None, :] * weight_row  # [1, v]
        product = tl.zeros([BLOCK_N, BLOCK_V], tl.float32)
        for start in range(0, H, BLOCK_H):
            h = start + tl.arange(0, BLOCK_H)  # [h]
            x = tl.load(x_rows + h[None, :] * hidden_column, mask=h[None, :] < H, other=0.0)  # [n, h]
            w = tl.load(w_rows + h[:, None] * weight_column, mask=(h[:, None] < H) & inside[None, :], other=0.0)
            product = tl.dot(x.to(DTYPE), w.to(DTYPE), product, input_precision="ieee")  # [n, h] · [h, v]
        if bias is not None:
            b = tl.load(bias + column, mask=inside, other=0.0).to(tl.float32)
            product += tl.maximum(b, LOWEST, propagate_nan=tl.PropagateNan.ALL)[None, :]

        z = logits(product, inner, outer, CAPPED)  # [n, v]
        is_target = column[None, :] == target[:, None]
        own += tl.sum(tl.where(is_target, z, 0.0), 1)
        z = tl.where(is_target | ~inside[None, :], LOWEST, z)
        new_top = tl.maximum(top, tl.max(z, 1))
        shrink = exp(top - new_top)  # of all that was added up relative to the old top
        distance = z - new_top[:, None]
        e = exp(distance)
        if MOMENT:
            moment = shrink * (moment + (top - new_top) * total) + tl.sum(e * distance, 1)
        total = shrink * total + tl.sum(e, 1)
        top = new_top

    out = parts + split.to(tl.int64) * count + place  # parts [4, S, M]: top, total, moment, own
    apart = SPLITS * count.to(tl.int64)
    tl.store(out, top, mask=place < count)
    tl.store(out + apart, total, mask=place < count)
    tl.store(out + 2 * apart, moment, mask=place < count)
    tl.store(out + 3 * apart, own, mask=place < count)
