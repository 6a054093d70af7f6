"""Jobs of a study's sweep averaged over seeds: accuracies, and curves with 95 % bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from seedbed.history import read_history
from seedbed.metrics import VAL_ACCURACY
from seedbed.statistics import interval
from seedbed.sweeps.records import Job

Curve = dict[int, tuple[float, float]]  # epoch → mean, half the width of its interval


def select(jobs: Sequence[Job], values: dict[str, str]) -> list[Job]:
    """Return the jobs whose overrides have these values, as one types them."""
    return [job for job in jobs if all(job.shown(key) == value for key, value in values.items())]


def accuracies(jobs: Sequence[Job]) -> list[float]:
    """Return val/accuracy of the jobs that have it."""
    return [value for job in jobs if (value := job.metric(VAL_ACCURACY)) is not None]


def mean_and_interval(numbers: Sequence[float]) -> tuple[float, float]:
    """Return the mean and half the width of its 95 % interval, NaN where there are too few numbers."""
    mean, half = interval(numbers) if numbers else (math.nan, None)
    return mean, math.nan if half is None else half


def mean_curve(jobs: Sequence[Job], runs: Path, metric: str) -> Curve:
    """Average a metric over the jobs, for every epoch that all of them have: the shortest run ends the curve."""
    curves = [curve for job in jobs if (curve := read_history(runs / job.folder, [metric]).get(metric))]
    epochs = sorted(set.intersection(*map(set, curves))) if curves else []
    return {epoch: mean_and_interval([curve[epoch] for curve in curves]) for epoch in epochs}


def draw_curve(ax, label: str, style: dict, curve: Curve) -> None:
    """Draw a line with its band."""
    means = [mean for mean, _ in curve.values()]
    (line,) = ax.plot(list(curve), means, label=label, **style)
    low, high = ([mean + sign * half for mean, half in curve.values()] for sign in (-1, 1))
    ax.fill_between(list(curve), low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def style(position: int) -> dict:
    """Return a colour and a marker that tell ten lines apart."""
    return {"color": f"C{position % 10}", "marker": "os^Dv"[position % 5], "markersize": 5}
