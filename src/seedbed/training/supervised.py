"""The LightningModule of a run: a network, a loss, an optimiser and a schedule."""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from torch import Tensor, nn

from seedbed.data.rows import Rows, can_be_compiled
from seedbed.errors import ConfigError
from seedbed.losses import Loss
from seedbed.metrics import LR, TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS
from seedbed.optim.driven import drive, drive_dropout, restore
from seedbed.schedules import Schedule
from seedbed.training.interruption import was_interrupted
from seedbed.training.loss_record import LossRecord
from seedbed.training.memory import keep_freed_memory
from seedbed.training.old_checkpoints import upgrade
from seedbed.training.row_reader import SKIPS_ZEROS, RowReader

# points of a curve at most, with log_every_n_steps=auto
MAX_POINTS = 200


class Supervised(pl.LightningModule):
    """Trains `net` on (x, y) batches; logs train/loss and lr every few steps, val/loss and val/accuracy by epoch.

    A point of train/loss is the mean since the point before; `history`, metrics.json and callbacks get the epoch's
    mean. The first validation is that of the untrained network, epoch 0; test/… follows the training.

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
    - `learning_rate()` returns the lr of the last step
    - `log_points()` sends the curve of the steps since the last call to the loggers
    - `training_metrics()` returns the epoch's metrics by name and starts new sums
    - `evaluate_batch(batch)` adds a batch of the validation or test set to the sums
    - `evaluation_metrics()` returns the metrics of all evaluated batches and starts new sums
    - `new_sums(count)` returns zeros in the shape of `count` sums of evaluated losses
    - `log_metrics(metrics)` keeps final values in `metrics` and sends them to callbacks and loggers
    - `stop_if_diverged()` ends a run whose loss has left all bounds (see LossRecord), after every tenth step
    - `keep_classes()` keeps the accuracy by class of the last validation in `accuracy_by_class`
    - `keep_epoch()` keeps the epoch's metrics in `history`
    - `end_epoch()` ends a diverged run at the end of an epoch, when the validation loss is known too
    """

    # metric of each loss that `batch_losses` records
    LOSSES: tuple[str, ...] = (TRAIN_LOSS,)
    # steps between two points of train/loss and lr; auto: the smallest with at most MAX_POINTS points; 0: no points
    log_every_n_steps: int | str = "auto"
    # reader: computes outputs from `Rows`; None if the network cannot. prefers_rows: the config chooses `Rows` for the
    # training; takes_rows, evaluates_rows: the batches of training and of evaluation are `Rows`
    reader: RowReader | None = None
    prefers_rows = takes_rows = evaluates_rows = False

    def __init__(
        self, net: nn.Module, loss: Loss, optim: Callable[..., torch.optim.Optimizer], schedule: Schedule | None
    ):
        super().__init__()
        self.net, self.loss, self.optim, self.schedule = net, loss, optim, schedule
        # the values logged last, exact: Lightning's copies are float32
        self.metrics: dict[str, float] = {}
        # class → accuracy on its validation samples; empty for data without classes
        self.accuracy_by_class: dict[str, Any] = {}
        # whether a loss left all bounds, and the first step at which one did
        self.diverged, self.diverged_at = False, 0
        # epochs of a run that had ended, but was killed before it could write its metrics
        self.ended_epochs: int | None = None
        # optimiser steps of the whole run, known when training begins
        self.total_steps = 0
        # value of `steps` at the last validation, and at the end of the last epoch
        self.validated_at, self._kept_at = -1, -1
        # lr of the steps that end a point
        self._lrs: dict[int, Any] = {}
        # a row for each epoch from 0: its number, metrics and the seconds of training up to its end
        self.history: list[dict[str, Any]] = []
        # seconds of training before the checkpoint that the run goes on from
        self.seconds_before, self._began = 0.0, time.perf_counter()
        self.record = LossRecord()
        # sum of losses, samples
        self._evaluated = self.new_sums(2)
        # right predictions and samples by class
        self._answered: Tensor | float = 0.0
        # whether a callback wants no step with this batch
        self._skips = False
        # accumulated gradients of a checkpoint that was saved in the middle of an accumulation
        self._restored_gradients: list[Tensor | None] = []

    def new_sums(self, count: int) -> Tensor:
        """Return float64 zeros [count]."""
        return torch.zeros(count, dtype=torch.float64)

    @property
    def steps(self) -> int:
        """Optimiser steps of the run so far."""
        return self.record.steps

    @property
    def is_over(self) -> bool:
        """True if training cannot go on, whatever epochs are left."""
        return self.diverged

    def configure_optimizers(self) -> torch.optim.Optimizer:
        params = list(self.net.parameters())
        optimizer = self.optim(params) if params else None
        if optimizer and not all("lr" in group for group in optimizer.param_groups):
            raise ConfigError(f"optim: {type(optimizer).__name__} has no lr, which every optimiser must have")
        return optimizer

    def forward(self, x: Tensor | Rows) -> Tensor:
        return self.reader(x) if isinstance(x, Rows) else self.net(x)

    # --- training

    def on_fit_start(self) -> None:
        keep_freed_memory()
        if self.reader and self.takes_rows:
            self.reader.lay_out()

    def on_train_start(self) -> None:
        trainer = self.trainer
        self._began = time.perf_counter()
        for optimizer in trainer.optimizers:
            restore(optimizer)
        self.total_steps = self._estimated_steps()
        for callback in self._accumulations():
            # Lightning does not call the callback when a run resumes inside an epoch
            trainer.accumulate_grad_batches = callback.get_accumulate_grad_batches(trainer.current_epoch)
        # looked up here and not in every step
        self._accumulate, self._batches = trainer.accumulate_grad_batches, trainer.num_training_batches
        self._several, self._optimizer = trainer.world_size > 1, trainer.optimizers[0]
        every = self.log_every_n_steps
        self.record.every = math.ceil(self.total_steps / MAX_POINTS) if isinstance(every, str) else every
        self._drives_dropout = self.schedule is not None and "dropout" in self.schedule.curves
        for p, gradient in zip(self.parameters(), self._restored_gradients, strict=False):
            p.grad = gradient if gradient is None else gradient.to(p.device)
        self._restored_gradients = []

    def on_fit_end(self) -> None:
        if self.reader:
            self.reader.lay_out_as_usual()

    def on_train_epoch_start(self) -> None:
        # a callback may change it
        self._accumulate = self.trainer.accumulate_grad_batches

    def _estimated_steps(self) -> int:
        """Return the optimiser steps of the whole run; Lightning's estimate takes one accumulation for all epochs."""
        trainer, epochs = self.trainer, self.trainer.max_epochs
        for callback in self._accumulations() if (epochs or 0) > 0 else ():
            batches, by_epoch = trainer.num_training_batches, callback.get_accumulate_grad_batches
            steps = sum(math.ceil(batches / by_epoch(epoch)) for epoch in range(epochs))
            return min(steps, trainer.max_steps) if trainer.max_steps >= 0 else steps
        return trainer.estimated_stepping_batches

    def _accumulations(self) -> list[pl.callbacks.GradientAccumulationScheduler]:
        return [c for c in self.trainer.callbacks if isinstance(c, pl.callbacks.GradientAccumulationScheduler)]

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
        loss = self.loss(self.forward(x), y)
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
        """Count the optimiser step just made; every tenth step, stop a diverged run and log the points."""
        look = self.record.end_step()
        if self.record.every and self.record.steps % self.record.every == 0:
            self._lrs[self.record.steps] = self.learning_rate()
        if look:
            self.stop_if_diverged()
            self.log_points()

    def set_rates(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        drive(optimizer, self.schedule, progress)

    def learning_rate(self) -> float:
        return self._optimizer.param_groups[0]["lr"]

    def skip_batch(self) -> None:
        """Drop this batch and the others accumulated into its step.

        To be called in a callback's hooks from `on_train_batch_start` to `on_before_optimizer_step`; under DDP in every
        process. The losses are not counted in train/loss.
        """
        self._skips = True

    def skip_epoch(self) -> None:
        """Skip this batch and the rest of the epoch; called as `skip_batch` is.

        As when a module returns -1 from `on_train_batch_start`, the epoch ends without validation.
        """
        self._skips = True
        self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch = True

    def on_train_epoch_end(self) -> None:
        self._skips = False
        self.log_metrics(self.training_metrics())
        # an epoch that a signal cuts short ends in the resumed run
        if self.trainer.fit_loop.epoch_loop.batch_progress.is_last_batch or not was_interrupted(self.trainer):
            self.keep_epoch()
        self.end_epoch()

    def on_train_end(self) -> None:
        # an interrupted run goes on with the steps of its last point
        self.log_points(ended=not was_interrupted(self.trainer))

    def log_points(self, ended: bool = False) -> None:
        """Send the points of train/loss and lr since the last call to the loggers; ended: the rest too."""
        for step, losses in self.take_points(ended):
            values = dict(zip(self.LOSSES, np.atleast_1d(losses).tolist(), strict=True))
            for logger in self.trainer.loggers:
                logger.log_metrics({**values, LR: float(self._lrs[step])}, step)
            self._lrs = {known: lr for known, lr in self._lrs.items() if known > step}

    def take_points(self, ended: bool) -> list[tuple[int, Any]]:
        """Return (step, losses) of the points since the last call, whose lr is known; ended: the rest too."""
        if ended and self.total_steps:
            self._lrs.setdefault(self.steps, self.learning_rate())
        return self.record.take_points(ended)

    def keep_epoch(self) -> None:
        """Add the row of the epoch that ends, or that of epoch 0, to `history`."""
        untrained = self.trainer.sanity_checking
        number, seconds = (0, 0.0) if untrained else (self.current_epoch + 1, round(self._seconds(), 3))
        # an epoch without validation does not repeat the metrics of an earlier one
        is_new = untrained or self.validated_at > self._kept_at
        metrics = {name: value for name, value in self.metrics.items() if is_new or not name.startswith("val/")}
        self.history.append({"epoch": number, **metrics, "seconds": seconds})
        self._kept_at = self.steps

    def _seconds(self) -> float:
        """Return the seconds of training so far, those before a checkpoint included."""
        return self.seconds_before + time.perf_counter() - self._began

    def training_metrics(self) -> dict[str, Tensor | float]:
        means = self.record.means()
        if means is None:
            return {LR: self.learning_rate()}
        # a single loss has no dimension of its own
        means = means if len(self.LOSSES) > 1 else means[None]
        return {**dict(zip(self.LOSSES, means, strict=True)), LR: self.learning_rate()}

    def stop_if_diverged(self) -> None:
        steps = self.record.diverges_at()
        self.diverged = bool(steps.any())
        self.diverged_at = int(steps[steps > 0].min()) if self.diverged else 0
        self.trainer.should_stop |= self.diverged

    def end_epoch(self) -> None:
        losses = sum(self.metrics.get(name, 0.0) for name in (TRAIN_LOSS, VAL_LOSS))
        self.record.mark_diverged(torch.tensor(losses, dtype=torch.float64))
        self.stop_if_diverged()

    def log_metrics(self, metrics: dict[str, Tensor | float]) -> None:
        """Do what `self.log_dict` does with values that need no averaging, without its 2 ms.

        Loggers get train/loss and lr from `log_points`.
        """
        exact = {name: float(value) for name, value in metrics.items()}
        self.metrics |= exact
        self.trainer.callback_metrics.update({name: torch.tensor(value) for name, value in exact.items()})
        by_epoch = {name: value for name, value in exact.items() if name not in (*self.LOSSES, LR)}
        if by_epoch:
            # some loggers want steps in increasing order
            self.log_points()
            for logger in self.trainer.loggers:
                logger.log_metrics(by_epoch, self.trainer.global_step)

    def _summed(self, sums: Tensor) -> Tensor:
        """Return the sums of all processes, on the CPU."""
        if self.trainer.world_size == 1:
            return sums.cpu()
        return self.trainer.strategy.reduce(sums.to(self.device), reduce_op="sum").cpu()

    # --- evaluation

    def evaluate_batch(self, batch: tuple[Tensor, Tensor]) -> None:
        x, y = batch
        # the other processes have the last samples
        if not len(y):
            return
        output = self(x)
        self.add_evaluated(exact(self.loss(output, y)) * len(y), len(y))
        if not y.is_floating_point():
            self._answered += by_class(y, self.loss.predict(output) == y, self.trainer.datamodule.num_classes)

    def add_evaluated(self, losses: Tensor, samples: int) -> None:
        """Add a batch's summed losses to the sums, which stay on the device until the evaluation ends."""
        sums = torch.stack([losses, torch.full_like(losses, samples)])
        self._evaluated = self._evaluated.to(sums.device) + sums

    def evaluation_metrics(self) -> dict[str, Tensor | float]:
        loss, samples = self._summed(self._evaluated)
        self._evaluated = self.new_sums(2)
        return {"loss": loss / samples, **self.accuracy()}

    def accuracy(self) -> dict[str, Tensor | float]:
        """Return the accuracy since the last call, and keep that of each class; empty where there are no classes."""
        if not isinstance(self._answered, Tensor):
            return {}
        # [C] of one run, [M, C] of M members
        right, samples = self._summed(self._answered)
        self._answered = 0.0
        self._accuracies = right / samples
        return {"accuracy": right.sum(-1) / samples.sum(-1)}

    def validation_step(self, batch: tuple[Tensor, Tensor], batch_idx: int) -> None:
        self.evaluate_batch(batch)

    def on_validation_epoch_end(self) -> None:
        metrics = {f"val/{name}": value for name, value in self.evaluation_metrics().items()}
        trainer = self.trainer
        # Lightning's check before training validates the untrained network, if it takes all batches
        is_whole = trainer.num_sanity_val_batches == trainer.num_val_batches
        if trainer.sanity_checking and (trainer.ckpt_path or not is_whole):
            return
        self.log_metrics(metrics)
        self.keep_classes()
        self.validated_at = self.steps
        if trainer.sanity_checking:
            self.keep_epoch()

    def keep_classes(self) -> None:
        self.accuracy_by_class = self.named(self._accuracies) if VAL_ACCURACY in self.metrics else {}

    def named(self, accuracies: Tensor) -> dict[str, float]:
        """Return class → accuracy [C], of the classes that have validation samples."""
        shares = zip(self.trainer.datamodule.splits.classes, accuracies.tolist(), strict=True)
        return {name: share for name, share in shares if not math.isnan(share)}

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
        checkpoint["rng"] = self._of_all_ranks(torch.get_rng_state())
        if self.device.type == "cuda":
            checkpoint["rng_cuda"] = self._of_all_ranks(torch.cuda.get_rng_state(self.device))

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        upgrade(checkpoint)
        # a resumed run computes as before, also if its config would choose otherwise now
        if self.reader:
            skipped = checkpoint.get("made_with", {}).get("first_layer") == SKIPS_ZEROS
            self.takes_rows = skipped and can_be_compiled()
        steps = self.record.steps = checkpoint["steps"]
        self.record.load_state_dict(checkpoint["losses"])
        self.history, self.seconds_before = checkpoint.get("history", []), checkpoint.get("seconds", 0.0)
        window = checkpoint.get("window", {"gradients": [], "skips": False})
        self._restored_gradients, self._skips = window["gradients"], window["skips"]
        # Lightning counts steps in one of two places and restores both after this
        progress = checkpoint["loops"]["fit_loop"]
        automatic = progress["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]["step"]
        for count in (automatic, progress["epoch_loop.manual_optimization.optim_step_progress"]):
            count["total"] |= {"ready": steps, "completed": steps}
        torch.set_rng_state(self._of_this_rank(checkpoint["rng"]))
        if "rng_cuda" in checkpoint and torch.cuda.is_available():
            torch.cuda.set_rng_state(self._of_this_rank(checkpoint["rng_cuda"]))

    def _of_all_ranks(self, state: Tensor) -> Tensor:
        """Return the random states of R processes [R, bytes]; of a single process [bytes]."""
        if self.trainer.world_size == 1:
            return state
        states = state.new_zeros(self.trainer.world_size, len(state))
        states[self.trainer.global_rank] = state
        return self._summed(states)

    def _of_this_rank(self, states: Tensor) -> Tensor:
        """Return this process's random state; earlier versions kept [bytes], that of the first process."""
        states = states.cpu().view(-1, states.shape[-1])
        # torch crashes on a state that is a part of a larger tensor
        return states[self.trainer.global_rank % len(states)].clone()


def exact(numbers: Tensor) -> Tensor:
    """Return numbers as float64, on the CPU where the device has none."""
    return (numbers.cpu() if numbers.device.type == "mps" else numbers).double()


def by_class(target: Tensor, right: Tensor, classes: int) -> Tensor:
    """Count right answers and samples by class: target [B], right [B] → [2, C]; right [M, B] → [2, M, C]."""
    # a comparison instead of one_hot, which looks at the values and so waits for a GPU; float64: under autocast a
    # product of float32 would be rounded
    one_hot = exact(target[:, None] == torch.arange(classes, device=target.device))
    counts = exact(right) @ one_hot
    return torch.stack([counts, one_hot.sum(0).expand_as(counts)])
