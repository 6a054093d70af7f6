"""Check a composed config between Hydra's composing it and its making a folder."""

from __future__ import annotations

import sys
from functools import partial
from pathlib import Path
from typing import Any

from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seedbed.allowed_values import check, check_metric
from seedbed.config_values import SWEEP_KEYS
from seedbed.errors import ConfigError, Refusal
from seedbed.startup.occupied import check_free
from seedbed.startup.unknown_keys import check_added_keys
from seedbed.sweeps.choices import LAUNCHERS
from seedbed.sweeps.summary import finish


class Preflight(Callback):
    """Refuses a command with a bad value before anything is written; sums up a sweep at its end.

    It changes no config. Hydra 1.4 turns an exception of a callback into a warning, but lets a SystemExit through.
    """

    def on_run_start(self, config: DictConfig, **kwargs: Any) -> None:
        job = OmegaConf.masked_copy(config, [key for key in config if key != "hydra"])
        try:
            if config.get("resume") is not None:  # a study has no such key
                raise ConfigError("resume: of a sweep (-m); a single run goes on with ckpt_path=…")
            for key in sorted(OmegaConf.missing_keys(job)):
                raise ConfigError(f"{key}: must be given, as {key}=…")
            _check_overrides(config, job)
            check(OmegaConf.to_container(job, resolve=True))
        except (ConfigError, OmegaConfBaseException) as error:
            raise Refusal(str(error).splitlines()[0]) from None
        raw = OmegaConf.to_container(config, resolve=False)
        if "${run_folder:" not in raw.pop("hydra")["run"]["dir"]:
            check_free(Path(config.hydra.run.dir), raw)

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        target = config.hydra.launcher.get("_target_")
        if target != LAUNCHERS["basic"]["_target_"]:
            raise Refusal(f"hydra.launcher: {target} keeps no manifest; choose one of {', '.join(LAUNCHERS)}")
        try:
            _check_overrides(config, OmegaConf.masked_copy(config, [key for key in config if key != "hydra"]))
            check({key: config[key] for key in SWEEP_KEYS})
            check({"hydra": {name: OmegaConf.to_container(config.hydra[name]) for name in ("launcher", "sweeper")}})
            metric = config.optimized_metric
            check_metric(config)
            if OmegaConf.select(config, "hydra.launcher.halving.factor") and metric.startswith("test/"):
                raise ConfigError(f"optimized_metric={metric}: halving decides during training, by val/… or train/loss")
        except ConfigError as error:
            raise Refusal(str(error)) from None

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if sys.exc_info()[0] is not None:  # Hydra 1.4 calls this for a sweep that was interrupted, too
            return
        if finish(Path(config.hydra.sweep.dir), config.optimized_metric):
            sys.exit(1)


def _check_overrides(config: DictConfig, job: DictConfig) -> None:
    """Raise ConfigError for a key that nothing reads, and for sweeps over presets that are sweeps themselves."""
    overrides = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
    check_added_keys(overrides, OmegaConf.to_container(job, resolve=False))
    for override in overrides:
        key, _, value = override.partition("=")
        if key == "experiment" and "," in value:
            for preset in filter(partial(_is_sweep, config), value.split(",")):
                raise ConfigError(f"{override}: {preset} is a sweep by itself; run one of them at a time")


def _is_sweep(config: DictConfig, preset: str) -> bool:
    """Return whether a file of conf/experiment/ configures Hydra."""
    folders = [source.path for source in config.hydra.runtime.config_sources if source.schema == "file"]
    files = [Path(folder, "experiment", f"{preset}.yaml") for folder in folders]
    return any(file.is_file() and "\nhydra:" in file.read_text(encoding="utf-8") for file in files)
