"""Networks and sweeps for the studies, from overrides as one types them for train.py."""

from __future__ import annotations

import json
import logging
import shlex
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any

from seedbed.allowed_values import check
from seedbed.errors import ConfigError
from seedbed.sweeps.records import Job, read
from seedbed.training.build import Parts, build_data
from seedbed.training.datamodule import DataModule
from seedbed.training.supervised import Supervised

log = logging.getLogger("seedbed")


class Lab:
    """Builds networks in this process and trains sweeps in another.

    compose: overrides → the config of that run; raises ConfigError. train: path of train.py. folder: the study's own.
    """

    def __init__(self, compose: Callable[[Sequence[str]], dict[str, Any]], train: Path, folder: Path):
        self._compose, self.train, self.runs = cache(compose), train, folder / "runs"
        self._parts, self._data = Parts(), cache(lambda node: build_data({"data": json.loads(node)}))

    def check(self, *commands: Sequence[str]) -> None:
        """Raise ConfigError for the first command that names something unknown, before any work begins."""
        for overrides in commands:
            check(self._compose(tuple(overrides)))

    def module(self, overrides: tuple[str, ...], seed: int) -> tuple[Supervised, DataModule]:
        """Return an untrained run and its data. `seed` is that of the weights, not of the order of the data."""
        config = {**self._compose(overrides), "seed": seed}
        check(config)
        data = self._data(json.dumps(config["data"]))
        return self._parts.module(config, data), data

    def sweep(self, overrides: Sequence[str]) -> list[Job]:
        """Train the jobs of `train.py -m` with the fused launcher; a failed job is returned without metrics.

        Raises ConfigError if no job began.
        """
        arguments = ["-m", "hydra/launcher=fused", *overrides, f"hydra.sweep.dir='{self.runs}'"]
        log.info("python train.py %s\n", shlex.join(arguments))
        subprocess.run([sys.executable, str(self.train), *arguments], check=False)
        if not self.runs.is_dir() or not (jobs := read(self.runs)):
            raise ConfigError("the study's sweep has trained nothing: its message stands above")
        return jobs
