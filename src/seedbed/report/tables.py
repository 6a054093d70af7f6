"""The tables of a report: each a header and rows of text."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from seedbed.report.effects import Effect, Pairs, intervals
from seedbed.report.grid import Axis, Grid
from seedbed.sweeps.records import Job
from seedbed.sweeps.summary import smaller_is_better
from seedbed.tables import figure

MOST_ROWS = 100
SIGNIFICANT = 0.05


@dataclass
class Table:
    header: list[str]
    rows: list[list[str]]
    left_out: int = 0


def statuses(jobs: Iterable[Job]) -> str:
    """38 completed, 1 diverged, 1 failed: the alphabet's order is from good to bad."""
    return ", ".join(f"{count:,} {status}" for status, count in sorted(Counter(job.status for job in jobs).items()))


def best_combinations(grid: Grid, by_seed: np.ndarray, ranking: np.ndarray, compared: Pairs | None, most: int) -> Table:
    """`by_seed` [C, S]; `ranking`: combinations, the best first; `compared`: all pairs of them."""
    mean, half, n = intervals(by_seed)
    header = ["rank", *(axis.key for axis in grid.axes), "seeds", "mean", "± 95 %", "min", "max"]
    versus = versus_best(int(ranking[0]), compared) if compared is not None and len(ranking) else {}
    header += ["behind the best by", "p", "p (Holm)"] if versus else []
    missing = np.bincount(grid.combinations[~np.isfinite(grid.numbers)], minlength=len(by_seed))
    header += ["without the metric"] if missing.any() else []
    rows = []
    for rank, c in enumerate(ranking[:most], start=1):
        known = by_seed[c][np.isfinite(by_seed[c])]
        row = [str(rank), *_names(grid, c), str(n[c]), figure(mean[c]), _figure(half[c], mean[c])]
        row += [figure(known.min()), figure(known.max())]
        row += versus.get(c, ["", "", ""]) if versus else []
        row += [str(missing[c] or "")] if missing.any() else []
        rows.append(row)
    return Table(header, rows, len(ranking) - len(rows))


def _names(grid: Grid, combination: int) -> list[str]:
    return [axis.names[v] for axis, v in zip(grid.axes, grid.combination_codes[combination], strict=True)]


def versus_best(best: int, compared: Pairs) -> dict[int, list[str]]:
    """By index: how far behind the best, p and its correction, as text."""
    found = {}
    for k in np.flatnonzero((compared.a == best) | (compared.b == best)):
        other = int(compared.a[k] + compared.b[k] - best)
        difference = f"{figure(abs(compared.mean[k]))} ± {_figure(compared.half[k], compared.mean[k])}"
        found[other] = [difference, p_value(compared.p[k]), p_value(compared.holm[k])]
    return found


def best_jobs(grid: Grid, most: int) -> Table:
    merit = grid.numbers if smaller_is_better(grid.metric) else -grid.numbers
    metrics = [grid.metric, *(m for m in ("val/accuracy", "val/loss", "train/loss") if m != grid.metric)]
    metrics = [m for m in metrics if any(m in job.metrics for job in grid.jobs)]
    having = [n for n in np.argsort(merit, kind="stable").tolist() if np.isfinite(merit[n])]
    rows = []
    for rank, n in enumerate(having[:most], start=1):
        job = grid.jobs[n]
        rows.append([str(rank), job.folder, *_values(grid, n), *(figure(job.metric(m)) for m in metrics), job.status])
    return Table(["rank", "job", *_keys(grid), *metrics, "status"], rows, len(having) - len(rows))


def _keys(grid: Grid) -> list[str]:
    return [*(axis.key for axis in grid.axes), *grid.seed_keys]


def _values(grid: Grid, job: int) -> list[str]:
    """A job's values of these keys."""
    return [*(axis.names[axis.codes[job]] for axis in grid.axes), *map(grid.jobs[job].shown, grid.seed_keys)]


def values(grid: Grid, axis: Axis, effect: Effect, most: int) -> Table:
    """Each value of a key: its mean with interval, and what became of its jobs."""
    header = [axis.key, "mean", "± 95 %", "seeds", "jobs"]
    shown = range(len(axis.names)) if len(axis.names) <= most else _best_values(grid, effect)[:most]
    seeds = np.isfinite(effect.by_seed).sum(1)
    rows = []
    for v in shown:
        jobs = [grid.jobs[n] for n in np.flatnonzero(axis.codes == v)]
        own = "" if effect.paired[v] or not seeds[v] else " (its own jobs)"
        rows.append([axis.names[v], figure_or_none(effect.mean[v]) + own, _figure(effect.half[v], effect.mean[v]),
                     str(seeds[v]), statuses(jobs)])  # fmt: skip
    return Table(header, rows, len(axis.names) - len(rows))


def _best_values(grid: Grid, effect: Effect) -> list[int]:
    merit = effect.mean if smaller_is_better(grid.metric) else -effect.mean
    return [int(v) for v in np.argsort(merit, kind="stable")]


def comparisons(axis: Axis, metric: str, found: Pairs, most: int) -> Table:
    """All pairs, the surest first; of more than `most` those with the best value, the closest first."""
    order = np.lexsort((found.p, found.holm))
    if len(order) > most:
        top = _top(found, metric)
        order = np.array([k for k in order[::-1] if top in (found.a[k], found.b[k])])
    rows = []
    for k in order[:most]:
        a_better = (found.mean[k] < 0) == smaller_is_better(metric)
        better, worse = (found.a[k], found.b[k]) if a_better else (found.b[k], found.a[k])
        difference = [figure(abs(found.mean[k])), _figure(found.half[k], found.mean[k])]
        tested = [p_value(found.p[k]), p_value(found.holm[k]), "yes" if found.holm[k] < SIGNIFICANT else "no"]
        rows.append([axis.names[better], axis.names[worse], *difference, str(found.seeds[k]), *tested])
    header = ["better", "than", "by", "± 95 %", "seeds", "p", "p (Holm)", "below 0.05"]
    return Table(header, rows, len(found.p) - len(rows))


def _top(found: Pairs, metric: str) -> int:
    """The value that is the better one most often."""
    winners = np.where((found.mean < 0) == smaller_is_better(metric), found.a, found.b)
    return int(np.bincount(winners).argmax())


def not_completed(grid: Grid, most: int = MOST_ROWS) -> Table:
    jobs = [n for n, job in enumerate(grid.jobs) if job.status != "completed"]
    rows = [
        [job.folder, job.status, *_values(grid, n), figure(job.metric(grid.metric))]
        for n in jobs[:most]
        for job in [grid.jobs[n]]
    ]
    return Table(["job", "status", *_keys(grid), grid.metric], rows, len(jobs) - len(rows))


def p_value(p: float) -> str:
    return "< 1e-10" if p < 1e-10 else f"{p:.1e}" if p < 0.001 else f"{p:.3f}"


def figure_or_none(number: float) -> str:
    return figure(float(number)) if np.isfinite(number) else "–"


def _figure(number: float, like: float) -> str:
    return figure(float(number), float(like)) if np.isfinite(number) else "–"
