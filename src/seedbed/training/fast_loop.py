"""Lightning's training loop with many steps a call: the same bits as Lightning's own, without its 0.4 ms a batch."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from contextlib import nullcontext
from functools import partial
from inspect import signature, unwrap
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import Timer
from lightning.pytorch.loops.training_epoch_loop import _TrainingEpochLoop
from lightning.pytorch.plugins.precision import DoublePrecision, HalfPrecision, MixedPrecision, Precision
from lightning.pytorch.strategies import SingleDeviceStrategy
from lightning.pytorch.trainer import call
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch.optim.optimizer import _global_optimizer_post_hooks, _global_optimizer_pre_hooks

from seedbed.errors import ConfigError
from seedbed.training.captured import CapturedSteps, captured_steps
from seedbed.training.supervised import Supervised

# seconds of steps in a call
CALL = 0.1
# hooks that see a single batch
HOOKS = ("on_train_batch_start", "on_train_batch_end", "on_before_zero_grad", "on_before_backward")
HOOKS += ("on_after_backward", "on_before_optimizer_step")
# methods of a module that Lightning calls for each batch, and this loop does not
MODULE_HOOKS = (*HOOKS, "training_step", "optimizer_step", "optimizer_zero_grad", "backward")
DATA_HOOKS = ("on_before_batch_transfer", "transfer_batch_to_device", "on_after_batch_transfer")
# arguments of the Trainer that mean the same here; with others, Lightning's own loop runs
KNOWN = {"accelerator", "strategy", "devices", "num_nodes", "precision", "logger", "callbacks"}
KNOWN |= {"max_epochs", "min_epochs", "max_steps", "min_steps", "max_time"}
KNOWN |= {"limit_train_batches", "limit_val_batches", "limit_test_batches", "limit_predict_batches", "overfit_batches"}
KNOWN |= {"check_val_every_n_epoch", "num_sanity_val_steps", "log_every_n_steps"}
KNOWN |= {"enable_checkpointing", "enable_progress_bar", "enable_model_summary", "enable_autolog_hparams"}
KNOWN |= {"accumulate_grad_batches", "gradient_clip_val", "gradient_clip_algorithm", "deterministic", "benchmark"}
KNOWN |= {"inference_mode", "use_distributed_sampler", "default_root_dir", "reload_dataloaders_every_n_epochs"}


class FastLoop(_TrainingEpochLoop):
    """Makes as many steps as fit into CALL seconds where Lightning makes one, and does Lightning's bookkeeping once.

    It runs where nothing looks at single batches: the module overrides none of MODULE_HOOKS, neither it nor the
    datamodule has one of DATA_HOOKS, every argument of the Trainer is KNOWN, and no callback has one of HOOKS, except
    callbacks for which one call for several batches is enough (`per_call = True`). `why_plain` has all conditions.
    Elsewhere, and for the first batch after a checkpoint, Lightning's own loop runs. required: raise ConfigError if one
    of these conditions fails. capture: auto records the steps of a run on a GPU, see `captured.py`.
    """

    def __init__(self, trainer: pl.Trainer, options: Mapping[str, Any], required: bool = False, capture: str = "auto"):
        plain = trainer.fit_loop.epoch_loop
        super().__init__(trainer, plain.min_steps, plain.max_steps)
        self._options, self._required, self._capture = options, required, capture
        self._is_fast: bool | None = None
        self._captured: CapturedSteps | None = None

    def on_run_start(self, data_fetcher) -> None:
        super().on_run_start(data_fetcher)
        if self._is_fast is None:
            reason = why_plain(self.trainer, self._options)
            if reason and self._required:
                raise ConfigError(f"trainer.loop=fast: {reason}")
            self._is_fast = reason is None
            self._captured = captured_steps(self.trainer, self._capture) if self._is_fast else None

    def teardown(self) -> None:
        super().teardown()
        # recorded steps keep memory of the device
        self._is_fast = self._captured = None

    def advance(self, data_fetcher) -> None:
        # a batch that a callback skipped before it began (in on_train_epoch_start) is Lightning's too
        if self.restarting or not self._is_fast or self.trainer.lightning_module._skips:
            super().advance(data_fetcher)
            return
        trainer, progress = self.trainer, self.batch_progress
        first, steps_before = progress.current.ready, trainer.lightning_module.steps
        batch, loss, batches = self._steps(data_fetcher, first)
        steps = trainer.lightning_module.steps - steps_before
        # Lightning's counts as they are in `on_train_batch_end` of the last batch
        progress.increment_by(batches, is_last_batch=data_fetcher.done)
        for count in (progress.total, progress.current):
            count.completed -= 1
        self.automatic_optimization.optim_progress.optimizer.step.increment_by(steps)
        self._batches_that_stepped += steps - 1
        trainer._logger_connector.on_batch_start(batch)
        outputs = {"loss": loss.detach()}
        call._call_callback_hooks(trainer, "on_train_batch_end", outputs, batch, first + batches - 1)
        trainer._logger_connector.on_batch_end()
        progress.increment_completed()
        trainer._logger_connector.update_train_step_metrics()

    def _steps(self, data_fetcher, first: int) -> tuple[Any, torch.Tensor, int]:
        """Make steps; return the last batch, its loss and the number of batches. first: the first one's index."""
        trainer, module, optimizer = self.trainer, self.trainer.lightning_module, self.trainer.optimizers[0]
        plugin, accumulate, clip = trainer.precision_plugin, trainer.accumulate_grad_batches, trainer.gradient_clip_val
        # 32-true, the common case, converts nothing; its context costs 2 µs a step
        converts = type(plugin) is not Precision
        context = plugin.train_step_context if converts else nullcontext
        parameters = [p for group in optimizer.param_groups for p in group["params"]]
        make_step = _bare_step(optimizer)
        # Lightning's loop keeps the gradients of its last step
        if first % accumulate == 0:
            optimizer.zero_grad()
        captured = self._captured if accumulate == 1 else None
        if captured:
            captured.check()
        deadline = time.perf_counter() + CALL
        last_step = _next_checkpoint_step(trainer, module.steps)
        index = first
        while True:
            batch, _, _ = next(data_fetcher)
            if converts:
                batch = plugin.convert_input(batch)
            index += 1
            if captured:
                loss = captured(batch)
            else:
                with context():
                    loss = module.training_step(batch, index - 1)
                if accumulate > 1:
                    loss = loss / accumulate
                loss.backward()
                if index % accumulate and not data_fetcher.done:
                    continue
                if clip:
                    module.configure_gradient_clipping(optimizer, clip, trainer.gradient_clip_algorithm)
                make_step()
                for p in parameters:
                    p.grad = None
            module.end_step()
            over = trainer.should_stop or module.steps in (self.max_steps, last_step)
            if over or data_fetcher.done or time.perf_counter() > deadline:
                return batch, loss.sum(), index - first


