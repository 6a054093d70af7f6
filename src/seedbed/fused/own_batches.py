"""The first layer of members that each have a batch of their own, in compiled loops without the images' zeros.

With weights w [I, O], row c of which belongs to pixel c, an image's outputs are the sum of pixel · w[c] over its pixels
that are not 0, and its share of the gradient is pixel · (gradient of the outputs), added to row c. Both loops read the
image's list where the split keeps it (`Source.entries`): a batch is neither gathered nor made into lists, which took
longer than the products.

A row is one vector of WIDTH floats, four registers of AVX2. A member's rows are first copied to memory of exactly that
form, which stays in the core's cache, in blocks of WIDTH outputs; so the loops are compiled once, for any number of
outputs. numba compiles them. It is optional and its import takes a quarter of a second: import this file where it is
used.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic, models, register_model
from torch import Tensor

from seedbed.data.rows import Source

WIDTH = 32
VECTOR = ir.VectorType(ir.FloatType(), WIDTH)


class OwnBatches(torch.autograd.Function):
    """x [m, B, I] · weight [m, O, I] + bias [m, O] → [m, B, O], with x the images `rows` [m, B] of the source.

    gradient: the tensor to write the gradient by the weights into; it is laid out by `own_layout`, as `weight` is.
    """

    @staticmethod
    def forward(ctx, weight: Tensor, bias: Tensor | None, source: Source, rows: Tensor, gradient: Tensor | None):
        ctx.source, ctx.rows, ctx.gradient, ctx.bias = source, rows, gradient, bias is not None
        bias = weight.new_zeros(weight.shape[:2]) if bias is None else bias.detach()
        result = weight.new_empty(*rows.shape, weight.shape[1])
        multiply(*_arrays(source, rows), weight.detach().mT.numpy(), bias.numpy(), result.numpy())
        return result

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, output_gradient: Tensor):
        given = output_gradient.contiguous()
        add_gradient(*_arrays(ctx.source, ctx.rows), given.numpy(), ctx.gradient.mT.numpy())
        return ctx.gradient, given.sum(1) if ctx.bias else None, None, None, None


def _arrays(source: Source, rows: Tensor) -> tuple:
    """Return the first arguments of both loops."""
    scale = source.row_scale
    shift = torch.zeros_like(scale) if source.row_shift is None else source.row_shift
    # torch's memory begins where a line of the cache does
    memory = torch.zeros((len(scale) + 2) * WIDTH)
    tensors = (t.numpy() for t in (rows, scale, shift))
    return memory.numpy(), *source.entries, np.uint32(source.column_bit), *tensors


class RowType(types.Type):
    """WIDTH floats in registers."""


ROW = RowType("row")


@register_model(RowType)
class RowModel(models.PrimitiveModel):
    def __init__(self, manager, kind):
        super().__init__(manager, kind, VECTOR)


def _pointer(context, builder, array_type, array, row):
    data = context.make_array(array_type)(context, builder, array).data
    return builder.gep(builder.bitcast(data, VECTOR.as_pointer()), [row])


@intrinsic
def load(typing, memory, row):
    """Return row `row` of memory float32 [R · WIDTH]."""

    def generate(context, builder, signature, arguments):
        return builder.load(_pointer(context, builder, signature.args[0], *arguments), align=4)

    return ROW(memory, types.intp), generate


@intrinsic
def store(typing, memory, row, value):
    def generate(context, builder, signature, arguments):
        *place, value = arguments
        builder.store(value, _pointer(context, builder, signature.args[0], *place), align=4)
        return context.get_dummy_value()

    return types.void(memory, types.intp, ROW), generate


@intrinsic
def plus_times(typing, total, number, row):
    """Return total + number · row, rounded once where the processor can."""

    def generate(context, builder, signature, arguments):
        total, number, row = arguments
        first = builder.insert_element(ir.Constant(VECTOR, ir.Undefined), number, ir.IntType(32)(0))
        everywhere = ir.Constant(ir.VectorType(ir.IntType(32), WIDTH), [0] * WIDTH)
        numbers = builder.shuffle_vector(first, first, everywhere)
        fused = {"flags": ["contract"]}
        return builder.fadd(total, builder.fmul(numbers, row, **fused), **fused)

    return ROW(ROW, types.float32, ROW), generate


@njit(inline="always")
def pixel(entry):
    return np.float32(entry & np.uint32(255))


def compiled(loop: Callable) -> Callable:
    """Compile at the first call; the machine code is kept on disk if there is a folder for it."""
    try:
        return njit(nogil=True, cache=True)(loop)
    except RuntimeError:
        return njit(nogil=True)(loop)


@compiled
def multiply(memory, entries, begins, bit, images, scale, shift, weight, bias, result):
    """Write result [m, B, O] = x · weight [m, I, O] + bias [m, O], with x = pixels · scale − shift of images [m, B].

    memory: float32 [(I + 2) · WIDTH]. entries, begins: `Source.entries`. bit: the lowest of an entry's column. scale,
    shift: [I].
    """
    members, inputs, outputs = weight.shape
    spare = inputs * WIDTH
    for m in range(members):
        for first in range(0, outputs, WIDTH):
            width = min(WIDTH, outputs - first)
            memory[spare:] = 0
            memory[spare : spare + width] = bias[m, first : first + width]
            for c in range(inputs):
                for j in range(width):
                    memory[c * WIDTH + j] = weight[m, c, first + j] * scale[c]
                # an offset of all inputs is a term of rank one: (x − s) · w = x · w − s · w
                if shift[c] != 0:
                    for j in range(width):
                        memory[spare + j] -= weight[m, c, first + j] * shift[c]
            start, zero = load(memory, inputs), load(memory, inputs + 1)
            for b in range(images.shape[1]):
                image = entries[begins[images[m, b]] : begins[images[m, b] + 1]]
                # two sums, because each addition waits for the one before
                even, odd = start, zero
                for k in range(0, len(image) - 1, 2):
                    one, two = image[k], image[k + 1]
                    even = plus_times(even, pixel(one), load(memory, np.int64(one >> bit)))
                    odd = plus_times(odd, pixel(two), load(memory, np.int64(two >> bit)))
                if len(image) % 2:
                    one = image[len(image) - 1]
                    even = plus_times(even, pixel(one), load(memory, np.int64(one >> bit)))
                store(memory, inputs, plus_times(even, np.float32(1), odd))
                for j in range(width):
                    result[m, b, first + j] = memory[spare + j]


@compiled
def add_gradient(memory, entries, begins, bit, images, scale, shift, output_gradient, gradient):
    """Write the gradient of the weights, [m, I, O], from that of the outputs, [m, B, O].

    The other arguments are those of `multiply`.
    """
    members, inputs, outputs = gradient.shape
    spare = inputs * WIDTH
    for m in range(members):
        for first in range(0, outputs, WIDTH):
            width = min(WIDTH, outputs - first)
            memory[:] = 0
            total = load(memory, inputs)
            for b in range(images.shape[1]):
                for j in range(width):
                    memory[spare + j] = output_gradient[m, b, first + j]
                row = load(memory, inputs)
                total = plus_times(total, np.float32(1), row)
                for entry in entries[begins[images[m, b]] : begins[images[m, b] + 1]]:
                    c = np.int64(entry >> bit)
                    store(memory, c, plus_times(load(memory, c), pixel(entry), row))
            store(memory, inputs, total)
            for c in range(inputs):
                for j in range(width):
                    gradient[m, c, first + j] = memory[c * WIDTH + j] * scale[c] - memory[spare + j] * shift[c]
