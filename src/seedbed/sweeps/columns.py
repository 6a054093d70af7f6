"""The columns of a sweep: the keys whose values differ between its jobs, for TensorBoard's HParams table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from seedbed.config_values import SWEEP_KEYS, leaves
from seedbed.files import write_whole

NAME = "columns.json"
MISSING = object()


def columns(jobs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], swept: Iterable[str]) -> dict[str, str]:
    """Return key → "number" if every job has a number there, else "text"; jobs are (config, choices of groups).

    The keys that the command sweeps come first, even those in which the first jobs of a search are equal. One kind a
    column: where one job has a number and another has null, or lacks the key, the dashboard could not sort the column.
    """
    first: dict[str, Any] | None = None
    differing: dict[str, None] = {}
    numbers: dict[str, int] = {}
    count = 0
    for config, choices in jobs:
        values = {group: choice for group, choice in choices.items() if "/" not in group} | dict(leaves(config))
        first = values if first is None else first
        count += 1
        for key in first.keys() | values.keys():
            value = values.get(key, MISSING)
            if value is not first.get(key, MISSING) and value != first.get(key, MISSING):
                differing[key] = None
            numbers[key] = numbers.get(key, 0) + (isinstance(value, int | float) and not isinstance(value, bool))
    ordered = dict.fromkeys([*(key for key in swept if key in numbers), *sorted(differing)])
    return {key: "number" if numbers[key] == count else "text" for key in ordered if key not in SWEEP_KEYS}


def write_columns(sweep: Path, found: Mapping[str, str]) -> None:
    """Write columns.json when a sweep begins; a sweep that goes on keeps its own."""
    if not (sweep / NAME).exists():
        write_whole(sweep / NAME, json.dumps(found))


def read_columns(sweep: Path) -> dict[str, str]:
    """Return the columns of a sweep; empty for a run alone."""
    try:
        return json.loads((sweep / NAME).read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
