"""The number of threads of a run: one for small steps, since threads wait for each other at the end of an operation.

Where other processes hold a core, that wait is longer than a small operation: three default runs at once on two cores
take 50 s each with two threads and 4 s with one.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor

# weights × rows of a batch: multiplications of a forward pass
SMALL_STEP = 2**25


@contextmanager
def run_threads(config: Mapping[str, Any]) -> Iterator[Callable[..., None]]:
    """Build a run's parts with one thread, then train it with as many as its steps need.

    Yields choose(weights, members=1), to be called once the networks are built. `trainer.threads` or OMP_NUM_THREADS
    set the number for both. The rule looks at the config and the network alone, so that the bits of a small run do not
    depend on the number of cores.
    """
    before = torch.get_num_threads()
    given = config["trainer"].get("threads") or (before if "OMP_NUM_THREADS" in os.environ else None)

    def choose(weights: Iterable[Tensor], members: int = 1) -> None:
        rows = config["data"]["batch_size"] * members
        torch.set_num_threads(given or (1 if _is_small(list(weights), rows) else before))

    torch.set_num_threads(given or 1)
    try:
        yield choose
    finally:
        torch.set_num_threads(before)


def _is_small(weights: list[Tensor], rows: int) -> bool:
    """Return whether a step is small; never with convolutions, which use each weight at many places of an image."""
    return all(w.dim() <= 2 for w in weights) and sum(w.numel() for w in weights) * rows <= SMALL_STEP
