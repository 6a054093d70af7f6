"""Ctrl-C and SIGTERM end a run with a checkpoint; a second one ends it at once.

With several processes (DDP), any of them may get the signal; all stop after the same step.
"""

from __future__ import annotations

import os
import signal
import threading
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl

from seedbed.config_values import typed
from seedbed.errors import Interrupted


class StopOnSignal(pl.Callback):
    """Stops training after the step in which SIGINT or SIGTERM comes; `Checkpoints` then writes last.ckpt."""

    per_call = True  # see FastLoop

    def __init__(self, folder: Path):
        """folder: the run's, for the line that says how to go on."""
        self.folder = folder
        self.number: int | None = None
        # whether training stops inside an epoch
        self._inside = False

    def on_train_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        """Replace Lightning's signal handlers until the fit is over; Lightning then restores the earlier ones itself.

        Lightning's would end the run in the middle of a step on SIGINT, and with exit code 0 on SIGTERM.
        """
        if threading.current_thread() is not threading.main_thread():  # only the main thread may set handlers
            return

        def stop(number: int, frame: FrameType | None) -> None:
            # one of several processes may get a signal twice, from the terminal and from its parent
            if self.number is not None and trainer.world_size == 1:
                os._exit(128 + number)
            self.number = self.number or number

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *batch: Any) -> None:
        # between the batches of one step each process has its own gradients; a checkpoint has only the first's
        if trainer.world_size > 1 and module.record.window:
            return
        # here and not in the handler: `Checkpoints`, which comes after this, must see it in the same call
        if trainer.strategy.reduce_boolean_decision(self.number is not None, all=False):
            self.number = self.number or signal.SIGTERM
            trainer.should_stop = True
            trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
            self._inside = not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch

    def on_validation_start(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._log_no_more(trainer)

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        self._log_no_more(trainer)

    def _log_no_more(self, trainer: pl.Trainer) -> None:
        """Keep the values that Lightning logs when it ends an unfinished epoch out of the curves."""
        if self._inside:
            trainer.loggers = []

    def check(self) -> None:
        """Raise Interrupted if a signal came; to be called when `fit` has returned."""
        if self.number is not None:
            last = self.folder / "checkpoints" / "last.ckpt"
            again = f"{typed('hydra.run.dir', self.folder)} {typed('ckpt_path', last)}"
            name = signal.Signals(self.number).name
            raise Interrupted(self.number, f"stopped by {name}; go on with the same command and {again}")


def was_interrupted(trainer: pl.Trainer) -> bool:
    """Return whether a signal stops the training."""
    return any(isinstance(callback, StopOnSignal) and callback.number for callback in trainer.callbacks)
