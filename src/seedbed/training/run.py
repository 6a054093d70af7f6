"""One run: training, evaluation, and the results in its folder."""

from __future__ import annotations

import json
import math
import platform
import subprocess
import time
import traceback
from collections.abc import Mapping, Sequence
from functools import cache
from pathlib import Path
from statistics import fmean
from typing import Any

import lightning.pytorch as pl
import torch
from lightning.pytorch.callbacks import WeightAveraging
from lightning.pytorch.utilities.exceptions import MisconfigurationException

from seedbed.errors import ConfigError, summary
from seedbed.files import write_whole
from seedbed.formats import FORMAT
from seedbed.history import write_history
from seedbed.metrics import ACCURACY_BY_CLASS, TEST_ACCURACY, VAL_ACCURACY, VAL_LOSS
from seedbed.own_code import own_error
from seedbed.tables import figure
from seedbed.training.build import Parts, build_callbacks, build_data, build_loggers, build_trainer
from seedbed.training.checkpoints import LAST_GOOD, Checkpoints, checkpoint_options
from seedbed.training.contracts import check_run
from seedbed.training.datamodule import DataModule
from seedbed.training.divergence import first_diverged_layer, lr_at, tell
from seedbed.training.hparams import final
from seedbed.training.interruption import StopOnSignal
from seedbed.training.logger import RunLogger
from seedbed.training.progress import Notes, RunProgress
from seedbed.training.resumable import ConfigWins, check_checkpoint
from seedbed.training.row_reader import SKIPS_ZEROS
from seedbed.training.supervised import Supervised
from seedbed.training.threads import run_threads

# classes whose accuracy the final lines show
MAX_CLASSES = 10


def train_parts(
    config: Mapping[str, Any], folder: Path, hparams: dict[str, Any], table: bool = False, notes: Sequence[str] = ()
) -> dict[str, Any]:
    """Build the parts of a config and fit them; with several processes, each does so, and the first writes files.

    table: print a row an epoch. notes: lines to log once the run can no longer be refused.
    """
    with run_threads(config) as choose_threads:
        data = build_data(config)
        module = Parts().module(config, data)
        choose_threads(module.parameters())
        stop = StopOnSignal(folder)
        checkpoints = Checkpoints(folder / "checkpoints", **checkpoint_options(config))
        chosen, table_bar = build_callbacks(config), RunProgress(table=table)
        callbacks = [Notes(notes), table_bar, ConfigWins(chosen), *chosen, stop, checkpoints]
        trainer = build_trainer(config, build_loggers(config, folder), callbacks, folder)
        if config["ckpt_path"]:
            check_checkpoint(config["ckpt_path"], trainer, module, folder)
        check_run(config, chosen, module, data, trainer.world_size)
        with stop.telling_how_to_go_on():
            metrics = fit(trainer, module, data, hparams, config["ckpt_path"])
            if trainer.is_global_zero:
                write_history(folder, module.history)
            if module.diverged:
                metrics |= _divergence(config, folder, trainer, module)
        return metrics


def _divergence(config: Mapping[str, Any], folder: Path, trainer: pl.Trainer, module: Supervised) -> dict[str, Any]:
    """Return the lr and the layer at which the run diverged."""
    step, good = module.diverged_at, folder / "checkpoints" / LAST_GOOD
    lr = lr_at(step, module.total_steps, Parts().optimizer(config), module.schedule)
    # several processes would have to repeat it together
    alone = trainer.world_size == 1
    layer = first_diverged_layer(config, trainer.datamodule, step, good if good.exists() else None) if alone else None
    return {"diverged_lr": lr, "diverged_layer": layer}


