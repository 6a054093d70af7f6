"""Losses and accuracies over epochs, with bands over seeds."""

from __future__ import annotations

import re

import numpy as np

from seedbed.report.effects import Effect, average, intervals
from seedbed.report.grid import Axis, Grid, mean_table
from seedbed.report.pictures import Picture
from seedbed.report.pictures.axes import colours, is_log, limits, panels, set_log, thinned

MOST = 8  # curves in a panel


def draw_values(grid: Grid, axis: Axis, effect: Effect | None, tables: dict[str, np.ndarray]) -> Picture | None:
    """A curve a value of a key, averaged as its effect is."""
    if effect is None or not tables:
        return None
    shown = thinned(len(axis.names), MOST)
    place, count = grid.places(axis)
    shape = (len(axis.names), count, grid.num_seeds)
    flat = np.ravel_multi_index((axis.codes, place, grid.seeds), shape)
    mask = np.stack([effect.kept if effect.paired[v] else np.ones(shape[1:], dtype=bool) for v in shown])
    ran = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)[shown] > 0
    asked = (ran & mask).sum((1, 2))

    def by_seed(table: np.ndarray) -> np.ndarray:
        """[N, E] → [shown, E, S]"""
        epochs = []
        for column in table.T:
            cells = mean_table(flat, column, shape)[shown]
            keep = np.isfinite(cells) & mask
            enough = keep.sum((1, 2)) >= 0.5 * asked
            epochs.append(np.where(enough[:, None], average(cells, keep), np.nan))
        return np.stack(epochs, axis=1)

    names = [f"{axis.names[v]}" for v in shown]
    figure = _panels({tag: by_seed(t) for tag, t in tables.items()}, names, colours(axis, len(shown)), axis.key)
    less = f" ({len(shown)} of {len(axis.names)} values)" if len(shown) < len(axis.names) else ""
    caption = (
        f"A line is a value of {axis.key}{less}: the mean over seeds of the average over all other swept values; "
        f"{_bands(grid)}; a line ends where fewer than half of its jobs go on."
    )
    name = re.sub(r"[^\w.-]", "_", axis.key)  # a group's may hold a slash
    return Picture(f"curves_{name}", f"Curves by {axis.key}", caption, figure)


def draw_best(grid: Grid, ranking: np.ndarray, names: list[str], tables: dict[str, np.ndarray]) -> Picture | None:
    """The best combinations, the middle one and the last. `ranking`: combinations, the best first; names of all."""
    if not tables or not len(ranking):
        return None
    last = len(ranking) - 1
    ranks = list(range(last + 1)) if last < 7 else [0, 1, 2, 3, 4, last // 2, last]
    shape = (len(grid.combination_codes), grid.num_seeds)
    flat = grid.combinations * grid.num_seeds + grid.seeds
    lines = {
        tag: np.stack([mean_table(flat, column, shape)[ranking[ranks]] for column in table.T], axis=1)
        for tag, table in tables.items()
    }
    figure = _panels(lines, [f"{r + 1}. {names[ranking[r]]}" for r in ranks], colours(None, len(ranks)), "")
    which = (
        "all combinations"
        if len(ranks) > last
        else f"the best five of {last + 1:,} combinations, the middle one, the last"
    )
    caption = f"By final {grid.metric}: {which}; a line is the mean over seeds, {_bands(grid)}."
    return Picture("curves", "Curves of the best", caption, figure)


def _bands(grid: Grid) -> str:
    seeds = grid.num_seeds
    return (
        f"its band the 95 % interval over {seeds} seeds (Student's t)"
        if seeds > 1
        else "without a band: there is one seed"
    )


def _panels(lines: dict[str, np.ndarray], names: list[str], shades: list, key: str):
    """`lines`: by tag, [lines, E epochs, S seeds]."""
    figure, axes = panels(1, len(lines), 4.0 if len(lines) > 1 else 6.5, 3.3)
    for ax, (tag, numbers) in zip(axes.flat, lines.items(), strict=True):
        mean, half, _ = intervals(numbers)
        x = np.arange(1, mean.shape[1] + 1)
        log = tag.endswith("loss") and is_log(mean)
        for y, h, shade, name in zip(mean, half, shades, names, strict=True):
            ax.plot(x, y, color=shade, lw=1.5, label=name, marker="o" if len(x) <= 12 else None, ms=3)
            if np.isfinite(h).any():
                ax.fill_between(x, y - h, y + h, color=shade, alpha=0.18, lw=0)
        if np.isfinite(mean).any():
            ax.set_ylim(*limits(mean, mean, log))
        if log:
            set_log(ax)
        ax.set_title(tag)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    longest = max(map(len, labels))
    figure.legend(handles, labels, loc="outside lower center", title=key or None, frameon=False,
                  ncols=max(1, min(len(labels), int(150 * len(lines) / 3 / (longest + 8)))))  # fmt: skip
    return figure
