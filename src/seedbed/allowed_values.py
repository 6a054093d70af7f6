"""The table of allowed values, and the check of a config against it, before torch is imported.

Hydra checks structure (which keys, which choices); types and ranges of values are checked here. Errors name the keys
that the user typed.
"""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from seedbed.config_values import leaves
from seedbed.errors import ConfigError
from seedbed.metrics import TEST_ACCURACY, TEST_LOSS, TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS
from seedbed.optim.drivable import DRIVABLE, check_schedule
from seedbed.tables import show


@dataclass(frozen=True)
class Rule:
    """A test of a value, and what it allows in words."""

    holds: Callable[[Any], bool]
    allowed: str


def _is_int(v: Any) -> bool:
    return isinstance(v, int) and not isinstance(v, bool)


def _is_number(v: Any) -> bool:
    return isinstance(v, int | float) and not isinstance(v, bool) and math.isfinite(v)


def integer(least: int, most: float = math.inf) -> Rule:
    """Allow integers, least ≤ v ≤ most."""
    bound = f" and ≤ {most}" if most < math.inf else ""
    return Rule(lambda v: _is_int(v) and least <= v <= most, f"an integer ≥ {least}{bound}")


def number(least: float = -math.inf, most: float = math.inf) -> Rule:
    """Allow finite numbers, least ≤ v ≤ most."""
    bounds = [f"≥ {least:g}"] * (least > -math.inf) + [f"≤ {most:g}"] * (most < math.inf)
    return Rule(lambda v: _is_number(v) and least <= v <= most, " ".join(["a number", " and ".join(bounds)]).strip())


def share(name: str = "a number ≥ 0 and < 1") -> Rule:
    return Rule(lambda v: _is_number(v) and 0 <= v < 1, name)


def one_of(*names: str) -> Rule:
    return Rule(lambda v: v in names, "one of " + ", ".join(names))


def optional(rule: Rule) -> Rule:
    return Rule(lambda v: v is None or rule.holds(v), f"null or {rule.allowed}")


def listed(rule: Rule) -> Rule:
    return Rule(lambda v: isinstance(v, list) and all(map(rule.holds, v)), f"a list, each {rule.allowed}")


def only(value: Any, reason: str) -> Rule:
    """Allow one value; the reason says why."""
    return Rule(lambda v: v == value and type(v) is type(value), f"{show(value)}: {reason}")


def existing_file() -> Rule:
    return Rule(lambda v: isinstance(v, str) and Path(v).is_file(), "a file that exists")


SEED = integer(0, 2**32 - 1)  # numpy takes no larger one
POSITIVE = Rule(lambda v: _is_number(v) and v > 0, "a number > 0")
NOT_ZERO = Rule(lambda v: _is_number(v) and v != 0, "a number other than 0")
BOOL = Rule(lambda v: isinstance(v, bool), "true or false")
TEXT = Rule(lambda v: isinstance(v, str), "text")
BATCHES = Rule(
    lambda v: _is_number(v) and v >= 0 and (v <= 1 or _is_int(v)), "a number of batches, or a share of them ≥ 0 and ≤ 1"
)
TIME = Rule(
    lambda v: isinstance(v, str) and bool(re.fullmatch(r"\d+:\d\d:\d\d:\d\d", v)), "a time as 00:01:30:00 or {hours: 2}"
)
DEVICES = Rule(lambda v: v == "auto" or (_is_int(v) and v >= 1), "an integer ≥ 1 or auto")
VALUES = Rule(
    lambda v: isinstance(v, list) and len(v) > 1 and all(map(number(0).holds, v)), "a list of two or more numbers ≥ 0"
)

