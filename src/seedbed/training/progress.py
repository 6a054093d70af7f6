"""One progress bar for the whole run."""

from __future__ import annotations

import sys

from lightning.pytorch.callbacks import ProgressBar
from tqdm import tqdm


class RunProgress(ProgressBar):
    """Shows the steps of all epochs in one bar, with epoch, loss and accuracy.

    Epochs of small models take 30 ms, too short for a bar each. Where stderr is a file, writes a line every ten
    seconds.
    """

    enabled = True
    per_call = True  # see FastLoop

    def __init__(self, title: str = "training"):
        super().__init__()
        self.title = title

    def disable(self) -> None:
        self.enabled = False

    def enable(self) -> None:
        self.enabled = True

    def on_train_start(self, trainer, module) -> None:
        self.bar = tqdm(
            total=trainer.max_epochs * trainer.num_training_batches,
            initial=trainer.fit_loop.epoch_loop.batch_progress.total.ready,
            unit="step",
            desc=self.title,
            mininterval=0.1 if sys.stderr.isatty() else 10.0,
            delay=0.0 if sys.stderr.isatty() else 2.0,
            leave=False,
            disable=not self.enabled,
            dynamic_ncols=True,
        )

    def on_train_batch_end(self, trainer, module, *batch) -> None:
        self.bar.update(trainer.fit_loop.epoch_loop.batch_progress.total.ready - self.bar.n)

    def on_train_epoch_end(self, trainer, module) -> None:
        metrics = trainer.callback_metrics
        shown = {name: f"{float(metrics[key]):.4f}" for name, key in SHOWN.items() if key in metrics}
        self.bar.set_postfix({"epoch": f"{trainer.current_epoch + 1}/{trainer.max_epochs}", **shown}, refresh=False)

    def on_train_end(self, trainer, module) -> None:
        self.bar.close()

    def on_exception(self, trainer, module, exception) -> None:
        if hasattr(self, "bar"):
            self.bar.close()


SHOWN = {"loss": "train/loss", "val loss": "val/loss", "accuracy": "val/accuracy"}