def _bare_step(optimizer: torch.optim.Optimizer) -> Callable[[], Any]:
    """Return the optimiser's step without what torch wraps around it for profilers and hooks, 60 µs of each step."""
    hooks = optimizer._optimizer_step_pre_hooks or optimizer._optimizer_step_post_hooks
    everywhere = _global_optimizer_pre_hooks or _global_optimizer_post_hooks
    is_torchs = type(optimizer).__module__.startswith("torch.optim.") and "step" not in vars(optimizer)
    if hooks or everywhere or not is_torchs or optimizer.defaults.get("differentiable"):
        return optimizer.step
    return torch.no_grad()(partial(unwrap(type(optimizer).step), optimizer))


def _next_checkpoint_step(trainer: pl.Trainer, step: int) -> float | None:
    """Return the next step at which `Checkpoints` must be called; None if it does not count steps."""
    next_step = getattr(trainer.checkpoint_callback, "next_step", None)
    return next_step(step) if next_step else None


def why_plain(trainer: pl.Trainer, options: Mapping[str, Any]) -> str | None:
    """Return why Lightning's own loop is needed, None if it is not. options: the Trainer's arguments in use."""
    module, plugin = trainer.lightning_module, trainer.precision_plugin
    defaults = {name: parameter.default for name, parameter in signature(pl.Trainer).parameters.items()}
    for name, value in options.items():
        if name in defaults and name not in KNOWN and value != defaults[name]:
            return f"trainer.{name} works in Lightning's own loop only"
    if type(trainer.strategy) is not SingleDeviceStrategy:
        return "several processes train in Lightning's own loop only"
    if type(plugin) not in (Precision, MixedPrecision, DoublePrecision, HalfPrecision) or getattr(
        plugin, "scaler", None
    ):
        return f"trainer.precision={plugin.precision} works in Lightning's own loop only"
    for callback in trainer.callbacks:
        looks = any(is_overridden(hook, callback, pl.Callback) for hook in HOOKS)
        if looks and not isinstance(callback, Timer) and not getattr(callback, "per_call", False):
            return f"the callback {type(callback).__name__} looks at single batches"
    if not module.automatic_optimization or len(trainer.optimizers) != 1 or trainer.lr_scheduler_configs:
        return f"{type(module).__name__} has its own way of optimising"
    changed = [hook for hook in MODULE_HOOKS if getattr(type(module), hook) is not getattr(Supervised, hook)]
    for owner, kind in ((module, pl.LightningModule), (trainer.datamodule, pl.LightningDataModule)):
        changed += [hook for hook in DATA_HOOKS if owner is not None and is_overridden(hook, owner, kind)]
    return f"{changed[0]} of the module looks at single batches" if changed else None
