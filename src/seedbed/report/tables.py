"""The tables of a report: each a header and rows of text."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedbed.metrics import SHOWN, merit, smaller_is_better
from seedbed.report.effects import Effect, Pairs
from seedbed.report.grid import Axis, Grid
from seedbed.statistics import intervals
from seedbed.tables import counted, figure

MAX_ROWS = 100
SIGNIFICANT = 0.05


@dataclass
class Table:
    header: list[str]
    rows: list[list[str]]
    left_out: int = 0  # rows that there are besides


def best_combinations(
    grid: Grid, by_seed: np.ndarray, ranking: np.ndarray, pairs: Pairs | None, max_rows: int
) -> Table:
    """List combinations of the swept values, the best first, with the test of each against the best.

    `by_seed` [C, S]; `ranking`: combinations, the best first; `pairs`: all pairs of combinations.
    """
    mean, half, n = intervals(by_seed)
    header = ["rank", *(axis.key for axis in grid.axes), "seeds", "mean", "± 95 %", "min", "max"]
    against_best = _against_best(int(ranking[0]), pairs) if pairs is not None and len(ranking) else {}
    header += ["behind the best by", "p", "p (Holm)"] if against_best else []
    missing = np.bincount(grid.combinations[~np.isfinite(grid.numbers)], minlength=len(by_seed))
    header += ["without the metric"] if missing.any() else []
    rows = []
    for rank, c in enumerate(ranking[:max_rows], start=1):
        numbers = by_seed[c][np.isfinite(by_seed[c])]
        names = [axis.names[v] for axis, v in zip(grid.axes, grid.combination_codes[c], strict=True)]
        row = [str(rank), *names, str(n[c]), figure(mean[c]), figure_or_dash(half[c], mean[c])]
        row += [figure(numbers.min()), figure(numbers.max())]
        row += against_best.get(c, ["", "", ""]) if against_best else []
        row += [str(missing[c] or "")] if missing.any() else []
        rows.append(row)
    return Table(header, rows, len(ranking) - len(rows))


def _against_best(best: int, pairs: Pairs) -> dict[int, list[str]]:
    """Return index → how far it is behind the best, p, and p corrected, as text."""
    cells = {}
    for k in np.flatnonzero((pairs.a == best) | (pairs.b == best)):
        other = int(pairs.a[k] + pairs.b[k] - best)
        difference = f"{figure(abs(pairs.mean[k]))} ± {figure_or_dash(pairs.half[k], pairs.mean[k])}"
        cells[other] = [difference, p_value(pairs.p[k]), p_value(pairs.holm[k])]
    return cells


def best_jobs(grid: Grid, max_rows: int) -> Table:
    merits = merit(grid.numbers, grid.metric)
    metrics = [grid.metric, *(m for m in SHOWN[:3] if m != grid.metric)]
    metrics = [m for m in metrics if any(m in job.metrics for job in grid.jobs)]
    order = [n for n in np.argsort(-merits, kind="stable").tolist() if np.isfinite(merits[n])]
    rows = []
    for rank, n in enumerate(order[:max_rows], start=1):
        job = grid.jobs[n]
        rows.append([str(rank), job.folder, *_values(grid, n), *(figure(job.metric(m)) for m in metrics), job.status])
    return Table(["rank", "job", *_keys(grid), *metrics, "status"], rows, len(order) - len(rows))


def _keys(grid: Grid) -> list[str]:
    return [*(axis.key for axis in grid.axes), *grid.seed_keys]


def _values(grid: Grid, job: int) -> list[str]:
    """Return a job's values of `_keys`."""
    return [*(axis.names[axis.codes[job]] for axis in grid.axes), *map(grid.jobs[job].shown, grid.seed_keys)]


def values(grid: Grid, axis: Axis, effect: Effect, max_rows: int) -> Table:
    """List each value of a key with its mean, its interval and the states of its jobs; of many values the best."""
    shown = range(len(axis.names))
    if len(shown) > max_rows:
        shown = np.argsort(-merit(effect.mean, grid.metric), kind="stable")[:max_rows]
    seeds = np.isfinite(effect.by_seed).sum(1)
    rows = []
    for v in shown:
        states = counted(grid.jobs[n].status for n in np.flatnonzero(axis.codes == v))
        mean = figure_or_dash(effect.mean[v]) + ("" if effect.paired[v] or not seeds[v] else " (its own jobs)")
        rows.append([axis.names[v], mean, figure_or_dash(effect.half[v], effect.mean[v]), str(seeds[v]), states])
    return Table([axis.key, "mean", "± 95 %", "seeds", "jobs"], rows, len(axis.names) - len(rows))


def comparisons(axis: Axis, metric: str, pairs: Pairs, max_rows: int) -> Table:
    """List all pairs, the surest first; of more than `max_rows` those with the best value, the closest first."""
    order = np.lexsort((pairs.p, pairs.holm))
    if len(order) > max_rows:
        best = _most_often_better(pairs, metric)
        order = np.array([k for k in order[::-1] if best in (pairs.a[k], pairs.b[k])])
    rows = []
    for k in order[:max_rows]:
        a_better = (pairs.mean[k] < 0) == smaller_is_better(metric)
        better, worse = (pairs.a[k], pairs.b[k]) if a_better else (pairs.b[k], pairs.a[k])
        difference = [figure(abs(pairs.mean[k])), figure_or_dash(pairs.half[k], pairs.mean[k])]
        test = [p_value(pairs.p[k]), p_value(pairs.holm[k]), "yes" if pairs.holm[k] < SIGNIFICANT else "no"]
        rows.append([axis.names[better], axis.names[worse], *difference, str(pairs.seeds[k]), *test])
    header = ["better", "than", "by", "± 95 %", "seeds", "p", "p (Holm)", f"below {SIGNIFICANT}"]
    return Table(header, rows, len(pairs.p) - len(rows))


def _most_often_better(pairs: Pairs, metric: str) -> int:
    better = np.where((pairs.mean < 0) == smaller_is_better(metric), pairs.a, pairs.b)
    return int(np.bincount(better).argmax())


def not_completed(grid: Grid, max_rows: int = MAX_ROWS) -> Table:
    jobs = [n for n, job in enumerate(grid.jobs) if job.status != "completed"]
    rows = [
        [job.folder, job.status, *_values(grid, n), figure(job.metric(grid.metric))]
        for n in jobs[:max_rows]
        for job in [grid.jobs[n]]
    ]
    return Table(["job", "status", *_keys(grid), grid.metric], rows, len(jobs) - len(rows))


def p_value(p: float) -> str:
    return "< 1e-10" if p < 1e-10 else f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


def figure_or_dash(number: float, scale: float | None = None) -> str:
    """Return `seedbed.tables.figure`, a dash for NaN."""
    return figure(float(number), scale) if np.isfinite(number) else figure(None)
