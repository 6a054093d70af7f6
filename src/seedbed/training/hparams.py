"""A run's record for TensorBoard's HParams dashboard: flat names and values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

from seedbed.config_values import is_of_sweep, leaves
from seedbed.metrics import LR, SHOWN

LEFT_OUT = {"ckpt_path", "optimized_metric"}
Record = dict[str, str | int | float]


def final(metrics: Mapping[str, float]) -> dict[str, float]:
    """Return a run's last metrics for its record: accuracy and losses first, without the lr, which is no result."""
    names = [name for name in dict.fromkeys((*SHOWN, *metrics)) if metrics.get(name) is not None and name != LR]
    return {name: metrics[name] for name in names}


def hparams(
    config: Mapping[str, Any], choices: Mapping[str, str | None], columns: Mapping[str, str] | None = None
) -> Record:
    """Return every group's choice and every value of a run, or those of `columns`, name → "number" or "text".

    The jobs of a sweep share its columns (seedbed.sweeps.columns): values that all jobs share are left out, and a
    column has one type. A missing value is nan or "–".
    """
    chosen = {group: str(choice) for group, choice in choices.items() if "/" not in group}
    values = {key: value for key, value in leaves(config) if key not in LEFT_OUT and not is_of_sweep(key)}
    record = chosen | {key: v if isinstance(v, int | float) else str(v) for key, v in values.items()}
    if not columns:
        return record
    return {
        key: record.get(key, math.nan) if kind == "number" else str(record.get(key, "–"))
        for key, kind in columns.items()
    }
