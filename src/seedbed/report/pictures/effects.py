"""The metric over the values of each swept key."""

from __future__ import annotations

import math

import numpy as np

from seedbed.colours import BEST, JOBS, MEAN, MISSING
from seedbed.metrics import merit
from seedbed.report.effects import Effect
from seedbed.report.grid import Axis, Grid, mean_table
from seedbed.report.pictures import Picture
from seedbed.report.pictures.axes import direction, limits, mark_values, needs_log, panels, set_log

MANY_VALUES = 20  # with more, intervals are drawn as a band instead of bars
MAX_LINES = 30  # single combinations of the other keys in a panel


def draw(grid: Grid, effects: dict[str, Effect | None]) -> Picture:
    """Draw a panel for each key; `effects`: by key, None where the jobs are no grid."""
    columns = min(3, len(grid.axes))
    width = 4.0 if columns > 1 else 6.5
    rows = math.ceil(len(grid.axes) / columns)
    figure, axes = panels(rows, columns, width, 3.4, sharey=True)
    means = [ends for e in effects.values() if e for ends in (e.mean, e.mean + e.half, e.mean - e.half)]
    log = needs_log(grid.numbers)
    low, high = limits(grid.numbers, np.concatenate([*means, [np.nan]]), log)
    for ax, axis in zip(axes.flat, grid.axes, strict=False):
        _panel(ax, grid, axis, effects[axis.key])
        ax.set_ylim(low, high)
        if log:
            set_log(ax)
    for ax in axes[:, 0]:
        ax.set_ylabel(direction(grid.metric))
    for ax in axes.flat[len(grid.axes) :]:
        ax.set_visible(False)
    outside = int(((grid.numbers < low) | (grid.numbers > high)).sum())
    return Picture("effects", "Effect of each swept value", _caption(grid, effects, outside), figure)


def _panel(ax, grid: Grid, axis: Axis, effect: Effect | None) -> None:
    x = axis.positions
    many = len(x) > MANY_VALUES
    size, alpha = (3 if many else 5), (0.15 if len(grid.jobs) > 2000 else 0.4)
    ax.plot(x[axis.codes], grid.numbers, ".", color=JOBS, ms=size, alpha=alpha, mew=0, rasterized=True)
    if _has_lines(grid, axis):
        others, count = grid.other_combinations(axis)
        table = mean_table(axis.codes * count + others, grid.numbers, (len(x), count))
        ax.plot(x, table, color=JOBS, lw=0.8, alpha=0.7)
    if not many:
        _count_missing(ax, grid, axis)
    if effect is not None and (effect.paired.any() or not many):
        (_draw_band if many else _draw_bars)(ax, axis, effect)
        merits = np.where(effect.paired, merit(effect.mean, grid.metric), np.nan)
        if np.isfinite(merits).sum() > 1:
            best = int(np.nanargmax(merits))
            ax.plot(x[best], effect.mean[best], "o", color=BEST, ms=5 if many else 7, zorder=5)
    mark_values(ax, axis)
    if axis.scale == "names":
        ax.set_xlim(-0.5, len(x) - 0.5)


def _has_lines(grid: Grid, axis: Axis) -> bool:
    """Return whether the combinations of the other keys are few enough to be drawn as lines of their own."""
    return 1 < grid.other_combinations(axis)[1] <= MAX_LINES and len(axis.names) <= MANY_VALUES


def _count_missing(ax, grid: Grid, axis: Axis) -> None:
    """Write above each value how many of its jobs have no metric."""
    counts = np.bincount(axis.codes[~np.isfinite(grid.numbers)], minlength=len(axis.names))
    for n in np.flatnonzero(counts):
        text = f"{counts[n]} of {(axis.codes == n).sum()}\nwithout"
        top = (axis.positions[n], 1.0)
        ax.annotate(text, top, xycoords=("data", "axes fraction"), color=MISSING, fontsize=7, ha="center", va="bottom")


def _draw_band(ax, axis: Axis, effect: Effect) -> None:
    ax.fill_between(axis.positions, effect.mean - effect.half, effect.mean + effect.half, color=MEAN, alpha=0.25, lw=0)
    ax.plot(axis.positions, effect.mean, color=MEAN, lw=1.2)


def _draw_bars(ax, axis: Axis, effect: Effect) -> None:
    x, own = axis.positions, ~effect.paired
    known = np.isfinite(effect.half)
    ax.errorbar(x[known], effect.mean[known], effect.half[known], fmt="none", ecolor=MEAN, elinewidth=2, capsize=4)
    if axis.scale != "names":
        ax.plot(x, effect.mean, color=MEAN, lw=1)
    ax.plot(x[effect.paired], effect.mean[effect.paired], "o", color=MEAN, ms=6)
    ax.plot(x[own], effect.mean[own], "o", color=MEAN, mfc="white", ms=6)


def _caption(grid: Grid, effects: dict[str, Effect | None], outside: int) -> str:
    seeds = grid.num_seeds
    bars = f"its 95 % interval over {seeds} seeds (Student's t)" if seeds > 1 else "no interval: there is one seed"
    over = " over all other swept values, the same combinations and seeds for each," if len(grid.axes) > 1 else ""
    known = [effect for effect in effects.values() if effect is not None]
    parts = [f"Blue: mean of a value{over} and {bars}", "grey dots: the jobs"]
    if any(effect.paired.any() for effect in known):
        parts.append("orange: the best value")
    if any(_has_lines(grid, axis) for axis in grid.axes):
        parts.append("grey lines: single combinations of the other values, means over seeds")
    if not all(effect.paired.all() for effect in known):
        parts.append("hollow: the value shares too few combinations with the others, so this is over its own jobs")
    if len(known) < len(effects):
        parts.append("dots without a mean: values that hardly two jobs share")
    if np.isnan(grid.numbers).any() and any(len(axis.names) <= MANY_VALUES for axis in grid.axes):
        parts.append(f"red: how many of a value's jobs have no {grid.metric}")
    if outside:
        parts.append(f"{outside:,} job{'s lie' if outside > 1 else ' lies'} outside the picture")
    return "; ".join(parts) + "."
