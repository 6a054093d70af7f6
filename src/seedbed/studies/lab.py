"""Networks and sweeps for the studies, from overrides as one types them for train.py."""

from __future__ import annotations

import json
import logging
import shlex
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import hydra
from hydra.errors import HydraException
from omegaconf import OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seedbed import api
from seedbed.allowed_values import check
from seedbed.errors import ConfigError, Interrupted
from seedbed.startup.command import hydra_with
from seedbed.sweeps.records import Job, read
from seedbed.training.build import Parts, build_data
from seedbed.training.datamodule import DataModule
from seedbed.training.supervised import Supervised

log = logging.getLogger("seedbed")


@contextmanager
def hydra_errors_in_one_line() -> Iterator[None]:
    """Turn Hydra's errors, which list what it searched, into ConfigErrors of one line."""
    try:
        yield
    except (HydraException, OmegaConfBaseException) as error:
        message, _, _ = str(error).partition("Config search path")
        raise ConfigError(" ".join(message.split())) from error


def compose(overrides: Sequence[str]) -> dict[str, Any]:
    """Compose the config of `train.py` with these overrides. Raises ConfigError."""
    with hydra_errors_in_one_line(), hydra_with(api.CONF):
        return OmegaConf.to_container(hydra.compose("config", list(overrides)), resolve=True)


class Lab:
    """Builds networks and trains sweeps.

    compose: overrides → the config of that run; raises ConfigError. folder: the study's own.
    """

    def __init__(self, compose: Callable[[Sequence[str]], dict[str, Any]], folder: Path):
        self._compose, self.runs = cache(compose), folder / "runs"
        self._parts, self._data = Parts(), cache(lambda node: build_data({"data": json.loads(node)}))

    def check(self, *commands: Sequence[str]) -> None:
        """Raise ConfigError for the first command that names something unknown, before any work begins."""
        for overrides in commands:
            check(self._compose(tuple(overrides)))

    def data(self, overrides: Sequence[str]) -> DataModule:
        """Return the data of a run, loaded."""
        config = self._compose(tuple(overrides))
        check(config)
        return self._data(json.dumps(config["data"]))

    def module(self, overrides: Sequence[str], seed: int) -> tuple[Supervised, DataModule]:
        """Return an untrained run and its data. `seed` is that of the weights, not of the order of the data."""
        data, config = self.data(overrides), {**self._compose(tuple(overrides)), "seed": seed}
        check(config)
        return self._parts.module(config, data), data

    def sweep(self, overrides: Sequence[str]) -> list[Job]:
        """Train the jobs of `train.py -m` with the fused launcher; a failed job is returned without metrics.

        Raises ConfigError for a mistake in the overrides.
        """
        overrides = ["hydra/launcher=fused", *overrides]
        log.info("python train.py -m %s\n", shlex.join(overrides))
        try:
            with hydra_errors_in_one_line():
                return read(api.sweep(*overrides, f"hydra.sweep.dir='{self.runs}'").folder)
        except Interrupted as end:  # the study's command has no resume=
            stopped = str(end).partition(";")[0]
            raise Interrupted(end.number, f"{stopped}; the runs that are done are in {self.runs}") from None
