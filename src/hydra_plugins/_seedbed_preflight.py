"""Between Hydra's composing a config and its making a folder: the config is checked, a folder is claimed."""

from __future__ import annotations

import logging
import sys
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from seedbed import summary
from seedbed.check import ConfigError, check

log = logging.getLogger("seedbed")


class Preflight(Callback):
    """Refuses a single run with a bad value before anything is written; gives each run and sweep a folder of its own.

    Hydra's `${now:…}` is the same for two runs of one second: a `*` that ends `hydra.run.dir` becomes the first free
    number, one that ends `hydra.sweep.dir` nothing or the first free -1, -2, ….
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        with open_dict(config):
            job = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        try:
            for key in sorted(OmegaConf.missing_keys(job)):
                raise ConfigError(f"{key}: must be given, as {key}=…")
            check(OmegaConf.to_container(job, resolve=True))
        except (ConfigError, OmegaConfBaseException) as error:
            print(str(error).splitlines()[0], file=sys.stderr)
            sys.exit(2)
        _claim(config.hydra.run, (str(n) for n in count()))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        _claim(config.hydra.sweep, chain([""], (f"-{n}" for n in count(1))))
        # each job's config is composed anew from the overrides: they have to say it too
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{config.hydra.sweep.dir}'")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if not config.hydra.launcher._target_.endswith(".FusedLauncher"):  # which has written it, failures or not
            summarise(Path(config.hydra.sweep.dir))


def summarise(sweep: Path) -> None:
    """summary.csv and summary.md of a sweep, and its ten best jobs for the terminal."""
    jobs = summary.read(sweep)
    summary.write(sweep, jobs)
    log.info(
        "\n%s\n\nsummary: %s\nlook:    tensorboard --logdir %s", summary.best_table(jobs), sweep / "summary.md", sweep
    )


def _claim(node: DictConfig, endings: Iterable[str]) -> None:
    """Make the folder that `node.dir` asks for, alone, and write its name back."""
    if not node.dir.endswith("*"):
        return
    for ending in endings:
        folder = Path(node.dir[:-1] + ending)
        folder.parent.mkdir(parents=True, exist_ok=True)
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        node.dir = str(folder)
        return
