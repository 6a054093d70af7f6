"""The records of a stack's members: what their solo runs' history, curves and metrics.json would hold."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import torch

from seedbed.fused.events import Points
from seedbed.fused.stack import Stack
from seedbed.metrics import ACCURACY_BY_CLASS, LR, TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS
from seedbed.training.logger import over_epochs, thinned

Values = dict[str, float]
# wall time, step, values
Curve = list[tuple[float, int, Values]]


class MemberRecords:
    """The metrics of a trained stack by member. steps: the run's number of steps at the end of each epoch."""

    def __init__(self, stack: Stack, steps: Sequence[int]):
        self._stack, self._steps = stack, list(steps)
        self._untrained, *self._history = [
            {name: values.tolist() for name, values in epoch.items()} for epoch in (stack.untrained, *stack.history)
        ]
        self._tested = {name: v.tolist() for name, v in stack.metrics.items() if name.startswith("test/")}
        # epochs that each member trained, [M]
        self.epochs = torch.where(stack.ended_at < 0, len(stack.history), stack.ended_at + 1)
        # [P] steps, [2, M, P] losses and lr
        self._point_steps = np.array([step for step, _, _ in stack.points], dtype=np.int64)
        values = [torch.stack(point[1:]) for point in stack.points] or [torch.empty(2, stack.members)]
        self._point_values = torch.stack(values, -1).numpy()[..., : len(stack.points)]

    def _epochs(self, i: int) -> Iterable[tuple[int, float, int, Values]]:
        """Yield (epoch, wall time, step, metrics) of member i, from 0 on."""
        first = [(self._stack.began, 0, self._untrained)] if self._untrained else []
        trained = zip(self._stack.wall_times, self._steps, self._history, strict=False)
        start = 1 - len(first)
        for epoch, (wall, step, values) in enumerate([*first, *trained][: int(self.epochs[i]) + len(first)], start):
            yield epoch, wall, step, {name: each[i] for name, each in values.items()}

    def rows(self, i: int, share: float) -> list[dict[str, Any]]:
        """Return the rows of history.csv. share: seconds that a member's epoch took."""
        return [{"epoch": e, **values, "seconds": round(share * e, 6)} for e, _, _, values in self._epochs(i)]

    def metrics(self, i: int, share: float) -> dict[str, Any]:
        """Return what metrics.json holds, without the seed. share: seconds that a member's epoch took."""
        stack, epochs = self._stack, int(self.epochs[i])
        last = {name: values[i] for name, values in self._history[epochs - 1].items()}
        metrics = {
            "status": "diverged" if stack.diverged[i] else "completed",
            **({"diverged_at": int(stack.diverged_at[i])} if stack.diverged[i] else {}),  # type: ignore[index]
            **({"stopped": "halving"} if stack.dropped[i] else {}),
            **{name: last.get(name) for name in (VAL_LOSS, VAL_ACCURACY, TRAIN_LOSS, LR)},
            **{name: values[i] for name, values in self._tested.items()},
        }
        if stack.accuracy_by_class is not None:
            metrics[ACCURACY_BY_CLASS] = stack.named(stack.accuracy_by_class[i])
        effort = {"epochs": epochs, "steps": self._steps_of(i), "fit_seconds": round(share * epochs, 6)}
        return {**metrics, **effort}

    def _steps_of(self, i: int) -> int:
        return max(int(self._stack.ended_steps[i]), 0) or self._steps[int(self.epochs[i]) - 1]

    def logged(self, metrics: dict[str, Any]) -> Values:
        """Return those of a member's metrics that have a curve."""
        return {name: metrics.get(name) for name in {**self._history[-1], **self._tested}}

    def curves(self, i: int) -> Curve:
        """Return the values by epoch that a solo run logs, over epochs and over steps."""
        epochs = [(wall, epoch, over_epochs(values)) for epoch, wall, _, values in self._epochs(i)]
        curves = [
            *thinned(epochs),
            *(
                (wall, step, {name: value for name, value in values.items() if name not in (TRAIN_LOSS, LR)})
                for _, wall, step, values in self._epochs(i)
            ),
        ]
        if self._tested:
            curves.append((time.time(), self._steps_of(i), {name: values[i] for name, values in self._tested.items()}))
        return curves

    def points(self, i: int) -> Points:
        """Return the points of train/loss and lr that a solo run logs."""
        known = self._point_steps <= self._steps_of(i)
        steps, (losses, rates) = self._point_steps[known], self._point_values[:, i, known]
        times = np.interp(steps, [0, *self._steps], [self._stack.began, *self._stack.wall_times])
        return Points(times, steps, {TRAIN_LOSS: losses, LR: rates})
