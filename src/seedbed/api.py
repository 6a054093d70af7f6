"""Seedbed from Python, with the words of the command line.

    run = seedbed.train("model=linear", "optim.lr=1")
    sweep = seedbed.sweep("hydra/launcher=fused", "optim.lr=0.1,1", "seed=range(0,5)")

`train` and `sweep` run what `python train.py` and `python train.py -m` run, and leave the same files.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, replace
from functools import cached_property
from glob import glob
from pathlib import Path
from typing import TYPE_CHECKING, Any

from hydra.errors import ConfigCompositionException, MissingConfigException, OverrideParseException
from hydra.types import RunMode

from seedbed.config_values import quoted
from seedbed.errors import ConfigError, Refusal
from seedbed.formats import MANIFEST
from seedbed.startup.command import hydra_with
from seedbed.startup.words import check_words
from seedbed.sweeps.records import Job, read, read_run
from seedbed.sweeps.states import read_metrics
from seedbed.task import train as task

if TYPE_CHECKING:
    import pandas
    from omegaconf import DictConfig
    from torch import nn

    from seedbed.training.load import Loaded

CONF = Path(__file__).resolve().parents[2] / "conf"


@dataclass
class Run:
    """A run that is over.

    which: the weights of `net`, best or last. allow: your own packages that its config may name.
    """

    folder: Path
    which: str = "best"
    allow: Sequence[str] = ()

    @property
    def metrics(self) -> dict[str, Any]:
        """The content of metrics.json."""
        return read_metrics(self.folder) or {}

    @cached_property
    def _loaded(self) -> Loaded:
        from seedbed.training.load import load as load_network

        return load_network(self.folder, self.which, self.allow)

    @property
    def net(self) -> nn.Module:
        """The trained network, in evaluation mode."""
        return self._loaded.net

    @property
    def config(self) -> dict[str, Any]:
        """The composed config as plain data, every interpolation resolved."""
        return self._loaded.config

    @property
    def history(self) -> pandas.DataFrame:
        """One row an epoch, the untrained network first: losses, accuracy, lr, seconds."""
        return _pandas().read_csv(self.folder / "history.csv")


@dataclass
class Sweep:
    """A sweep: a folder of runs."""

    folder: Path

    @property
    def table(self) -> pandas.DataFrame:
        """One row a job: number, folder, status, swept values, metrics."""
        return _table(read(self.folder))

    @property
    def runs(self) -> list[Run]:
        """The jobs in the order of their numbers."""
        return [Run(self.folder / job.folder) for job in read(self.folder)]


def train(*overrides: str) -> Run:
    """Train one run, as `python train.py` does. Raises ConfigError for a mistake in the overrides."""
    errors: list[Exception] = []

    def train_or_keep_error(cfg: DictConfig) -> float | None:
        # Hydra would print words of its own before it raises the error
        try:
            return task(cfg)
        except Exception as error:
            errors.append(error)
            return None

    with _hydra(overrides) as hydra:
        try:
            result = hydra.run("config", train_or_keep_error, list(overrides))
        except AssertionError:  # Hydra's, about hydra.mode
            raise ConfigError("hydra.mode=MULTIRUN: this is a sweep: seedbed.sweep(…)") from None
    if errors:
        raise errors[0]
    return Run(Path(result.hydra_cfg.hydra.runtime.output_dir))


def sweep(*overrides: str) -> Sweep:
    """Run a sweep, as `python train.py -m` does; jobs that failed are in its table.

    Raises ConfigError for a mistake in the overrides.
    """
    with _hydra(overrides) as hydra:
        words = ["hydra.mode=MULTIRUN", *overrides]
        folder = hydra.compose_config("config", words, RunMode.MULTIRUN).hydra.sweep.dir
        try:
            hydra.multirun("config", task, [*words, f"hydra.sweep.dir={quoted(folder)}"])
        except SystemExit as end:
            if isinstance(end, Refusal) or end.code != 1:  # 1: a job failed
                raise
        finally:
            with suppress(OSError):
                Path(folder).rmdir()  # empty after a refusal
    return Sweep(Path(folder).absolute())


def load(folder: str | os.PathLike, which: str = "best", allow: Sequence[str] = ()) -> Run:
    """Return a run that has ended. Raises ConfigError where there is none.

    which: its best or its last weights. allow: your own packages that its config may name; any other raises
    when `net` is first read.
    """
    folder = Path(folder).expanduser()
    if read_metrics(folder) is None:
        raise ConfigError(f"{folder}: not the folder of a finished run: it has no metrics.json")
    return Run(folder, which, allow)


def load_sweep(folder: str | os.PathLike) -> Sweep:
    """Return a sweep. Raises ConfigError where there is none."""
    folder = Path(folder).expanduser()
    if not (folder / MANIFEST).is_file():
        raise ConfigError(f"{folder}: not the folder of a sweep: it has no {MANIFEST}")
    return Sweep(folder)


def runs(pattern: str = "outputs/**") -> pandas.DataFrame:
    """Return all runs and all jobs of sweeps in the matching folders, as one table; `folder` is their path."""
    folders = [Path(path) for path in sorted(glob(os.path.expanduser(pattern), recursive=True))]
    jobs = [
        replace(job, folder=str(sweep / job.folder))
        for sweep in folders
        if (sweep / MANIFEST).is_file()
        for job in read(sweep)
    ]
    of_sweeps = {Path(job.folder) for job in jobs}
    alone = [folder for folder in folders if (folder / "metrics.json").is_file() and folder not in of_sweeps]
    return _table([*jobs, *(read_run(folder) for folder in alone)])


def _pandas() -> Any:
    try:
        import pandas
    except ImportError:
        raise ConfigError('a table needs pandas: pip install "seedbed[pandas]"') from None
    return pandas


def _table(jobs: Sequence[Job]) -> pandas.DataFrame:
    def row(job: Job) -> dict[str, Any]:
        numbers = {name: value for name, value in job.metrics.items() if isinstance(value, int | float)}
        return {"job": job.number, "folder": job.folder, "status": job.status, **job.values, **numbers}

    return _pandas().DataFrame([row(job) for job in jobs])


@contextmanager
def _hydra(overrides: Sequence[str]) -> Iterator[Any]:
    """Yield Hydra with our conf/, and remove its logging at the end.

    A Refusal, or Hydra's error about an unknown choice or key, becomes a ConfigError with the same message.
    """
    if not CONF.is_dir():
        raise ConfigError(f"there is no {CONF}: install Seedbed in place, with pip install -e and its checkout's path")
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    loggers = [logger for logger in root.manager.loggerDict.values() if isinstance(logger, logging.Logger)]
    enabled = [logger for logger in loggers if not logger.disabled]
    try:
        check_words(overrides, CONF)
        with hydra_with(CONF) as hydra:
            yield hydra
    except Refusal as refusal:
        raise ConfigError(str(refusal)) from None
    except (MissingConfigException, ConfigCompositionException, OverrideParseException) as error:
        raise ConfigError("\n".join(map(str, filter(None, (error, error.__cause__))))) from error
    finally:
        for handler in root.handlers:
            if handler not in handlers:
                handler.close()  # train.log of the last run
        root.handlers[:] = handlers
        root.setLevel(level)
        # hydra/job_logging=disabled means this run only
        for logger in enabled:
            logger.disabled = False
