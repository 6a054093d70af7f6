"""Batches of a set that lies in memory: an index select and one conversion, in an order that is f(seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from seedbed.data.splits import Split

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


class Orders(Order):
    """One order for each of several seeds, as rows: a stack's members see one each."""

    def __init__(self, size: int, seeds: Sequence[int | None]):
        super().__init__(size, None)
        self.orders = [Order(size, seed) for seed in seeds]

    def keep(self, which: Sequence[int]) -> None:
        """Go on with these orders only, from the next pass."""
        self.orders = [self.orders[i] for i in which]

    def indices(self) -> Tensor:
        """int64 [G, N]."""
        for order in self.orders:
            order.set_epoch(self.epoch)
        return torch.stack([order.indices() for order in self.orders])


class Loader:
    """Iterates over (x float [B, C, H, W], y int64 [B]) of a split; x = pixels / divisor − shift.

    A list of G seeds gives [G, B, …]: a batch in each of G orders.
    Rank r of `world` gets every world-th sample of each batch of world × batch_size: nothing is lost or repeated, and
    all ranks have equally many batches (a last batch can be one smaller on some). Stateful: after `load_state_dict` the
    pass of the epoch in which `state_dict` was taken goes on where it was.
    """

    def __init__(
        self,
        split: Split,
        batch_size: int,
        seed: int | list[int | None] | None = None,
        drop_last: bool = False,
        divisor: Tensor | float = 255.0,
        shift: Tensor | float = 0.0,
        rank: int = 0,
        world: int = 1,
    ):
        self.x, self.y = split
        self.sampler = (Orders if isinstance(seed, list) else Order)(len(self.y), seed)
        self.batch_sampler = None  # Lightning looks at both
        self.batch_size, self.drop_last = batch_size, drop_last
        self.divisor, self.shift = divisor, shift
        self.rank, self.world = rank, world
        self._state = {"epoch": 0, "position": 0}  # the pass under way and the batches it has given
        self._resume: dict[str, int] | None = None

    def __len__(self) -> int:
        whole, rest = divmod(len(self.y), self.batch_size * self.world)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def per_rank(self) -> float:
        """Samples that a rank has, on average, of the batch given last."""
        step = self.batch_size * self.world
        return min(step, len(self.y) - (self._state["position"] - 1) * step) / self.world

    def state_dict(self) -> dict[str, int]:
        return dict(self._state)

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._state = self._resume = dict(state)

    def convert(self, x: Tensor) -> Tensor:
        """uint8 pixels to what a model sees."""
        x = x.to(torch.get_default_dtype()).div_(self.divisor)
        return x if isinstance(self.shift, float) and self.shift == 0 else x.sub_(self.shift)

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        step, size = self.batch_size * self.world, self.batch_size
        resume, self._resume = self._resume, None  # the pass after this one begins at the beginning
        start = resume["position"] if resume and resume["epoch"] == self.sampler.epoch else 0
        state = self._state = {"epoch": self.sampler.epoch, "position": start}
        order = self.sampler.indices()[..., start * step : len(self) * step]
        mine = order[..., self.rank :: self.world].to(self.x.device)
        dim = mine.dim() - 1  # of the samples; before it, that of several orders
        block = max(1, BLOCK // (size * self.x[0].numel() * mine[..., :1].numel() or 1)) * size
        for rows in mine.split(block, dim) if mine.numel() else ():  # split makes one piece of nothing
            x = self.convert(self.x.index_select(0, rows.flatten())).view(*rows.shape, *self.x.shape[1:])
            y = self.y.index_select(0, rows.flatten()).view(rows.shape)
            for batch in zip(x.split(size, dim), y.split(size, dim), strict=True):
                state["position"] += 1
                yield batch
        while state["position"] < len(self):  # the last batch had fewer samples than there are ranks
            state["position"] += 1
            rows = mine[..., :0]
            yield self.convert(self.x[:0]).view(*rows.shape, *self.x.shape[1:]), self.y[:0].view(rows.shape)
