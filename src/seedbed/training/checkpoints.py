"""last.ckpt and best.ckpt, written every few seconds or steps and at the end."""

from __future__ import annotations

import logging
import math
import os
import shutil
import time
from collections.abc import Mapping
from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.callbacks import Checkpoint
from lightning.pytorch.loggers import Logger

from seedbed.errors import ConfigError, unwritten
from seedbed.files import replacing
from seedbed.formats import FORMAT, check_format
from seedbed.machine import here, not_promised
from seedbed.metrics import LR, TRAIN_LOSS, validation_merit
from seedbed.training.event_files import cut
from seedbed.training.interruption import end_long_validation, in_any_process, was_interrupted
from seedbed.training.row_reader import first_layer

log = logging.getLogger("seedbed")
# the last.ckpt before a run diverged
LAST_GOOD = "last_good.ckpt"
# seconds of training that a signalled run repeats at most to save the rest of a validation
REPEATED = 10.0


class Checkpoints(Checkpoint):
    """Keeps `last.ckpt`, from which a run resumes, and `best.ckpt`, the first one with the highest merit, in `folder`.

    metrics.py defines the merit.

    An epoch of a small model takes 20 ms and writing a file 1 ms. So the best state waits in memory, and both files are
    written every `every` seconds and every `every_n_steps` steps, each whole or not at all: a machine that dies loses
    no more work than that. Both load with `weights_only=True`, and a run can resume from either. A run that resumes
    from another folder copies that folder's best.ckpt.

    same_bits: `required` refuses a checkpoint of another machine, library or number of threads, `warn` logs a warning.
    """

    per_call = True  # see FastLoop

    def __init__(
        self, folder: str | Path, every: float = 5.0, every_n_steps: int | None = None, same_bits: str = "warn"
    ):
        self.folder, self.every, self.every_n_steps, self.same_bits = Path(folder), every, every_n_steps, same_bits
        # the checkpoint to write as best.ckpt
        self.best: dict | None = None
        self.best_score, self.best_epoch = -float("inf"), -1
        self._written, self._has_written = time.monotonic(), False
        # when the last epoch made its last step
        self._trained = self._written
        # the first step at which last.ckpt is due, whatever the time
        self._due_at: float = every_n_steps or math.inf
        # whether the checkpoint of a run that stopped inside an epoch has been written
        self._stopped_inside = False

    def state_dict(self) -> dict:
        return {"best_score": self.best_score, "best_epoch": self.best_epoch}

    def load_state_dict(self, state: dict) -> None:
        self.best_score, self.best_epoch = state["best_score"], state["best_epoch"]

    def on_save_checkpoint(self, trainer, module, checkpoint) -> None:
        state = {"metrics": module.metrics, "diverged": module.diverged, "over": _is_over(trainer)}
        state |= {"diverged_at": module.diverged_at, "epochs": trainer.current_epoch + 1}
        checkpoint["run"] = deepcopy(state)
        checkpoint |= {"format": FORMAT, "made_with": _made_with(trainer)}

    def on_load_checkpoint(self, trainer, module, checkpoint) -> None:
        """When resuming in the run's own folder, restore its metrics and whether it had stopped, and cut its curves.

        Raises ConfigError if same_bits=required and the bits may differ here.
        """
        check_format(checkpoint, str(trainer.ckpt_path))
        self._check_bits(trainer, checkpoint)
        if Path(trainer.ckpt_path).parent != self.folder:
            return
        if trainer.is_global_zero:
            cut(self.folder.parent, checkpoint["global_step"], with_results=not _has_ended(trainer, checkpoint))
        run = checkpoint["run"]
        # the metrics of validation and test are computed again if no epoch is left
        module.metrics = {name: run["metrics"][name] for name in (TRAIN_LOSS, LR) if name in run["metrics"]}
        module.diverged, module.diverged_at = run["diverged"], run.get("diverged_at", module.diverged_at)
        trainer.should_stop |= run["over"]
        module.ended_epochs = run.get("epochs") if run["over"] else None

    def _check_bits(self, trainer, checkpoint) -> None:
        # a run goes on with the first layer that it began with, whatever its config would choose now
        chosen = {"first_layer": first_layer(trainer.lightning_module.prefers_rows)}
        reason = not_promised(checkpoint.get("made_with"), _made_with(trainer) | chosen)
        if reason and self.same_bits == "required":
            raise ConfigError(f"same_bits=required: {trainer.ckpt_path} {reason}")
        if reason and trainer.is_global_zero:
            log.warning("%s %s", trainer.ckpt_path, reason)

    def on_fit_start(self, trainer, module) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        best = self.folder / "best.ckpt"
        if trainer.ckpt_path and trainer.is_global_zero and not best.exists():
            earlier = Path(trainer.ckpt_path).with_name("best.ckpt")
            with replacing(best) as temporary:
                shutil.copyfile(earlier if earlier.exists() else trainer.ckpt_path, temporary)

    def on_train_batch_end(self, trainer, module, *batch) -> None:
        # not after an epoch's last batch: from there Lightning would resume without that epoch's validation
        if trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._stopped_inside, self._trained = False, time.monotonic()
            return
        # Lightning ends an epoch in which training stops: only a checkpoint of this moment resumes inside it
        self._stopped_inside = _stops_resumable(trainer, module) or module.steps == trainer.max_steps
        if self._stopped_inside:
            self._write(trainer)
        # between the batches of one step each of several processes has gradients of its own
        elif trainer.world_size == 1 or not module.record.window:
            self._write_if_due(trainer)

    def on_validation_batch_end(self, trainer, module, *batch) -> None:
        # the resumed run repeats what came after the checkpoint
        if self._has_written and self._trained - self._written < REPEATED:
            end_long_validation(trainer)

    def on_validation_end(self, trainer, module) -> None:
        if trainer.state.fn != "fit" or trainer.sanity_checking:
            return
        # at an epoch's end, `on_train_epoch_end` follows with that epoch's train/loss
        if not trainer.fit_loop.epoch_loop.batch_progress.is_last_batch:
            self._keep_best(trainer)
            if _stops_resumable(trainer, module) and not self._stopped_inside:
                self._stopped_inside = True
                self._write(trainer)

    def on_train_epoch_end(self, trainer, module) -> None:
        self._keep_best(trainer)
        last = (
            trainer.should_stop or trainer.current_epoch + 1 == trainer.max_epochs or module.steps == trainer.max_steps
        )
        if not last:
            self._write_if_due(trainer)
        # written now, because in `on_train_end` averaged weights may replace the raw ones
        elif not self._stopped_inside:
            self._write(trainer)

    def on_fit_end(self, trainer, module) -> None:
        # a run without a step left keeps the checkpoint that it resumed from
        if not self._has_written and Path(trainer.ckpt_path or "").parent != self.folder:
            # without training the initial state is the best, too
            if not trainer.ckpt_path:
                self.best = deepcopy(dump(trainer))
            self._write(trainer)
        self._write_best(trainer)

    def _keep_best(self, trainer) -> None:
        score = validation_merit(trainer.callback_metrics)
        # weights that are nan have an accuracy too, which does not count
        if score is not None and score > self.best_score and self._is_good(trainer.lightning_module):
            self.best_score, self.best_epoch = float(score), trainer.current_epoch
            self.best = deepcopy(dump(trainer))

    def _write_if_due(self, trainer) -> None:
        module = trainer.lightning_module
        due = time.monotonic() - self._written > self.every or module.steps >= self._due_at
        # each process has a clock of its own, and all of them dump together
        # a run notices up to nine steps later that it has diverged
        if in_any_process(trainer, due) and self._is_good(module):
            self._write(trainer)

    def _is_good(self, module) -> bool:
        """Return whether no loss has left the range, and all weights are finite."""
        return not module.record.diverges_at().any() and all(
            bool(weights.isfinite().all()) for weights in module.parameters()
        )

    def _write(self, trainer) -> None:
        module = trainer.lightning_module
        if not trainer.fast_dev_run:
            if trainer.is_global_zero:
                # events up to here must be on disk: a run that resumes from this checkpoint does not log them again
                module.log_points(ended=_is_over(trainer) or module.steps == module.total_steps)
                for logger in trainer.loggers:
                    _flush(logger)
            checkpoint = _without_empty_epoch(dump(trainer))
            if trainer.is_global_zero:
                self._write_best(trainer)
                last = self.folder / "last.ckpt"
                if module.diverged is True and last.exists() and not _diverged(last):
                    os.replace(last, self.folder / LAST_GOOD)
                # written after best.ckpt, because it contains the best score
                save(checkpoint, last)
        self._written, self._has_written = time.monotonic(), True
        self._due_at = self.next_step(module.steps)

    def next_step(self, step: int) -> float:
        """Return the next step after `step` at which a checkpoint is due."""
        every = self.every_n_steps or math.inf
        return every if every == math.inf else (step // every + 1) * every

    def _write_best(self, trainer) -> None:
        if self.best is not None and trainer.is_global_zero and not trainer.fast_dev_run:
            save(self.best, self.folder / "best.ckpt")
        self.best = None


def _flush(logger: Logger) -> None:
    """Write what a logger holds back; Lightning's loggers have `save` for that, TensorBoard's writer a `flush`."""
    writer = logger if hasattr(logger, "flush") else logger.experiment
    getattr(writer, "flush", logger.save)()


def checkpoint_options(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return the arguments of `Checkpoints` that a run's config sets."""
    steps, minutes = config["ckpt"]["every_n_steps"], config["ckpt"]["every_minutes"]
    seconds = 60 * minutes if minutes else math.inf if steps else 5.0
    return {"every": seconds, "every_n_steps": steps, "same_bits": config["same_bits"]}


def _diverged(path: Path) -> bool:
    """Return whether a checkpoint was written after its run diverged, as when a kill comes before metrics.json."""
    return torch.load(path, weights_only=True, mmap=True).get("run", {}).get("diverged", False)


def _made_with(trainer) -> dict[str, str | int]:
    """Return the facts on which the bits of this run depend besides its config."""
    device = trainer.strategy.root_device
    name = torch.cuda.get_device_name(device) if device.type == "cuda" else device.type
    facts = {"torch": str(torch.__version__), "threads": torch.get_num_threads(), "device": name}
    facts |= {"processes": trainer.world_size, "first_layer": first_layer(trainer.lightning_module.takes_rows)}
    return here() | facts


def _stops_resumable(trainer, module) -> bool:
    """Return whether training stops now, in a run that may be resumed."""
    return trainer.should_stop and not module.is_over


def _is_over(trainer) -> bool:
    """Return whether something other than a signal has stopped the training."""
    return trainer.should_stop and not was_interrupted(trainer)


def _has_ended(trainer, checkpoint: dict) -> bool:
    """Return whether a run that resumes from its own checkpoint has no step left."""
    run = checkpoint["run"]
    epoch_ended = checkpoint["loops"]["fit_loop"]["epoch_loop.batch_progress"]["is_last_batch"]
    last_epoch = epoch_ended and run.get("epochs") == trainer.max_epochs
    return run["over"] or last_epoch or checkpoint["global_step"] == trainer.max_steps


def _without_empty_epoch(checkpoint: dict) -> dict:
    """Take back an epoch that a callback stopped before its first batch: Lightning counts it as trained."""
    loops = checkpoint["loops"]["fit_loop"]
    epochs, batches = loops["epoch_progress"], loops["epoch_loop.batch_progress"]
    ended = epochs["current"]["processed"] == epochs["current"]["completed"] + 1
    if ended and not batches["current"]["ready"]:
        for count in epochs.values():
            count.update({name: value - 1 for name, value in count.items()})
    return checkpoint


def dump(trainer) -> dict:
    """Return the checkpoint that `trainer.save_checkpoint` would write; to be called in all processes of a run."""
    return trainer._checkpoint_connector.dump_checkpoint()


def save(checkpoint: dict, path: Path) -> None:
    """Write a checkpoint whole or not at all."""
    try:
        # through Python's file, whose errors say why
        with replacing(path) as temporary, open(temporary, "wb") as file:
            torch.save(checkpoint, file)
    except (OSError, RuntimeError) as error:
        if reason := unwritten(error):
            raise OSError(reason.errno, reason.strerror, str(path)) from error
        raise
