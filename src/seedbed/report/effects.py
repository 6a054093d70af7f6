"""The effect of each value of a swept key, and values compared in pairs: means, intervals and p-values over seeds.

An average over the other swept keys takes the same combinations and seeds for every value that it compares: where a
job is missing for one value, the jobs of the other values at that place are left out too.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from seedbed.statistics import holm, intervals, paired_p

MAX_COMPARED = 200  # values of a key; the number of their pairs grows with the square


@dataclass
class Effect:
    """Means of the V values of a key over S seeds."""

    by_seed: np.ndarray  # [V, S]: a seed's average over the other keys' combinations, NaN where it has none
    mean: np.ndarray  # [V]
    half: np.ndarray  # [V]: half the 95 % interval's width, NaN for fewer than two seeds
    paired: np.ndarray  # [V]: whether the average is over `kept` or over the value's own jobs
    kept: np.ndarray  # [R, S]: combinations and seeds that all paired values have


@dataclass
class Pairs:
    """P pairs of values a and b (indices, [P]) of a key, compared seed by seed: a − b."""

    a: np.ndarray
    b: np.ndarray
    seeds: np.ndarray  # [P]: number of seeds that both have
    mean: np.ndarray
    half: np.ndarray
    p: np.ndarray  # of the paired two-sided t-test
    holm: np.ndarray  # corrected for all pairs of the key


def mean_range(effect: Effect | None) -> float:
    """Return how far the means of a key's values lie apart."""
    means = effect.mean[np.isfinite(effect.mean)] if effect else np.zeros(0)
    return float(np.ptp(means)) if len(means) else 0.0


def complete_block(have: np.ndarray) -> np.ndarray:
    """Mask the largest full block of combinations × seeds [..., R, S] that a greedy search finds.

    It removes the row or column that misses the largest share, until nothing is missing. A seed is removed only if it
    misses twice the share of the worst combination: seeds are what a test counts.
    """
    # rows and columns that are kept so far; one that nobody has is no loss
    rows, columns = have.any(-1), have.any(-2)
    while True:
        gaps = ~have & rows[..., :, None] & columns[..., None, :]
        if not gaps.any():
            return have & rows[..., :, None] & columns[..., None, :]
        # the share that each row and each column misses
        row_gaps = gaps.sum(-1) / np.maximum(columns.sum(-1), 1)[..., None]
        column_gaps = gaps.sum(-2) / np.maximum(rows.sum(-1), 1)[..., None]
        row_first = (2 * row_gaps.max(-1) >= column_gaps.max(-1)) & (rows.sum(-1) > 1) | (columns.sum(-1) == 1)
        # the blocks of the leading dimensions that are not full yet
        open_blocks = gaps.any((-1, -2))
        rows &= ~(_first_largest(row_gaps) & (open_blocks & row_first)[..., None])
        columns &= ~(_first_largest(column_gaps) & (open_blocks & ~row_first)[..., None])


def _first_largest(x: np.ndarray) -> np.ndarray:
    return np.arange(x.shape[-1]) == x.argmax(-1)[..., None]


def effect(cells: np.ndarray, ran: np.ndarray) -> Effect:
    """Average `cells` [V, R, S], NaN where a job lacks the metric, over combinations and seeds; `ran`: a job is there.

    A value that lacks the metric in more than half of its jobs would leave the others little to share. Such a value,
    and every value where nothing is shared, is averaged over its own jobs.
    """
    have = np.isfinite(cells)
    sound = (have.sum((1, 2)) >= 0.5 * ran.sum((1, 2))) & have.any((1, 2))
    kept = complete_block(have[sound].all(0)) if sound.any() else np.zeros(cells.shape[1:], dtype=bool)
    paired = sound & kept.any() & (sound.sum() > 1)
    by_seed = average(cells, np.where(paired[:, None, None], kept, have))
    mean, half, _ = intervals(by_seed)
    return Effect(by_seed, mean, half, paired, kept)


def average(cells: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Average [..., R, S] over the combinations in the mask: [..., S], NaN where the mask keeps none."""
    count = mask.sum(-2)
    total = np.where(mask, cells, 0).sum(-2)
    return np.divide(total, count, out=np.full(total.shape, np.nan), where=count > 0)


def pairs(cells: np.ndarray) -> Pairs | None:
    """Compare all pairs of the V values of `cells` [V, R, S] that share two seeds or more; None if there are none."""
    if not 1 < len(cells) <= MAX_COMPARED or cells.shape[2] < 2:
        return None
    parts = []
    for a in range(len(cells) - 1):
        # value a against all later ones: [V − a − 1, R, S], averaged to [V − a − 1, S]
        difference = cells[a] - cells[a + 1 :]
        by_seed = average(difference, complete_block(np.isfinite(difference)))
        mean, half, n = intervals(by_seed)
        p = np.full(len(by_seed), np.nan)
        p[n > 1] = paired_p(by_seed[n > 1])
        parts.append((np.full(len(by_seed), a), np.arange(a + 1, len(cells)), n, mean, half, p))
    a, b, n, mean, half, p = (np.concatenate(column) for column in zip(*parts, strict=True))
    valid = np.isfinite(p)
    if not valid.any():
        return None
    return Pairs(a[valid], b[valid], n[valid], mean[valid], half[valid], p[valid], holm(p[valid]))
