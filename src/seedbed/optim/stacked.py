"""From the members' own optimisers to the one that steps them all."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor

from seedbed.optim.numbers import flat
from seedbed.optim.stacked_adam import StackedAdam
from seedbed.optim.stacked_optimizer import StackedOptimizer
from seedbed.optim.stacked_rmsprop import StackedRMSprop
from seedbed.optim.stacked_sgd import StackedSGD
from seedbed.tables import show

# PyTorch's optimisers; Seedbed's own name their stacked version in an attribute `stacked`
STACKED: dict[type[torch.optim.Optimizer], type[StackedOptimizer]] = {
    torch.optim.SGD: StackedSGD,
    torch.optim.Adam: StackedAdam,
    torch.optim.AdamW: StackedAdam,
    torch.optim.RMSprop: StackedRMSprop,
}
SPEED_ONLY = ("foreach", "fused")  # options that change how fast a step is, not its result


def stacked_kind(kind: type[torch.optim.Optimizer]) -> type[StackedOptimizer]:
    """Return the stacked version of an optimiser. Raises TypeError if it has none."""
    # vars and not getattr: a subclass may have changed the arithmetic of an inherited `stacked`
    cls = vars(kind).get("stacked") or STACKED.get(kind)
    if cls is None:
        known = ", ".join(k.__name__ for k in STACKED)
        raise TypeError(f"no stacked version of {kind.__module__}.{kind.__qualname__}; {known} have one")
    return cls


def stacked(
    kind: type[torch.optim.Optimizer],
    defaults: Sequence[dict[str, Any]],
    params: Sequence[Tensor],
    driven: Iterable[str] = (),
) -> StackedOptimizer:
    """Return one optimiser that steps all members; member i gets the step of a `kind` with options `defaults[i]`.

    driven: the numbers that schedules are to drive. Raises TypeError for what a stack does not do: another kind, an
    option such as amsgrad, flags that differ, numbers that are tensors, parameters in half precision, driven dropout.
    """
    cls, defaults = stacked_kind(kind), [flat(d) for d in defaults]
    if unknown := {*driven} - {"momentum", *cls.numbers}:
        raise TypeError(f"a stack of {kind.__name__} has no schedule of {min(unknown)}")
    for p in params:
        if p.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"a stack's parameters are float32 or float64, not {p.dtype}")
    numbers: dict[str, Tensor | bool] = {name: False for name in cls.flags}
    for name in sorted(set(cls.numbers).union(*defaults).difference(SPEED_ONLY)):
        values = [d.get(name, 0.0) for d in defaults]
        if name in cls.numbers:
            if not all(isinstance(v, (int, float)) for v in values):
                raise TypeError(f"{name} of a stack's members must be plain numbers, not {values[:3]}")
            numbers[name] = torch.tensor(values, dtype=torch.float64)
        elif any(bool(v) != bool(values[0]) for v in values):
            raise TypeError(f"{name} differs between members of a stack of {kind.__name__}")
        elif name in cls.flags:
            numbers[name] = bool(values[0])
        elif values[0]:
            raise TypeError(f"a stack of {kind.__name__} does not do {name}={show(values[0])}")
    return cls(params, numbers)