# config key → rule; a test checks that every number and word of every file in conf/ has one
RULES: dict[str, Rule] = {
    "seed": SEED,
    "ckpt_path": optional(existing_file()),
    "ckpt.every_n_steps": optional(integer(1)),
    "ckpt.every_minutes": optional(POSITIVE),
    "same_bits": one_of("warn", "required"),
    "resume": optional(TEXT),
    "extend": BOOL,
    "on_error": one_of("continue", "stop"),
    "retries": integer(0),
    "optimized_metric": one_of(VAL_ACCURACY, VAL_LOSS, TRAIN_LOSS, TEST_ACCURACY, TEST_LOSS),
    "data.batch_size": integer(1),
    "data.seed": SEED,
    "data.shuffle": BOOL,
    "data.drop_last": BOOL,
    "data.normalize": one_of("unit", "symmetric", "standard"),
    "data.root": optional(TEXT),
    "data.valid_fraction": Rule(lambda v: _is_number(v) and 0 < v < 1, "a number > 0 and < 1"),
    "data.on_broken": one_of("error", "skip"),
    "data.noise_seed": SEED,
    "data.noise": number(0),
    "data.expression": optional(TEXT),
    "data.points": Rule(
        lambda v: 2 <= v <= 10**6 if _is_int(v) else existing_file().holds(v),
        "an integer ≥ 2 and ≤ 1000000, or a file that exists",
    ),
    "data.name": one_of("sin", "wave", "square", "step", "triangle"),
    "model.distance": one_of("l1", "l2"),
    "model.name": TEXT,
    "model.image_size": optional(integer(1)),
    "model.pretrained": BOOL,
    "model.drop_rate": share(),
    "model.drop_path_rate": share(),
    "model.lines": integer(1),
    "model.hidden": listed(integer(1)),
    "model.channels": listed(integer(1)),
    "model.kernel_sizes": listed(integer(1)),
    "model.batch_norm": BOOL,
    "model.activation": one_of("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid"),
    "model.dropout": share(),
    "model.latent": integer(1),
    "model.width": integer(1),
    "loss.label_smoothing": share(),
    "loss.half": BOOL,
    "init.std": POSITIVE,
    "init.a": number(0),
    "init.gain": POSITIVE,
    "init.uniform": BOOL,
    "init.mode": one_of("fan_in", "fan_out"),
    "init.nonlinearity": one_of("linear", "relu", "leaky_relu", "selu", "tanh", "sigmoid"),
    "optim.lr": POSITIVE,
    "optim.momentum": share(),
    "optim.nesterov": BOOL,
    "optim.fused": BOOL,
    "optim.weight_decay": number(0),
    "optim.alpha": share(),
    "optim.eps": POSITIVE,
    "optim.groups": Rule(lambda v: v == [], "a list of groups, each {params: '*bias', lr_scale: 0.1} or alike"),
    "optim.params": Rule(lambda v: isinstance(v, str | list), "a pattern of parameters' names, or a list of them"),
    "optim.lr_scale": number(0),
    "optim.betas": Rule(
        lambda v: isinstance(v, list) and len(v) == 2 and all(map(share().holds, v)),
        "two numbers ≥ 0 and < 1",
    ),
    "schedule.start": number(0),
    "schedule.end": number(0),
    "schedule.pct_start": Rule(lambda v: _is_number(v) and 0 < v < 1, "a number > 0 and < 1"),
    "schedule.div": POSITIVE,
    "schedule.div_final": POSITIVE,
    "schedule.drives": one_of(*DRIVABLE),
    "schedule.absolute": BOOL,
    "schedule.momentum_low": POSITIVE,
    "schedule.fractions": optional(listed(POSITIVE)),
    "schedule.shape": one_of("linear", "cosine", "exponential"),
    **{f"schedule.{number}": optional(VALUES) for number in DRIVABLE},
    "schedule.phases": Rule(lambda v: isinstance(v, list) and bool(v), "a list of schedules"),
    "study.size": integer(1),
    "study.times": integer(1),
    "study.seeds": integer(1),
    "study.steps": integer(1),
    "study.epochs": integer(1),
    "study.width": integer(1),
    "study.depths": listed(integer(1)),
    "study.lrs": listed(POSITIVE),
    "study.inits": listed(TEXT),
    "study.models": listed(TEXT),
    "study.losses": listed(TEXT),
    "study.overrides": listed(TEXT),
    "study.seed": SEED,
    "study.image": integer(0),
    "study.images": integer(1),
    "study.outputs": integer(1),
    "study.start": NOT_ZERO,
    "study.noise_seed": SEED,
    "study.lr": POSITIVE,
    "study.count": integer(1),
    "study.shown": integer(1),
    "study.changes": listed(NOT_ZERO),
    "study.near": POSITIVE,
    "study.far": POSITIVE,
    "study.slopes": listed(number(0)),
    "study.channels": integer(1),
    "study.kernel": integer(1),
    "lr_find.start": POSITIVE,
    "lr_find.end": POSITIVE,
    "lr_find.steps": integer(3),
    "trainer.threads": optional(integer(1)),
    "trainer.loop": one_of("auto", "plain", "fast"),
    # in YAML, off is false
    "trainer.capture": Rule(lambda v: v in ("auto", "off") or v is False, "one of auto, off"),
    # every argument of Lightning's Trainer is obeyed, except those with `only` one allowed value, which give the reason
    "trainer.accelerator": one_of("auto", "cpu", "gpu", "cuda", "mps", "tpu"),
    "trainer.strategy": one_of("auto", "ddp", "ddp_spawn"),
    "trainer.devices": DEVICES,
    "trainer.num_nodes": only(1, "the processes of a run share a machine"),
    # null: 32-true, or that of a plugin
    "trainer.precision": optional(
        one_of("32-true", "32", "64-true", "64", "16-mixed", "bf16-mixed", "bf16-true", "16-true")
    ),
    "trainer.logger": Rule(lambda v: isinstance(v, bool), "true or false; logger=… chooses the loggers"),
    "trainer.callbacks": only(None, "callbacks=… chooses them"),
    "trainer.fast_dev_run": Rule(
        lambda v: isinstance(v, bool) or (_is_int(v) and v >= 0), "true, false or an integer ≥ 0"
    ),
    "trainer.max_epochs": integer(0),
    "trainer.min_epochs": optional(integer(0)),
    "trainer.max_steps": integer(-1),
    "trainer.min_steps": optional(integer(0)),
    "trainer.max_time": optional(TIME),
    "trainer.limit_train_batches": optional(BATCHES),
    "trainer.limit_val_batches": optional(BATCHES),
    "trainer.limit_test_batches": optional(BATCHES),
    "trainer.limit_predict_batches": only(None, "a run predicts nothing"),
    "trainer.overfit_batches": BATCHES,
    "trainer.val_check_interval": optional(
        Rule(
            lambda v: (BATCHES.holds(v) and v > 0) or TIME.holds(v),
            "a number of batches, a share of them ≤ 1, or a time",
        )
    ),
    "trainer.check_val_every_n_epoch": optional(integer(1)),
    "trainer.num_sanity_val_steps": optional(integer(-1)),
    "trainer.log_every_n_steps": Rule(lambda v: v == "auto" or (_is_int(v) and v >= 0), "auto or an integer ≥ 0"),
    "trainer.enable_checkpointing": optional(BOOL),
    "trainer.enable_progress_bar": optional(BOOL),
    "trainer.enable_model_summary": optional(BOOL),
    "trainer.accumulate_grad_batches": integer(1),
    "trainer.gradient_clip_val": optional(POSITIVE),
    "trainer.gradient_clip_algorithm": optional(one_of("norm", "value")),
    "trainer.deterministic": optional(Rule(lambda v: isinstance(v, bool) or v == "warn", "true, false or warn")),
    "trainer.benchmark": optional(BOOL),
    "trainer.inference_mode": BOOL,
    "trainer.use_distributed_sampler": only(True, "each process has samples of its own"),
    "trainer.profiler": optional(one_of("simple", "advanced", "pytorch")),
    "trainer.detect_anomaly": BOOL,
    "trainer.barebones": only(False, "a run leaves metrics and checkpoints"),
    "trainer.plugins": Rule(lambda v: v is None or v == [], "null, a plugin as {_target_: …}, or a list of them"),
    "trainer.sync_batchnorm": BOOL,
    "trainer.reload_dataloaders_every_n_epochs": integer(0),
    "trainer.default_root_dir": optional(TEXT),
    "trainer.enable_autolog_hparams": BOOL,
    "trainer.model_registry": only(None, "checkpoints stay in the run's folder"),
    **{
        f"trainer.{name}.{unit}": number(0)
        for name in ("max_time", "val_check_interval")
        for unit in ("weeks", "days", "hours", "minutes", "seconds")
    },
    "callbacks.early_stopping.monitor": one_of(VAL_ACCURACY, VAL_LOSS, TRAIN_LOSS),
    "callbacks.early_stopping.mode": one_of("min", "max"),
    "callbacks.early_stopping.patience": integer(0),
    "callbacks.early_stopping.min_delta": number(0),
    "callbacks.activation_stats.every": integer(1),
    "callbacks.pictures.every": integer(1),
    "callbacks.curve_fit.pictures": integer(1),
    "callbacks.generated.every": integer(1),
    "callbacks.ema.decay": share(),
    "callbacks.ema.update_every_n_steps": integer(1),
    "logger.csv.name": TEXT,
    "hydra.launcher.n_jobs": optional(integer(1)),
    "hydra.launcher.gpus": optional(integer(1)),
    "hydra.launcher.max_stack": optional(integer(1)),
    "hydra.launcher.halving.factor": optional(integer(2)),
    "hydra.launcher.halving.first": integer(1),
    "hydra.sweeper.n_trials": integer(1),
    "hydra.sweeper.n_jobs": integer(1),
    "hydra.sweeper.max_failure_rate": number(0, 1),
}

