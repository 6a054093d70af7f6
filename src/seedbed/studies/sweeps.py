"""What the studies that train sweeps share: jobs in groups, their accuracies, and their curves with error bands."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path

from seedbed.statistics import interval
from seedbed.sweeps.records import Job


def seeds_word(seeds: int) -> str:
    return f"seed=range(0,{seeds})"


def having(jobs: Sequence[Job], values: dict[str, str]) -> list[Job]:
    """The jobs whose overrides have these values, as one types them."""
    return [job for job in jobs if all(job.shown(key) == value for key, value in values.items())]


def accuracies(jobs: Sequence[Job]) -> list[float]:
    """val/accuracy of those that have it."""
    return [value for job in jobs if (value := job.metric("val/accuracy")) is not None]


def mean_and_interval(numbers: Sequence[float]) -> tuple[float, float]:
    """nan where there are too few."""
    mean, half = interval(numbers) if numbers else (math.nan, None)
    return mean, math.nan if half is None else half


def curve(folder: Path, tag: str) -> list[float]:
    """A scalar's values in the order in which a run wrote them."""
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event

    found = []
    for file in sorted(folder.glob("events.out.tfevents.*")):
        for record in RawEventFileLoader(str(file)).Load():
            found += [v.simple_value for v in Event.FromString(record).summary.value if v.tag == tag]
    return found


def mean_curve(jobs: Sequence[Job], runs: Path, tag: str) -> tuple[list[float], list[float]]:
    """Means and half widths of the 95 % interval of a curve over the jobs, epoch by epoch.

    It ends with the shortest: a run that diverges stops there.
    """
    curves = [values for job in jobs if (values := curve(runs / job.folder, tag))]
    means, halves = [], []
    for numbers in zip(*curves, strict=False):
        mean, half = mean_and_interval(numbers)
        means.append(mean)
        halves.append(half)
    return means, halves


def draw_curve(ax, label: str, style: dict, means: Sequence[float], halves: Sequence[float]) -> None:
    """A line with its band over epochs 1, 2, …."""
    epochs = range(1, len(means) + 1)
    (line,) = ax.plot(epochs, means, label=label, **style)
    low, high = ([m + sign * h for m, h in zip(means, halves, strict=True)] for sign in (-1, 1))
    ax.fill_between(epochs, low, high, color=line.get_color(), alpha=0.15, linewidth=0)


def style(position: int) -> dict:
    """A colour and a marker that tell ten lines apart."""
    return {"color": f"C{position % 10}", "marker": "os^Dv"[position % 5], "markersize": 5}


def plain_numbers(axis) -> None:
    """0.1, 0.2, 0.3 and 0.5 on a log axis, where matplotlib writes powers of ten."""
    from matplotlib.ticker import FuncFormatter

    shown = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "1235" else "")
    axis.set_major_formatter(shown)
    axis.set_minor_formatter(shown)
