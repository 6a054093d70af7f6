"""The task that Hydra runs on each config: train one run in its folder."""

from __future__ import annotations

import logging
import os
from contextlib import suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seedbed.allowed_values import check
from seedbed.errors import ConfigError
from seedbed.sweeps.columns import read_columns

log = logging.getLogger("seedbed")


def train(cfg: DictConfig) -> float | None:
    """Train the run and leave its files in Hydra's folder; return the metric that a sweeper sees.

    A job of a sweep goes on from its own last checkpoint. Raises ConfigError for a mistake in the config, after which
    the folder of a single run is gone, and whatever stops the training, after which metrics.json says failed.
    """
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    sweep = Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None
    config = OmegaConf.to_container(cfg, resolve=True)
    try:
        check(config)
        metrics = _train(config, folder, dict(hydra.runtime.choices), sweep)
    except Exception as error:
        if sweep is None and isinstance(error, ConfigError):
            _discard(folder)
        else:
            from seedbed.training.run import write_failure

            write_failure(folder, error, config["seed"])
        raise
    return metrics.get(config["optimized_metric"])


def _train(config: dict, folder: Path, choices: dict[str, str], sweep: Path | None) -> dict:
    from seedbed.training.event_files import own_checkpoint
    from seedbed.training.hparams import hparams
    from seedbed.training.processes import spread
    from seedbed.training.run import report, train_parts, write_metrics

    if sweep:
        config = {**config, "ckpt_path": own_checkpoint(folder) or config["ckpt_path"]}
    record = hparams(config, choices, read_columns(sweep) if sweep else None)
    metrics = spread(train_parts, config, folder, record)  # in one process for each device
    write_metrics(folder, {**metrics, "seed": config["seed"]})
    log.info(report(metrics, folder, alone=sweep is None))
    return metrics


def _discard(folder: Path) -> None:
    """Remove what this process put into a folder in which nothing was trained; other things in it stay."""
    events = folder.glob(f"events.out.tfevents.*.{os.getpid()}.*")
    for path in (*folder.glob(".hydra/*.yaml"), folder / "train.log", *events):
        path.unlink(missing_ok=True)
    with suppress(OSError):  # a folder that holds something else
        (folder / ".hydra").rmdir()
        folder.rmdir()
