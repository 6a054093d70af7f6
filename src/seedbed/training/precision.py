"""Say where bfloat16 is slower than float32: a processor without instructions for it takes 13 times as long or more."""

from __future__ import annotations

import logging
import time
from functools import cache

import lightning.pytorch as pl
import torch

log = logging.getLogger(__name__)

# bfloat16 is slow where a product takes so many times as long as in float32
SLOW = 3.0


def warn_if_slow(trainer: pl.Trainer) -> None:
    """Log a line if the run is to compute in bfloat16 on a processor that is slow at it, as measured now."""
    precision = trainer.precision
    if not precision.startswith("bf16") or trainer.strategy.root_device.type != "cpu":
        return
    ratio = slowness()
    if ratio > SLOW:
        log.warning(
            "trainer.precision=%s: on this processor a product takes %.0f times as long as in float32;"
            " trainer.precision=32-true is faster",
            precision,
            ratio,
        )


@cache
def slowness() -> float:
    """Return how many times as long a product takes in bfloat16 as in float32; measured once a process."""
    return _seconds(torch.bfloat16) / _seconds(torch.float32)


def _seconds(dtype: torch.dtype) -> float:
    """Return the seconds of a product of the size of an MLP's first layer, the least of three."""
    a, b = torch.ones(256, 784, dtype=dtype), torch.ones(784, 32, dtype=dtype)
    seconds = []
    for _ in range(4):
        start = time.perf_counter()
        a @ b
        seconds.append(time.perf_counter() - start)
    return min(seconds[1:])
