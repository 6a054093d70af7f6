"""Build the runs of several configs as one module."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.util import find_spec

import torch

from seedbed.errors import ConfigError
from seedbed.fused.halving import Halving
from seedbed.fused.stack import Stack
from seedbed.training.build import Config, Parts, build_callbacks, points_every
from seedbed.training.datamodule import DataModule

# The compiled loops of own_batches.py pay from these numbers on: groups, because loading the loops takes half a second;
# outputs of members that share a batch, because one output costs as much as 32; samples of a batch, because the loops
# copy the weights once for each batch.
LEAST_GROUPS, LEAST_OUTPUTS, LEAST_BATCH = 8, 16, 64


class Unfit(Exception):
    """Raised where runs of a stack cannot be built; `places` are their positions in it."""

    def __init__(self, places: Sequence[int]):
        super().__init__(f"{len(places)} runs cannot be built")
        self.places = places


def build_stack(
    parts: Parts,
    configs: Sequence[Config],
    groups: int,
    data: DataModule,
    halving: Halving | None = None,
    by_rows: bool = True,
    by_member: bool = True,
) -> Stack:
    """Build the stack of these runs. Raises Unfit if any of them could not be built alone either.

    by_rows: give it batches as `Rows`, and skip their zeros, if it can and that pays. by_member: also where few members
    share a batch, in compiled loops, if numba is installed.
    """
    members, unfit = [], []
    for i, config in enumerate(configs):
        try:
            members.append((*parts.net(config, data), parts.optimizer(config), parts.schedule(config)))
        except ConfigError:
            unfit.append(i)
    if unfit:
        raise Unfit(unfit)
    nets, losses, optimizers, schedules = zip(*members, strict=True)
    stopper = next(iter(build_callbacks(configs[0])), None)
    defaults = [optimizer.defaults for optimizer in optimizers]
    stack = Stack(nets, groups, losses, type(optimizers[0]), defaults, schedules, stopper, halving)
    stack.log_every_n_steps = points_every(configs[0])
    if by_rows and stack.net.takes_rows and _rows_suit(configs[0], data):
        outputs, in_group = stack.net.first_weight.shape[1], len(nets) // groups
        source = data.source_of(data.splits.train)
        if source.skips(outputs * in_group, max(data.batch_size, data.eval_batch)):
            stack.net.skip_zeros()
        elif by_member and source.is_sparse and _loops_suit(groups, in_group, outputs, data.batch_size):
            stack.net.skip_zeros(by_member=True)
    return stack


def _rows_suit(config: Config, data: DataModule) -> bool:
    """Return whether batches may stay references: to images, on the CPU, in float32 without conversions."""
    trainer = config["trainer"]
    on_cpu = trainer["accelerator"] == "cpu" or not torch.accelerator.is_available()
    exact = str(trainer.get("precision", "32-true")) in ("32-true", "32", "None")
    return on_cpu and exact and data.splits.train[0].dtype == torch.uint8


def _loops_suit(groups: int, members: int, outputs: int, batch_size: int) -> bool:
    """Return whether compiled loops pay for groups of so many members, with so many outputs of the first layer each."""
    is_large = groups >= LEAST_GROUPS and batch_size >= LEAST_BATCH and (outputs >= LEAST_OUTPUTS or members == 1)
    return is_large and find_spec("numba") is not None
