"""A run for TensorBoard's HParams dashboard: every group's choice and every value, flat."""

from __future__ import annotations

import json
import math
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seedbed.allowed_values import CONTROL, leaves

NAME = "hparams.json"
NOT_HPARAMS = {"ckpt_path", "optimized_metric", *CONTROL}
Record = dict[str, str | int | float]


def hparams(
    config: Mapping[str, Any], choices: Mapping[str, str | None], kinds: Mapping[str, str] | None = None
) -> Record:
    """The record of a run; with `kinds`, those of its sweep, one of the same keys and kinds as the other jobs'."""
    chosen = {group: str(choice) for group, choice in choices.items() if "/" not in group}
    values = {k: v for k, v in leaves(config) if k not in NOT_HPARAMS}
    record = chosen | {k: v if isinstance(v, int | float) else str(v) for k, v in values.items()}
    if not kinds:
        return record
    return {k: record.get(k, math.nan) if kinds[k] == "number" else str(record.get(k, "–")) for k in kinds}


def write_kinds(sweep: Path, records: Iterable[Record]) -> None:
    """hparams.json of a sweep that begins: key → "number" where every job has one, else "text".

    Where one job has a number and another null, or not the key at all, the dashboard would mix kinds in a column.
    """
    path, count = sweep / NAME, 0
    if path.exists():
        return
    numbers: dict[str, int] = {}
    for record in records:
        count += 1
        for key, value in record.items():
            numbers[key] = numbers.get(key, 0) + isinstance(value, int | float)
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps({key: "number" if found == count else "text" for key, found in numbers.items()}))
    os.replace(temporary, path)


def read_kinds(sweep: Path) -> dict[str, str]:
    try:
        return json.loads((sweep / NAME).read_text())
    except FileNotFoundError:
        return {}
