"""Ctrl-C and SIGTERM end a run with a checkpoint; a second one ends it at once.

With several processes (DDP), any of them may get the signal; all stop after the same step.
"""

from __future__ import annotations

import math
import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from types import FrameType
from typing import Any

import lightning.pytorch as pl
import torch

from seedbed.config_values import typed
from seedbed.errors import Interrupted

# seconds after a signal in which a validation may come to its end
PATIENCE = 1.0


class StopOnSignal(pl.Callback):
    """Stops training after the step in which SIGINT or SIGTERM comes; `Checkpoints` then writes last.ckpt.

    An epoch that is cut short is not validated: the resumed run will do so at the epoch's end. A run that ends at this
    step anyway ends as if no signal had come. Place it after the callbacks that may stop a run, so that it sees their
    decision; `Checkpoints` comes after it.
    """

    per_call = True  # see FastLoop

    def __init__(self, folder: Path):
        """folder: the run's, for the line that says how to go on."""
        self.folder = folder
        self.number: int | None = None
        # the moment of the signal, time.monotonic(); inf before it
        self.came = math.inf
        # whether a signal, and nothing else, ended the training before its last step
        self.has_cut = False

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
            self.came = min(self.came, time.monotonic())

        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, stop)

    def on_train_batch_end(self, trainer: pl.Trainer, module: pl.LightningModule, *batch: Any) -> None:
        # between the batches of one step each process has its own gradients; a checkpoint has only the first's
        if trainer.world_size > 1 and module.record.window:
            return
        # the validation after an epoch's last batch belongs to the epoch
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch and self._cuts(trainer, module):
            trainer.limit_val_batches = 0

    def on_train_epoch_end(self, trainer: pl.Trainer, module: pl.LightningModule) -> None:
        if self.has_cut:
            # Lightning ends the unfinished epoch; its values do not belong in the curves
            trainer.loggers = []
        else:
            self._cuts(trainer, module)

    def _cuts(self, trainer: pl.Trainer, module: pl.LightningModule) -> bool:
        """Stop training if a signal came to any process; return whether that cut the run short."""
        # here and not in the handler: `Checkpoints`, which comes after this, must see it in the same call
        if not in_any_process(trainer, self.number is not None):
            return False
        self.number = self.number or signal.SIGTERM
        self.has_cut = not trainer.should_stop and module.steps < module.total_steps
        if self.has_cut:
            trainer.should_stop = True
            trainer.fit_loop.min_epochs = trainer.fit_loop.epoch_loop.min_steps = None
        return self.has_cut

    def check(self) -> None:
        """Raise Interrupted if a signal came; to be called when `fit` has returned."""
        if self.number is not None:
            last = self.folder / "checkpoints" / "last.ckpt"
            again = f"{typed('hydra.run.dir', self.folder)} {typed('ckpt_path', last)}"
            how = f"; go on with the same command and {again}" if last.exists() else ""
            raise Interrupted(self.number, f"stopped by {signal.Signals(self.number).name}{how}")

    @contextmanager
    def telling_how_to_go_on(self) -> Iterator[None]:
        """Note a signal that comes before or after the training, so that `check` ends the run for it, too."""
        try:
            yield
        except KeyboardInterrupt:
            self.number = signal.SIGINT
        except Interrupted as end:
            self.number = end.number
        self.check()


def in_any_process(trainer: pl.Trainer, decision: bool) -> bool:
    """Return whether `decision` is true in any of the run's processes. All of them must call this.

    Lightning's `reduce_boolean_decision` would also wait at a barrier, in every step.
    """
    if trainer.world_size == 1:
        return decision
    decided = torch.tensor(int(decision), device=trainer.strategy.root_device)
    torch.distributed.all_reduce(decided, torch.distributed.ReduceOp.MAX)
    return bool(decided)


def was_interrupted(trainer: pl.Trainer) -> bool:
    """Return whether a signal ended the training before its last step."""
    return any(isinstance(callback, StopOnSignal) and callback.has_cut for callback in trainer.callbacks)


def end_long_validation(trainer: pl.Trainer) -> None:
    """Raise Interrupted if a signal came more than PATIENCE seconds ago.

    Several processes would have to agree on that, so they finish the validation.
    """
    now = time.monotonic()
    for callback in trainer.callbacks:
        if isinstance(callback, StopOnSignal) and trainer.world_size == 1 and now - callback.came > PATIENCE:
            callback.check()
