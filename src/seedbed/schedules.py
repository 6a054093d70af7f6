"""A schedule is f(…) → (progress in [0, 1] → multiplier of the value that the optimiser was given).

Progress is steps done / all steps of the run, so a schedule means the same for any batch size and number of epochs.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from itertools import accumulate

Schedule = Callable[[float], float]


def constant() -> Schedule:
    """1 throughout."""
    return lambda progress: 1.0


def linear(start: float = 1.0, end: float = 0.0) -> Schedule:
    """A straight line from start to end."""
    return lambda progress: start + progress * (end - start)


def cosine(start: float = 1.0, end: float = 0.0) -> Schedule:
    """Half a cosine wave from start to end: flat at both ends."""
    return lambda progress: start + (1 - math.cos(math.pi * progress)) * (end - start) / 2


def exponential(start: float = 1.0, end: float = 0.01) -> Schedule:
    """A constant factor a step, from start to end (both > 0)."""
    return lambda progress: start * (end / start) ** progress


def combined(phases: Sequence[Schedule], fractions: Sequence[float]) -> Schedule:
    """Phases one after another, each run from its 0 to its 1 in its fraction of the run.

    Raises ValueError unless there are as many fractions as phases, all positive, with sum 1.
    """
    if not phases or len(phases) != len(fractions) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions={list(fractions)}: must be {len(phases)} positive numbers that sum to 1")
    starts = [0.0, *accumulate(fractions)][:-1]

    def schedule(progress: float) -> float:
        i = bisect_right(starts, progress) - 1
        return phases[i](min((progress - starts[i]) / fractions[i], 1.0))

    return schedule


def one_cycle(pct_start: float = 0.25, div: float = 25.0, div_final: float = 1e5) -> Schedule:
    """fastai's one-cycle: cosine up from 1/div to 1 in the first pct_start of the run, cosine down to 1/div_final.

    Source: Smith & Topin, Super-Convergence (2018); fastai's fit_one_cycle.
    """
    return combined([cosine(1 / div, 1.0), cosine(1.0, 1 / div_final)], [pct_start, 1 - pct_start])
