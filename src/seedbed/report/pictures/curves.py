"""Losses and accuracies over epochs, with bands over seeds."""

from __future__ import annotations

import re

import numpy as np
from matplotlib.figure import Figure

from seedbed.report.effects import Effect, average
from seedbed.report.grid import Axis, Grid, mean_table
from seedbed.report.pictures import Picture
from seedbed.report.pictures.axes import limits, line_colours, needs_log, panels, set_log, thinned
from seedbed.statistics import intervals

MAX_LINES = 8  # in a panel


def draw_values(grid: Grid, axis: Axis, effect: Effect | None, by_epoch: dict[str, np.ndarray]) -> Picture | None:
    """Draw a line for each value of a key, averaged as its effect is; `by_epoch`: metric → [N, E]."""
    if effect is None or not by_epoch:
        return None
    shown = thinned(len(axis.names), MAX_LINES)
    others, count = grid.other_combinations(axis)
    shape = (len(axis.names), count, grid.num_seeds)
    flat = np.ravel_multi_index((axis.codes, others, grid.seeds), shape)
    mask = np.stack([effect.kept if effect.paired[v] else np.ones(shape[1:], dtype=bool) for v in shown])
    ran = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape)[shown] > 0
    num_jobs = (ran & mask).sum((1, 2))

    def by_seed(table: np.ndarray) -> np.ndarray:
        """[N, E] → [shown, E, S], NaN at epochs that fewer than half of the jobs reach."""
        epochs = []
        for column in table.T:
            cells = mean_table(flat, column, shape)[shown]
            keep = np.isfinite(cells) & mask
            enough = keep.sum((1, 2)) >= 0.5 * num_jobs
            epochs.append(np.where(enough[:, None], average(cells, keep), np.nan))
        return np.stack(epochs, axis=1)

    lines = {metric: by_seed(table) for metric, table in by_epoch.items()}
    figure = _panels(lines, [axis.names[v] for v in shown], line_colours(axis, len(shown)), axis.key)
    of_all = f" ({len(shown)} of {len(axis.names)} values)" if len(shown) < len(axis.names) else ""
    caption = (
        f"Each line is a value of {axis.key}{of_all}: the mean over seeds of the average over all other swept values; "
        f"{_band(grid)}; a line ends where fewer than half of its jobs go on."
    )
    name = re.sub(r"[^\w.-]", "_", axis.key)  # a nested group's key has a slash
    return Picture(f"curves_{name}", f"Curves by {axis.key}", caption, figure)


def draw_best(grid: Grid, ranking: np.ndarray, names: list[str], by_epoch: dict[str, np.ndarray]) -> Picture | None:
    """Draw the best combinations, the middle one and the last.

    `ranking`: combinations, the best first; `names` of all combinations; `by_epoch`: metric → [N, E].
    """
    if not by_epoch or not len(ranking):
        return None
    last = len(ranking) - 1
    ranks = list(range(last + 1)) if last < 7 else [0, 1, 2, 3, 4, last // 2, last]
    shape = (len(grid.combination_codes), grid.num_seeds)
    flat = grid.combinations * grid.num_seeds + grid.seeds
    lines = {
        metric: np.stack([mean_table(flat, column, shape)[ranking[ranks]] for column in table.T], axis=1)
        for metric, table in by_epoch.items()
    }
    figure = _panels(lines, [f"{r + 1}. {names[ranking[r]]}" for r in ranks], line_colours(None, len(ranks)), "")
    shown = "the best five" if len(ranks) <= last else "all combinations"
    shown += f" of {last + 1:,} combinations, the middle one and the last" if len(ranks) <= last else ""
    caption = f"Ranked by final {grid.metric}: {shown}; each line is the mean over seeds, {_band(grid)}."
    return Picture("curves", "Curves of the best", caption, figure)


def _band(grid: Grid) -> str:
    if grid.num_seeds == 1:
        return "without a band: there is one seed"
    return f"its band the 95 % interval over {grid.num_seeds} seeds (Student's t)"


def _panels(lines: dict[str, np.ndarray], names: list[str], colours: list, title: str) -> Figure:
    """Draw a panel for each metric; `lines`: metric → [lines, E epochs, S seeds], epoch 0 first."""
    figure, axes = panels(1, len(lines), 4.0 if len(lines) > 1 else 6.5, 3.3)
    for ax, (metric, numbers) in zip(axes.flat, lines.items(), strict=True):
        mean, half, _ = intervals(numbers)
        epochs = np.arange(mean.shape[1])
        log = metric.endswith("loss") and needs_log(mean)
        for y, h, colour, name in zip(mean, half, colours, names, strict=True):
            ax.plot(epochs, y, color=colour, lw=1.5, label=name, marker="o" if len(epochs) <= 12 else None, ms=3)
            if np.isfinite(h).any():
                ax.fill_between(epochs, y - h, y + h, color=colour, alpha=0.18, lw=0)
        if np.isfinite(mean).any():
            ax.set_ylim(*limits(mean, mean, log))
        if log:
            set_log(ax)
        ax.set_title(metric)
        ax.set_xlabel("epoch")
        ax.xaxis.get_major_locator().set_params(integer=True, min_n_ticks=1)
    handles, labels = axes[0, 0].get_legend_handles_labels()
    per_row = int(150 * len(lines) / 3 / (max(map(len, labels)) + 8))
    columns = max(1, min(len(labels), per_row))
    figure.legend(handles, labels, loc="outside lower center", title=title or None, frameon=False, ncols=columns)
    return figure
