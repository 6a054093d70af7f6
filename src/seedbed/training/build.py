"""Build the parts of a run from its config, a plain nested dict with every interpolation resolved.

In training/, only this file, `load.py` and `mistakes.py` import Hydra.
"""

from __future__ import annotations

import functools
import json
import logging
import os
import random
import warnings
from collections.abc import Callable, Mapping, Sequence
from inspect import signature
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
import numpy as np
import torch
from hydra.utils import instantiate
from lightning.pytorch.loggers import Logger
from torch import nn

from seedbed.errors import ConfigError
from seedbed.losses import Loss
from seedbed.optim.driven import check_driven
from seedbed.optim.groups import grouped
from seedbed.schedules import Schedule
from seedbed.training.contracts import check_batch_norm, check_is, check_network, check_outputs, is_foreign
from seedbed.training.datamodule import DataModule
from seedbed.training.fast_loop import FastLoop
from seedbed.training.mistakes import mistakes_of_the_user
from seedbed.training.precision import warn_if_slow
from seedbed.training.row_choice import images_read, reader_for
from seedbed.training.supervised import Supervised

# Lightning's own lines repeat what a run prints anyway
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
logging.getLogger("lightning.fabric").setLevel(logging.WARNING)
# a batch that a callback skips
warnings.filterwarnings("ignore", message=".*training_step. returned .None.*")
warnings.filterwarnings("ignore", message=".*LeafSpec.*")
# a loader that keeps the set's order already
warnings.filterwarnings("ignore", message="You requested to overfit.*")
warnings.filterwarnings("ignore", message=".*configure_optimizers. returned .None.*")

# Lightning lets torch look for GPUs through the driver's library. Without a GPU each step of Adam repeats that, 0.7 ms.
if not torch.cuda.is_available():
    os.environ.pop("PYTORCH_NVML_BASED_CUDA_CHECK", None)

Config = Mapping[str, Any]
# keys of `trainer` that are not arguments of Lightning's Trainer
OWN_KEYS = ("loop", "threads", "capture")
# options of the Trainer that print → the logger through which they print
LOGGED = {"profiler": "lightning.pytorch.profilers.profiler"}
LOGGED["enable_model_summary"] = "lightning.pytorch.callbacks.model_summary"


def seed_everything(seed: int) -> None:
    """Do what Lightning's function does, but faster: without half a millisecond for each kind of absent device."""
    random.seed(seed)
    np.random.seed(seed)
    if torch.accelerator.is_available():
        torch.manual_seed(seed)
    else:
        torch.default_generator.manual_seed(seed)


def build_data(config: Config) -> DataModule:
    """Build and load the data, which the model's shape follows from."""
    with mistakes_of_the_user(""):
        data = instantiate(config["data"], _convert_="all")
        data.setup()
        return data


class Parts:
    """Builds the parts of one run or of many; each distinct node of their configs is instantiated once."""

    def __init__(self):
        self._made: dict[str, Any] = {}

    def _make(self, node: Config, partial: bool) -> Any:
        """Instantiate the node; partial: return a function of the arguments that are known only at run time."""
        key = json.dumps([node, partial], sort_keys=True)
        if key not in self._made:
            made = instantiate(node, _convert_="all", **({"_partial_": True} if partial else {}))
            # Hydra's own partial checks its target and the result again in each call, for 0.2 ms. The target was
            # checked just now; a node without one makes no partial.
            is_hydras = isinstance(made, functools.partial)
            self._made[key] = functools.partial(made.func, *made.args, **made.keywords) if is_hydras else made
        return self._made[key]

    def net(self, config: Config, data: DataModule) -> tuple[nn.Module, Loss]:
        """Build the network and its loss. The initial weights follow from (seed, model, init)."""
        with mistakes_of_the_user("loss"):
            loss = check_is("loss", self._make(config["loss"], partial=False))
            num_outputs = check_outputs(loss, loss.num_outputs(data.num_classes))
        with mistakes_of_the_user("model"):
            seed_everything(config["seed"])
            net = check_is("model", self._make(config["model"], partial=True)(data.splits.shape, num_outputs))
            data.evaluate_for(getattr(net, "resized", data.splits.shape))
        with mistakes_of_the_user("init"):
            check_is("init", self._make(config["init"], partial=True)(net, data.sample))
        with mistakes_of_the_user("model"):
            # a model that learns from the training set as a whole, not by gradient
            if hasattr(net, "fit"):
                net.fit(data.train_in_order())
            net = check_is("model", loss.finish(net))
        self._check_network(config, net, loss, data, num_outputs)
        check_batch_norm(config["trainer"], net, data)
        return net, loss

    def _check_network(self, config: Config, net: nn.Module, loss: Loss, data: DataModule, num_outputs: int) -> None:
        """Run the user's own network or loss on two samples; a stack does so once, for all of its members."""
        nodes = config["model"], config["loss"]
        key = json.dumps(["checked", *nodes], sort_keys=True)
        if key not in self._made and any(map(is_foreign, nodes)) and not is_foreign(config["module"]):
            check_network(net, loss, data.sample[:2], data.splits.train[1][:2], num_outputs)
            self._made[key] = None

    def module(self, config: Config, data: DataModule) -> Supervised:
        """Build the LightningModule of one run: network, loss, optimiser and schedule."""
        net, loss = self.net(config, data)
        # raises ConfigError for numbers that it does not allow
        optimizer, schedule = self.optimizer(config), self.schedule(config)
        with mistakes_of_the_user("schedule"):
            check_driven(schedule, optimizer, net)
        optim, groups = self._optim(config), config["optim"].get("groups")
        if groups:
            names = {p: name for name, p in net.named_parameters()}
            optim = functools.partial(grouped, optim=optim, groups=groups, names=names)
            with mistakes_of_the_user("optim"):
                optim(names)
        with mistakes_of_the_user("module"):
            module = check_is("module", self._make(config["module"], partial=True)(net, loss, optim, schedule))
        module.log_every_n_steps = points_every(config)
        module.reader = reader_for(net, config, data)
        if module.reader:
            pays = data.source_of(data.splits.train).pays(images_read(config, data), data.batch_size)
            module.prefers_rows = module.takes_rows = pays
        return module

    def _optim(self, config: Config) -> Callable[..., torch.optim.Optimizer]:
        return self._make({k: v for k, v in config["optim"].items() if k != "groups"}, partial=True)

    def schedule(self, config: Config) -> Schedule:
        with mistakes_of_the_user("schedule"):
            return check_is("schedule", self._make(config["schedule"], partial=False))

    def optimizer(self, config: Config, params: int = 1) -> torch.optim.Optimizer:
        """Build the optimiser over `params` empty parameters, for its class and its numbers."""
        key = json.dumps([config["optim"], params], sort_keys=True)
        if key not in self._made:
            with mistakes_of_the_user("optim"):
                empty = [nn.Parameter(torch.empty(0)) for _ in range(params)]
                self._made[key] = check_is("optim", self._optim(config)(empty))
        return self._made[key]


