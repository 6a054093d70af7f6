"""Where the studies get their networks and sweeps from: words of train.py's command line."""

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
    """Networks in this process, sweeps in another.

    compose: words → the config of such a run, or a ConfigError. train: the path of train.py. folder: the study's own.
    """

    def __init__(self, compose: Callable[[Sequence[str]], dict[str, Any]], train: Path, folder: Path):
        self._compose, self.train, self.runs = cache(compose), train, folder / "runs"
        self._parts, self._data = Parts(), cache(lambda node: build_data({"data": json.loads(node)}))

    def check(self, *commands: Sequence[str]) -> None:
        """Raises ConfigError for the first of these commands that names what is not there: before any work begins."""
        for words in commands:
            check(self._compose(tuple(words)))

    def module(self, words: tuple[str, ...], seed: int) -> tuple[Supervised, DataModule]:
        """An untrained run and its data. `seed` is that of the weights: the order of the data stays the words'."""
        config = {**self._compose(words), "seed": seed}
        check(config)
        data = self._data(json.dumps(config["data"]))
        return self._parts.module(config, data), data

    def sweep(self, words: Sequence[str]) -> list[Job]:
        """The jobs of `train.py -m`, trained by the fused launcher; a failed one is among them, without metrics.

        Raises ConfigError if no job began.
        """
        words = ["-m", "hydra/launcher=fused", *words, f"hydra.sweep.dir='{self.runs}'"]
        log.info("python train.py %s\n", shlex.join(words))
        subprocess.run([sys.executable, str(self.train), *words], check=False)
        if not self.runs.is_dir() or not (jobs := read(self.runs)):
            raise ConfigError("the study's sweep has trained nothing: its message stands above")
        return jobs
