"""Batches by reference: row numbers of images, which are read in place and without their zeros.

Four fifths of MNIST's pixels are 0, and a product that skips them is exact: a zero adds nothing. An image then is a
list of entries (column, pixel), and its product with weights [I, O] is the sum of pixel · (row `column` of the
weights). The image's share of the weights' gradient is pixel · (gradient of its outputs), added to row `column`.
`row_product.py` computes both. The lists are made once for a split, and a batch only names its images: it is neither
gathered nor converted to floats, which takes as long as a small network's products.
"""

from __future__ import annotations

from functools import cached_property
from importlib.util import find_spec

import numpy as np
import torch
from torch import Tensor

# skipping zeros pays if at most this share of the pixels is not 0
MOST_FILLED = 0.3
# From LEAST_IMAGES reads on (images × epochs; in stacks of 16 or more, × members), skipping saves more than the lists
# and the compilation cost (0.1 s); from batches of LEAST_BATCH on, it saves more than the calls for a batch cost.
LEAST_IMAGES, LEAST_BATCH = 200_000, 32
# the loops add up an image's entries in two sums, so its list has an even number of them
UNROLLED = 2
# images whose lists are made at a time, in the cache
BLOCK = 256


def can_be_compiled() -> bool:
    """Return whether the loops' compiler is installed; without it the product is dense."""
    return find_spec("llvmlite") is not None


class Source:
    """The inputs of a split, uint8 [N, …] with I pixels each, which a model sees as pixels / divisor − shift."""

    def __init__(self, pixels: Tensor, divisor: Tensor | float, shift: Tensor | float):
        self.pixels = pixels.flatten(1)
        zeros = torch.zeros(pixels.shape[1:], dtype=torch.float32)
        # the number that multiplies each pixel, and the shift: float32 [I] each
        self.scale, self.shift = (1 / (zeros + divisor)).flatten(), (zeros + shift).flatten()
        self.is_shifted = bool(self.shift.any())

    @cached_property
    def filled(self) -> float:
        """The share of pixels that are not 0, of 1,024 images spread over the split."""
        return (self.pixels[:: -(-len(self.pixels) // 1024)] != 0).float().mean().item()

    def pays(self, images: float, batch_size: int) -> bool:
        """Return whether to skip zeros in a training that reads so many images."""
        enough = images >= LEAST_IMAGES and batch_size >= LEAST_BATCH
        return enough and can_be_compiled() and self.filled <= MOST_FILLED

    @cached_property
    def entries(self) -> tuple[Tensor, Tensor]:
        """Return the entries of all images, 32 bits each, [E], and the place [N + 1] where each image's begin.

        An entry is column · 256 + pixel. An entry of 0, which adds nothing, fills an image's list up to an even number.
        """
        count, inputs = self.pixels.shape
        numbers, lengths = [], np.zeros(count + 1, np.int64)
        # one column more than pixels, where the entry of 0 comes from
        columns = np.append(np.arange(inputs, dtype=np.uint32) << np.uint32(8), np.uint32(0))
        for start in range(0, count, BLOCK):
            pixels = np.pad(self.pixels[start : start + BLOCK].numpy(), ((0, 0), (0, 1)))
            taken = pixels != 0
            taken[:, -1] = np.count_nonzero(taken, axis=1) % UNROLLED
            numbers.append((columns | pixels)[taken])
            lengths[start + 1 : start + 1 + len(pixels)] = np.count_nonzero(taken, axis=1)
        return torch.from_numpy(np.concatenate(numbers).view(np.int32)), torch.from_numpy(np.cumsum(lengths))

    @cached_property
    def addresses(self) -> tuple[int, ...]:
        """The addresses of scale, shift and entries, for the compiled loops."""
        return tuple(v.data_ptr() for v in (self.scale, self.shift, *self.entries))


class Rows:
    """The inputs of a batch: rows [B] of a source, or [G, B], a batch for each group of a stack."""

    def __init__(self, source: Source, rows: Tensor):
        self.source, self.rows = source, rows

    def to(self, *args, **kwargs) -> Rows:
        """Return itself: Lightning moves batches to their device, and these stay."""
        return self
