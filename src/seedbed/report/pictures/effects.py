"""The metric over the values of each swept key."""

from __future__ import annotations

import math

import numpy as np

from seedbed.report.effects import Effect
from seedbed.report.grid import Axis, Grid, mean_table
from seedbed.report.pictures import Picture
from seedbed.report.pictures.axes import (
    BEST,
    FAINT,
    INK,
    WRONG,
    direction,
    is_log,
    limits,
    mark_values,
    panels,
    set_log,
)
from seedbed.sweeps.summary import smaller_is_better

MANY = 20  # values from which a band is drawn, not bars


def draw(grid: Grid, effects: dict[str, Effect | None]) -> Picture:
    """A panel a key; `effects`: by key, None for what is no grid."""
    columns = min(3, len(grid.axes))
    width = 4.0 if columns > 1 else 6.5
    rows = math.ceil(len(grid.axes) / columns)
    figure, axes = panels(rows, columns, width, 3.4, sharey=True)
    inside = [values for e in effects.values() if e for values in (e.mean, *((e.mean - e.half), (e.mean + e.half)))]
    log = is_log(grid.numbers)
    low, high = limits(grid.numbers, np.concatenate([*inside, [np.nan]]), log)
    for ax, axis in zip(axes.flat, grid.axes, strict=False):
        _panel(ax, grid, axis, effects[axis.key])
        if log:
            ax.set_ylim(low, high)
            set_log(ax)
        else:
            ax.set_ylim(low, high)
    for ax in axes[:, 0]:
        ax.set_ylabel(direction(grid.metric))
    for ax in axes.flat[len(grid.axes) :]:
        ax.set_visible(False)
    outside = int(((grid.numbers < low) | (grid.numbers > high)).sum())
    return Picture("effects", "Effect of each swept value", _caption(grid, effects, outside), figure)


def _panel(ax, grid: Grid, axis: Axis, effect: Effect | None) -> None:
    x = axis.positions
    many = len(x) > MANY
    size, alpha = (3 if many else 5), (0.15 if len(grid.jobs) > 2000 else 0.4)
    ax.plot(x[axis.codes], grid.numbers, ".", color=FAINT, ms=size, alpha=alpha, mew=0, rasterized=True)
    _combinations(ax, grid, axis)
    if not many:
        _missing(ax, grid, axis)
    if effect is not None and (effect.paired.any() or not many):
        (_band if many else _bars)(ax, axis, effect)
        merit = np.where(effect.paired, effect.mean if smaller_is_better(grid.metric) else -effect.mean, np.nan)
        if np.isfinite(merit).sum() > 1:
            best = int(np.nanargmin(merit))
            ax.plot(x[best], effect.mean[best], "o", color=BEST, ms=5 if many else 7, zorder=5)
    mark_values(ax, axis)
    if axis.scale == "words":
        ax.set_xlim(-0.5, len(x) - 0.5)


def _missing(ax, grid: Grid, axis: Axis) -> None:
    """How many jobs of a value have no metric, above it."""
    counts = np.bincount(axis.codes[~np.isfinite(grid.numbers)], minlength=len(axis.names))
    for n in np.flatnonzero(counts):
        text = f"{counts[n]} of {(axis.codes == n).sum()}\nwithout"
        place = (axis.positions[n], 1.0)
        ax.annotate(text, place, xycoords=("data", "axes fraction"), color=WRONG, fontsize=7, ha="center", va="bottom")


def _band(ax, axis: Axis, effect: Effect) -> None:
    ax.fill_between(axis.positions, effect.mean - effect.half, effect.mean + effect.half, color=INK, alpha=0.25, lw=0)
    ax.plot(axis.positions, effect.mean, color=INK, lw=1.2)


def _bars(ax, axis: Axis, effect: Effect) -> None:
    x, own = axis.positions, ~effect.paired
    known = np.isfinite(effect.half)
    ax.errorbar(x[known], effect.mean[known], effect.half[known], fmt="none", ecolor=INK, elinewidth=2, capsize=4)
    if axis.scale != "words":
        ax.plot(x, effect.mean, color=INK, lw=1)
    ax.plot(x[effect.paired], effect.mean[effect.paired], "o", color=INK, ms=6)
    ax.plot(x[own], effect.mean[own], "o", color=INK, mfc="white", ms=6)


def _combinations(ax, grid: Grid, axis: Axis) -> None:
    """A thin line a combination of the other keys, where that can be told apart."""
    place, count = grid.places(axis)
    if 1 < count <= 30 and len(axis.names) <= MANY:
        shape = (len(axis.names), count)
        ax.plot(
            axis.positions, mean_table(axis.codes * count + place, grid.numbers, shape), color=FAINT, lw=0.8, alpha=0.7
        )


def _caption(grid: Grid, effects: dict[str, Effect | None], outside: int) -> str:
    seeds = grid.num_seeds
    bars = f"its 95 % interval over {seeds} seeds (Student's t)" if seeds > 1 else "no interval: there is one seed"
    over = " over all other swept values, the same combinations and seeds for each," if len(grid.axes) > 1 else ""
    found = [f"Blue: mean of a value{over} and {bars}", "grey dots: the jobs"]
    if any(e is not None and e.paired.any() for e in effects.values()):
        found.append("orange: the best value")
    if any(1 < grid.places(axis)[1] <= 30 and len(axis.names) <= MANY for axis in grid.axes):
        found.append("grey lines: single combinations of the other values, means over seeds")
    if any(e is not None and not e.paired.all() for e in effects.values()):
        found.append(
            "hollow: over the value's own jobs, because it shares too few combinations with the others to compare"
        )
    if any(e is None for e in effects.values()):
        found.append("dots without a mean: values that hardly two jobs share")
    if np.isnan(grid.numbers).any() and any(len(axis.names) <= MANY for axis in grid.axes):
        found.append(f"red: how many of a value's jobs have no {grid.metric}")
    if outside:
        found.append(f"{outside:,} job{'s lie' if outside > 1 else ' lies'} outside the picture")
    return "; ".join(found) + "."
