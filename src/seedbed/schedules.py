"""A schedule is f(…) → Schedule: multipliers of the optimiser's lr and momentum as progress goes from 0 to 1.

Progress is steps done / all steps of the run, so a schedule means the same for any batch size and number of epochs.
`drives` says which of the two a curve is for; the other stays as it is.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import accumulate

Curve = Callable[[float], float]  # progress → multiplier


def _one(progress: float) -> float:
    return 1.0


@dataclass(frozen=True)
class Schedule:
    """Curves for the lr and the momentum (beta1 of Adam). Calling it gives the lr's multiplier."""

    lr: Curve = _one
    momentum: Curve = _one

    def __call__(self, progress: float) -> float:
        return self.lr(progress)


def constant() -> Schedule:
    """1 throughout."""
    return Schedule()


def linear(start: float = 1.0, end: float = 0.0, drives: str = "lr") -> Schedule:
    """A straight line from start to end."""
    return Schedule(**{drives: lambda progress: start + progress * (end - start)})


def cosine(start: float = 1.0, end: float = 0.0, drives: str = "lr") -> Schedule:
    """Half a cosine wave from start to end: flat at both ends."""
    return Schedule(**{drives: lambda progress: start + (1 - math.cos(math.pi * progress)) * (end - start) / 2})


def exponential(start: float = 1.0, end: float = 0.01, drives: str = "lr") -> Schedule:
    """A constant factor a step, from start to end (both > 0)."""
    return Schedule(**{drives: lambda progress: start * (end / start) ** progress})


def combined(phases: Sequence[Schedule], fractions: Sequence[float]) -> Schedule:
    """Phases one after another, each run from its 0 to its 1 in its fraction of the run.

    Raises ValueError unless phases are schedules, and fractions as many, all positive, with sum 1.
    """
    if not all(isinstance(phase, Schedule) for phase in phases):
        raise ValueError("phases: each must be a schedule, as {_target_: seedbed.schedules.linear, start: 1, end: 0}")
    if not phases or len(phases) != len(fractions) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions={list(fractions)}: must be {len(phases)} positive numbers that sum to 1")
    starts = [0.0, *accumulate(fractions)][:-1]

    def joined(curves: Sequence[Curve]) -> Curve:
        if all(curve is _one for curve in curves):
            return _one

        def curve(progress: float) -> float:
            i = bisect_right(starts, progress) - 1
            return curves[i](min((progress - starts[i]) / fractions[i], 1.0))

        return curve

    return Schedule(joined([p.lr for p in phases]), joined([p.momentum for p in phases]))


def one_cycle(
    pct_start: float = 0.25, div: float = 25.0, div_final: float = 1e5, momentum_low: float = 0.85 / 0.95
) -> Schedule:
    """fastai's one-cycle: cosine up from 1/div to 1 in the first pct_start of the run, cosine down to 1/div_final.

    The momentum goes the other way, down to momentum_low and up again: 0.95, 0.85, 0.95 for optim.momentum=0.95.
    Source: Smith & Topin, Super-Convergence (2018); fastai's fit_one_cycle.
    """
    fractions = [pct_start, 1 - pct_start]
    lr = combined([cosine(1 / div, 1.0), cosine(1.0, 1 / div_final)], fractions).lr
    return Schedule(lr, combined([cosine(1.0, momentum_low), cosine(momentum_low, 1.0)], fractions).lr)
