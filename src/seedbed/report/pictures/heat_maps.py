"""The metric over two swept keys at once."""

from __future__ import annotations

from itertools import combinations

import numpy as np
from matplotlib import colormaps
from matplotlib.colors import LogNorm, Normalize
from matplotlib.patches import Rectangle

from seedbed.report.effects import Effect, size
from seedbed.report.grid import Axis, Grid, mean_table
from seedbed.report.pictures import Picture
from seedbed.report.pictures.axes import BEST, direction, panels, short, thinned
from seedbed.sweeps.summary import smaller_is_better
from seedbed.tables import figure as in_figures

MOST = 6  # maps


def draw(grid: Grid, effects: dict[str, Effect | None]) -> Picture | None:
    """A map a pair of keys, the pairs of the strongest keys first; of one key, it and the seed. None of no pair."""
    axes = [axis for axis in sorted(grid.axes, key=lambda a: -size(effects[a.key])) if len(axis.names) <= 500]
    seed = Axis(" · ".join(grid.seed_keys), grid.seed_names, grid.seed_names, "words", grid.seeds)
    if len(axes) == 1 and grid.num_seeds > 1:
        axes.append(seed)
    pairs = list(combinations(axes, 2))
    if not pairs:
        return None
    shown = pairs[:MOST]
    columns = min(3, len(shown))
    rows = -(-len(shown) // columns)
    tables = [_table(grid, *pair) for pair in shown]
    height = min(7.0, max(2.4, 1.2 + 0.32 * max(min(len(x.names), len(y.names), 16) for x, y in shown)))
    figure, panel = panels(rows, columns, (8.0, 5.6, 4.2)[columns - 1], height)
    for ax, (a, b), table in zip(panel.flat, shown, tables, strict=False):
        _map(figure, ax, *((a, b, table.T) if len(a.names) > len(b.names) else (b, a, table)), grid.metric)
    for ax in panel.flat[len(shown) :]:
        ax.set_visible(False)
    return Picture("heatmap", "Two swept values at once", _caption(grid, shown, pairs, seed in axes, tables), figure)


def _table(grid: Grid, a: Axis, b: Axis) -> np.ndarray:
    return mean_table(a.codes * len(b.names) + b.codes, grid.numbers, (len(a.names), len(b.names)))


def _map(figure, ax, x: Axis, y: Axis, table: np.ndarray, metric: str) -> None:
    """`table` [Y, X]"""
    norm, extend = _colours(table[np.isfinite(table)], smaller_is_better(metric))
    colour = colormaps["viridis_r" if smaller_is_better(metric) else "viridis"].with_extremes(bad="0.8")
    image = ax.imshow(table, cmap=colour, norm=norm, aspect="auto", origin="lower", interpolation="nearest")
    figure.colorbar(image, ax=ax, label=metric, extend=extend)
    ax.grid(False)
    for set_ticks, axis, most in ((ax.set_xticks, x, 12), (ax.set_yticks, y, 16)):
        shown = thinned(len(axis.names), most)
        set_ticks(shown, [short(axis.names[n], 16) for n in shown])
    if sum(len(short(x.names[n], 16)) + 2 for n in thinned(len(x.names), 12)) > 50:
        ax.tick_params(axis="x", rotation=35)
    ax.set_xlabel(x.key)
    ax.set_ylabel(y.key)
    if table.size <= 100 and len(x.names) <= 9:
        for (row, column), value in np.ndenumerate(table):
            text = (f"{value:.3g}" if abs(value) >= 100 else in_figures(value)) if np.isfinite(value) else "none"
            dark = np.isfinite(value) and (norm(value) > 0.5) == smaller_is_better(metric)
            ax.text(column, row, text, ha="center", va="center", fontsize=7.5, color="white" if dark else "black")
    if np.isfinite(table).any() and table.size > 1:
        row, column = np.unravel_index(np.nanargmin(table if smaller_is_better(metric) else -table), table.shape)
        frame = Rectangle((column - 0.5, row - 0.5), 1, 1, fill=False, ec=BEST, lw=2, clip_on=False)
        ax.add_patch(frame)


def _colours(known: np.ndarray, smaller: bool) -> tuple[Normalize, str]:
    """Colours span what is not far worse than the rest, or few bad cells would take them all; whether they go on."""
    if not len(known):
        return Normalize(0, 1), "neither"
    low, middle, high = known.min(), np.median(known), known.max()
    if low > 0 and high > 100 * low:
        return LogNorm(low, high), "neither"
    if smaller and high - middle > 4 * (middle - low):
        return Normalize(low, max(np.quantile(known, 0.75), middle + 2 * (middle - low))), "max"
    if not smaller and middle - low > 4 * (high - middle):
        return Normalize(min(np.quantile(known, 0.25), middle - 2 * (high - middle)), high), "min"
    return Normalize(low, high), "neither"


def _caption(grid: Grid, shown: list, pairs: list, with_seed: bool, tables: list[np.ndarray]) -> str:
    what = "the one job" if with_seed else "the mean over seeds and all other swept values"
    found = [f"Each cell: {what}, {direction(grid.metric)}; the best cell is framed"]
    if any(~np.isfinite(table).all() for table in tables):
        found.append("grey: no job there has the metric")
    if np.isnan(grid.numbers).any():
        found.append("jobs without the metric are left out of their cell's mean")
    if len(pairs) > len(shown):
        found.append(f"{len(shown)} of {len(pairs)} pairs, those of the keys with the largest effects")
    return "; ".join(found) + "."
