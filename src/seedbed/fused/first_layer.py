"""The first linear layer of a stack on a batch that is given by its row numbers, without the zeros."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from seedbed.data.rows import BLOCK, Lists, Source

# the rows [B] of a group's batch, and the slice of its members among those at hand
Piece = tuple[Tensor, slice]


def skipping_layout(weight: Tensor) -> Tensor:
    """Return weight [M, O, I], laid out in memory as [I, M, O]: a row holds the weights of one pixel in all members."""
    return weight.permute(2, 0, 1).contiguous().permute(1, 2, 0)


def own_layout(weight: Tensor) -> Tensor:
    """Return weight [M, O, I], laid out in memory as [M, I, O]: a row holds the weights of one pixel in one member."""
    return weight.mT.contiguous().mT


class FirstLayer(torch.autograd.Function):
    """x [B, I] of each piece · weight [m, O, I] + bias [m, O] → [m, B, O].

    gradient: the tensor to write the gradient by the weights into; like `weight`, a slice of the whole stack's, laid
    out by `skipping_layout`.
    """

    @staticmethod
    def forward(
        ctx, weight: Tensor, bias: Tensor | None, source: Source, pieces: Sequence[Piece], gradient: Tensor | None
    ) -> Tensor:
        ctx.source, ctx.pieces, ctx.gradient, ctx.batches, ctx.bias = source, pieces, gradient, [], bias is not None
        bias = weight.new_zeros(weight.shape[:2]) if bias is None else bias
        result = weight.new_empty(len(weight), len(pieces[0][0]), weight.shape[1])
        for rows, place in pieces:
            lists, batch = source.lists(rows)
            _multiply(source, lists, weight[place], bias[place], result[place])
            ctx.batches.append(batch)
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, output_gradient: Tensor):
        gradient, source = ctx.gradient, ctx.source
        for (_, place), batch in zip(ctx.pieces, ctx.batches, strict=True):
            _gradient(source, source.transposed(batch), output_gradient[place], gradient[place])
        return gradient, output_gradient.sum(1) if ctx.bias else None, None, None, None


def _blocks(weight: Tensor) -> Iterator[slice]:
    """Yield slices of members whose outputs together have about BLOCK columns."""
    size = max(1, round(BLOCK / weight.shape[1]))
    return (slice(a, a + size) for a in range(0, len(weight), size))


def _multiply(source: Source, lists: Lists, weight: Tensor, bias: Tensor, result: Tensor) -> None:
    # an offset of all inputs is a term of rank one: (x − s) · w = x · w − s · w
    if source.row_shift is not None:
        bias = bias - (weight @ source.row_shift)
    for members in _blocks(weight):
        # [I, n·O] → [B, n·O] → [n, B, O]
        product = lists.times(weight[members].permute(2, 0, 1).flatten(1))
        product = product.unflatten(1, (-1, weight.shape[1])).transpose(0, 1)
        torch.add(product, bias[members].unsqueeze(1), out=result[members])


def _gradient(source: Source, lists: Lists, output_gradient: Tensor, gradient: Tensor) -> None:
    for members in _blocks(gradient):
        # [n, B, O] → [B, n·O] → [I, n·O]
        dense = output_gradient[members].transpose(0, 1).flatten(1)
        product = lists.times(dense)
        if source.row_shift is not None:
            product.addr_(source.row_shift, dense.sum(0), alpha=-1)
        gradient[members].permute(2, 0, 1).flatten(1).copy_(product)
