"""Means with 95 % intervals, paired tests, and corrections for many tests.

No scipy, whose import takes longer than most sweeps' summary. Only the functions on arrays import
numpy, because a sweep's summary does not need it.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import numpy as np


def interval(numbers: Sequence[float]) -> tuple[float, float | None]:
    """Return the mean and half the width of its 95 % interval (Student's t), None for one number."""
    n = len(numbers)
    return fmean(numbers), t_quantile(n - 1) * stdev(numbers) / math.sqrt(n) if n > 1 else None


def t_quantile(df: int) -> float:
    """Return the 97.5 % quantile of Student's t, right to 1e-5 of it.

    Tabulated to df = 8, then Abramowitz & Stegun 26.7.5.
    """
    if df < 1:
        raise ValueError(f"degrees of freedom must be ≥ 1, got {df}")
    if df <= 8:
        return (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004)[df - 1]
    x = NormalDist().inv_cdf(0.975)
    terms = (
        x,
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return sum(term / df**k for k, term in enumerate(terms))


def intervals(numbers: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return mean, half the width of its 95 % interval and count of the finite numbers along the last axis."""
    import numpy as np

    have = np.isfinite(numbers)
    n = have.sum(-1)
    x = np.where(have, numbers, 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        mean = x.sum(-1) / n
        variance = (np.where(have, numbers - mean[..., None], 0) ** 2).sum(-1) / (n - 1)
        half = t_quantiles(n - 1) * np.sqrt(np.where(n > 1, variance, np.nan) / n)
    return mean, half, n


def t_quantiles(df: np.ndarray) -> np.ndarray:
    """Return `t_quantile` of each element, NaN below one degree of freedom."""
    import numpy as np

    distinct, places = np.unique(df, return_inverse=True)
    return np.array([t_quantile(int(d)) if d > 0 else np.nan for d in distinct])[places].reshape(df.shape)


def paired_p(differences: np.ndarray) -> np.ndarray:
    """Return two-sided p-values of paired t-tests on differences [..., S seeds]; NaN with fewer than two.

    Differences that are all equal have no spread: p is 1 if they are 0, else 0.
    """
    import numpy as np

    mean, half, n = intervals(differences)
    with np.errstate(invalid="ignore", divide="ignore"):
        t = mean * t_quantiles(n - 1) / half
    no_spread = half <= 1e-14 * np.abs(mean)  # but for rounding
    t = np.where(no_spread, np.where(mean == 0, 0.0, np.inf), t)
    return two_sided_p(t, n - 1)


def two_sided_p(t: np.ndarray, df: np.ndarray) -> np.ndarray:
    """Return P(|T| ≥ |t|) of Student's t for whole degrees of freedom ≥ 1, right to 1e-14 (smaller p-values are 0).

    Abramowitz & Stegun 26.7.3 and 26.7.4: with θ = atan(t/√df), a finite sum of powers of cos θ.
    """
    import numpy as np

    t, df = np.broadcast_arrays(np.abs(np.asarray(t, dtype=float)), np.asarray(df))
    p = np.empty(t.shape)
    for k in np.unique(df):
        chosen = df == k
        theta = np.arctan(t[chosen] / np.sqrt(k))
        sin, cos = np.sin(theta), np.cos(theta)
        odd = int(k % 2)
        term = cos if odd else np.ones_like(theta)
        total = np.zeros_like(theta)
        # odd df: cos + 2/3 cos³ + 2·4/(3·5) cos⁵ + …; even df: 1 + 1/2 cos² + 1·3/(2·4) cos⁴ + …
        for j in range(odd, int(k) - 1, 2):
            total += term
            term = term * cos**2 * (j + 1) / (j + 2)
        inside = (theta + sin * total) * 2 / np.pi if odd else sin * total
        p[chosen] = np.clip(1 - inside, 0, 1)
    return p


def holm(p: np.ndarray) -> np.ndarray:
    """Correct P p-values for multiple tests (Holm 1979): the chance of any false difference is ≤ 5 %."""
    import numpy as np

    order = np.argsort(p, kind="stable")
    corrected = np.empty(len(p))
    corrected[order] = np.minimum(1, np.maximum.accumulate(p[order] * np.arange(len(p), 0, -1)))
    return corrected
