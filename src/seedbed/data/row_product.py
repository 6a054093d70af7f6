"""The product of `Rows` with the weights of a first linear layer, and its gradient, without the images' zeros."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

import torch
from torch import Tensor

from seedbed.data.row_loops import WIDTHS, loops
from seedbed.data.rows import Source

# the rows [B] of a batch, and the slice of the networks at hand that see it
Piece = tuple[Tensor, slice]
# bytes
FLOAT = 4
MULTIPLY, ADD_GRADIENT = 0, 1


class RowLinear(torch.autograd.Function):
    """A linear layer on the images `rows` [B] of the source: x [B, I] · weight [O, I] + bias [O] → [B, O].

    weight: laid out in memory by `outputs_last`.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, bias: Tensor | None, source: Source, rows: Tensor) -> Tensor:
        ctx.weight, ctx.biased, ctx.source, ctx.rows = weight, bias is not None, source, rows
        result = weight.new_empty(len(rows), len(weight))
        _call(MULTIPLY, source, [rows], weight, _start(weight, bias, source), result)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, output_gradient: Tensor):
        given = output_gradient.contiguous()
        gradient, total = torch.empty_like(ctx.weight), given.new_empty(given.shape[1])
        _call(ADD_GRADIENT, ctx.source, [ctx.rows], gradient, total, given)
        return gradient, total if ctx.biased else None, None, None


class RowLinears(torch.autograd.Function):
    """The same for m networks: x [B, I] of each piece · weight [m, O, I] + bias [m, O] → [m, B, O].

    gradient: where the backward pass writes the weights' gradient; laid out in memory as `weight` is.
    """

    @staticmethod
    def forward(
        ctx, weight: Tensor, bias: Tensor | None, source: Source, pieces: Sequence[Piece], gradient: Tensor | None
    ) -> Tensor:
        ctx.source, ctx.runs, ctx.biased, ctx.gradient = source, _runs(weight, pieces), bias is not None, gradient
        result, start = weight.new_empty(len(weight), len(pieces[0][0]), weight.shape[1]), _start(weight, bias, source)
        for batches, members, size in ctx.runs:
            # [P, B, size·O]: the result itself, if size is 1
            out = result[members]
            flat = out if size == 1 else out.new_empty(len(batches), out.shape[1], size * out.shape[2])
            _call(MULTIPLY, source, batches, weight[members], start[members], flat)
            if size > 1:
                result[members] = flat.unflatten(2, (size, -1)).transpose(1, 2).flatten(0, 1)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, output_gradient: Tensor):
        given, gradient = output_gradient.contiguous(), ctx.gradient
        total = given.new_empty(len(given), given.shape[2])
        for batches, members, size in ctx.runs:
            # [P·size, B, O] → [P, B, size·O]
            flat = given[members].unflatten(0, (-1, size)).transpose(1, 2).flatten(2).contiguous()
            _call(ADD_GRADIENT, ctx.source, batches, gradient[members], total[members], flat)
        return gradient, total if ctx.biased else None, None, None, None


def outputs_last(weight: Tensor) -> Tensor:
    """Return weight [(M,) O, I], laid out in memory as [(M,) I, O]: each network by itself."""
    return weight.mT.contiguous().mT


def networks_last(weight: Tensor) -> Tensor:
    """Return weight [M, O, I], laid out as [I, M, O]: for networks that share batches and have few outputs."""
    return weight.permute(2, 0, 1).contiguous().permute(1, 2, 0)


def _runs(weight: Tensor, pieces: Sequence[Piece]) -> list[tuple[list[Tensor], slice, int]]:
    """Return (batches, networks, size) of consecutive pieces with `size` networks each, which are computed together.

    Only weights laid out by `networks_last` have several networks beside each other in memory.
    """
    if weight.stride(0) != weight.shape[1]:
        pieces = [(rows, slice(m, m + 1)) for rows, members in pieces for m in range(members.start, members.stop)]
    runs = []
    for size, equal in groupby(pieces, lambda piece: piece[1].stop - piece[1].start):
        batches, members = zip(*equal, strict=True)
        runs.append(([*batches], slice(members[0].start, members[-1].stop), size))
    return runs


def _start(weight: Tensor, bias: Tensor | None, source: Source) -> Tensor:
    """Return the outputs [(M,) O] for an image of zeros: bias − s · w, because (x − s) · w = x · w − s · w."""
    bias = weight.new_zeros(weight.shape[:-1]) if bias is None else bias
    return bias - weight @ source.shift if source.is_shifted else bias


def _call(which: int, source: Source, batches: Sequence[Tensor], weight: Tensor, bias: Tensor, out: Tensor) -> None:
    """Call one of the loops for P batches [B] with m/P networks each, for some columns at a time.

    weight: [(m,) O, I]; bias: [(m,) O]; out: [(P,) B, m/P · O], contiguous. `add_gradient` writes the first two. The
    loops take addresses: raises ValueError unless all is as they need it.
    """
    count, columns = out.shape[-2:]
    if weight.stride(-2) != 1 and weight.shape[-2] != 1:
        raise ValueError("the outputs of a network are not beside each other in memory")
    if {v.dtype for v in (weight, bias, out)} != {torch.float32} or weight.shape[-1] != len(source.scale):
        raise ValueError(f"weights are float32 [O, {len(source.scale)}]: got {weight.dtype} {[*weight.shape]}")
    if any(r.dtype != torch.int64 or not r.is_contiguous() or r.numel() != count for r in batches) or not count:
        raise ValueError(f"each batch has {count} rows, int64 and contiguous, and at least one")
    inputs, row, widest = weight.shape[-1], weight.stride(-1), WIDTHS[-1]
    # as few blocks of columns as possible, of nearly equal size: each size is compiled by itself
    block = -(-columns // -(-columns // widest))
    table = torch.empty(inputs * widest, dtype=torch.float32)
    read = table.data_ptr(), *source.addresses
    # from a batch's networks to the next one's, in floats
    apart = weight.stride(0) * (columns // weight.shape[-2]), columns, count * columns
    places = [v.data_ptr() for v in (weight, bias, out)]
    for p, rows in enumerate(batches):
        for first in range(0, columns, block):
            at = (place + FLOAT * (p * step + first) for place, step in zip(places, apart, strict=True))
            loops(min(columns - first, block))[which](*read, rows.data_ptr(), *at, inputs, count, row, columns)
