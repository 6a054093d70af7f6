"""The LightningModule of a run: a network, a loss, an optimiser and a schedule, trained several steps a call."""

from __future__ import annotations

import math
import time
from collections.abc import Callable

import lightning.pytorch as pl
import torch
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor, nn

from seedbed.losses import Loss
from seedbed.optim.driven import drive, restore
from seedbed.schedules import Schedule
from seedbed.training.memory import keep_freed_memory

# seconds of steps in one training_step
SLICE = 0.1
BATCH_HOOKS = ("on_train_batch_start", "on_train_batch_end")
STEP_HOOKS = ("on_before_backward", "on_after_backward", "on_before_optimizer_step")


class SkipBatch(Exception):
    """A callback raises it in `on_before_backward` or `on_after_backward` to make no step with this batch.

    The gradient is dropped, with what had been accumulated before it. The loss still counts in train/loss. Of several
    processes all must raise it.
    """


class Supervised(pl.LightningModule):
    """Trains `net` on (x, y) batches; logs train/loss, lr, val/loss, val/accuracy (and test/…) once an epoch.

    optim: parameters → torch.optim.Optimizer. schedule: drives its numbers and the dropout. clip: largest norm of a
    step's gradient. accumulate: number of batches whose mean gradient makes a step. Losses are means over all samples
    of the epoch, whatever the batches; accuracy is exact, and left out where the targets are numbers.

    `training_step` takes Lightning's iterator and makes as many steps as fit into SLICE, so Lightning's own cost
    (0.4 ms a call) is paid ten times a second and not every step. A callback that looks at batches gets one step a
    call, unless it says `per_slice = True`. Several processes (DDP) also make one step a call, with the mean gradient
    over all their samples, however few of the last batch one has; a loss that is no mean (rmse) is averaged over the
    processes.

    A module that trains otherwise derives from this class and overrides the hooks that differ (`Stack` and `GAN` do):

    - `batch_losses(x, y)` returns the scalar to differentiate and the detached loss to record
    - `set_rates(optimizer, progress)` sets what the schedule drives for the next step; progress goes from 0 to 1
    - `configure_gradient_clipping(optimizer, …)` clips the gradients of a step (Lightning's hook)
    - `learning_rate()` returns the lr of the last step, for the epoch's metrics
    - `training_metrics()` returns the epoch's metrics by name and starts new sums
    - `evaluate_batch(batch)` adds a batch of the validation or test set to the sums
    - `evaluation_metrics()` returns the metrics of all evaluated batches and starts new sums
    - `new_sums(count)` returns zeros in the shape of `count` sums of recorded losses
    - `log_metrics(metrics)` keeps final values in `metrics` and sends them to callbacks and loggers
    - `stop_if_diverged()` ends the run at the end of an epoch whose loss is not finite
    """

    def __init__(
        self,
        net: nn.Module,
        loss: Loss,
        optim: Callable[..., torch.optim.Optimizer],
        schedule: Schedule,
        clip: float | None = None,
        accumulate: int = 1,
    ):
        super().__init__()
        self.automatic_optimization = False
        self.net, self.loss, self.optim, self.schedule = net, loss, optim, schedule
        self.clip, self.accumulate = clip, accumulate
        # the values logged last, exact: Lightning's copies are float32
        self.metrics: dict[str, float] = {}
        self.diverged = False
        # optimiser steps of the whole run, known when training begins
        self.total_steps = 0
        # of this epoch: sum of losses, samples
        self._trained = self.new_sums(2)
        # sum of losses, correct predictions (nan: no classes), samples
        self._evaluated = self.new_sums(3)

    def new_sums(self, count: int) -> Tensor:
        """float64 zeros [count]."""
        return torch.zeros(count, dtype=torch.float64)

    def configure_optimizers(self) -> torch.optim.Optimizer:
        params = list(self.net.parameters())
        return self.optim(params) if params else None

    def forward(self, x: Tensor) -> Tensor:
        return self.net(x)

    # --- training

    def on_fit_start(self) -> None:
        keep_freed_memory()

    def on_train_start(self) -> None:
        trainer, optimizer = self.trainer, self.optimizers()
        restore(optimizer.optimizer)
        self.total_steps = trainer.estimated_stepping_batches
        if self.accumulate > 1 and trainer.max_epochs > 0:
            self.total_steps = min(
                self.total_steps, math.ceil(trainer.num_training_batches / self.accumulate) * trainer.max_epochs
            )
        # several processes have to agree on the steps of a call
        single = trainer.world_size > 1 or self._overridden(BATCH_HOOKS, but_per_slice=True)
        self._slice = 0.0 if single else SLICE
        # Lightning's wrappers of backward and step cost 27 µs a step: used where somebody needs them
        scaled = getattr(trainer.precision_plugin, "scaler", None) is not None
        if scaled and self.clip:
            raise MisconfigurationException("gradient_clip_val: not with 16-mixed, take bf16-mixed")
        if scaled or trainer.world_size > 1 or self._overridden(STEP_HOOKS):
            self._backward, self._step = self.manual_backward, optimizer.step
        else:
            self._backward, self._step = Tensor.backward, optimizer.optimizer.step

    def _overridden(self, hooks: tuple[str, ...], but_per_slice: bool = False) -> bool:
        callbacks = [c for c in self.trainer.callbacks if not (but_per_slice and getattr(c, "per_slice", False))]
        return any(is_overridden(hook, c, pl.Callback) for hook in hooks for c in callbacks)

    def training_step(self, dataloader_iter) -> None:
        trainer, shared = self.trainer, self.trainer.world_size > 1
        loop = trainer.fit_loop.epoch_loop
        optimizer, params = self.optimizers().optimizer, list(self.net.parameters())
        first, steps, losses, sizes = loop.global_step, 0, [], []
        deadline = time.perf_counter() + self._slice
        for (x, y), _, _ in dataloader_iter:
            self.set_rates(optimizer, (first + steps) / self.total_steps)
            # x [B, …], y [B]; of a stack of G groups x [G, B, …], y [G, B]
            sizes.append(y.shape[-1])
            # a process without a sample of the last batch takes part in DDP's averaging, with a batch of no weight
            if not sizes[-1]:
                x, y = x.new_zeros(2, *x.shape[1:]), y.new_zeros(2)
            loss, recorded = self.batch_losses(x, y)
            losses.append(recorded)
            # DDP averages over processes: weighted by their samples, it is the mean over all samples
            if shared:
                loss = loss * (sizes[-1] / trainer.train_dataloader.per_rank)
            try:
                self._backward(loss if self.accumulate == 1 else loss / self.accumulate)
                if len(losses) % self.accumulate and not dataloader_iter.done:
                    continue
                if self.clip:
                    self.configure_gradient_clipping(optimizer)
                self._step()
                steps += 1
            except SkipBatch:
                # the gradient is dropped below, as it is after a step
                pass
            for p in params:
                p.grad = None
            # mixed precision caches casts of the weights, which the step has changed
            torch.clear_autocast_cache()
            if time.perf_counter() > deadline or first + steps == loop.max_steps:
                break
        rows = torch.tensor(sizes, dtype=torch.float64)
        # losses of the call's S batches: [S] or, of a stack, [S, M]
        each = torch.stack(losses).cpu().double()
        weighted = each * rows.view(-1, *[1] * (each.dim() - 1))
        # at each call and not once an epoch: a checkpoint holds the sums of the first process only
        if shared:
            weighted, rows = self._summed(torch.stack([weighted, rows]))
        # added in the order of the steps: the sum's last bit must not depend on where a slice ended
        self._trained[0] = torch.cat([self._trained[:1], weighted]).cumsum(0)[-1]
        self._trained[1] += rows.sum()
        self._count(len(losses), steps, loop.global_step - first)

    def batch_losses(self, x: Tensor, y: Tensor) -> tuple[Tensor, Tensor]:
        """Return the scalar to differentiate and the detached loss to record."""
        loss = self.loss(self.net(x), y)
        return loss, loss.detach()

    def set_rates(self, optimizer: torch.optim.Optimizer, progress: float) -> None:
        drive(optimizer, self.schedule, progress, self.net)

    def learning_rate(self) -> float:
        return self.optimizers().param_groups[0]["lr"]

    def configure_gradient_clipping(self, optimizer, gradient_clip_val=None, gradient_clip_algorithm=None) -> None:
        nn.utils.clip_grad_norm_([p for group in optimizer.param_groups for p in group["params"]], self.clip)

    def _count(self, batches: int, steps: int, counted: int) -> None:
        """Correct Lightning's counts by a call's batches and optimiser steps."""
        loop = self.trainer.fit_loop.epoch_loop
        loop.batch_progress.increment_by(batches - 1)
        loop._batches_that_stepped += steps - 1
        loop.manual_optimization.optim_step_progress.increment_by(steps - counted)

    def on_train_epoch_end(self) -> None:
        self.log_metrics(self.training_metrics())
        self.stop_if_diverged()

    def training_metrics(self) -> dict[str, Tensor | float]:
        loss, samples = self._trained
        self._trained = self.new_sums(2)
        return {"train/loss": loss / samples, "lr": self.learning_rate()}

    def stop_if_diverged(self) -> None:
        self.diverged = not math.isfinite(self.metrics["train/loss"] + self.metrics.get("val/loss", 0.0))
        self.trainer.should_stop |= self.diverged

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

    def validation_step(self, batch, batch_idx: int) -> None:
        self.evaluate_batch(batch)

    def on_validation_epoch_end(self) -> None:
        self.log_metrics({f"val/{name}": value for name, value in self.evaluation_metrics().items()})

    def test_step(self, batch, batch_idx: int) -> None:
        self.evaluate_batch(batch)

    def on_test_epoch_end(self) -> None:
        self.log_metrics({f"test/{name}": value for name, value in self.evaluation_metrics().items()})

    # --- checkpoints: what resuming in the middle of an epoch needs besides Lightning's own state

    def on_save_checkpoint(self, checkpoint: dict) -> None:
        checkpoint["trained"] = self._trained
        # dropout draws from it
        checkpoint["rng"] = torch.get_rng_state()
        if self.device.type == "cuda":
            checkpoint["rng_cuda"] = torch.cuda.get_rng_state(self.device)

    def on_load_checkpoint(self, checkpoint: dict) -> None:
        self._trained = checkpoint["trained"].cpu()
        torch.set_rng_state(checkpoint["rng"].cpu())
        if "rng_cuda" in checkpoint and torch.cuda.is_available():
            torch.cuda.set_rng_state(checkpoint["rng_cuda"].cpu())
