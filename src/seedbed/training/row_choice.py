"""Decide from a run's config and data whether it reads `Rows`, so that two runs of one config have the same bits."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from torch import nn

from seedbed.models.first_linear import first_linear
from seedbed.training.datamodule import DataModule
from seedbed.training.row_reader import RowReader

# callbacks that neither see nor change a training batch, nor watch the first layer
BLIND = {"lightning.pytorch.callbacks.EarlyStopping", "seedbed.callbacks.pictures.Pictures"}
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
SUPERVISED = "seedbed.training.supervised.Supervised"


def reader_for(net: nn.Module, config: Mapping[str, Any], data: DataModule) -> RowReader | None:
    """Return a reader for the run's network; None if its first layer, its data or a callback does not allow that."""
    plain = config["trainer"]["devices"] == 1 and config["module"]["_target_"] == SUPERVISED
    nodes = config["callbacks"].values()
    blind = all(isinstance(node, Mapping) and node.get("_target_") in BLIND for node in nodes)
    # a layer with hooks does more than a product
    plain &= not any(getattr(layer, hooks) for layer in net.modules() for hooks in HOOKS)
    if not (plain and blind and rows_suit(config, data) and first_linear(net)):
        return None
    return RowReader(net)


def rows_suit(config: Mapping[str, Any], data: DataModule) -> bool:
    """Return whether the run allows `Rows`: uint8 images, training on the CPU, in plain float32."""
    trainer = config["trainer"]
    on_cpu = trainer["accelerator"] == "cpu" or not torch.accelerator.is_available()
    exact = str(trainer.get("precision", "32-true")) in ("32-true", "32", "None")
    return on_cpu and exact and data.splits.train[0].dtype == torch.uint8


def images_read(config: Mapping[str, Any], data: DataModule) -> float:
    """Return how many images a run reads in training by its max_epochs, or by its max_steps if it has no max_epochs.

    Early stopping is ignored, so that a run that goes on has the bits of one that did not stop. 0: not known.
    """
    trainer = config["trainer"]
    epochs, steps = trainer["max_epochs"], trainer.get("max_steps", -1)
    if trainer.get("max_time"):
        return 0
    if epochs is not None and epochs >= 0:
        return epochs * len(data.splits.train[1])
    return max(0, steps or 0) * data.batch_size * trainer["accumulate_grad_batches"]
