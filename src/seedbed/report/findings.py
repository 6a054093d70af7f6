"""The result of a sweep in sentences."""

from __future__ import annotations

import numpy as np

from seedbed.metrics import merit
from seedbed.report.effects import Effect, Pairs
from seedbed.report.grid import Axis, Grid
from seedbed.report.tables import SIGNIFICANT
from seedbed.statistics import intervals
from seedbed.tables import figure


def best_combination(grid: Grid, by_seed: np.ndarray, ranking: np.ndarray) -> str:
    """Name the best combination, with its interval; `by_seed` [C, S]."""
    c = int(ranking[0])
    names = [f"{axis.key}={axis.names[v]}" for axis, v in zip(grid.axes, grid.combination_codes[c], strict=True)]
    mean, half, n = (x[c] for x in intervals(by_seed))
    seeds = f" ± {figure(half, mean)} over {n} seeds" if n > 1 else ", one seed: no interval"
    return f"Best: {' '.join(names) or 'the one configuration'}, with {grid.metric} {figure(mean)}{seeds}."


def best_values(grid: Grid, effects: dict[str, Effect | None], pairs: dict[str, Pairs | None]) -> list[str]:
    """Say for each key which value is best, and from which others it could not be told apart."""
    sentences, not_compared = [], []
    for axis in grid.axes:
        effect = effects[axis.key]
        if effect is not None and effect.paired.any():
            sentences.append(_best_value(grid, axis, effect, pairs[axis.key]))
        else:
            not_compared.append(axis.key)
    if not_compared:
        keys = ", ".join(not_compared)
        sentences.append(f"Not compared, because no two values share combinations and seeds: {keys}.")
    return sentences


def _best_value(grid: Grid, axis: Axis, effect: Effect, pairs: Pairs | None) -> str:
    best = int(np.nanargmax(np.where(effect.paired, merit(effect.mean, grid.metric), -np.inf)))
    text = f"{axis.key}: {axis.names[best]} is best on average ({figure(effect.mean[best])})"
    with_best = np.flatnonzero((pairs.a == best) | (pairs.b == best)) if pairs else ()
    if not len(with_best):
        return f"{text}; {_why_not_tested(grid, axis)}."
    others = pairs.a[with_best] + pairs.b[with_best] - best
    worse = pairs.holm[with_best] < SIGNIFICANT
    close, apart = ([axis.names[v] for v in np.sort(others[chosen])] for chosen in (~worse, worse))
    parts = [f"better than {_listed(apart)} (corrected p < {SIGNIFICANT})"] if apart else []
    parts += [f"not told apart from {_listed(close)}"] if close else []
    return f"{text}, {'; '.join(parts)}."


def _listed(names: list[str]) -> str:
    if len(names) <= 6:
        return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return f"{', '.join(names[:3])}, … {names[-1]} ({len(names)} values)"


def _why_not_tested(grid: Grid, axis: Axis) -> str:
    if grid.num_seeds < 2:
        return "one seed: no interval and no test"
    return f"{len(axis.names)} values, too many or with too few common seeds to test pair by pair"
