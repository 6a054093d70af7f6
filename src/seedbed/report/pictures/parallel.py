"""Parallel coordinates: every combination as a line across its values and its metrics."""

from __future__ import annotations

import numpy as np
from matplotlib import cm, colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize, to_rgba

from seedbed.colours import BEST, MISSING, ORDER
from seedbed.metrics import SHOWN, merit, smaller_is_better
from seedbed.report.grid import Axis, Grid, mean_table
from seedbed.report.pictures import Picture
from seedbed.report.pictures.axes import direction, needs_log, panels, short, thinned
from seedbed.tables import figure as few_digits

MISSING_HEIGHT = -0.12  # below the axis
WHITE = {"fc": "white", "ec": "none", "alpha": 0.75, "pad": 0.5}  # box behind a label
GREY = "0.3"


def draw(grid: Grid) -> Picture:
    """Draw the combinations, coloured by their rank: coloured by the metric, a few bad runs would take all shades."""
    count = len(grid.combination_codes)
    others = [m for m in SHOWN if m != grid.metric and np.isfinite(grid.column(m)).any()]
    metrics = [*others[:2], grid.metric]
    means = [mean_table(grid.combinations, grid.column(m), (count,)) for m in metrics]
    logs = [needs_log(values) for values in means]
    scaled = [np.log(values) if log else values for values, log in zip(means, logs, strict=True)]
    ends = [_ends(values, smaller_is_better(m)) for values, m in zip(scaled, metrics, strict=True)]
    # heights on every axis, [C, K keys + metrics], from 0 to 1
    columns = [_heights(axis)[grid.combination_codes[:, n]] for n, axis in enumerate(grid.axes)]
    columns += [_metric_heights(values, *end) for values, end in zip(scaled, ends, strict=True)]
    merits = merit(means[-1], grid.metric)
    order = np.argsort(np.where(np.isfinite(merits), merits, -np.inf), kind="stable")  # the best is drawn last
    figure, axes = panels(1, 1, max(6.5, 1.9 * len(columns)), 4.2)
    _draw_lines(figure, axes[0, 0], np.stack(columns, axis=1)[order], np.isfinite(merits[order]))
    _draw_axes(axes[0, 0], grid.axes, metrics, ends, logs)
    missing = int((~np.isfinite(merits)).sum())
    return Picture("parallel", "All combinations", _caption(grid, count, missing), figure)


def _heights(axis: Axis) -> np.ndarray:
    """Return the heights of a key's values on its axis, [V]."""
    x = axis.positions.astype(float)
    x = np.log(x) if axis.scale == "log" else x
    return (x - x.min()) / (np.ptp(x) or 1)


def _ends(values: np.ndarray, smaller: bool) -> tuple[float, float]:
    """Return the numbers at the foot and at the head of a metric's axis: the better end is up."""
    finite = values[np.isfinite(values)]
    low, high = (float(finite.min()), float(finite.max())) if len(finite) else (0.0, 1.0)
    return (high, low) if smaller else (low, high)


def _metric_heights(values: np.ndarray, foot: float, head: float) -> np.ndarray:
    return np.where(np.isfinite(values), (values - foot) / ((head - foot) or 1), MISSING_HEIGHT)


def _draw_lines(figure, ax, heights: np.ndarray, known: np.ndarray) -> None:
    """Draw smooth lines: an eye can follow one through a value that many lines share."""
    steps = np.linspace(0, 1, 16)
    ease = steps**2 * (3 - 2 * steps)
    y = heights[:, :-1, None] * (1 - ease) + heights[:, 1:, None] * ease  # [C, gaps, 16]
    x = np.arange(heights.shape[1] - 1)[:, None] + steps
    paths = np.stack(np.broadcast_arrays(x, y), axis=-1).reshape(len(heights), -1, 2)
    rank = np.cumsum(known) / max(1, known.sum())  # from 0 to 1, the best last
    colours = colormaps[ORDER](rank)
    colours[:, 3] = np.clip(60 / len(heights), 0.15, 0.85)
    colours[~known] = to_rgba(MISSING, 0.6)
    widths = np.full(len(heights), 1.2)
    if known.any():
        colours[-1], widths[-1] = to_rgba(BEST), 3.0
    ax.add_collection(LineCollection(paths, colors=colours, linewidths=widths, rasterized=len(heights) > 300))
    if known.sum() > 1:
        bar = figure.colorbar(cm.ScalarMappable(Normalize(0, 1), ORDER), ax=ax, pad=0.02, fraction=0.02, shrink=0.7)
        bar.set_ticks([0, 1], labels=["worst", "best"])
        bar.set_label("rank by the metric")


def _draw_axes(ax, keys: list[Axis], metrics: list[str], ends: list[tuple[float, float]], logs: list[bool]) -> None:
    ax.set_xlim(-0.15, len(keys) + len(metrics) - 0.6)
    ax.axis("off")
    label = {"fontsize": 8, "va": "center", "bbox": WHITE, "zorder": 6}
    for n, axis in enumerate(keys):
        ax.plot([n, n], [0, 1], color=GREY, lw=1, zorder=5)
        heights = _heights(axis)
        many = axis.scale != "names" and len(heights) > 12
        for k in _with_room(heights, 7 if many else 12):
            ax.text(n + 0.03, heights[k], f"{axis.values[k]:.3g}" if many else short(axis.names[k], 16), **label)
        ax.text(n, 1.1, axis.key, ha="center", fontsize=9, weight="bold")
    for n, (metric, (foot, head), log) in enumerate(zip(metrics, ends, logs, strict=True), start=len(keys)):
        last = n == len(keys) + len(metrics) - 1
        ax.plot([n, n], [0, 1], color=BEST if last else GREY, lw=2 if last else 1, zorder=5)
        for height in (0, 0.25, 0.5, 0.75, 1):
            value = foot + height * (head - foot)
            ax.text(n + 0.03, height, few_digits(float(np.exp(value)) if log else value), **label)
        ax.text(n, 1.1, metric, ha="center", fontsize=9, weight="bold")
    ax.set_ylim(-0.2, 1.2)


def _with_room(heights: np.ndarray, limit: int) -> list[int]:
    """Return at most `limit` indices of labels (ascending heights) that do not cover each other."""
    shown: list[int] = []
    for k in thinned(len(heights), limit):
        if not shown or heights[k] - heights[shown[-1]] > 0.05:
            shown.append(int(k))
    return shown


def _caption(grid: Grid, count: int, missing: int) -> str:
    parts = [
        f"Each line is one of {count:,} combinations of the swept values; its metrics are means over seeds",
        f"the better end of a metric is up; colour: rank by {direction(grid.metric)}; orange: the best",
    ]
    if missing:
        parts.append(f"red, ending below the axis: {missing:,} without the metric")
    return "; ".join(parts) + "."
