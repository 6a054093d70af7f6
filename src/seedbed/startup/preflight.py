"""Check a config after Hydra has composed it, and before Hydra writes anything."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seedbed.allowed_values import check, check_complete, check_metric
from seedbed.config_values import SWEEP_KEYS
from seedbed.errors import ConfigError, Refusal
from seedbed.presets import is_sweep
from seedbed.startup.occupied import check_free, check_writable
from seedbed.startup.unknown_keys import check_added_keys
from seedbed.sweeps.choices import LAUNCHERS
from seedbed.sweeps.summary import finish
from seedbed.tables import show

log = logging.getLogger("seedbed")


def _strictly(check: Callable[..., None]) -> Callable[..., None]:
    """End the command with an unexpected error of a check: Hydra would only warn, and train unchecked."""

    @wraps(check)
    def call(*args: Any, **kwargs: Any) -> None:
        try:
            check(*args, **kwargs)
        except (ConfigError, OmegaConfBaseException) as error:
            raise Refusal(str(error).splitlines()[0]) from None
        except Exception:
            traceback.print_exc()
            sys.exit(1)

    return call


class Preflight(Callback):
    """Refuses a command with a bad value before anything is written; writes a sweep's summary at its end.

    It changes no config. Hydra 1.4 turns an exception of a callback into a warning, but lets a SystemExit through.
    """

    @_strictly
    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        job = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        _check_single(config)
        for key in sorted(OmegaConf.missing_keys(job)):
            raise ConfigError(f"{key}: must be given, as {key}=…")
        _check_overrides(config, job)
        if not _is_study(config):
            check_complete(job)
        check(OmegaConf.to_container(job, resolve=True))
        raw = OmegaConf.to_container(config, resolve=False)
        is_new = "${run_folder:" in raw.pop("hydra")["run"]["dir"]
        folder = Path(config.hydra.run.dir)
        try:
            if not is_new:
                check_free(folder, raw)
            check_writable(folder)
        except ConfigError as error:
            raise Refusal(f"hydra.run.dir={folder}: {error}") from None
        except OSError as error:
            raise Refusal(f"hydra.run.dir={folder}: cannot be written: {error.strerror}") from error

    @_strictly
    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        if _is_study(config):
            return
        target = config.hydra.launcher.get("_target_")
        if target != LAUNCHERS["basic"]["_target_"]:
            raise Refusal(f"hydra.launcher: {target} keeps no manifest; choose one of {', '.join(LAUNCHERS)}")
        _check_overrides(config, OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))
        check_complete(config)
        check({key: config[key] for key in SWEEP_KEYS})
        check({"hydra": {name: OmegaConf.to_container(config.hydra[name]) for name in ("launcher", "sweeper")}})
        _check_gpus(config.hydra.launcher.get("gpus"), config.trainer.get("accelerator"))
        metric = config.optimized_metric
        check_metric(config)
        if OmegaConf.select(config, "hydra.launcher.halving.factor") and metric.startswith("test/"):
            raise ConfigError(f"optimized_metric={metric}: halving decides during training, by val/… or train/loss")

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        # Hydra 1.4 calls this for a sweep that was interrupted, too
        if _is_study(config) or sys.exc_info()[0] is not None:
            return
        try:
            has_failed = finish(Path(config.hydra.sweep.dir), config.optimized_metric)
        except OSError as error:
            log.error("no summary: %s: %s", error.filename or config.hydra.sweep.dir, error.strerror)
            has_failed = True
        if has_failed:
            sys.exit(1)


def _check_single(config: DictConfig) -> None:
    """Raise ConfigError for a key of a sweep that a single run would not obey. A study has no such keys."""
    for key, unused in (("resume", None), ("extend", False), ("on_error", "continue"), ("retries", 0)):
        if config.get(key, unused) != unused:
            hint = "; a single run goes on with ckpt_path=…" if key == "resume" else ""
            raise ConfigError(f"{key}={show(config[key])}: works only in a sweep (-m){hint}")


def _check_gpus(gpus: int | None, accelerator: str | None) -> None:
    """Raise ConfigError if the launcher is to share out GPUs that the jobs would not use, or that it may not see."""
    if gpus and accelerator not in ("gpu", "cuda"):
        raise ConfigError(f"hydra.launcher.gpus={gpus}: needs trainer.accelerator=gpu")
    visible = os.environ.get("CUDA_VISIBLE_DEVICES")
    if gpus and visible is not None and gpus > len([name for name in visible.split(",") if name]):
        raise ConfigError(f"hydra.launcher.gpus={gpus}: CUDA_VISIBLE_DEVICES={visible} names fewer")


def _is_study(config: DictConfig) -> bool:
    """Return whether the command is scripts/study.py, whose config is not that of a run."""
    return config.hydra.job.config_name == "study"


def _check_overrides(config: DictConfig, job: DictConfig) -> None:
    """Raise ConfigError for a key that nothing reads or that is missing, and for a sweep over presets that sweep."""
    words = OmegaConf.to_container(config.hydra.overrides, resolve=False)
    overrides = [*words["task"], *words["hydra"]]
    if any(override.startswith("+") for override in overrides):
        check_added_keys(overrides, *(OmegaConf.to_container(node, resolve=False) for node in (job, config.hydra)))
    for override in overrides:
        key, _, value = override.partition("=")
        for preset in value.split(",") if key == "experiment" and "," in value else ():
            if is_sweep(preset, config.hydra.runtime.config_sources):
                raise ConfigError(f"{override}: {preset} is a sweep by itself; run one of them at a time")