def fit(
    trainer: pl.Trainer, module: Supervised, data: DataModule, hparams: dict[str, Any], ckpt_path: str | None = None
) -> dict[str, Any]:
    """Train and evaluate; return the values of metrics.json. hparams: flat names and values for TensorBoard."""
    # a model without parameters learns nothing by gradient
    if not any(True for _ in module.parameters()):
        trainer.fit_loop.max_epochs = 0
    for logger in trainer.loggers:
        if not isinstance(logger, RunLogger):
            logger.log_hyperparams(hparams)
    start = time.perf_counter()
    try:
        trainer.fit(module, data, ckpt_path=ckpt_path)
    except Exception as error:
        if ckpt_path and not module.total_steps and not isinstance(error, ConfigError) and not own_error(error):
            raise ConfigError(f"ckpt_path={ckpt_path}: is damaged: {' '.join(str(error).split())}") from error
        if not isinstance(error, MisconfigurationException | ValueError):
            raise
        # an error that Lightning raises before the first step is about a value of the Trainer
        *_, (frame, _) = traceback.walk_tb(error.__traceback__)
        if (
            own_error(error)
            or module.total_steps
            or not frame.f_code.co_filename.startswith(str(Path(pl.__file__).parent))
        ):
            raise
        raise ConfigError(f"trainer: {' '.join(str(error).split())}") from error
    seconds = time.perf_counter() - start
    for callback in trainer.callbacks:
        if isinstance(callback, StopOnSignal):
            callback.check()
    # the metrics are those of the last weights, which averaging replaces at the end
    averaged = any(isinstance(callback, WeightAveraging) for callback in trainer.callbacks)
    if module.validated_at != module.steps or averaged:
        trainer.validate(module, data, verbose=False)
    if data.splits.test is not None:
        trainer.test(module, data, verbose=False)
    for logger in trainer.loggers:
        if isinstance(logger, RunLogger):
            logger.log_epochs(module.history)
            logger.log_hyperparams(hparams, final(module.metrics))
            logger.close()
    return {
        "status": "diverged" if module.diverged else "completed",
        **({"diverged_at": module.diverged_at} if module.diverged else {}),
        # the accuracy stays null where there are no classes
        **{VAL_LOSS: None, VAL_ACCURACY: None},
        **module.metrics,
        **({ACCURACY_BY_CLASS: module.accuracy_by_class} if module.accuracy_by_class else {}),
        **({"first_layer": SKIPS_ZEROS} if module.takes_rows else {}),
        "epochs": module.ended_epochs or trainer.current_epoch,
        "steps": module.steps,
        "fit_seconds": round(module.seconds_before + seconds, 3),
    }


def write_metrics(folder: Path, metrics: dict[str, Any]) -> None:
    """Write metrics.json, which completes the run, with versions and commit. nan and inf become null."""
    clean = {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in metrics.items()}
    text = json.dumps({**clean, "format": FORMAT, "versions": versions(), "git": commit()}, indent=2)
    write_whole(folder / "metrics.json", text + "\n")


def write_failure(folder: Path, error: BaseException, seed: int) -> None:
    """Write the metrics.json of a run that failed: every key, with null for what is not known."""
    unknown = dict.fromkeys((VAL_LOSS, VAL_ACCURACY, "epochs", "steps", "fit_seconds"))
    write_metrics(folder, {"status": "failed", "error": summary(error), **unknown, "seed": seed})


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "torch": torch.__version__, "lightning": pl.__version__}


@cache
def commit() -> str | None:
    """Return the commit of the source tree, with a + if it has changes; None outside a repository."""
    command = ["git", "describe", "--always", "--dirty=+", "--abbrev=12", "--exclude=*"]
    try:
        return subprocess.run(
            command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return None


def report(metrics: dict[str, Any], folder: Path, here: Path, alone: bool) -> str:
    """Return the last lines that a run prints, or one line for a job of a sweep; paths are as seen from `here`."""
    names = [name for name in (VAL_ACCURACY, VAL_LOSS, TEST_ACCURACY) if metrics.get(name) is not None]
    shown = folder.relative_to(here) if folder.is_relative_to(here) else folder
    result = f"{tell(metrics)}: " + "   ".join(f"{name} {figure(metrics[name])}" for name in names)
    effort = f"{metrics['epochs']} epochs, {metrics['steps']} steps in {metrics['fit_seconds']:.1f} s"
    if not alone:
        return f"{result}   {effort}   {shown}"
    logdir = "outputs" if shown.parts[:1] == ("outputs",) else shown
    look = f"\nlook:    tensorboard --logdir {logdir}" if any(folder.glob("events.out.tfevents.*")) else ""
    if classes := metrics.get(ACCURACY_BY_CLASS):
        result += f"\nclasses: {by_class(classes)}"
    return f"{result}\ntrained: {effort}\nrun:     {shown}{look}"


def by_class(accuracies: Mapping[str, float]) -> str:
    """Return each class and its accuracy, or the worst MAX_CLASSES of them, then the mean of all."""
    shown = sorted(accuracies, key=accuracies.__getitem__)[:MAX_CLASSES]
    some = f"   (the worst {MAX_CLASSES} of {len(accuracies)})" if len(accuracies) > MAX_CLASSES else ""
    cells = [f"{name} {figure(accuracy)}" for name, accuracy in accuracies.items() if name in shown]
    return "   ".join([*cells, f"mean {figure(fmean(accuracies.values()))}"]) + some
