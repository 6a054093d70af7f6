"""The effect of each value of a swept key, and values compared in pairs: means, intervals and p-values over seeds.

Averages over the other swept keys take the same combinations and seeds for every value they set side by side: a job
that is missing on one side is left out on all.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedbed.statistics import t_quantile

MOST_COMPARED = 200  # values of a key: their pairs grow with the square


@dataclass
class Effect:
    """V values of a key over S seeds."""

    by_seed: np.ndarray  # [V, S]: a seed's average over the other keys' combinations, NaN where it has none
    mean: np.ndarray  # [V]
    half: np.ndarray  # [V]: half the 95 % interval's width, NaN of fewer than two seeds
    paired: np.ndarray  # [V]: whether the average is over the combinations that the other values have too
    kept: np.ndarray  # [R, S]: these combinations


@dataclass
class Pairs:
    """Values a and b (indices, [P]) of a key compared seed by seed: a − b."""

    a: np.ndarray
    b: np.ndarray
    seeds: np.ndarray  # [P]: how many both have
    mean: np.ndarray
    half: np.ndarray
    p: np.ndarray  # paired t-test, two-sided
    holm: np.ndarray  # corrected for all pairs of the key


def size(found: Effect | None) -> float:
    """How far the means of a key's values lie apart."""
    known = found.mean[np.isfinite(found.mean)] if found else np.zeros(0)
    return float(np.ptp(known)) if len(known) else 0.0


def complete_block(have: np.ndarray) -> np.ndarray:
    """Of combinations × seeds [..., R, S] a full block: what is missing most goes first, until nothing is.

    A seed goes rather than a combination only if twice as much of it is missing: seeds are what a test counts.
    """
    rows, columns = have.any(-1), have.any(-2)  # kept so far; what nobody has costs nothing
    while True:
        gaps = ~have & rows[..., :, None] & columns[..., None, :]
        if not gaps.any():
            return have & rows[..., :, None] & columns[..., None, :]
        of_row = gaps.sum(-1) / np.maximum(columns.sum(-1), 1)[..., None]  # shares that are missing
        of_column = gaps.sum(-2) / np.maximum(rows.sum(-1), 1)[..., None]
        row_first = (2 * of_row.max(-1) >= of_column.max(-1)) & (rows.sum(-1) > 1) | (columns.sum(-1) == 1)
        dirty = gaps.any((-1, -2))
        rows &= ~(_first_largest(of_row) & (dirty & row_first)[..., None])
        columns &= ~(_first_largest(of_column) & (dirty & ~row_first)[..., None])


def _first_largest(x: np.ndarray) -> np.ndarray:
    return np.arange(x.shape[-1]) == x.argmax(-1)[..., None]


def effect(cells: np.ndarray, ran: np.ndarray) -> Effect:
    """Means over seeds of `cells` [V, R, S], NaN where a job lacks the metric; `ran`: where there is a job.

    A value of which more than half the jobs lack the metric would leave the others little to share: it and, where
    nothing is shared, every value stands for its own jobs.
    """
    have = np.isfinite(cells)
    sound = (have.sum((1, 2)) >= 0.5 * ran.sum((1, 2))) & have.any((1, 2))
    kept = complete_block(have[sound].all(0)) if sound.any() else np.zeros(cells.shape[1:], dtype=bool)
    paired = sound & kept.any() & (sound.sum() > 1)
    by_seed = average(cells, np.where(paired[:, None, None], kept, have))
    mean, half, _ = intervals(by_seed)
    return Effect(by_seed, mean, half, paired, kept)


def average(cells: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """[..., R, S] → [..., S]: the mean over what the mask keeps, NaN where it keeps nothing."""
    count = mask.sum(-2)
    total = np.where(mask, cells, 0).sum(-2)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def intervals(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Mean, half the width of its 95 % interval (Student's t) and count of the finite ones along the last axis."""
    have = np.isfinite(numbers)
    n = have.sum(-1)
    x = np.where(have, numbers, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = x.sum(-1) / n
        variance = (np.where(have, numbers - mean[..., None], 0) ** 2).sum(-1) / (n - 1)
        half = t_quantiles(n - 1) * np.sqrt(np.where(n > 1, variance, np.nan) / n)
    return mean, half, n


def t_quantiles(df: np.ndarray) -> np.ndarray:
    known = {d: t_quantile(int(d)) if d > 0 else np.nan for d in np.unique(df)}
    return np.vectorize(known.get, otypes=[float])(df) if df.size else np.zeros(df.shape)


def pairs(cells: np.ndarray) -> Pairs | None:
    """All pairs of the V values of `cells` [V, R, S] that share two seeds or more, None if there are none."""
    if not 1 < len(cells) <= MOST_COMPARED or cells.shape[2] < 2:
        return None
    rows = []
    for a in range(len(cells) - 1):
        difference = cells[a] - cells[a + 1 :]
        d = average(difference, complete_block(np.isfinite(difference)))  # [V − a − 1, S]
        mean, half, n = intervals(d)
        p = np.full(len(d), np.nan)
        p[n > 1] = paired_p(d[n > 1])
        rows.append((np.full(len(d), a), np.arange(a + 1, len(cells)), n, mean, half, p))
    a, b, n, mean, half, p = (np.concatenate(column) for column in zip(*rows, strict=True))
    valid = np.isfinite(p)
    if not valid.any():
        return None
    return Pairs(a[valid], b[valid], n[valid], mean[valid], half[valid], p[valid], holm(p[valid]))


def paired_p(d: np.ndarray) -> np.ndarray:
    """Two-sided p-values of paired t-tests on differences [..., S], NaN where a seed has none.

    Equal differences have no spread: p is 1 if they are 0, else 0.
    """
    mean, half, n = intervals(d)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = mean * t_quantiles(n - 1) / half
    flat = half <= 1e-14 * np.abs(mean)  # but for rounding
    t = np.where(flat, np.where(mean == 0, 0.0, np.inf), t)
    return two_sided_p(t, n - 1)


def two_sided_p(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """P(|T| ≥ |t|) of Student's t for whole degrees of freedom ≥ 1: Abramowitz & Stegun 26.7.3 and 26.7.4.

    To 1e-14 absolutely, so that p-values below are 0.
    """
    t, df = np.broadcast_arrays(np.abs(np.asarray(t, dtype=float)), np.asarray(df))
    p = np.empty(t.shape)
    for k in np.unique(df):
        chosen = df == k
        theta = np.arctan(t[chosen] / np.sqrt(k))
        sin, cos = np.sin(theta), np.cos(theta)
        odd = int(k % 2)
        term = cos if odd else np.ones_like(theta)
        total = np.zeros_like(theta)
        for j in range(odd, int(k) - 1, 2):  # terms cos^j · (1·3·5… / 2·4·6…) or, if odd, (2·4… / 3·5…)
            total += term
            term = term * cos**2 * (j + 1) / (j + 2)
        inside = (theta + sin * total) * 2 / np.pi if odd else sin * total
        p[chosen] = np.clip(1 - inside, 0, 1)
    return p


def holm(p: np.ndarray) -> np.ndarray:
    """p-values [P] corrected for being P of them (Holm 1979): the chance of one false difference among all ≤ 5 %."""
    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
