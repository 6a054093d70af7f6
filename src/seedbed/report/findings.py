"""What came out of a sweep, in sentences."""

from __future__ import annotations

import numpy as np

from seedbed.report.effects import Effect, Pairs, intervals
from seedbed.report.grid import Axis, Grid
from seedbed.report.tables import SIGNIFICANT
from seedbed.sweeps.summary import smaller_is_better
from seedbed.tables import figure


def best(grid: Grid, by_seed: np.ndarray, ranking: np.ndarray) -> str:
    """The best combination with its interval; `by_seed` [C, S]."""
    c = int(ranking[0])
    names = [f"{axis.key}={axis.names[v]}" for axis, v in zip(grid.axes, grid.combination_codes[c], strict=True)]
    mean, half, n = (x[c] for x in intervals(by_seed))
    seeds = f" ± {figure(half, mean)} over {n} seeds" if n > 1 else ", one seed: no interval"
    return f"Best: {' '.join(names) or 'the one configuration'}, with {grid.metric} {figure(mean)}{seeds}."


def of_keys(grid: Grid, effects: dict[str, Effect | None], compared: dict[str, Pairs | None]) -> list[str]:
    """Of each key which value is best, and which others cannot be told from it."""
    found, silent = [], []
    for axis in grid.axes:
        effect = effects[axis.key]
        if effect is not None and effect.paired.any():
            found.append(_of_key(grid, axis, effect, compared[axis.key]))
        else:
            silent.append(axis.key)
    if silent:
        found.append(f"Not compared, because no two values share combinations and seeds: {', '.join(silent)}.")
    return found


def _of_key(grid: Grid, axis: Axis, effect: Effect, compared: Pairs | None) -> str:
    merit = np.where(effect.paired, effect.mean if smaller_is_better(grid.metric) else -effect.mean, np.inf)
    top = int(np.nanargmin(merit))
    text = f"{axis.key}: {axis.names[top]} is best on average ({figure(effect.mean[top])})"
    with_top = np.flatnonzero((compared.a == top) | (compared.b == top)) if compared else ()
    if not len(with_top):
        return f"{text}; {_why_not(grid, axis)}."
    others = compared.a[with_top] + compared.b[with_top] - top
    close = [axis.names[v] for v in np.sort(others[compared.holm[with_top] >= SIGNIFICANT])]
    apart = [axis.names[v] for v in np.sort(others[compared.holm[with_top] < SIGNIFICANT])]
    told = f"better than {_listed(apart)} (corrected p < 0.05)" if apart else ""
    like = f"not told apart from {_listed(close)}" if close else ""
    return f"{text}, {'; '.join(filter(None, (told, like)))}."


def _listed(names: list[str]) -> str:
    if len(names) <= 6:
        return " and ".join(filter(None, (", ".join(names[:-1]), names[-1])))
    return f"{', '.join(names[:3])}, … {names[-1]} ({len(names)} values)"


def _why_not(grid: Grid, axis: Axis) -> str:
    if grid.num_seeds < 2:
        return "one seed: no interval and no test"
    return f"{len(axis.names)} values, too many or with too few common seeds to test pair by pair"
