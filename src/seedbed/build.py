"""From a composed config to the parts of a run. Besides train.py and the plugins, the only file that knows Hydra."""

from __future__ import annotations

import logging
import warnings
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import lightning.pytorch as pl
from hydra.errors import InstantiationException
from hydra.utils import instantiate
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from omegaconf import DictConfig, OmegaConf

from seedbed.callbacks.checkpoints import Checkpoints
from seedbed.callbacks.progress import RunProgress
from seedbed.check import ConfigError, leaves
from seedbed.data.datamodule import DigitsModule
from seedbed.run_logger import RunLogger
from seedbed.supervised import Supervised

# one line of Lightning's a run says nothing here that the run does not say itself
logging.getLogger("lightning.pytorch").setLevel(logging.WARNING)
warnings.filterwarnings("ignore", message=".*dataloader_iter.*")
warnings.filterwarnings("ignore", message=".*LeafSpec.*")


def _part(node: DictConfig) -> Any:
    """The function or class that `_target_` names, its numbers filled in, to be called with the runtime's facts."""
    return instantiate(node, _partial_=True, _convert_="all")


@contextmanager
def _mistakes_of_the_user(place: str):
    """What a part says of its arguments, or Lightning of the Trainer's, as a ConfigError without Hydra's wrapping."""
    try:
        yield
    except (InstantiationException, OSError, ValueError, MisconfigurationException) as error:
        cause = error.__cause__ if isinstance(error, InstantiationException) else error
        if not isinstance(cause, OSError | ValueError | MisconfigurationException):
            raise
        raise ConfigError(f"{place}{cause}") from error


def build_data(cfg: DictConfig) -> DigitsModule:
    """The data, loaded: the model's shape follows from it."""
    with _mistakes_of_the_user(""):
        data = instantiate(cfg.data, _convert_="all")
        data.setup()
        return data


def build_module(cfg: DictConfig, data: DigitsModule) -> Supervised:
    """Network, loss, optimiser and schedule. The initial weights follow from (seed, model, init)."""
    with _mistakes_of_the_user("model: "):
        loss = instantiate(cfg.loss, _convert_="all")
        pl.seed_everything(cfg.seed, verbose=False)
        net = _part(cfg.model)(data.digits.shape, loss.num_outputs(len(data.digits.classes)))
        _part(cfg.init)(net)
        return Supervised(loss.finish(net), loss, _part(cfg.optim), instantiate(cfg.schedule, _convert_="all"))


def build_trainer(cfg: DictConfig, folder: Path) -> pl.Trainer:
    """A Trainer that logs to `folder` and keeps its checkpoints there."""
    with _mistakes_of_the_user("trainer: "):
        return instantiate(
            cfg.trainer,
            _convert_="all",
            logger=RunLogger(folder),
            callbacks=[Checkpoints(folder / "checkpoints"), RunProgress()],
            enable_model_summary=False,
            num_sanity_val_steps=0,
            log_every_n_steps=1,
        )


def hparams(cfg: DictConfig, choices: dict[str, str | None]) -> dict[str, str | int | float]:
    """The run for the HParams dashboard: every group's choice and every value, flat, with equal keys across a sweep."""
    chosen = {group: str(choice) for group, choice in choices.items() if "/" not in group}
    values = {k: v for k, v in leaves(OmegaConf.to_container(cfg, resolve=True)) if k not in NOT_HPARAMS}
    return chosen | {k: v if isinstance(v, int | float) else str(v) for k, v in values.items()}


NOT_HPARAMS = {"ckpt_path", "optimized_metric"}
