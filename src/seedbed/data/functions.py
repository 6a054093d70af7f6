"""Functions of one number, as points: inputs float [N, 1], targets float [N], no classes."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import Tensor

from seedbed.data.splits import Splits


def roller_coaster(noise_seed: int = 0) -> Splits:
    """20 noisy speeds 0.75·(t − 9.5)² + 1 + 3·randn at t = 0 … 19 seconds (fastbook ch. 4).

    The noise follows from noise_seed alone. The same 20 points train and validate.
    """
    time = torch.arange(20.0)
    noise = torch.randn(20, generator=torch.Generator().manual_seed(noise_seed))
    points = (time[:, None], 3 * noise + 0.75 * (time - 9.5) ** 2 + 1)
    return Splits(points, points, None, None, ("time (s)", "speed"))


# f on [−1, 1]
FUNCTIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "sin": lambda x: (math.pi * x).sin(),
    "wave": lambda x: (2 * math.pi * x).sin(),
    "square": lambda x: x**2,
    "step": lambda x: (x > 0).float(),
    "triangle": lambda x: 1 - 2 * x.abs(),
}


def function(name: str = "sin", points: int = 256) -> Splits:
    """f(x) at evenly spaced points of [−1, 1]; those halfway between them validate."""
    ends = torch.linspace(-1, 1, points, dtype=torch.float64)
    middles = (ends[1:] + ends[:-1]) / 2
    train, valid = ((x[:, None].float(), FUNCTIONS[name](x).float()) for x in (ends, middles))
    return Splits(train, valid, None, None, ("x", f"f(x), {name}"))
