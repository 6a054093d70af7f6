"""The task that Hydra runs on each config: train one run in its folder."""

from __future__ import annotations

import logging
from contextlib import nullcontext, suppress
from pathlib import Path

from hydra.core.hydra_config import HydraConfig
from hydra.types import RunMode
from omegaconf import DictConfig, OmegaConf

from seedbed.allowed_values import check, check_complete
from seedbed.config_values import typed
from seedbed.errors import ConfigError
from seedbed.owner import owned
from seedbed.presets import left_out
from seedbed.startup.cluster_variables import forget_cluster
from seedbed.startup.occupied import discard
from seedbed.sweeps.columns import read_columns
from seedbed.sweeps.states import finished

log = logging.getLogger("seedbed")


def train(cfg: DictConfig) -> float | None:
    """Train the run and leave its files in Hydra's folder; return the metric that a sweeper sees.

    A job of a sweep goes on from its own last checkpoint. Raises ConfigError for a mistake in the config, after
    removing what a single run put into its folder; raises any other error after writing metrics.json with status
    failed.
    """
    forget_cluster()
    hydra = HydraConfig.get()
    folder = Path(hydra.runtime.output_dir)
    sweep = Path(hydra.sweep.dir) if hydra.mode == RunMode.MULTIRUN else None
    here = Path(hydra.runtime.cwd)
    config = _absolute(OmegaConf.to_container(cfg, resolve=True), here)
    try:
        # the folder of a job is held by whoever runs it (see sweeps/states.py)
        with nullcontext() if sweep else owned(folder):
            (folder / "metrics.json").unlink(missing_ok=True)  # left by the run that this one resumes
            check_complete(config)
            check(config)
            choices = dict(hydra.runtime.choices)
            # the launcher of a sweep says it once for all jobs
            notes = [] if sweep else left_out([choices], hydra.runtime.config_sources)
            metrics = _train(config, folder, choices, notes, sweep, here)
    except Exception as error:
        if sweep is None and isinstance(error, ConfigError):
            discard(folder)
        elif finished(folder) is None:  # a run that is complete stays so, whatever comes after
            from seedbed.training.run import write_failure

            with suppress(OSError):  # a disk that is full
                write_failure(folder, error, config["seed"])
        raise
    return metrics.get(config["optimized_metric"])


def _train(
    config: dict, folder: Path, choices: dict[str, str], notes: list[str], sweep: Path | None, here: Path
) -> dict:
    from seedbed.training.event_files import own_checkpoint
    from seedbed.training.hparams import hparams
    from seedbed.training.processes import spread
    from seedbed.training.run import report, train_parts, write_metrics

    if sweep:
        config = {**config, "ckpt_path": own_checkpoint(folder) or config["ckpt_path"]}
    record = hparams(config, choices, read_columns(sweep) if sweep else None)
    metrics = spread(train_parts, config, folder, record, sweep is None, notes)  # in one process for each device
    write_metrics(folder, {**metrics, "seed": config["seed"]})  # the run is complete
    log.info(report(metrics, folder, here, alone=sweep is None))
    return metrics


def without_room(error: OSError, folder: Path) -> str:
    """Return the line that says which file could not be written, and how to resume once there is room."""
    last = folder / "checkpoints" / "last.ckpt"
    words = [typed("hydra.run.dir", folder), *([typed("ckpt_path", last)] if last.exists() else [])]
    again = f"make room, then go on with the same command and {' '.join(words)}"
    return f"{error.filename or folder}: {error.strerror}; {again}"


def _absolute(config: dict, here: Path) -> dict:
    """Return the config with paths as of the folder where the command was typed, which hydra.job.chdir leaves."""
    if Path.cwd() == here:
        return config
    data = config["data"]
    paths = {key: data[key] for key in ("root", "points") if isinstance(data.get(key), str) and data[key]}
    config["data"] = data | {key: str(here / Path(path).expanduser()) for key, path in paths.items()}
    if config["ckpt_path"]:
        config["ckpt_path"] = str(here / config["ckpt_path"])
    return config
