"""Batches of a set that lies in memory: an index select and one conversion, in an order that is f(seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

from seedbed.data.digits import Split

BLOCK = 250_000  # pixels gathered and converted at once: fewer calls for small batches, and 1 MB of floats stays warm


class Order:
    """The order of N samples in an epoch; `seed=None` keeps the set's own. Lightning calls `set_epoch`."""

    def __init__(self, size: int, seed: int | None):
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def indices(self) -> Tensor:
        """int64 [N], a permutation that follows from (seed, epoch) alone, on every machine."""
        if self.seed is None:
            return torch.arange(self.size)
        # SeedSequence: neighbouring (seed, epoch) pairs get unrelated generators, and none meets torch's own
        mixed = np.random.SeedSequence((self.seed, self.epoch)).generate_state(1)[0]
        return torch.randperm(self.size, generator=torch.Generator().manual_seed(int(mixed)))


class Loader:
    """Iterates over (x float [B, C, H, W], y int64 [B]) of a split; x = pixels / divisor − shift.

    Rank r of `world` gets every world-th sample of each batch of world × batch_size: nothing is lost or repeated, and
    all ranks have equally many batches (a last batch can be one smaller on some). Stateful: after `load_state_dict` the
    pass of the epoch in which `state_dict` was taken goes on where it was.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int | None = None,
        drop_last: bool = False,
        divisor: Tensor | float = 255.0,
        shift: Tensor | float = 0.0,
        rank: int = 0,
        world: int = 1,
    ):
        self.x, self.y = split
        self.sampler, self.batch_sampler = Order(len(self.y), seed), None  # Lightning looks at both
        self.batch_size, self.drop_last = batch_size, drop_last
        self.divisor, self.shift = divisor, shift
        self.rank, self.world = rank, world
        self.position = 0  # batches given in this pass
        self._resume = {"epoch": -1, "position": 0}

    def __len__(self) -> int:
        whole, rest = divmod(len(self.y), self.batch_size * self.world)
        return whole + (rest > 0 and not self.drop_last)

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.sampler.epoch, "position": self.position}

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._resume, self.position = state, state["position"]

    def convert(self, x: Tensor) -> Tensor:
        """uint8 pixels to what a model sees."""
        x = x.to(torch.get_default_dtype()).div_(self.divisor)
        return x if isinstance(self.shift, float) and self.shift == 0 else x.sub_(self.shift)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        step, size = self.batch_size * self.world, self.batch_size
        self.position = self._resume["position"] if self._resume["epoch"] == self.sampler.epoch else 0
        self._resume = {"epoch": -1, "position": 0}  # a second pass begins at the beginning
        mine = self.sampler.indices()[self.position * step : len(self) * step][self.rank :: self.world].to(
            self.x.device
        )
        block = max(1, BLOCK // (size * self.x[0].numel())) * size
        for rows in mine.split(block):
            x, y = self.convert(self.x.index_select(0, rows)), self.y.index_select(0, rows)
            for batch in zip(x.split(size), y.split(size), strict=True):
                self.position += 1
                yield batch
        while self.position < len(self):  # the last batch had fewer samples than there are ranks
            self.position += 1
            yield self.convert(self.x[:0]), self.y[:0]
