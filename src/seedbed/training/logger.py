"""The TensorBoard logger of a run: one event file, in the run's own folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lightning.pytorch.loggers import TensorBoardLogger
from lightning.pytorch.utilities import rank_zero_only
from torch.utils.tensorboard.summary import hparams


class RunLogger(TensorBoardLogger):
    """Lightning's logger without its folders and hparams.yaml; it keeps the file open after each stage.

    `log_hyperparams` writes the run's HParams record with the final metrics, under the names of their curves: the
    dashboard then shows those and never a placeholder (Lightning #21247).
    """

    def __init__(self, save_dir: str | Path):
        super().__init__(save_dir, name="", version="", default_hp_metric=False, flush_secs=5)

    def save(self) -> None:
        """Do nothing: the writer flushes every few seconds by itself; Lightning would wait for it after each epoch."""

    def finalize(self, status: str) -> None:
        self.experiment.flush()

    @rank_zero_only
    def log_hyperparams(self, params: dict[str, Any], metrics: dict[str, float]) -> None:
        for summary in hparams(params, metrics):
            self.experiment._get_file_writer().add_summary(summary)

    def close(self) -> None:
        self.experiment.close()
