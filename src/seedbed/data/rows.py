"""Batches by reference: row numbers of images, which are read in place and without their zeros where that pays.

Four fifths of MNIST's pixels are 0, and a product that skips them is exact: a zero adds nothing. An image then is a
list of (column, pixel), and a batch of images times weights [I, O] is a batch of bags of embeddings: for each image,
`F.embedding_bag` adds up the rows of the weights that its columns name, each times its pixel. The gradient by the
weights is the same call on the transposed lists, which name for each column the images in which it is not 0. The
gradient [B, O] of the output then takes the place of the weights.
"""

from __future__ import annotations

from functools import cached_property
from typing import NamedTuple

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

# about how many columns of the dense matrix a call reads: 784 rows of 128 floats stay in a core's cache meanwhile
BLOCK = 128
# a list costs the same for any number of weight columns: skipping pays from LEAST_COLUMNS on, if at most the share
# MOST_FILLED of the pixels is not 0
LEAST_COLUMNS, MOST_FILLED = 256, 0.3


class Lists(NamedTuple):
    """A sparse matrix [R, C]: row r has values[k] in column columns[k], for offsets[r] ≤ k < offsets[r + 1]."""

    columns: Tensor
    offsets: Tensor
    values: Tensor

    def times(self, dense: Tensor) -> Tensor:
        """Return the product with `dense` [C, K], which may be a slice of a wider matrix: [R, K]."""
        return F.embedding_bag(
            self.columns,
            dense,
            self.offsets,
            mode="sum",
            per_sample_weights=self.values,
            include_last_offset=True,
        )


class Source:
    """The inputs of a split, uint8 [N, …] with I pixels each, which a model sees as pixels / divisor − shift."""

    def __init__(self, pixels: Tensor, divisor: Tensor | float, shift: Tensor | float):
        self.pixels = pixels.flatten(1)
        # [1, I] each where channels differ
        self.divisor, self.shift = (
            v.expand(pixels.shape[1:]).reshape(1, -1) if isinstance(v, Tensor) else v for v in (divisor, shift)
        )

    @cached_property
    def filled(self) -> float:
        """The share of pixels that are not 0, of 1,024 images spread over the split."""
        return (self.pixels[:: -(-len(self.pixels) // 1024)] != 0).float().mean().item()

    def skips(self, columns: int, rows: int) -> bool:
        """Return whether to skip zeros for weights [I, columns] on batches of so many rows."""
        fits = rows <= 1 << (self.column_bit - 8)
        return columns >= LEAST_COLUMNS and fits and self.is_sparse

    @property
    def is_sparse(self) -> bool:
        return self.filled <= MOST_FILLED

    @cached_property
    def row_shift(self) -> Tensor | None:
        """The shift of each input, [I]; None if it is 0."""
        if isinstance(self.shift, Tensor):
            return self.shift[0]
        return torch.full((self.pixels.shape[1],), self.shift) if self.shift else None

    @cached_property
    def row_scale(self) -> Tensor:
        """The number that multiplies each pixel, 1 / divisor: float32 [I]."""
        return (torch.ones(self.pixels.shape[1]) / self.divisor).flatten()

    @property
    def column_bit(self) -> int:
        return 32 - max(1, (self.pixels.shape[1] - 1).bit_length())

    @cached_property
    def entries(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the pixels that are not 0, image by image, and the place [N + 1] where each image's begin.

        An entry is one uint32: the column in its upper bits, the pixel in its lowest 8, between them room for a row.
        """
        pixels = self.pixels.numpy()
        places = np.flatnonzero(pixels)
        columns = (places % pixels.shape[1]).astype(np.uint32)
        begins = np.zeros(len(pixels) + 1, np.int64)
        np.cumsum((pixels != 0).sum(1), out=begins[1:])
        return columns << np.uint32(self.column_bit) | pixels.reshape(-1)[places], begins

    def lists(self, rows: Tensor) -> tuple[Lists, np.ndarray]:
        """Return the batch of these rows as lists, [B, I], and as entries with their rows in the batch."""
        entries, begins = self.entries
        images = rows.numpy()
        lengths = begins[images + 1] - begins[images]
        offsets = np.zeros(len(images) + 1, np.int64)
        np.cumsum(lengths, out=offsets[1:])
        # the place of each of the batch's entries among those of the split
        places = np.repeat(begins[images] - offsets[:-1], lengths)
        places += np.arange(len(places))
        batch = entries.take(places)
        batch |= np.repeat(np.arange(len(images), dtype=np.uint32) << np.uint32(8), lengths)
        return self._as_lists(batch >> np.uint32(self.column_bit), offsets, batch), batch

    def transposed(self, batch: np.ndarray) -> Lists:
        """Return the batch's lists as [I, B], column by column."""
        # the column stands in the upper bits, so that sorting the numbers sorts by column, then by row
        batch, bit = np.sort(batch), self.column_bit
        ends = (np.arange(1, self.pixels.shape[1], dtype=np.uint64) << np.uint64(bit)).astype(np.uint32)
        offsets = np.concatenate([[0], np.searchsorted(batch, ends), [len(batch)]])
        return self._as_lists(batch >> np.uint32(8) & np.uint32((1 << bit - 8) - 1), offsets, batch)

    def _as_lists(self, columns: np.ndarray, offsets: np.ndarray, batch: np.ndarray) -> Lists:
        values = torch.from_numpy((batch & np.uint32(255)).astype(np.float32))
        divisor = self.divisor
        if isinstance(divisor, Tensor):
            divisor = divisor[0, torch.from_numpy((batch >> np.uint32(self.column_bit)).astype(np.int64))]
        return Lists(
            torch.from_numpy(columns.view(np.int32)),
            torch.from_numpy(offsets.astype(np.int32)),
            values.div_(divisor),
        )


class Rows:
    """The inputs of a batch: rows [B] of a source, or [G, B], a batch for each group of a stack."""

    def __init__(self, source: Source, rows: Tensor):
        self.source, self.rows = source, rows

    def to(self, *args, **kwargs) -> Rows:
        """Return itself: Lightning moves batches to their device, and these stay."""
        return self
