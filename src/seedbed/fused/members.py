"""The records of a stack's members: what their solo runs' history and metrics.json would hold."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch

from seedbed.fused.stack import Stack
from seedbed.metrics import ACCURACY_BY_CLASS, LR, TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS


class MemberRecords:
    """The metrics of a trained stack by member. steps: the run's number of steps at the end of each epoch."""

    def __init__(self, stack: Stack, steps: Sequence[int]):
        self._stack, self._steps = stack, list(steps)
        self._untrained, *self._history = [
            {name: values.tolist() for name, values in epoch.items()} for epoch in (stack.untrained, *stack.history)
        ]
        self._tested = {name: v.tolist() for name, v in stack.metrics.items() if name.startswith("test/")}
        # of each member: the epochs that it trained, its steps if it ended before the others, …
        self.epochs = torch.where(stack.ended_at < 0, len(stack.history), stack.ended_at + 1).tolist()
        self._ended_steps = stack.ended_steps.tolist()
        self._diverged_at = stack.diverged_at.tolist()  # type: ignore[attr-defined]
        self._diverged, self._dropped = stack.diverged.tolist(), stack.dropped.tolist()

    def rows(self, i: int, share: float) -> list[dict[str, Any]]:
        """Return the rows of history.csv. share: seconds that a member's epoch took."""
        epochs = [(0, self._untrained)] if self._untrained else []
        epochs += list(enumerate(self._history[: self.epochs[i]], 1))
        return [
            {"epoch": e, **{name: each[i] for name, each in values.items()}, "seconds": round(share * e, 6)}
            for e, values in epochs
        ]

    def metrics(self, i: int, share: float) -> dict[str, Any]:
        """Return what metrics.json holds, without the seed. share: seconds that a member's epoch took."""
        stack, epochs = self._stack, self.epochs[i]
        last = {name: values[i] for name, values in self._history[epochs - 1].items()}
        metrics = {
            "status": "diverged" if self._diverged[i] else "completed",
            **({"diverged_at": self._diverged_at[i]} if self._diverged[i] else {}),
            **({"stopped": "halving"} if self._dropped[i] else {}),
            **{name: last.get(name) for name in (VAL_LOSS, VAL_ACCURACY, TRAIN_LOSS, LR)},
            **{name: values[i] for name, values in self._tested.items()},
        }
        if stack.accuracy_by_class is not None:
            metrics[ACCURACY_BY_CLASS] = stack.named(stack.accuracy_by_class[i])
        steps = max(self._ended_steps[i], 0) or self._steps[epochs - 1]
        return {**metrics, "epochs": epochs, "steps": steps, "fit_seconds": round(share * epochs, 6)}

    def logged(self, metrics: dict[str, Any]) -> dict[str, float]:
        """Return those of a member's metrics that have a curve."""
        return {name: metrics.get(name) for name in {**self._history[-1], **self._tested}}
