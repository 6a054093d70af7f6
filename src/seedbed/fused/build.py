"""Build the runs of several configs as one module."""

from __future__ import annotations

from collections.abc import Sequence

from seedbed.errors import ConfigError
from seedbed.fused.halving import Halving
from seedbed.fused.stack import Stack
from seedbed.training.build import Config, Parts, build_callbacks, points_every
from seedbed.training.datamodule import DataModule
from seedbed.training.row_choice import images_read, rows_suit

# in a stack of this size or larger, the images of all members count towards LEAST_IMAGES
COUNTS_ALL_MEMBERS_FROM = 16


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
    may_skip: bool = True,
) -> Stack:
    """Build the stack of these runs. Raises Unfit if any of them could not be built alone either.

    may_skip: give it batches as `Rows`, and skip their zeros, if it can and that pays.
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
    if may_skip and stack.net.takes_rows and rows_suit(configs[0], data):
        # a small stack computes as the solo runs of its members do
        images = images_read(configs[0], data) * (len(nets) if len(nets) >= COUNTS_ALL_MEMBERS_FROM else 1)
        if data.source_of(data.splits.train).pays(images, data.batch_size):
            stack.net.skip_zeros()
            stack.prefers_rows = stack.takes_rows = stack.evaluates_rows = True
    return stack
