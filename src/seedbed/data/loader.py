"""Batches of a data set in memory, in an order that follows from (seed, epoch)."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch
from torch import Tensor

from seedbed.data.rows import Rows, Source
from seedbed.data.splits import Split

# pixels that one call gathers and converts: several small batches at once, whose 1 MB of floats stays in the cache.
# On a GPU a call costs about the same for one batch and for many.
BLOCK, BLOCK_ON_GPU = 250_000, 2**26
# bytes of converted inputs that a loader keeps at most
KEPT = 2**26


class Order:
    """The order of N samples in an epoch; seed=None means the order of the data set. Lightning calls `set_epoch`."""

    def __init__(self, size: int, seed: int | None):
        self.size, self.seed, self.epoch = size, seed, 0

    def set_epoch(self, epoch: int) -> None:
        self.epoch = epoch

    def indices(self) -> Tensor:
        """Return a permutation, int64 [N]. It follows from (seed, epoch) alone, on every machine."""
        if self.seed is None:
            return torch.arange(self.size)
        # SeedSequence makes the generators of neighbouring (seed, epoch) pairs unrelated to each other and to torch's
        # own
        mixed = np.random.SeedSequence((self.seed, self.epoch)).generate_state(1)[0]
        return torch.randperm(self.size, generator=torch.Generator().manual_seed(int(mixed)))


class Orders(Order):
    """G orders, one for each seed: each group of a stack's members sees its own."""

    def __init__(self, size: int, seeds: Sequence[int | None]):
        super().__init__(size, None)
        self.orders = [Order(size, seed) for seed in seeds]

    def keep(self, which: Sequence[int]) -> None:
        """Keep these orders only, from the next pass on."""
        self.orders = [self.orders[i] for i in which]

    def indices(self) -> Tensor:
        """Return one permutation a row, int64 [G, N]."""
        for order in self.orders:
            order.set_epoch(self.epoch)
        return torch.stack([order.indices() for order in self.orders])


class Loader:
    """Yields batches (x float [B, C, H, W], y int64 [B]) of a split; x = pixels / divisor − shift.

    With a list of G seeds, batches are [G, B, …]: one in each of G orders.
    A batch of all ranks has world × batch_size samples, of which rank r gets every world-th. No sample is lost or
    repeated, and every rank has as many batches; in the last one, some ranks can have a sample less.
    The loader is stateful: after `load_state_dict`, a pass over the epoch of the saved state continues after the
    batches that were already given.
    source: if given, batches are `Rows` of it instead of floats. keep: convert the inputs in the first pass only, if
    they take at most KEPT bytes; for a set that keeps its order.
    Raises ValueError if the split is too small for a single batch.
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
        source: Source | None = None,
        keep: bool = False,
    ):
        self.x, self.y = split
        self.source = source
        self.sampler = Orders(len(self.y), seed) if isinstance(seed, list) else Order(len(self.y), seed)
        self.batch_sampler = None  # Lightning reads sampler and batch_sampler
        self.batch_size, self.drop_last = batch_size, drop_last
        self.divisor, self.shift = divisor, shift
        self.rank, self.world = rank, world
        self._state = {"epoch": 0, "position": 0}  # the current pass, and how many batches it has given
        self._resume: dict[str, int] | None = None
        self.keep = keep and source is None and 4 * self.x.numel() <= KEPT
        # position of a block → (its converted inputs, torch's count of their changes in place at that time)
        self._kept: dict[int, tuple[Tensor, int]] = {}
        if not len(self):
            devices = f" on {world} devices" if world > 1 else ""
            raise ValueError(
                f"data.batch_size={batch_size}{devices}: larger than the split of {len(self.y)} samples, and"
                " data.drop_last=true leaves out batches that are not full; lower it"
            )

    def __len__(self) -> int:
        whole, rest = divmod(len(self.y), self.batch_size * self.world)
        return whole + (rest > 0 and not self.drop_last)

    @property
    def per_rank(self) -> float:
        """The mean number of samples per rank in the latest batch."""
        step = self.batch_size * self.world
        return min(step, len(self.y) - (self._state["position"] - 1) * step) / self.world

    def state_dict(self) -> dict[str, int]:
        return dict(self._state)

    def load_state_dict(self, state: dict[str, int]) -> None:
        self._state = self._resume = dict(state)

    def convert(self, x: Tensor) -> Tensor:
        """Convert pixels to the floats that a model sees."""
        x = x.to(torch.get_default_dtype()).div_(self.divisor)
        return x if isinstance(self.shift, float) and self.shift == 0 else x.sub_(self.shift)

    def __iter__(self) -> Iterator[tuple[Tensor | Rows, Tensor]]:
        step, size = self.batch_size * self.world, self.batch_size
        if self.source:
            # made by this thread, before those that share the members ask for it
            _ = self.source.addresses
        resume, self._resume = self._resume, None  # the next pass starts at its first batch
        start = resume["position"] if resume and resume["epoch"] == self.sampler.epoch else 0
        state = self._state = {"epoch": self.sampler.epoch, "position": start}
        order = self.sampler.indices()[..., start * step : len(self) * step]
        mine = order[..., self.rank :: self.world].to(self.x.device)
        dim = mine.dim() - 1  # the dimension of the samples; with several orders, dimension 0 counts them
        # rows to a block: a multiple of the batch size; of rows that are not gathered, all
        pixels = 0 if self.source else self.x[0].numel()
        most = BLOCK if self.x.device.type == "cpu" else BLOCK_ON_GPU
        block = max(1, most // (size * pixels * mine[..., :1].numel() or 1)) * size
        for rows in mine.split(block, dim) if mine.numel() else ():  # an empty tensor would be split into one piece
            x = rows if self.source else self._inputs(rows, state["position"])
            y = self.y.index_select(0, rows.flatten()).view(rows.shape)
            for of_x, of_y in zip(x.split(size, dim), y.split(size, dim), strict=True):
                state["position"] += 1
                yield Rows(self.source, of_x) if self.source else of_x, of_y
        # where the last batch has fewer samples than there are ranks, this rank's share is an empty batch
        while state["position"] < len(self):
            state["position"] += 1
            rows = mine[..., :0]
            yield self._converted(rows), self.y[:0].view(rows.shape)

    def _inputs(self, rows: Tensor, position: int) -> Tensor:
        if not self.keep:
            return self._converted(rows)
        x, version = self._kept.get(position, (None, 0))
        # made anew if somebody has changed the floats of the first pass in place
        if x is None or x._version != version:
            # Lightning validates in inference mode, whose tensors have no versions
            with torch.inference_mode(False):
                x = self._converted(rows)
            self._kept[position] = x, x._version
        return x

    def _converted(self, rows: Tensor) -> Tensor:
        return self.convert(self.x.index_select(0, rows.flatten())).view(*rows.shape, *self.x.shape[1:])
