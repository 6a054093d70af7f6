"""Means with their 95 % intervals, without scipy, whose import takes longer than most sweeps' summary."""

from __future__ import annotations

import math
from collections.abc import Sequence
from statistics import NormalDist, fmean, stdev


def interval(numbers: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half the width of its 95 % interval (Student's t); None for the latter where there is one number."""
    n = len(numbers)
    return fmean(numbers), t_quantile(n - 1) * stdev(numbers) / math.sqrt(n) if n > 1 else None


def t_quantile(df: int) -> float:
    """97.5 % quantile of Student's t to 1e-5 of itself: tabulated to df = 8, then Abramowitz & Stegun 26.7.5."""
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
