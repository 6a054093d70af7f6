"""The frame of a report's pictures: panels, and axes of swept values and of metrics."""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from seedbed.colours import NAMES, ORDER
from seedbed.metrics import smaller_is_better
from seedbed.report.grid import Axis

STYLE = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlesize": 10,
    "axes.titlelocation": "left",
    "axes.grid": True,
    "grid.color": "0.92",
    "grid.linewidth": 0.8,
    "axes.axisbelow": True,
    "legend.frameon": False,
}
DPI = 130


def panels(rows: int, columns: int, width: float, height: float, **kwargs) -> tuple[Figure, np.ndarray]:
    """Return a figure with rows × columns panels of width × height inches."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=DPI)
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def direction(metric: str) -> str:
    return f"{metric} ({'lower' if smaller_is_better(metric) else 'higher'} is better)"


def thinned(count: int, limit: int) -> np.ndarray:
    """Return at most `limit` of the indices 0 … count − 1, evenly spaced, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, limit)).round().astype(int))


def short(name: str, length: int = 18) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def mark_values(ax: Axes, axis: Axis, max_ticks: int = 12) -> None:
    """Make the x-axis that of a swept key: its scale, its values as ticks, its name."""
    x, names = axis.positions, [short(name) for name in axis.names]
    if axis.scale == "log":
        ax.set_xscale("log")
    if axis.scale == "names" or len(x) <= max_ticks:  # else matplotlib's round numbers are better ticks
        shown = thinned(len(x), max_ticks)
        ax.xaxis.set_major_locator(FixedLocator([float(x[n]) for n in shown]))
        ax.xaxis.set_major_formatter(FixedFormatter([names[n] for n in shown]))
        ax.xaxis.set_minor_locator(NullLocator())
        if sum(len(names[n]) + 2 for n in shown) > 56:
            ax.tick_params(axis="x", rotation=35)
            for label in ax.get_xticklabels():
                label.set_horizontalalignment("right")
    ax.set_xlabel(axis.key)


def needs_log(numbers: np.ndarray) -> bool:
    """Return whether positive numbers span so much that only a log axis shows them."""
    numbers = numbers[np.isfinite(numbers)]
    return len(numbers) > 1 and numbers.min() > 0 and numbers.max() > 8 * numbers.min()


def set_log(ax: Axes) -> None:
    """Make the y-axis logarithmic, with plain numbers."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if high > 1000 * low:
        return
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def limits(numbers: np.ndarray, inside: np.ndarray, log: bool = False) -> tuple[float, float]:
    """Return the ends of an axis that shows all of `inside`, and all of `numbers` but the outliers.

    An outlier lies farther outside the middle 90 % than their width.
    """
    numbers, inside = numbers[np.isfinite(numbers)], inside[np.isfinite(inside)]
    if log:
        low, high = limits(np.log(numbers), np.log(inside[inside > 0]))
        return float(np.exp(low)), float(np.exp(high))
    low, high = np.quantile(numbers, (0.05, 0.95))
    near = numbers[(numbers >= low - (high - low)) & (numbers <= high + (high - low))]
    ends = np.concatenate([near, inside])
    margin = 0.05 * (ends.max() - ends.min()) or 0.05 * abs(ends.max()) or 0.1
    return float(ends.min() - margin), float(ends.max() + margin)


def line_colours(axis: Axis | None, count: int) -> list:
    """Return shades in order for the values of a numeric key, and for many; else a distinct colour for each."""
    if (axis is not None and axis.scale != "names") or count > len(NAMES):
        return [colormaps[ORDER](x) for x in np.linspace(0.0, 0.88, count)]
    return list(NAMES[:count])
