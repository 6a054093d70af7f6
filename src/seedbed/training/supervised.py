"""The LightningModule of a run: a network, a loss, an optimiser and a schedule."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import torch
from torch import Tensor, nn

from seedbed.losses import Loss
from seedbed.optim.driven import drive, drive_dropout, restore
from seedbed.schedules import Schedule
from seedbed.training.loss_record import LossRecord
from seedbed.training.memory import keep_freed_memory
from seedbed.training.old_checkpoints import upgrade


class Supervised(pl.LightningModule):
    """Trains `net` on (x, y) batches; logs train/loss, lr, val/loss, val/accuracy (and test/…) once an epoch.

    optim: parameters → torch.optim.Optimizer. schedule: drives its numbers and the dropout. Losses are means over all
    samples of the epoch, whatever the batches; accuracy is exact, and left out where the targets are numbers. Several
    processes (DDP) step with the mean gradient over all their samples, even if one has fewer samples of the last batch.
    A loss that is not a mean over samples (rmse) is computed in each process and then averaged.

    Lightning's own loop runs it, or `FastLoop`, which gives the same bits. A callback may call `skip_batch()` and
    `skip_epoch()`.

    A module that trains otherwise derives from this class and overrides the hooks that differ (`Stack` and `GAN` do):

    - `batch_losses(x, y)` returns the scalar to differentiate and the detached losses to record
    - `set_rates(optimizer, progress)` sets what the schedule drives for the next step; progress goes from 0 to 1
    - `configure_gradient_clipping(optimizer, …)` clips the gradients of a step (Lightning's hook)
    - `learning_rate()` returns the lr of the last step, for the epoch's metrics
    - `training_metrics()` returns the epoch's metrics by name and starts new sums
    - `evaluate_batch(batch)` adds a batch of the validation or test set to the sums
    - `evaluation_metrics()` returns the metrics of all evaluated batches and starts new sums
    - `new_sums(count)` returns zeros in the shape of `count` sums of evaluated losses
    - `log_metrics(metrics)` keeps final values in `metrics` and sends them to callbacks and loggers
    - `stop_if_diverged()` ends a run whose loss is not finite, after every tenth step
    - `keep_epoch()` keeps the epoch's metrics in `history`
    - `end_epoch()` does so at the end of an epoch, when the validation loss is known too
    """

    def __init__(
        self, net: nn.Module, loss: Loss, optim: Callable[..., torch.optim.Optimizer], schedule: Schedule | None
    ):
        super().__init__()
        self.net, self.loss, self.optim, self.schedule = net, loss, optim, schedule
        # the values logged last, exact: Lightning's copies are float32
        self.metrics: dict[str, float] = {}
        # whether a loss was not finite, and of which step first
        self.diverged, self.diverged_at = False, 0
        # of a run that was over when its process ended, before it could write its metrics
        self.ended_epochs: int | None = None
        # optimiser steps of the whole run, known when training begins
        self.total_steps = 0
        # value of `steps` at the last validation
        self.validated_at = -1
        # a row for each epoch: its number, metrics and the seconds of training up to its end
        self.history: list[dict[str, Any]] = []
        self._seconds_before, self._began = 0.0, time.perf_counter()
        self.record = LossRecord()
        # sum of losses, correct predictions (nan: no classes), samples
        self._evaluated = self.new_sums(3)
        # whether a callback wants no step with this batch
        self._skips = False
        # accumulated gradients of a checkpoint that was saved in the middle of an accumulation
        self._restored_gradients: list[Tensor | None] = []

    def new_sums(self, count: int) -> Tensor:
        """float64 zeros [count]."""
        return torch.zeros(count, dtype=torch.float64)

    @property
    def steps(self) -> int:
        """Optimiser steps of the run so far."""
        return self.record.steps

    def configure_optimizers(self) -> torch.optim.Optimizer:
        params = list(self.net.parameters())
        return self.optim(params) if params else None

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    # --- training

    def on_fit_start(self) -> None:
        keep_freed_memory()

    def on_train_start(self) -> None:
        trainer = self.trainer
        self._began = time.perf_counter()
        for optimizer in trainer.optimizers:
            restore(optimizer)
        self.total_steps = trainer.estimated_stepping_batches
        # looked up here and not in every step
        self._accumulate, self._batches = trainer.accumulate_grad_batches, trainer.num_training_batches
        self._several, self._optimizer = trainer.world_size > 1, trainer.optimizers[0]
        self._drives_dropout = self.schedule is not None and "dropout" in self.schedule.curves
        for p, gradient in zip(self.parameters(), self._restored_gradients, strict=False):
            p.grad = gradient if gradient is None else gradient.to(p.device)
        self._restored_gradients = []

    def training_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> Tensor | None:
        self.set_rates(self._optimizer, self.steps / self.total_steps)
        # x [B, …], y [B]; of a stack of G groups x [G, B, …], y [G, B]
        x, y = batch
        if self._drives_dropout:  # before the forward pass
            drive_dropout(self.net, self.schedule, self.steps / self.total_steps)
        if self._several:
            loss = self._share_of_step(x, y)
        elif self._skips:
            return None
        else:
            loss, recorded = self.batch_losses(x, y)
            self.record.add(recorded, y.shape[-1])
        # Lightning divides by the number of batches that accumulate; an epoch's last step may have fewer
        window = self.window(batch_idx)
        return loss if window == self._accumulate else loss * (self._accumulate / window)

    def window(self, batch_idx: int) -> int:
        """Return how many batches make a step together with this one, the batch_idx-th of its epoch."""
        accumulate = self._accumulate
        return accumulate if accumulate == 1 else min(accumulate, self._batches - batch_idx // accumulate * accumulate)

    def _share_of_step(self, x: Tensor, y: Tensor) -> Tensor:
        """Return this process's loss, weighted so that DDP's mean over processes is the mean over all samples."""
        samples = len(y)
        # a process without a sample of the last batch takes part in the averaging, with a batch of no weight
        if not samples:
            x, y = x.new_zeros(2, *x.shape[1:]), y.new_zeros(2)
        loss, recorded = self.batch_losses(x, y)
        # summed now, since a checkpoint holds the record of the first process only
        sums = torch.tensor([recorded.item() * samples, samples], dtype=torch.float64)
        total, all_samples = self._summed(sums)
        self.record.add(total / all_samples, int(all_samples))
        return loss * (samples / self.trainer.train_dataloader.per_rank)

    def batch_losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scalar to differentiate and the detached losses to record."""
        loss = self.loss(self.net(x), y)
        return loss, loss.detach()

    def optimizer_step(self, epoch: int, batch_idx: int, optimizer, optimizer_closure) -> None:
        super().optimizer_step(epoch, batch_idx, optimizer, optimizer_closure)
        if not self._skips:
            self.end_step()
            return
        self._skips = False
        self.record.window.clear()
        # Lightning counts a step when this returns
        self.trainer.fit_loop.epoch_loop.automatic_optimization.optim_progress.optimizer.step.increment_by(-1)

    def on_before_optimizer_step(self, optimizer) -> None:
        # without gradients the optimiser changes nothing
        if self._skips:
            optimizer.zero_grad()

    def end_step(self) -> None:
        """Count an optimiser step, after it."""
        if self.record.end_step():
            self.stop_if_diverged()

    def set_rates(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        drive(optimizer, self.schedule, progress)

    def learning_rate(self) -> float:
        return self.optimizers().param_groups[0]["lr"]

    def skip_batch(self) -> None:
        """Drop this batch and the others accumulated into its step.

        To be called in a callback's hooks from `on_train_batch_start` to `on_before_optimizer_step`; under DDP in every
        process. The losses are not counted in train/loss.
        """
        self._skips = True

    def skip_epoch(self) -> None:
        """Skip this batch and the rest of the epoch; called as `skip_batch` is.

        As where a module returns -1 from `on_train_batch_start`, the epoch ends without validation.
        """
        self._skips = True
        self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True

    def on_train_epoch_end(self) -> None:
        self._skips = False
        self.log_metrics(self.training_metrics())
        self.keep_epoch()
        self.end_epoch()

    def keep_epoch(self) -> None:
        self.history.append({"epoch": self.current_epoch + 1, **self.metrics, "seconds": round(self._seconds(), 3)})

    def _seconds(self) -> float:
        """Return the seconds of training so far, those before a checkpoint included."""
        return self._seconds_before + time.perf_counter() - self._began

    def training_metrics(self) -> dict[str, Tensor | float]:
        loss = self.record.means()
        return {"lr": self.learning_rate()} if loss is None else {"train/loss": loss, "lr": self.learning_rate()}

    def stop_if_diverged(self) -> None:
        steps = self.record.diverges_at()
        self.diverged = bool(steps.any())
        self.diverged_at = int(steps[steps > 0].min()) if self.diverged else 0
        self.trainer.should_stop |= self.diverged

    def end_epoch(self) -> None:
        losses = (self.metrics.get(name, 0.0) for name in ("train/loss", "val/loss"))
        self.record.mark_diverged(not math.isfinite(sum(losses)))
        self.stop_if_diverged()

    def log_metrics(self, metrics: dict[str, Tensor | float]) -> None:
        """Do what `self.log_dict` does with values that need no averaging, without its 2 ms."""
        exact = {name: float(value) for name, value in metrics.items()}
        self.metrics |= exact
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in exact.items()})
        for logger in self.trainer.loggers:
            logger.log_metrics(exact, self.trainer.global_step)

    def _summed(self, sums: Tensor) -> Tensor:
        """Add up the sums of all processes."""
        if self.trainer.world_size == 1:
            return sums
        return self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum").cpu()

    # --- evaluation

    def evaluate_batch(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        # the other processes have the last samples
        if not len(y):
            return
        output = self(x)
        self._evaluated[0] += self.loss(output, y).item() * len(y)
        self._evaluated[1] += math.nan if y.is_floating_point() else (self.loss.predict(output) == y).sum().item()
        self._evaluated[2] += len(y)

    def evaluation_metrics(self) -> dict[str, Tensor | float]:
        loss, correct, samples = self._summed(self._evaluated)
        self._evaluated = self.new_sums(3)
        return {"loss": loss / samples, **({} if correct.isnan().any() else {"accuracy": correct / samples})}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate_batch(batch)

    def on_validation_epoch_end(self) -> None:
        metrics = {f"val/{name}": value for name, value in self.evaluation_metrics().items()}
        if not self.trainer.sanity_checking:
            self.log_metrics(metrics)
            self.validated_at = self.steps

    def test_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate_batch(batch)

    def on_test_epoch_end(self) -> None:
        self.log_metrics({f"test/{name}": value for name, value in self.evaluation_metrics().items()})

    # --- checkpoints: what resuming inside an epoch needs besides Lightning's own state

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["steps"], checkpoint["losses"] = self.steps, self.record.state_dict()
        checkpoint["history"], checkpoint["seconds"] = list(self.history), self._seconds()
        # in the middle of an accumulation
        if self.record.window or self._skips:
            checkpoint["window"] = {"gradients": [p.grad for p in self.parameters()], "skips": self._skips}
        # dropout draws from it
        checkpoint["rng"] = torch.get_rng_state()
        if self.device.type == "cuda":
            checkpoint["rng_cuda"] = torch.cuda.get_rng_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        upgrade(checkpoint)
        steps = self.record.steps = checkpoint["steps"]
        self.record.load_state_dict(checkpoint["losses"])
        self.history, self._seconds_before = checkpoint.get("history", []), checkpoint.get("seconds", 0.0)
        window = checkpoint.get("window", {"gradients": [], "skips": False})
        self._restored_gradients, self._skips = window["gradients"], window["skips"]
        # Lightning counts steps in one of two places and restores both after this
        progress = checkpoint["loops"]["fit_loop"]
        automatic = progress["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
        for count in (automatic, progress["epoch_loop.manual_optimization.optim_step_progress"]):
            count["total"] |= {"ready": steps, "completed": steps}
        torch.set_rng_state(checkpoint["rng"].cpu())
        if "rng_cuda" in checkpoint and torch.cuda.is_available():
            torch.cuda.set_rng_state(checkpoint["rng_cuda"].cpu())
