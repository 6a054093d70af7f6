"""The losses of an epoch's batches, added up, and the number of optimiser steps."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

# steps between two looks at the losses, for which the CPU waits for a GPU: a run that diverges stops there
CHECK_EVERY = 10


class LossRecord:
    """Counts steps, sums the losses of an epoch's batches and finds the first step whose loss is not finite.

    shape: of a batch's losses; () for one, [M] for a stack of M members. Losses are kept as they are on the device and
    added up in the order of the steps, so the sum does not depend on when that is done.
    """

    def __init__(self, shape: tuple[int, ...] = ()):
        # optimiser steps of the run
        self.steps = 0
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
        """Add up; return the first step whose loss was not finite, 0 if all were: int64 of the shape of the losses."""
        if self._batches:
            losses, samples, steps = zip(*self._batches, strict=True)
            self._batches.clear()
            # losses of S batches: [S, *shape]
            each = torch.stack(losses).cpu().double()
            rows = torch.tensor(samples, dtype=torch.float64)
            weighted = each * rows.view(-1, *[1] * (each.dim() - 1))
            self._sums = torch.cat([self._sums[None], weighted]).cumsum(0)[-1]
            self._samples += sum(samples)
            # a sum stays nan or inf, so the batches are looked at only where it is
            if not torch.isfinite(self._sums).all():
                wrong = ~torch.isfinite(each)
                first = torch.tensor(steps)[wrong.int().argmax(0)]
                self._diverged_at = torch.where(wrong.any(0) & (self._diverged_at == 0), first, self._diverged_at)
        return self._diverged_at

    def means(self) -> Tensor | None:
        """Return the mean losses over the epoch's samples, None without a sample, and begin the next epoch."""
        self.diverges_at()
        means = self._sums / self._samples if self._samples else None
        self._sums, self._samples = torch.zeros_like(self._sums), 0
        self.window.clear()
        return means

    def mark_diverged(self, which: Tensor | bool) -> None:
        """Take the last step as the one that diverged, for losses that are not known to have diverged before."""
        self._diverged_at = torch.where((self._diverged_at == 0) & which, self.steps, self._diverged_at)

    def take(self, places: Tensor) -> None:
        """Go on with the members at `places` only, between two epochs."""
        self._sums, self._diverged_at = self._sums[places], self._diverged_at[places]

    def state_dict(self) -> dict[str, Any]:
        self.diverges_at()
        return {"sums": self._sums, "samples": self._samples, "diverged_at": self._diverged_at, "window": self.window}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        self._sums, self._samples = state["sums"].cpu(), state["samples"]
        self._diverged_at, self.window = state["diverged_at"].cpu(), list(state["window"])
