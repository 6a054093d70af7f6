"""The columns of a sweep: the keys whose values differ between its jobs, for TensorBoard's HParams table."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from seedbed.config_values import is_of_sweep, leaves
from seedbed.files import write_whole

NAME = "columns.json"
# columns that TensorBoard shows before one ticks others
SHOWN = 5


def columns(jobs: Iterable[tuple[Mapping[str, Any], Mapping[str, Any]]], swept: Iterable[str]) -> dict[str, str]:
    """Return key → "number" if every job has a number there, else "text"; jobs are (config, choices of groups).

    These are the keys that the command sweeps, even if the first jobs of a search agree in them, then other keys that
    differ, until there are SHOWN columns. A key that some jobs lack and that is equal in the others counts as a
    constant. A key that always equals a swept one, as data.seed equals seed, is left out. A column has one type: the
    dashboard could not sort one in which a job has a number and another has null or lacks the key.
    """
    # key → the values of the jobs that have it
    values: dict[str, list[Any]] = {}
    count = 0
    for config, choices in jobs:
        for key, value in ({k: v for k, v in choices.items() if "/" not in k} | dict(leaves(config))).items():
            values.setdefault(key, []).append(value)
        count += 1
    chosen = [key for key in dict.fromkeys(swept) if key in values]
    known = [values[key] for key in chosen]
    others = [key for key in sorted(values) if key not in chosen and _differ(values[key]) and values[key] not in known]
    ordered = [key for key in [*chosen, *others[: max(0, SHOWN - len(chosen))]] if not is_of_sweep(key)]
    return {key: "number" if _are_numbers(values[key], count) else "text" for key in ordered}


def _differ(values: Sequence[Any]) -> bool:
    return any(value is not values[0] and value != values[0] for value in values)


def _are_numbers(values: Sequence[Any], count: int) -> bool:
    return len(values) == count and all(isinstance(v, int | float) and not isinstance(v, bool) for v in values)


def write_columns(sweep: Path, found: Mapping[str, str]) -> None:
    """Write columns.json when a sweep begins; a sweep that goes on keeps its own."""
    if not (sweep / NAME).exists():
        write_whole(sweep / NAME, json.dumps(found))


def read_columns(sweep: Path) -> dict[str, str]:
    """Return the columns of a sweep; empty for a run alone, and where the file is damaged."""
    try:
        return json.loads((sweep / NAME).read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError):
        return {}
