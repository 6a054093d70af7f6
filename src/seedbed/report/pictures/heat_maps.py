"""The metric over two swept keys at once."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle

from seedbed.colours import BEST, HEAT_MAP
from seedbed.metrics import merit, smaller_is_better
from seedbed.report.effects import Effect, mean_range
from seedbed.report.grid import Axis, Grid, mean_table
from seedbed.report.pictures import Picture
from seedbed.report.pictures.axes import direction, panels, short, thinned
from seedbed.tables import figure as few_digits

MAX_MAPS = 6
MAX_VALUES = 500  # of a key


def draw(grid: Grid, effects: dict[str, Effect | None]) -> Picture | None:
    """Draw a map for each pair of keys, those with the largest effects first; a single key is paired with the seed.

    None where there is no pair.
    """
    by_size = sorted(grid.axes, key=lambda axis: -mean_range(effects[axis.key]))
    axes = [axis for axis in by_size if len(axis.names) <= MAX_VALUES]
    with_seed = len(axes) == 1 and grid.num_seeds > 1
    if with_seed:
        axes.append(Axis(" · ".join(grid.seed_keys), grid.seed_names, grid.seed_names, "names", grid.seeds))
    pairs = list(combinations(axes, 2))
    if not pairs:
        return None
    # the key with more values is the horizontal one
    shown = [(a, b) if len(a.names) > len(b.names) else (b, a) for a, b in pairs[:MAX_MAPS]]
    tables = [_table(grid, x, y) for x, y in shown]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    height = min(7.0, max(2.4, 1.2 + 0.32 * max(min(len(y.names), 16) for _, y in shown)))
    figure, panel = panels(rows, columns, (8.0, 5.6, 4.2)[columns - 1], height)
    for ax, (x, y), table in zip(panel.flat, shown, tables, strict=False):
        _map(figure, ax, x, y, table, grid.metric)
    for ax in panel.flat[len(shown) :]:
        ax.set_visible(False)
    caption = _caption(grid, len(shown), len(pairs), with_seed, tables)
    return Picture("heatmap", "Two swept values at once", caption, figure)


def _table(grid: Grid, x: Axis, y: Axis) -> np.ndarray:
    """Average the metric over all other keys: [Y, X]."""
    return mean_table(y.codes * len(x.names) + x.codes, grid.numbers, (len(y.names), len(x.names)))


def _map(figure, ax, x: Axis, y: Axis, table: np.ndarray, metric: str) -> None:
    """Draw a table [Y, X]."""
    norm, extend = _range_of_colours(table[np.isfinite(table)], smaller_is_better(metric))
    colours = colormaps[HEAT_MAP + ("_r" if smaller_is_better(metric) else "")].with_extremes(bad="0.8")
    image = ax.imshow(table, cmap=colours, norm=norm, aspect="auto", origin="lower", interpolation="nearest")
    figure.colorbar(image, ax=ax, label=metric, extend=extend)
    ax.grid(False)
    for set_ticks, axis, max_ticks in ((ax.set_xticks, x, 12), (ax.set_yticks, y, 16)):
        ticks = thinned(len(axis.names), max_ticks)
        labels = [short(axis.names[n], 16) for n in ticks]
        set_ticks(ticks, labels)
        if axis is x and sum(len(label) + 2 for label in labels) > 50:
            ax.tick_params(axis="x", rotation=35)
    ax.set_xlabel(x.key)
    ax.set_ylabel(y.key)
    if table.size <= 100 and len(x.names) <= 9:
        for (row, column), value in np.ndenumerate(table):
            text = (f"{value:.3g}" if abs(value) >= 100 else few_digits(value)) if np.isfinite(value) else "none"
            dark = np.isfinite(value) and (norm(value) > 0.5) == smaller_is_better(metric)
            ax.text(column, row, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    if np.isfinite(table).any() and table.size > 1:
        row, column = np.unravel_index(np.nanargmax(merit(table, metric)), table.shape)
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=BEST, lw=2, clip_on=False)
        ax.add_patch(frame)


def _range_of_colours(numbers: np.ndarray, smaller: bool) -> tuple[Normalize, str]:
    """Return the range of the colours, and the end at which numbers exceed it ("neither", "max" or "min").

    Numbers that are far worse than the rest are left outside, or a few bad cells would take all shades.
    """
    if not len(numbers):
        return Normalize(0, 1), "neither"
    low, middle, high = numbers.min(), np.median(numbers), numbers.max()
    if low > 0 and high > 100 * low:
        return LogNorm(low, high), "neither"
    if smaller and high - middle > 4 * (middle - low):
        return Normalize(low, max(np.quantile(numbers, 0.75), middle + 2 * (middle - low))), "max"
    if not smaller and middle - low > 4 * (high - middle):
        return Normalize(min(np.quantile(numbers, 0.25), middle - 2 * (high - middle)), high), "min"
    return Normalize(low, high), "neither"


def _caption(grid: Grid, shown: int, pairs: int, with_seed: bool, tables: list[np.ndarray]) -> str:
    cell = "the one job" if with_seed else "the mean over seeds and all other swept values"
    parts = [f"Each cell: {cell}, {direction(grid.metric)}; the best cell is framed"]
    if any(~np.isfinite(table).all() for table in tables):
        parts.append("grey: no job there has the metric")
    if np.isnan(grid.numbers).any():
        parts.append("jobs without the metric are left out of their cell's mean")
    if pairs > shown:
        parts.append(f"{shown} of {pairs} pairs, those of the keys with the largest effects")
    return "; ".join(parts) + "."
