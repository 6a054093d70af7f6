"""The TensorBoard logger of a run: one event file, in the run's own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from tensorboard.compat.proto.summary_pb2 import Summary
from torch.utils.tensorboard.summary import custom_scalars, hparams

from seedbed.metrics import TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS

# category → chart → lines: both losses in one
CHARTS = {"run": {"loss": ["Multiline", [TRAIN_LOSS, VAL_LOSS]], "accuracy": ["Multiline", [VAL_ACCURACY]]}}


class RunLogger(TensorBoardLogger):
    """Lightning's logger without its folders and hparams.yaml; it keeps the file open after each stage.

    `log_hyperparams` writes the run's HParams record with the final metrics, under the names of their curves: the
    dashboard then shows those and never a placeholder (Lightning #21247).
    """

    def __init__(self, save_dir: str | Path):
        super().__init__(save_dir, name="", version="", default_hp_metric=False, flush_secs=5)
        self._has_charts = False

    def save(self) -> None:
        """Do nothing: the writer flushes every few seconds by itself; Lightning would wait for it after each epoch."""

    def finalize(self, status: str) -> None:
        self.experiment.flush()

    @rank_zero_only
    def log_metrics(self, metrics: dict[str, Any], step: int | None = None) -> None:
        """Write one record with all values; `add_scalar` takes 60 µs for each."""
        if any(isinstance(value, dict) for value in metrics.values()):
            super().log_metrics(metrics, step)
            return
        writer = self.experiment._get_file_writer()
        if not self._has_charts:
            self._has_charts = True
            writer.add_summary(custom_scalars(CHARTS), 0)
        values = [Summary.Value(tag=tag, simple_value=float(value)) for tag, value in metrics.items()]
        writer.add_summary(Summary(value=values), step)

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any], metrics: dict[str, float]) -> None:
        for summary in hparams(params, metrics):
            self.experiment._get_file_writer().add_summary(summary)

    def close(self) -> None:
        self.experiment.close()
