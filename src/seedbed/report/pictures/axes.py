"""What the pictures of a report share: their frame, and how values and metrics stand on an axis."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib import colormaps
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedFormatter, FixedLocator, FuncFormatter, LogLocator, NullFormatter, NullLocator

from seedbed.report.grid import Axis
from seedbed.sweeps.summary import smaller_is_better

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
INK, FAINT, WRONG, BEST = "#1f4e79", "0.62", "#c0392b", "#d2691e"
WORDS_COLOURS = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b", "#e377c2", "#17becf")
WHITE = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.5}  # behind text
DPI = 130


def panels(rows: int, columns: int, width: float, height: float, **kwargs) -> tuple[Figure, np.ndarray]:
    """A figure with rows × columns axes of width × height inches."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained", dpi=DPI)
    return figure, figure.subplots(rows, columns, squeeze=False, **kwargs)


def direction(metric: str) -> str:
    return f"{metric} ({'lower' if smaller_is_better(metric) else 'higher'} is better)"


def thinned(count: int, most: int) -> np.ndarray:
    """At most `most` of the indices 0 … count − 1, evenly spaced, both ends among them."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).round().astype(int))


def short(name: str, length: int = 18) -> str:
    return name if len(name) <= length else f"{name[: length - 1]}…"


def mark_values(ax: Axes, axis: Axis, names: Sequence[str] | None = None, most: int = 12) -> None:
    """The x-axis of a swept key: its scale, its values as ticks (thinned), its name."""
    x, names = axis.positions, [short(name) for name in names or axis.names]
    if axis.scale == "log":
        ax.set_xscale("log")
    shown = thinned(len(x), most)
    if axis.scale != "words" and len(x) > most:
        shown = []  # matplotlib's round numbers do better
    if len(shown):
        ax.xaxis.set_major_locator(FixedLocator([float(x[n]) for n in shown]))
        ax.xaxis.set_major_formatter(FixedFormatter([names[n] for n in shown]))
        ax.xaxis.set_minor_locator(NullLocator())
        if sum(len(names[n].split("\n")[0]) + 2 for n in shown) > 56:
            ax.tick_params(axis="x", rotation=35)
            for label in ax.get_xticklabels():
                label.set_horizontalalignment("right")
    ax.set_xlabel(axis.key)


def is_log(numbers: np.ndarray) -> bool:
    """Whether positive numbers span so much that only logarithms show them."""
    numbers = numbers[np.isfinite(numbers)]
    return len(numbers) > 1 and numbers.min() > 0 and numbers.max() > 8 * numbers.min()


def set_log(ax: Axes) -> None:
    """A logarithmic y-axis with plain numbers."""
    ax.set_yscale("log")
    low, high = ax.get_ylim()
    if high > 1000 * low:
        return
    ax.yaxis.set_major_locator(LogLocator(subs=(1.0, 2.0, 5.0)))
    ax.yaxis.set_major_formatter(FuncFormatter(lambda y, _: f"{y:g}"))
    ax.yaxis.set_minor_formatter(NullFormatter())


def limits(numbers: np.ndarray, inside: np.ndarray, log: bool = False) -> tuple[float, float]:
    """Ends of an axis: all of `inside`, and of `numbers` what is not far out (beyond three times the middle 90 %)."""
    numbers, inside = numbers[np.isfinite(numbers)], inside[np.isfinite(inside)]
    if log:
        low, high = limits(np.log(numbers), np.log(inside[inside > 0]))
        return float(np.exp(low)), float(np.exp(high))
    low, high = np.quantile(numbers, (0.05, 0.95))
    reach = 1.0 * (high - low)
    near = numbers[(numbers >= low - reach) & (numbers <= high + reach)]
    ends = np.concatenate([near, inside])
    margin = 0.05 * (ends.max() - ends.min()) or 0.05 * abs(ends.max()) or 0.1
    return float(ends.min() - margin), float(ends.max() + margin)


def colours(axis: Axis | None, count: int) -> list:
    """Of a numeric key's values shades in their order, of words one colour each."""
    if (axis is not None and axis.scale != "words") or count > len(WORDS_COLOURS):
        return [colormaps["viridis"](x) for x in np.linspace(0.0, 0.88, count)]
    return list(WORDS_COLOURS[:count])
