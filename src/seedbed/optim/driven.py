"""The numbers of a run set to what its schedule says: those of the optimiser, and the network's dropout."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import repeat
from typing import Any

import torch
from torch import nn

from seedbed.optim.numbers import number_of, set_number
from seedbed.schedules import Schedule

DROPOUTS = (nn.Dropout, nn.Dropout1d, nn.Dropout2d, nn.Dropout3d, nn.AlphaDropout, nn.FeatureAlphaDropout)


def check_driven(schedule: Schedule, optimizer: torch.optim.Optimizer, net: nn.Module) -> None:
    """Raise ValueError for a driven number that there is not, and for a dropout above 1.

    A missing momentum is none of these: one_cycle drives it where there is one.
    """
    for number in schedule.curves.keys() - {"momentum"}:
        if number == "dropout" and not any(_dropouts(net)):
            raise ValueError("it drives dropout, and the network has no dropout layers (model.dropout > 0 makes them)")
        if number == "dropout":
            highest = max(schedule(i / 100, number, layer.p) for layer in _dropouts(net) for i in range(101))
            if highest > 1:
                raise ValueError(f"it drives dropout to {highest:.3g}: a dropout must be ≤ 1")
        elif number_of(optimizer.defaults, number) is None:
            raise ValueError(f"it drives {number}, and {type(optimizer).__name__} has none")


def drive(optimizer: torch.optim.Optimizer, schedule: Schedule, progress: float) -> None:
    """Set the numbers of an optimiser that the schedule drives, from those that it was made with.

    A group of parameters with a number of its own (see `groups.py`) keeps its ratio to the number of the others.
    """
    for number in schedule.curves:
        given = number_of(optimizer.defaults, number)
        if given is None:
            continue
        value = schedule(progress, number, given)
        for group, own in zip(optimizer.param_groups, _own(optimizer), strict=False):
            mine = number_of(own, number)
            if mine is None:
                set_number(group, number, value)
            else:
                set_number(group, number, value * (mine / given) if given else schedule(progress, number, mine))


def drive_dropout(net: nn.Module, schedule: Schedule, progress: float) -> None:
    """Set the network's dropout by the schedule, from the one that it was made with."""
    for layer in _dropouts(net):
        layer.p = schedule(progress, "dropout", vars(layer).setdefault("given_p", layer.p))


def restore(optimizer: torch.optim.Optimizer) -> None:
    """Give each group the options that the optimiser was made with: a checkpoint that was loaded has changed them."""
    for group, own in zip(optimizer.param_groups, _own(optimizer), strict=False):
        group.update({**optimizer.defaults, **own})


def _own(optimizer: torch.optim.Optimizer) -> Iterable[Mapping[str, Any]]:
    return getattr(optimizer, "own", repeat({}))


def _dropouts(net: nn.Module) -> Iterator[nn.Module]:
    return (module for module in net.modules() if isinstance(module, DROPOUTS))