# metrics that a task does not have, by the beginning of a `_target_`: accuracy needs classes, test/… a test set
WITHOUT = {
    "data": {"seedbed.data.functions.": "accuracy test/", "seedbed.data.mnist_sample.": "test/"},
    "model": {"seedbed.models.gan.": "accuracy"},
}


# keys that every run has; those with a `_target_` and `ckpt` are groups of keys
PARTS = ("data", "model", "loss", "optim", "module", "trainer")
NEEDED = (
    "seed",
    "ckpt_path",
    "ckpt",
    "same_bits",
    "optimized_metric",
    "resume",
    "extend",
    "on_error",
    "retries",
    *PARTS,
)


def check_complete(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for a key of every run that was taken away, or a group of keys that became a value."""
    for key in NEEDED:
        node = config.get(key)
        if key in (*PARTS, "ckpt") and key in config and not isinstance(node, Mapping):
            raise ConfigError(f"{key}={show(node)}: must be a group of keys")
        if key not in config or (key in PARTS and "_target_" not in node):
            raise ConfigError(f"~{key}{'._target_' if key in config else ''}: a run needs this key")


def check(config: Mapping[str, Any]) -> None:
    """Raise ConfigError for the first value that is not allowed."""
    # short keys first, so that an error names `seed` and not the `data.seed` that takes its value
    for key, value in sorted(leaves(config), key=lambda leaf: leaf[0].count(".")):
        name = _name_of_rule(key)
        rule = RULES.get(name)
        if rule is None:
            _refuse_inside_a_value(name)
        elif not rule.holds(value):
            raise ConfigError(f"{key}={show(value)}: must be {rule.allowed}")
    if "schedule" in config and "optim" in config:
        check_schedule(config["schedule"], config["optim"])
    if "optimized_metric" in config:
        check_metric(config)


@cache
def _name_of_rule(key: str) -> str:
    """Return the key without a phase's or a group's number: its keys are those of a schedule or an optimiser."""
    return re.sub(r"\b(phases|groups)\.\d+\.", "", key)


def _refuse_inside_a_value(name: str) -> None:
    """Raise ConfigError for a mapping where one value belongs, as in optim.lr={a: 1}."""
    while name := name.rpartition(".")[0]:
        if name in RULES:
            raise ConfigError(f"{name}: is a mapping: must be {RULES[name].allowed}")


def check_metric(config: Mapping[str, Any]) -> None:
    """Raise ConfigError if the runs of this config will not have the optimised metric."""
    metric = config["optimized_metric"]
    for part, targets in WITHOUT.items():
        node = config.get(part) or {}
        target = (node.get("source") or node).get("_target_", "")
        for beginning, missing in targets.items():
            if target.startswith(beginning) and any(name in metric for name in missing.split()):
                name = target.rpartition(".")[2]
                raise ConfigError(f"optimized_metric={metric}: {name} has none; choose val/loss or train/loss")
