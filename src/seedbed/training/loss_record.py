"""The losses of the steps: their mean over an epoch, their curve, and the first step that diverged."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

# steps between two looks at the losses, for which the CPU waits for a GPU; a run that diverged stops at a look
CHECK_EVERY = 10
# a loss above this many times the first batch's loss (or 1, if that is larger) has left all bounds
OUT_OF_BOUNDS = 1e6


class LossRecord:
    """Counts steps, averages the losses of their batches, and finds the first step that diverged.

    A step diverged if its loss is not finite or has left all bounds (see OUT_OF_BOUNDS). shape: of a
    batch's losses; () for one, [M] for a stack of M members. Losses are kept as they are on the device and added up in
    the order of the steps, so no mean depends on when that is done.
    """

    def __init__(self, shape: tuple[int, ...] = ()):
        # optimiser steps of the run
        self.steps = 0
        # steps between two points of the curve; 0: no points
        self.every = 0
        # (step, mean losses since the point before): points that were not yet taken
        self._points: list[tuple[int, Any]] = []
        # sums since the last point: 0.0 before its first step, then floats, or arrays of the shape of the losses
        self._point_sums: Any = 0.0
        self._point_samples = 0
        # a greater loss has left all bounds; known after the first batch
        self._bound: Tensor | None = None
        self._diverged_at = torch.zeros(shape, dtype=torch.long)
        # (losses, samples) of each batch since the last step; (losses, samples, step) since they were added up
        self.window: list[tuple[Tensor, int]] = []
        self._batches: list[tuple[Tensor, int, int]] = []
        self._sums, self._samples = torch.zeros(shape, dtype=torch.float64), 0

    def add(self, losses: Tensor, samples: int) -> None:
        self.window.append((losses, samples))

    def end_step(self) -> bool:
        """Count a step, made with the batches since the last one; return whether to look at the losses now."""
        self.steps += 1
        for losses, samples in self.window:
            self._batches.append((losses, samples, self.steps))
        self.window.clear()
        return self.steps % CHECK_EVERY == 0

    def diverges_at(self) -> Tensor:
        """Add up the losses; return the first step that diverged, 0 if none did: int64 of the shape of the losses."""
        if self._batches:
            losses, samples, steps = zip(*self._batches, strict=True)
            self._batches.clear()
            # losses of S batches: [S, *shape]
            each = torch.stack(losses).cpu().double()
            rows = torch.tensor(samples, dtype=torch.float64)
            weighted = each * rows.view(-1, *[1] * (each.dim() - 1))
            self._sums = torch.cat([self._sums[None], weighted]).cumsum(0)[-1]
            self._samples += sum(samples)
            if self.every:
                self._add_points(each.tolist() if each.dim() == 1 else each.numpy(), samples, steps)
            if self._bound is None:
                self._bound = OUT_OF_BOUNDS * each[0].nan_to_num(1.0, 1.0).clamp(min=1.0)
            inside = each <= self._bound
            if not inside.all():
                first = torch.tensor(steps)[(~inside).int().argmax(0)]
                self._diverged_at = torch.where(~inside.all(0) & (self._diverged_at == 0), first, self._diverged_at)
        return self._diverged_at

    def _add_points(self, each: Iterable[Any], samples: Sequence[int], steps: Sequence[int]) -> None:
        for losses, count, step, following in zip(each, samples, steps, (*steps[1:], 0), strict=True):
            self._point_sums = self._point_sums + losses * count
            self._point_samples += count
            # a step may have several batches
            if step % self.every == 0 and step != following:
                self._end_point(step)

    def _end_point(self, step: int) -> None:
        self._points.append((step, self._point_sums / self._point_samples))
        self._point_sums, self._point_samples = 0.0, 0

    def take_points(self, ended: bool = False) -> list[tuple[int, Any]]:
        """Return the points since the last call. ended: the run is over, so its last steps make a point too."""
        self.diverges_at()
        if ended and self._point_samples:
            self._end_point(self.steps)
        points, self._points = self._points, []
        return points

    def means(self) -> Tensor | None:
        """Return the mean losses over the epoch's samples, None without a sample, and begin the next epoch."""
        self.diverges_at()
        means = self._sums / self._samples if self._samples else None
        self._sums, self._samples = torch.zeros_like(self._sums), 0
        self.window.clear()
        return means

    def mark_diverged(self, losses: Tensor) -> None:
        """Mark the last step as diverged where an epoch's `losses` have left all bounds and no step had before."""
        which = ~torch.isfinite(losses) if self._bound is None else ~(losses <= self._bound)
        self._diverged_at = torch.where((self._diverged_at == 0) & which, self.steps, self._diverged_at)

    def take(self, places: Tensor) -> None:
        """Keep only the members at `places`; called between two epochs."""
        self._sums, self._diverged_at = self._sums[places], self._diverged_at[places]
        if self._point_samples:
            self._point_sums = self._point_sums[places.numpy()]
        self._bound = self._bound if self._bound is None else self._bound[places]

    def state_dict(self) -> dict[str, Any]:
        self.diverges_at()
        curve = {"sums": torch.as_tensor(self._point_sums, dtype=torch.float64), "samples": self._point_samples}
        state = {"sums": self._sums, "samples": self._samples, "diverged_at": self._diverged_at, "window": self.window}
        return {**state, "curve": curve, "bound": self._bound}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums, self._samples = state["sums"].cpu(), state["samples"]
        self._diverged_at, self.window = state["diverged_at"].cpu(), list(state["window"])
        # checkpoints of earlier versions have neither curve nor bound
        curve = state.get("curve", {"sums": torch.tensor(0.0), "samples": 0})
        self._point_sums, self._point_samples = curve["sums"].cpu().numpy(), curve["samples"]
        self._bound = state.get("bound")
        self._bound = self._bound if self._bound is None else self._bound.cpu()
