"""Schedules. A schedule is f(…) → Schedule: the numbers of a run as progress goes from 0 to 1.

Progress is steps done / all steps of the run, so a schedule means the same for any batch size and number of epochs.
`drives` names the number: lr, momentum (beta1 of Adam), weight_decay or dropout; all others stay as they are. A curve
multiplies the number that the config gave; with absolute=True it is the number.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, pairwise
from typing import Any

from seedbed.tables import show

# (progress, the number as the config gave it) → the number now; of a stack the numbers are tensors [M]
Curve = Callable[[float, Any], Any]


@dataclass(frozen=True)
class Schedule:
    """Curves by the names of the numbers that they drive. Calling it gives a number: the lr's multiplier by default."""

    curves: Mapping[str, Curve] = field(default_factory=dict)

    def __call__(self, progress: float, number: str = "lr", given: Any = 1.0) -> Any:
        return self.curves[number](progress, given) if number in self.curves else given


def _of(curve: Callable[[float], float], drives: str, absolute: bool) -> Schedule:
    if absolute:
        return Schedule({drives: lambda progress, given: curve(progress)})
    return Schedule({drives: lambda progress, given: given * curve(progress)})


def constant() -> Schedule:
    """Leave all numbers as they are."""
    return Schedule()


def linear(start: float = 1.0, end: float = 0.0, drives: str = "lr", absolute: bool = False) -> Schedule:
    """A straight line from start to end."""
    return _of(lambda progress: start + progress * (end - start), drives, absolute)


def cosine(start: float = 1.0, end: float = 0.0, drives: str = "lr", absolute: bool = False) -> Schedule:
    """Half a cosine wave from start to end: flat at both ends."""
    return _of(lambda progress: start + (1 - math.cos(math.pi * progress)) * (end - start) / 2, drives, absolute)


def exponential(start: float = 1.0, end: float = 0.01, drives: str = "lr", absolute: bool = False) -> Schedule:
    """A constant factor a step, from start to end (both > 0)."""
    return _of(lambda progress: start * (end / start) ** progress, drives, absolute)


def combined(phases: Sequence[Schedule], fractions: Sequence[float]) -> Schedule:
    """Phases one after another, each run from its 0 to its 1 in its fraction of the run.

    Raises ValueError unless phases are schedules, and fractions as many, all positive, with sum 1.
    """
    if not all(isinstance(phase, Schedule) for phase in phases):
        raise ValueError("phases: each must be a schedule, as {_target_: seedbed.schedules.linear, start: 1, end: 0}")
    if not phases or len(phases) != len(fractions) or min(fractions) <= 0 or abs(sum(fractions) - 1) > 1e-6:
        raise ValueError(f"fractions={show(fractions)}: must be {len(phases)} positive numbers that sum to 1")
    starts = [0.0, *accumulate(fractions)][:-1]

    def joined(number: str) -> Curve:
        def curve(progress: float, given: Any) -> Any:
            i = bisect_right(starts, progress) - 1
            return phases[i](min((progress - starts[i]) / fractions[i], 1.0), number, given)

        return curve

    return Schedule({number: joined(number) for phase in phases for number in phase.curves})


def values(
    fractions: Sequence[float] | None = None,
    shape: str = "cosine",
    absolute: bool = True,
    **numbers: Sequence[float] | None,
) -> Schedule:
    """Each number goes through the values listed for it: lr=[0.3, 0.6, 0.2], weight_decay=[0, 1e-4].

    fractions: shares of the run between a value and the next, equal by default. shape: linear, cosine or exponential.
    """
    between = {"linear": linear, "cosine": cosine, "exponential": exponential}[shape]
    curves: dict[str, Curve] = {}
    for number, points in numbers.items():
        if points:
            phases = [between(start, end, number, absolute) for start, end in pairwise(points)]
            curves |= combined(phases, fractions or [1 / len(phases)] * len(phases)).curves
    return Schedule(curves)


def one_cycle(
    pct_start: float = 0.25, div: float = 25.0, div_final: float = 1e5, momentum_low: float = 0.85 / 0.95
) -> Schedule:
    """fastai's one-cycle: cosine up from 1/div to 1 in the first pct_start of the run, cosine down to 1/div_final.

    The momentum goes the other way, down to momentum_low and up again: 0.95, 0.85, 0.95 for optim.momentum=0.95.
    Source: Smith & Topin, Super-Convergence (2018); fastai's fit_one_cycle.
    """
    fractions = [pct_start, 1 - pct_start]
    lr, momentum = [1 / div, 1.0, 1 / div_final], [1.0, momentum_low, 1.0]
    return values(fractions, absolute=False, lr=lr, momentum=momentum)
