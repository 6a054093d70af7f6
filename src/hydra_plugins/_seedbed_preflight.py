"""Between Hydra's composing a config and its making a folder: the config is checked, a folder is claimed."""

from __future__ import annotations

import logging
import re
import sys
from collections.abc import Iterable
from itertools import chain, count
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.experimental.callback import Callback
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from seedbed.allowed_values import CONTROL, RULES, check
from seedbed.errors import ConfigError
from seedbed.sweeps import summary
from seedbed.sweeps.manifest import Refused, latest
from seedbed.sweeps.records import read

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
            if config.get("resume") is not None:  # a study has no such key
                raise ConfigError("resume: of a sweep (-m); a single run goes on with ckpt_path=…")
            for key in sorted(OmegaConf.missing_keys(job)):
                raise ConfigError(f"{key}: must be given, as {key}=…")
            check(OmegaConf.to_container(job, resolve=True))
        except (ConfigError, OmegaConfBaseException) as error:
            print(str(error).splitlines()[0], file=sys.stderr)
            sys.exit(2)
        _claim(config.hydra.run, (str(n) for n in count()))

    def on_multirun_start(self, config: DictConfig, **kwargs: Any) -> None:
        try:
            control, command = _take_control(config), _command(config)
            _prepare_search(config)
            if config.resume is not None:
                sweep = latest(_pattern(config), command) if config.resume == "latest" else Path(config.resume)
                if not sweep.is_dir():
                    raise Refused(f"resume={config.resume}: must be latest or a sweep's folder")
                config.hydra.sweep.dir = str(sweep)
        except (ConfigError, Refused) as error:
            print(error, file=sys.stderr)
            sys.exit(2)
        _claim(config.hydra.sweep, chain([""], (f"-{n}" for n in count(1))))
        # each job's config is composed anew from the overrides: they have to say it too
        config.hydra.overrides.hydra.append(f"hydra.sweep.dir='{config.hydra.sweep.dir}'")
        with open_dict(config):
            around = {"_target_": "hydra_plugins.seedbed_manifest_launcher.ManifestLauncher", "_recursive_": False}
            config.hydra.launcher = {
                **around,
                "launcher": config.hydra.launcher,
                "control": control,
                "command": command,
            }

    def on_multirun_end(self, config: DictConfig, **kwargs: Any) -> None:
        if finish(Path(config.hydra.sweep.dir), config.optimized_metric):
            sys.exit(1)


def finish(sweep: Path, optimized: str) -> bool:
    """summary.csv and summary.md, and for the terminal the ten best jobs and those that failed; whether any has."""
    jobs = read(sweep)
    metric = summary.headline(jobs, optimized)
    summary.write(sweep, jobs, metric)
    failed = summary.failures(jobs)
    log.info(
        "\n%s\n%s\nsummary: %s\nlook:    tensorboard --logdir %s",
        summary.best_table(jobs, metric),
        f"\n{failed}\n" if failed else "",
        sweep / "summary.md",
        sweep,
    )
    return bool(failed)


def _take_control(config: DictConfig) -> dict[str, Any]:
    """What is said of the sweep as a whole; the jobs do not hear of it. Raises ConfigError."""
    control = {key: config[key] for key in CONTROL}
    for key, value in control.items():
        if not RULES[key].holds(value):
            raise ConfigError(f"{key}={value}: must be {RULES[key].allowed}")
    words = _words(config, "task")
    ours = [word for word in words if word.partition("=")[0].lstrip("+") in CONTROL]
    for override in OverridesParser.create().parse_overrides(ours):
        if override.is_sweep_override():
            raise ConfigError(f"{override.input_line}: one value, for the sweep as a whole")
    config.hydra.overrides.task = [word for word in words if word not in ours]
    return control | {"resume": None}


def _prepare_search(config: DictConfig) -> None:
    """Check what is said of launcher and sweeper; Optuna's direction follows from the metric, its seed from `seed`.

    Without a seed a search that was killed could not go on: it would ask for other trials. Raises ConfigError.
    """
    sweeper, metric = config.hydra.sweeper, config.optimized_metric
    check({"hydra": {name: OmegaConf.to_container(config.hydra[name]) for name in ("launcher", "sweeper")}})
    if OmegaConf.select(config, "hydra.launcher.halving.factor") and metric.startswith("test/"):
        raise ConfigError(f"optimized_metric={metric}: halving decides during training, by val/… or train/loss")
    if "direction" in sweeper:
        sweeper.direction = "minimize" if metric.endswith("loss") else "maximize"
    if "seed" in sweeper.get("sampler", ()) and sweeper.sampler.seed is None:
        sweeper.sampler.seed = config.seed


def _command(config: DictConfig) -> list[str]:
    """What makes the sweep what it is: neither its folder nor its launcher, but who is dropped."""
    kept = re.compile(r"\+*hydra[./](sweeper|sweep\.subdir|launcher\.halving)")
    of_sweep = [word for word in _words(config, "hydra") if kept.match(word)]
    return [f"--config-name={config.hydra.job.config_name}", *_words(config, "task"), *of_sweep]


def _words(config: DictConfig, kind: str) -> list[str]:
    """The command's words, `${…}` as typed: each job resolves them with its own values."""
    return OmegaConf.to_container(config.hydra.overrides[kind], resolve=False)


def _pattern(config: DictConfig) -> str:
    """Where sweeps lie: hydra.sweep.dir with a * for every time and number."""
    raw = OmegaConf.to_container(config, resolve=False)["hydra"]["sweep"]["dir"]
    return re.sub(r"\*+", "*", re.sub(r"\$\{now:[^}]*\}", "*", raw))


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
