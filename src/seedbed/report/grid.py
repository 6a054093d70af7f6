"""A sweep's jobs as arrays: each job's value of every swept key, its seed and its metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seedbed.sweeps.records import Job
from seedbed.sweeps.summary import SEEDS, swept

MAX_CELLS = 20  # for each job, in a table of values × other combinations × seeds; random search has more


@dataclass(eq=False)
class Axis:
    """A swept key with its V values in the order in which they are drawn."""

    key: str
    names: list[str]  # as typed
    values: list[Any]
    scale: str  # log, linear, or names: equal steps
    codes: np.ndarray  # [N]: index of each job's value

    @property
    def positions(self) -> np.ndarray:
        """Positions of the values on the axis, [V]."""
        return np.arange(len(self.names)) if self.scale == "names" else np.array(self.values, dtype=float)


class Grid:
    """N jobs by their swept keys (`axes`, without the seeds), their seeds and a metric (NaN where a job has none)."""

    def __init__(self, jobs: Sequence[Job], metric: str):
        self.jobs, self.metric = list(jobs), metric
        self.keys = swept(self.jobs) if len(self.jobs) > 1 else []
        self.axes = [_axis(self.jobs, key) for key in self.keys if key not in SEEDS]
        self.seed_keys = [key for key in self.keys if key in SEEDS]
        self.seed_names, self.seeds = _seeds(self.jobs, self.seed_keys)
        self.numbers = self.column(metric)
        codes = np.array([axis.codes for axis in self.axes], dtype=int).reshape(len(self.axes), len(self.jobs))
        self.combination_codes, self.combinations = _distinct_columns(codes)  # [C, K], [N]

    @property
    def num_seeds(self) -> int:
        return len(self.seed_names)

    def column(self, metric: str) -> np.ndarray:
        """Return a metric of every job, [N], NaN where it is missing, null or infinite."""
        return np.array([np.nan if (m := job.metric(metric)) is None else m for job in self.jobs], dtype=float)

    def other_combinations(self, *axes: Axis) -> tuple[np.ndarray, int]:
        """Return each job's combination of the values of all keys but `axes`, [N], and how many there are."""
        others = [axis.codes for axis in self.axes if axis not in axes]
        codes, indices = _distinct_columns(np.array(others, dtype=int).reshape(len(others), len(self.jobs)))
        return indices, len(codes)

    def cells(self, axis: Axis) -> tuple[np.ndarray, np.ndarray] | None:
        """Return (metric, whether a job ran), both [V values, R combinations of the other keys, S seeds].

        The metric is NaN where there is none. None where the jobs are no grid: random search, in which hardly any two
        jobs share a value.
        """
        others, count = self.other_combinations(axis)
        shape = (len(axis.names), count, self.num_seeds)
        if np.prod(shape, dtype=float) > 1000 + MAX_CELLS * len(self.jobs):
            return None
        flat = np.ravel_multi_index((axis.codes, others, self.seeds), shape)
        ran = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape) > 0
        return mean_table(flat, self.numbers, shape), ran


def mean_table(flat: np.ndarray, numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Average the finite `numbers` [N] that share a flat index [N] into a table of this shape; empty cells are NaN."""
    have = np.isfinite(numbers)
    size = int(np.prod(shape))
    counts = np.bincount(flat[have], minlength=size)
    sums = np.bincount(flat[have], numbers[have], minlength=size)
    return np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0).reshape(shape)


def _axis(jobs: Sequence[Job], key: str) -> Axis:
    by_name: dict[str, Any] = {}
    for job in jobs:
        by_name.setdefault(job.shown(key), job.values.get(key))
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in by_name.values())
    names = sorted(by_name, key=by_name.get) if numeric else list(by_name)
    index = {name: n for n, name in enumerate(names)}
    values = [by_name[name] for name in names]
    codes = np.array([index[job.shown(key)] for job in jobs])
    rounded = [f"{value:.6g}" for value in values] if numeric else names  # ranges give 0.47000000000000003
    names = [name or "(none)" for name in (rounded if len(set(rounded)) == len(names) else names)]
    return Axis(key, names, values, scale(values) if numeric else "names", codes)


def scale(values: Sequence[float]) -> str:
    """Return "log", "linear" or "names" for the axis of these numbers.

    Positive numbers over a decade or more are on a log axis if their logarithms are the more evenly spaced. Numbers
    with a 0 or a sign that a linear axis could not tell apart (0, 1e-4, 1e-2) stand at equal steps, as names do.
    """
    x = np.sort(np.array(values, dtype=float))
    if len(x) < 2:
        return "names"
    gaps = np.diff(x)
    if x[0] <= 0:
        return "names" if len(x) <= 12 and gaps.min() < 0.02 * (x[-1] - x[0]) else "linear"
    if x[-1] < 10 * x[0]:
        return "linear"
    log_gaps = np.diff(np.log(x))
    return "log" if len(x) == 2 or log_gaps.std() / log_gaps.mean() < gaps.std() / gaps.mean() else "linear"


def _seeds(jobs: Sequence[Job], keys: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Return the names of the S repetitions, distinct values of all `keys`, and the index of each job, [N]."""
    by_job = [tuple(job.values.get(key) for key in keys) for job in jobs]
    order = sorted(
        set(by_job), key=lambda seed: [(not isinstance(s, int | float), s if s is not None else "") for s in seed]
    )
    index = {seed: n for n, seed in enumerate(order)}
    return [", ".join(map(str, seed)) for seed in order], np.array([index[seed] for seed in by_job], dtype=int)


def _distinct_columns(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the distinct columns of `codes` [K, N] as [C, K], and the index of each column, [N]."""
    if not len(codes):
        return np.zeros((1, 0), dtype=int), np.zeros(codes.shape[1], dtype=int)
    distinct, inverse = np.unique(codes.T, axis=0, return_inverse=True)
    return distinct, inverse.reshape(-1)
