"""The TensorBoard logger of a run: one event file, in the run's own folder."""

from __future__ import annotations

import math
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars, hparams

from seedbed.metrics import LR, OVER_EPOCHS, TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS

# layout of the custom scalars, category → chart → tags: both losses in one chart, over steps and over epochs
CHARTS = {
    category: {
        "loss": ["Multiline", [beginning + TRAIN_LOSS, beginning + VAL_LOSS]],
        "accuracy": ["Multiline", [beginning + VAL_ACCURACY]],
    }
    for category, beginning in (("run", ""), ("epochs", OVER_EPOCHS))
}
# points of a curve over epochs at most
MAX_EPOCHS = 500
# seconds that values may wait: handing them over wakes the writer's thread, which takes time from the steps
WAIT = 1.0


def over_epochs(values: Mapping[str, Any]) -> dict[str, float]:
    """Return an epoch's metrics by the tags of their curves over epochs."""
    return {OVER_EPOCHS + name: value for name, value in values.items() if name not in ("epoch", LR, "seconds")}


def thinned(epochs: Sequence) -> list:
    """Return at most MAX_EPOCHS epochs: every k-th, counted back from the last."""
    every = math.ceil(len(epochs) / MAX_EPOCHS)
    return [epoch for n, epoch in enumerate(epochs, 1 - len(epochs)) if n % every == 0]


class RunLogger(TensorBoardLogger):
    """Lightning's logger without its folders and hparams.yaml; it keeps the file open after each stage.

    `log_hyperparams` writes the run's HParams record with the final metrics, under the names of their curves: the
    dashboard then shows those and never a placeholder (Lightning #21247).
    """

    def __init__(self, save_dir: str | Path):
        super().__init__(save_dir, name="", version="", default_hp_metric=False, flush_secs=5)
        self._has_charts = False
        # (values, step, time) of records that wait for the writer, and the time of the last hand-over
        self._waiting: list[tuple[Summary, int | None, float]] = []
        self._handed_over = time.time()

    def save(self) -> None:
        """Do nothing: the writer flushes every few seconds by itself; Lightning would wait for it after each epoch."""

    def flush(self) -> None:
        """Write everything to the disk."""
        self._hand_over()
        self.experiment.flush()

    def finalize(self, status: str) -> None:
        self.flush()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Write one record with all values; `add_scalar` takes 60 µs for each."""
        if any(isinstance(value, dict) for value in metrics.values()):
            super().log_metrics(metrics, step)
            return
        now = time.time()
        if not self._has_charts:
            self._has_charts = True
            self._waiting.append((custom_scalars(CHARTS), 0, now))
        values = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in metrics.items()]
        self._waiting.append((Summary(value=values), step, now))
        if now - self._handed_over > WAIT:
            self._hand_over()

    def _hand_over(self) -> None:
        writer = self.experiment._get_file_writer()
        for summary, step, then in self._waiting:
            writer.add_summary(summary, step, then)
        self._waiting, self._handed_over = [], time.time()

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any], metrics: dict[str, float]) -> None:
        for summary in hparams(params, metrics):
            self.experiment._get_file_writer().add_summary(summary)

    @rank_zero_only
    def log_epochs(self, history: Sequence[Mapping[str, Any]]) -> None:
        """Write the curves over epochs, by which runs with different numbers of steps compare.

        That is done once, at the end: a resumed run has the epochs before the resume in its history too.
        """
        began = time.time() - history[-1]["seconds"] if history else 0.0
        for row in thinned(history):
            values = [Summary.Value(tag=tag, simple_value=value) for tag, value in over_epochs(row).items()]
            self._waiting.append((Summary(value=values), row["epoch"], began + row["seconds"]))

    def close(self) -> None:
        self._hand_over()
        self.experiment.close()
