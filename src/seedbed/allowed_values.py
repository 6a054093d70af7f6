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

from seedbed.config_values import SWEEP_KEYS, leaves
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


def one_of(*names: str) -> Rule:
    return Rule(lambda v: v in names, "one of " + ", ".join(names))


def optional(rule: Rule) -> Rule:
    return Rule(lambda v: v is None or rule.holds(v), f"null or {rule.allowed}")


def listed(rule: Rule) -> Rule:
    return Rule(lambda v: isinstance(v, list) and all(map(rule.holds, v)), f"a list, each {rule.allowed}")


def only(value: Any, reason: str) -> Rule:
    """Allow one value; the reason says why."""
    return Rule(lambda v: v == value and type(v) is type(value), f"{show(value)}: {reason}")


SEED = integer(0, 2**32 - 1)  # numpy takes no larger one
POSITIVE = Rule(lambda v: _is_number(v) and v > 0, "a number > 0")
SHARE = Rule(lambda v: _is_number(v) and 0 <= v < 1, "a number ≥ 0 and < 1")
NOT_ZERO = Rule(lambda v: _is_number(v) and v != 0, "a number other than 0")
BOOL = Rule(lambda v: isinstance(v, bool), "true or false")
TEXT = Rule(lambda v: isinstance(v, str), "text")
BATCHES = Rule(
    lambda v: _is_number(v) and v >= 0 and (v <= 1 or _is_int(v)), "a number of batches, or a share of them ≥ 0 and ≤ 1"
)
TIME = Rule(
    lambda v: isinstance(v, str) and bool(re.fullmatch(r"\d+:\d\d:\d\d:\d\d", v)), "a time as 00:01:30:00 or {hours: 2}"
)
EXISTING_FILE = Rule(lambda v: isinstance(v, str) and Path(v).is_file(), "a file that exists")
DEVICES = Rule(lambda v: v == "auto" or (_is_int(v) and v >= 1), "an integer ≥ 1 or auto")
VALUES = Rule(
    lambda v: isinstance(v, list) and len(v) > 1 and all(map(number(0).holds, v)), "a list of two or more numbers ≥ 0"
)

