"""Show a run while it trains: a table with a row an epoch, and below it one progress bar for the whole run."""

from __future__ import annotations

import logging
import math
import sys
from collections.abc import Mapping, Sequence
from typing import Any

from lightning.pytorch.callbacks import Callback, ProgressBar
from tqdm import tqdm

from seedbed.metrics import TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS
from seedbed.tables import figure

# heading → metric of a row of the module's history
COLUMNS = {"train loss": TRAIN_LOSS, "val loss": VAL_LOSS, "accuracy": VAL_ACCURACY}
WIDTH = 10
# rows of a table at most; a longer run shows every k-th epoch
MAX_ROWS = 200

log = logging.getLogger("seedbed")


class Notes(Callback):
    """Logs lines after the run's first batch, or at its end, so that a run that is refused prints only the reason."""

    per_call = True  # see FastLoop

    def __init__(self, lines: Sequence[str]):
        self.lines = list(lines)

    def on_train_batch_end(self, trainer, module, *batch) -> None:
        while self.lines and trainer.is_global_zero:
            log.warning(self.lines.pop(0))

    on_fit_end = on_train_batch_end  # for a run that had nothing to train


class RunProgress(ProgressBar):
    """Shows the steps of all epochs in one bar, and with `table` the metrics of every epoch.

    Epochs of small models take 30 ms, too short for a bar each. Where the output goes to a file or a pipe the table has
    plain lines; without a table the bar then writes a line every ten seconds.
    """

    enabled = True
    per_call = True  # see FastLoop

    def __init__(self, title: str = "training", table: bool = False):
        super().__init__()
        self.title, self.table = title, table
        self.bar: tqdm | None = None
        # the epoch of the last row, and whether there is a heading
        self._shown, self._has_heading = -1, False
        # whether a batch has been trained: until then the run may be refused, with one line and nothing before it
        self._has_begun = False

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer, module) -> None:
        is_terminal = sys.stderr.isatty()
        self.bar = tqdm(
            total=trainer.max_epochs * trainer.num_training_batches,
            initial=trainer.fit_loop.epoch_loop.batch_progress.total.ready,
            unit="step",
            desc=self.title,
            mininterval=0.1 if is_terminal else 10.0,
            delay=0.0 if is_terminal else 2.0,
            leave=False,
            disable=not self.enabled or (self.table and not is_terminal),
            dynamic_ncols=True,
        )
        if self.table and trainer.ckpt_path and module.history:  # shown before the resume
            self._shown = module.history[-1]["epoch"]

    def on_train_batch_end(self, trainer, module, *batch) -> None:
        if not self._has_begun:
            self._has_begun = True
            self._show(trainer, module)
        self.bar.update(trainer.fit_loop.epoch_loop.batch_progress.total.ready - self.bar.n)

    def on_train_epoch_start(self, trainer, module) -> None:
        """Show the epoch before: only now have all callbacks' hooks of that epoch run, and its metrics are final."""
        if self._has_begun:
            self._show(trainer, module)
        known = {} if self.table else trainer.callback_metrics
        shown = {name: figure(float(known[key])) for name, key in COLUMNS.items() if key in known}
        self.bar.set_postfix({"epoch": f"{trainer.current_epoch + 1}/{trainer.max_epochs}", **shown}, refresh=False)

    def on_train_end(self, trainer, module) -> None:
        self._close(trainer, module)

    def on_fit_end(self, trainer, module) -> None:
        # for a run that had nothing to train
        self._close(trainer, module)

    def on_exception(self, trainer, module, exception) -> None:
        self._close(trainer, module, shows=self._has_begun)

    def _close(self, trainer, module, shows: bool = True) -> None:
        if shows:
            self._show(trainer, module, ended=True)
        if self.bar is not None:
            self.bar.close()

    def _show(self, trainer, module, ended: bool = False) -> None:
        """Print the rows of the epochs since the last call."""
        if not (self.table and self.enabled and trainer.is_global_zero):
            return
        every = math.ceil(trainer.max_epochs / MAX_ROWS) or 1
        last = len(module.history) - 1
        for place, row in enumerate(module.history):
            if row["epoch"] > self._shown and (row["epoch"] % every == 0 or (ended and place == last)):
                if not self._has_heading:
                    self._has_heading = True
                    more = f"   (every {every} epochs; history.csv has all)" if every > 1 else ""
                    names = "".join(f"{name:>{WIDTH + 2}}" for name in COLUMNS)
                    tqdm.write(f"epoch{names}{'time':>9}{more}")
                tqdm.write(line(row, module.history[place - 1] if place else {}))
                self._shown = row["epoch"]
        sys.stdout.flush()


def line(row: Mapping[str, Any], before: Mapping[str, Any]) -> str:
    """Return an epoch's row of the table; the time is that since the row before."""
    cells = [f"{row['epoch']:5}", *(f"{figure(row.get(metric)):>{WIDTH + 2}}" for metric in COLUMNS.values())]
    return "".join(cells) + f"{duration(row['seconds'] - before.get('seconds', 0.0)):>9}"


def duration(seconds: float) -> str:
    """Return "0.03 s", "12.4 s" or "2:05"."""
    if seconds < 60:
        return f"{seconds:.{2 if seconds < 10 else 1}f} s"
    return f"{round(seconds) // 60}:{round(seconds) % 60:02}"