def points_every(config: Config) -> int | str:
    """Return the steps between two points of train/loss and lr, or auto."""
    return config["trainer"].get("log_every_n_steps", "auto")


def build_callbacks(config: Config) -> list[pl.Callback]:
    with mistakes_of_the_user("callbacks"):
        nodes = config["callbacks"].values()
        return [check_is("callbacks", instantiate(node, _convert_="all")) for node in nodes]


def build_loggers(config: Config, folder: Path) -> list[Logger]:
    """Build the loggers. Those with a `save_dir` write into the run's folder, unless their config says otherwise.

    Each is a node with a name of its own, as callbacks are; `+logger._target_=…` adds one, too.
    """
    unnamed = dict(config["logger"])
    nodes = [unnamed.pop(name) for name, node in config["logger"].items() if isinstance(node, Mapping)]
    with mistakes_of_the_user("logger"):
        makers = [instantiate(node, _convert_="all", _partial_=True) for node in [*nodes, unnamed] if node]
        # a node without a _target_ makes no logger
        loggers = (maker(**_save_dir(maker, folder)) if callable(maker) else maker for maker in makers)
        return [check_is("logger", logger) for logger in loggers]


def _save_dir(maker: functools.partial, folder: Path) -> dict[str, str]:
    given = "save_dir" in maker.keywords or "save_dir" not in signature(maker.func).parameters
    return {} if given else {"save_dir": str(folder)}


def build_trainer(config: Config, logger, callbacks: Sequence[pl.Callback], folder: Path | None = None) -> pl.Trainer:
    """Build a Trainer that prints and writes nothing besides what `logger` and `callbacks` do, unless told to.

    folder: the run's, for what callbacks write.
    """
    options = {key: value for key, value in config["trainer"].items() if key not in OWN_KEYS}
    if options.pop("callbacks", None):
        raise ConfigError("trainer.callbacks: must be null: callbacks=… chooses them")
    logger = logger if options.pop("logger", True) else False
    if options.get("enable_checkpointing") is False:
        callbacks = [c for c in callbacks if not isinstance(c, pl.callbacks.Checkpoint)]
    if options.get("enable_progress_bar") is False:
        callbacks = [c for c in callbacks if not isinstance(c, pl.callbacks.ProgressBar)]
    quiet: dict[str, Any] = {"enable_model_summary": False, "default_root_dir": folder}
    # -1: the check before training is the validation of the untrained network
    quiet["num_sanity_val_steps"] = 0 if config.get("ckpt_path") else -1
    if options.get("log_every_n_steps", "auto") == "auto":
        options["log_every_n_steps"] = 1
    with mistakes_of_the_user("trainer"):
        trainer = instantiate(quiet | options, _convert_="all", logger=logger, callbacks=callbacks)
    warn_if_slow(trainer)
    # what the user asked to see, Lightning logs
    for option, source in LOGGED.items():
        if options.get(option):
            logging.getLogger(source).setLevel(logging.INFO)
    if (loop := config["trainer"].get("loop", "auto")) != "plain":
        capture = config["trainer"].get("capture", "auto")
        trainer.fit_loop.epoch_loop = FastLoop(trainer, options, required=loop == "fast", capture=capture)
    return trainer
