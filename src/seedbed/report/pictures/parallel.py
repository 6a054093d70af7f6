"""Every combination as a line across its values and its metrics."""

from __future__ import annotations

import numpy as np
from matplotlib import cm, colormaps
from matplotlib.collections import LineCollection
from matplotlib.colors import Normalize

from seedbed.report.grid import Axis, Grid, mean_table
from seedbed.report.pictures import Picture
from seedbed.report.pictures.axes import BEST, WHITE, direction, is_log, panels, short, thinned
from seedbed.sweeps.summary import smaller_is_better
from seedbed.tables import figure as in_figures

OTHERS = ("val/accuracy", "val/loss", "train/loss", "test/accuracy")
NOWHERE = -0.12  # below the axis: no such metric


def draw(grid: Grid) -> Picture:
    """Colour is the rank by the metric: a few bad runs would take all shades of its value."""
    count = len(grid.combination_codes)
    others = [m for m in OTHERS if m != grid.metric and np.isfinite(grid.column(m)).any()]
    metrics = [*others[:2], grid.metric]
    columns = [_positions(axis, grid.combination_codes[:, n]) for n, axis in enumerate(grid.axes)]
    means = [mean_table(grid.combinations, grid.column(m), (count,)) for m in metrics]
    logs = [is_log(values) for values in means]
    scaled = [np.log(values) if log else values for values, log in zip(means, logs, strict=True)]
    ends = [_ends(values, smaller_is_better(m)) for values, m in zip(scaled, metrics, strict=True)]
    columns += [_scaled(values, *end) for values, end in zip(scaled, ends, strict=True)]
    points = np.stack(columns, axis=1)  # [C, K + metrics], 0 … 1
    merit = means[-1] if smaller_is_better(grid.metric) else -means[-1]
    order = np.argsort(-np.where(np.isfinite(merit), merit, np.inf), kind="stable")  # the best drawn last
    figure, axes = panels(1, 1, max(6.5, 1.9 * len(columns)), 4.2)
    ax = axes[0, 0]
    _lines(figure, ax, points[order], np.isfinite(merit[order]))
    _scales(ax, grid.axes, metrics, ends, logs)
    missing = int((~np.isfinite(merit)).sum())
    return Picture("parallel", "All combinations", _caption(grid, count, missing), figure)


def _positions(axis: Axis, codes: np.ndarray) -> np.ndarray:
    x = axis.positions.astype(float)
    x = np.log(x) if axis.scale == "log" else x
    return (x[codes] - x.min()) / (np.ptp(x) or 1)


def _ends(values: np.ndarray, smaller: bool) -> tuple[float, float]:
    """What stands at the foot and at the head of a metric's axis: the better end is up."""
    known = values[np.isfinite(values)]
    low, high = (float(known.min()), float(known.max())) if len(known) else (0.0, 1.0)
    return (high, low) if smaller else (low, high)


def _scaled(values: np.ndarray, low: float, high: float) -> np.ndarray:
    return np.where(np.isfinite(values), (values - low) / ((high - low) or 1), NOWHERE)


def _lines(figure, ax, points: np.ndarray, known: np.ndarray) -> None:
    """Smooth lines, so that an eye can follow one through a value that many share."""
    steps = np.linspace(0, 1, 16)
    ease = steps**2 * (3 - 2 * steps)
    y = points[:, :-1, None] * (1 - ease) + points[:, 1:, None] * ease  # [C, K − 1, 16]
    x = np.arange(points.shape[1] - 1)[:, None] + steps
    paths = np.stack(np.broadcast_arrays(x, y), axis=-1).reshape(len(points), -1, 2)
    rank = np.cumsum(known) / max(1, known.sum())  # 0 … 1, the best last
    shades = colormaps["viridis"](rank)
    shades[:, 3] = np.clip(60 / len(points), 0.15, 0.85)
    shades[~known] = (0.75, 0.22, 0.17, 0.6)
    widths = np.full(len(points), 1.2)
    if known.any():
        shades[-1] = (0.82, 0.41, 0.12, 1.0)
        widths[-1] = 3.0
    ax.add_collection(LineCollection(paths, colors=shades, linewidths=widths, rasterized=len(points) > 300))
    if known.sum() > 1:
        scale = cm.ScalarMappable(Normalize(0, 1), "viridis")
        bar = figure.colorbar(scale, ax=ax, pad=0.02, fraction=0.02, shrink=0.7)
        bar.set_ticks([0, 1], labels=["worst", "best"])
        bar.set_label("rank by the metric")


def _scales(ax, keys: list[Axis], metrics: list[str], ends: list[tuple[float, float]], logs: list[bool]) -> None:
    ax.set_xlim(-0.15, len(keys) + len(metrics) - 0.6)
    ax.axis("off")
    label = {"fontsize": 8, "va": "center", "bbox": WHITE, "zorder": 6}
    for n, axis in enumerate(keys):
        ax.plot([n, n], [0, 1], color="0.3", lw=1, zorder=5)
        y = _positions(axis, np.arange(len(axis.names)))
        many = axis.scale != "words" and len(y) > 12
        for k in _spread(y, 7 if many else 12):
            ax.text(n + 0.03, y[k], f"{axis.values[k]:.3g}" if many else short(axis.names[k], 16), **label)
        ax.text(n, 1.1, axis.key, ha="center", fontsize=9, weight="bold")
    for n, (metric, (low, high), log) in enumerate(zip(metrics, ends, logs, strict=True), start=len(keys)):
        last = n == len(keys) + len(metrics) - 1
        ax.plot([n, n], [0, 1], color=BEST if last else "0.3", lw=2 if last else 1, zorder=5)
        for part in (0, 0.25, 0.5, 0.75, 1):
            value = low + part * (high - low)
            ax.text(n + 0.03, part, in_figures(float(np.exp(value)) if log else value), **label)
        ax.text(n, 1.1, metric, ha="center", fontsize=9, weight="bold")
    ax.set_ylim(-0.2, 1.2)


def _spread(y: np.ndarray, most: int) -> list[int]:
    """Which labels of heights `y` (ascending) have room."""
    shown: list[int] = []
    for k in thinned(len(y), most):
        if not shown or y[k] - y[shown[-1]] > 0.05:
            shown.append(int(k))
    return shown


def _caption(grid: Grid, count: int, missing: int) -> str:
    found = [
        f"A line is one of {count:,} combinations of the swept values, its metrics are means over seeds",
        f"the better end of a metric is up; colour: rank by {direction(grid.metric)}; orange: the best",
    ]
    if missing:
        found.append(f"red, ending below the axis: {missing:,} without the metric")
    return "; ".join(found) + "."
