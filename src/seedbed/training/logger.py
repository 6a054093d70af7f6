"""The TensorBoard logger of a run: one event file, in the run's own folder."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars, hparams

from seedbed.metrics import TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS

# category → chart → lines: both losses in one
CHARTS = {"run": {"loss": ["Multiline", [TRAIN_LOSS, VAL_LOSS]], "accuracy": ["Multiline", [VAL_ACCURACY]]}}


# seconds that values may wait: handing them over wakes the writer's thread, which takes time from the steps
WAIT = 1.0


class RunLogger(TensorBoardLogger):
    """Lightning's logger without its folders and hparams.yaml; it keeps the file open after each stage.

    `log_hyperparams` writes the run's HParams record with the final metrics, under the names of their curves: the
    dashboard then shows those and never a placeholder (Lightning #21247).
    """

    def __init__(self, save_dir: str | Path):
        super().__init__(save_dir, name="", version="", default_hp_metric=False, flush_secs=5)
        self._has_charts = False
        # (values, step, time) of records that the writer has not got yet, and when it got the last ones
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

    def close(self) -> None:
        self._hand_over()
        self.experiment.close()
