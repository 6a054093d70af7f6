"""A sweep's jobs as arrays: which value of which key, which seed, and the metric."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from seedbed.sweeps.records import Job
from seedbed.sweeps.summary import SEEDS, swept

SPARSEST = 20  # cells a job in a table of values × other combinations × seeds


@dataclass(eq=False)
class Axis:
    """A swept key with its V values in the order in which they are drawn."""

    key: str
    names: list[str]  # as typed
    values: list[Any]
    scale: str  # log, linear, or words: one step a value
    codes: np.ndarray  # [N]: each job's value

    @property
    def positions(self) -> np.ndarray:
        """Where the values stand on the axis, [V]."""
        return np.arange(len(self.names)) if self.scale == "words" else np.array(self.values, dtype=float)


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
        self.combination_codes, self.combinations = _unique(codes)  # [C, K], [N]

    @property
    def num_seeds(self) -> int:
        return len(self.seed_names)

    def column(self, metric: str) -> np.ndarray:
        """A metric of every job, [N], NaN where it is missing, null or infinite."""
        return np.array([np.nan if (m := job.metric(metric)) is None else m for job in self.jobs], dtype=float)

    def places(self, *axes: Axis) -> tuple[np.ndarray, int]:
        """Each job's combination of the values of all other keys, [N], and how many there are."""
        others = [axis.codes for axis in self.axes if axis not in axes]
        codes, place = _unique(np.array(others, dtype=int).reshape(len(others), len(self.jobs)))
        return place, len(codes)

    def cells(self, axis: Axis) -> tuple[np.ndarray, np.ndarray] | None:
        """The metric as [V values, R combinations of the other keys, S seeds], NaN where there is none, and what ran.

        None for what is no grid: random search, where hardly any two jobs share a value.
        """
        place, count = self.places(axis)
        shape = (len(axis.names), count, self.num_seeds)
        if np.prod(shape, dtype=float) > 1000 + SPARSEST * len(self.jobs):
            return None
        flat = np.ravel_multi_index((axis.codes, place, self.seeds), shape)
        ran = np.bincount(flat, minlength=int(np.prod(shape))).reshape(shape) > 0
        return mean_table(flat, self.numbers, shape), ran


def mean_table(flat: np.ndarray, numbers: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Means of the finite `numbers` [N] that share an index `flat` [N] into a table of that shape, else NaN."""
    have = np.isfinite(numbers)
    size = int(np.prod(shape))
    counts = np.bincount(flat[have], minlength=size)
    sums = np.bincount(flat[have], numbers[have], minlength=size)
    return np.divide(sums, counts, out=np.full(size, np.nan), where=counts > 0).reshape(shape)


def _axis(jobs: Sequence[Job], key: str) -> Axis:
    found = {}
    for job in jobs:
        found.setdefault(job.shown(key), job.values.get(key))
    numeric = all(isinstance(v, int | float) and not isinstance(v, bool) and np.isfinite(v) for v in found.values())
    names = sorted(found, key=found.get) if numeric else list(found)
    code = {name: n for n, name in enumerate(names)}
    values = [found[name] for name in names]
    codes = np.array([code[job.shown(key)] for job in jobs])
    plain = [f"{value:.6g}" for value in values] if numeric else names  # ranges give 0.47000000000000003
    names = [name or "(none)" for name in (plain if len(set(plain)) == len(names) else names)]
    return Axis(key, names, values, scale(values) if numeric else "words", codes)


def scale(values: Sequence[float]) -> str:
    """log for positive numbers over a decade or more whose logarithms are the more evenly spaced, else linear.

    Numbers with a 0 or a sign that no linear axis would tell apart (0, 1e-4, 1e-2) are words.
    """
    x = np.sort(np.array(values, dtype=float))
    if len(x) < 2:
        return "words"
    gaps = np.diff(x)
    if x[0] <= 0:
        return "words" if len(x) <= 12 and gaps.min() < 0.02 * (x[-1] - x[0]) else "linear"
    if x[-1] < 10 * x[0]:
        return "linear"
    log_gaps = np.diff(np.log(x))
    return "log" if len(x) == 2 or log_gaps.std() / log_gaps.mean() < gaps.std() / gaps.mean() else "linear"


def _seeds(jobs: Sequence[Job], keys: Sequence[str]) -> tuple[list[str], np.ndarray]:
    """Names of the S repetitions and each job's, [N]: the values of the seeds' keys together."""
    shown = [tuple(job.values.get(key) for key in keys) for job in jobs]
    order = sorted(
        set(shown), key=lambda seed: [(not isinstance(s, int | float), s if s is not None else "") for s in seed]
    )
    code = {seed: n for n, seed in enumerate(order)}
    return [", ".join(map(str, seed)) for seed in order], np.array([code[seed] for seed in shown], dtype=int)


def _unique(codes: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The different columns of `codes` [K, N] as [C, K], and each column's number, [N]."""
    if not len(codes):
        return np.zeros((1, 0), dtype=int), np.zeros(codes.shape[1], dtype=int)
    found, inverse = np.unique(codes.T, axis=0, return_inverse=True)
    return found, inverse.reshape(-1)