# config keys, separated by spaces → their rule; a test checks that every number and word of every file in conf/ has one
RULES: dict[str, Rule] = {
    "seed": SEED,
    "ckpt_path": optional(EXISTING_FILE),
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
    "data.shuffle data.drop_last": BOOL,
    "data.normalize": one_of("unit", "symmetric", "standard"),
    "data.root": optional(TEXT),
    "data.on_broken": one_of("error", "skip"),
    "data.noise_seed": SEED,
    "data.noise": number(0),
    "data.expression": optional(TEXT),
    "data.points": Rule(
        lambda v: 2 <= v <= 10**6 if _is_int(v) else EXISTING_FILE.holds(v),
        "an integer ≥ 2 and ≤ 1000000, or a file that exists",
    ),
    "data.name": one_of("sin", "wave", "square", "step", "triangle"),
    "model.distance": one_of("l1", "l2"),
    "model.name": TEXT,
    "model.image_size": optional(integer(1)),
    "model.pretrained": BOOL,
    "model.drop_rate model.drop_path_rate model.dropout loss.label_smoothing": SHARE,
    "model.lines model.latent model.width": integer(1),
    "model.hidden model.channels model.kernel_sizes": listed(integer(1)),
    "model.batch_norm": BOOL,
    "model.activation": one_of("relu", "leaky_relu", "elu", "selu", "gelu", "silu", "tanh", "sigmoid"),
    "init.std init.gain": POSITIVE,
    "init.a": number(0),
    "loss.half init.uniform": BOOL,
    "init.mode": one_of("fan_in", "fan_out"),
    "init.nonlinearity": one_of("linear", "relu", "leaky_relu", "selu", "tanh", "sigmoid"),
    "optim.lr optim.eps": POSITIVE,
    "optim.momentum optim.alpha": SHARE,
    "optim.nesterov optim.fused": BOOL,
    "optim.weight_decay optim.lr_scale": number(0),
    "optim.groups": Rule(lambda v: v == [], "a list of groups, each {params: '*bias', lr_scale: 0.1} or alike"),
    "optim.params": Rule(lambda v: isinstance(v, str | list), "a pattern of parameters' names, or a list of them"),
    "optim.betas": Rule(
        lambda v: isinstance(v, list) and len(v) == 2 and all(map(SHARE.holds, v)), "two numbers ≥ 0 and < 1"
    ),
    "schedule.start schedule.end": number(0),
    "data.valid_fraction schedule.pct_start": Rule(lambda v: _is_number(v) and 0 < v < 1, "a number > 0 and < 1"),
    "schedule.div schedule.div_final schedule.momentum_low": POSITIVE,
    "schedule.drives": one_of(*DRIVABLE),
    "schedule.absolute": BOOL,
    "schedule.fractions": optional(listed(POSITIVE)),
    "schedule.shape": one_of("linear", "cosine", "exponential"),
    **{f"schedule.{number}": optional(VALUES) for number in DRIVABLE},
    "schedule.phases": Rule(lambda v: isinstance(v, list) and bool(v), "a list of schedules"),
    "study.size study.times study.seeds study.steps study.epochs study.width study.images study.outputs": integer(1),
    "study.count study.shown study.channels study.kernel": integer(1),
    "study.depths": listed(integer(1)),
    "study.lrs": listed(POSITIVE),
    "study.inits study.models study.losses study.overrides": listed(TEXT),
    "study.seed study.noise_seed": SEED,
    "study.image": integer(0),
    "study.start": NOT_ZERO,
    "study.changes": listed(NOT_ZERO),
    "study.lr study.near study.far lr_find.start lr_find.end": POSITIVE,
    "study.slopes": listed(number(0)),
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
    "trainer.max_steps": integer(-1),
    "trainer.min_epochs trainer.min_steps": optional(integer(0)),
    "trainer.max_time": optional(TIME),
    "trainer.limit_train_batches trainer.limit_val_batches trainer.limit_test_batches": optional(BATCHES),
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
    "trainer.enable_checkpointing trainer.enable_progress_bar trainer.enable_model_summary": optional(BOOL),
    "trainer.accumulate_grad_batches": integer(1),
    "trainer.gradient_clip_val": optional(POSITIVE),
    "trainer.gradient_clip_algorithm": optional(one_of("norm", "value")),
    "trainer.deterministic": optional(Rule(lambda v: isinstance(v, bool) or v == "warn", "true, false or warn")),
    "trainer.benchmark": optional(BOOL),
    "trainer.inference_mode trainer.detect_anomaly trainer.sync_batchnorm trainer.enable_autolog_hparams": BOOL,
    "trainer.use_distributed_sampler": only(True, "each process has samples of its own"),
    "trainer.profiler": optional(one_of("simple", "advanced", "pytorch")),
    "trainer.barebones": only(False, "a run leaves metrics and checkpoints"),
    "trainer.plugins": Rule(lambda v: v is None or v == [], "null, a plugin as {_target_: …}, or a list of them"),
    "trainer.reload_dataloaders_every_n_epochs": integer(0),
    "trainer.default_root_dir": optional(TEXT),
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
    "callbacks.activation_stats.every callbacks.pictures.every callbacks.generated.every": integer(1),
    "callbacks.curve_fit.pictures callbacks.ema.update_every_n_steps": integer(1),
    "callbacks.ema.decay": SHARE,
    "logger.csv.name": TEXT,
    "hydra.launcher.n_jobs hydra.launcher.gpus hydra.launcher.max_stack": optional(integer(1)),
    "hydra.launcher.halving.factor": optional(integer(2)),
    "hydra.launcher.halving.first hydra.sweeper.n_trials hydra.sweeper.n_jobs": integer(1),
    "hydra.sweeper.max_failure_rate": number(0, 1),
}
RULES = {key: rule for keys, rule in RULES.items() for key in keys.split()}

# metrics that a task does not have, by the beginning of a `_target_`: accuracy needs classes, test/… a test set
WITHOUT = {
    "data": {"seedbed.data.functions.": "accuracy test/", "seedbed.data.mnist_sample.": "test/"},
    "model": {"seedbed.models.gan.": "accuracy"},
}


# keys that every run has; those with a `_target_` and `ckpt` are groups of keys
PARTS = ("data", "model", "loss", "init", "optim", "schedule", "module", "trainer")
NEEDED = ("seed", "ckpt_path", "optimized_metric", *SWEEP_KEYS, *PARTS)


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
