"""The jobs of one or several sweeps, under keys that all of them have."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import yaml

from seedbed.history import read_history
from seedbed.metrics import VAL_ACCURACY
from seedbed.sweeps.records import YAML, Job, read
from seedbed.sweeps.summary import SEEDS

REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def gather(sweeps: Sequence[Path], out: Path, by_sweep: bool = False) -> tuple[list[Job], int]:
    """Return all jobs, their folders relative to `out`, and how many repeated jobs were left out.

    A job repeats another one if all its values are equal. A key that the command of one sweep does not name has, in its
    jobs, the value of their config. `by_sweep`: the sweep is a key of its own, and nothing is left out.
    Raises ValueError for a folder without jobs.
    """
    parts = []
    for sweep in sweeps:
        if not sweep.is_dir():
            raise ValueError(f"{sweep}: no such folder")
        if not (jobs := read(sweep)):
            raise ValueError(f"{sweep}: no jobs in this folder{_hint(sweep)}")
        prefix = os.path.relpath(sweep, out)
        parts.append([replace(job, folder=os.path.normpath(f"{prefix}/{job.folder}")) for job in jobs])
    if len(sweeps) == 1:
        return parts[0], 0
    keys = dict.fromkeys(key for jobs in parts for job in jobs for key in job.values)
    configs: dict[Any, tuple[dict, dict]] = {}
    parts = [[_with_all_keys(job, out, n, keys, configs) for job in jobs] for n, jobs in enumerate(parts)]
    if by_sweep:
        parts = [
            [replace(job, values={"sweep": name} | job.values) for job in jobs]
            for name, jobs in zip(_names(sweeps), parts, strict=True)
        ]
    all_jobs = [job for jobs in parts for job in jobs]
    distinct = _without_repeats(all_jobs)
    return [replace(job, number=n) for n, job in enumerate(distinct)], len(all_jobs) - len(distinct)


def _without_repeats(jobs: list[Job]) -> list[Job]:
    """Keep the first job of each configuration, or the first that completed."""
    keys = {key for job in jobs for key in job.values}
    chosen: dict[tuple[str, ...], Job] = {}
    for job in jobs:
        key = tuple(job.shown(key) for key in keys)
        if key not in chosen or (job.status == "completed" and chosen[key].status != "completed"):
            chosen[key] = job
    return list(chosen.values())


def optimized_metric(jobs: Sequence[Job], out: Path) -> str:
    """Return the metric that the sweep optimised, from the first config that a job left."""
    for job in jobs:
        try:
            text = (out / job.folder / ".hydra" / "config.yaml").read_text("utf-8")
        except FileNotFoundError:
            continue
        if match := re.search(r"^optimized_metric: (\S+)", text, re.MULTILINE):
            return match[1]
        break
    return VAL_ACCURACY


def curves(folders: Iterable[str], metrics: Sequence[str]) -> dict[str, np.ndarray]:
    """Return metric → values by epoch, [N jobs, 1 + E epochs], NaN where a job has none.

    Column 0 is the untrained network. Metrics that no job has are left out.
    """
    histories = [read_history(folder, metrics) for folder in folders]
    tables = {}
    for metric in metrics:
        jobs = [history.get(metric, {}) for history in histories]
        if any(jobs):
            table = np.full((len(jobs), 1 + max(max(job, default=0) for job in jobs)), np.nan)
            for row, job in zip(table, jobs, strict=True):
                row[list(job)] = list(job.values())
            tables[metric] = table
    return tables


def _hint(folder: Path) -> str:
    """Help a user who named a folder too high or too deep."""
    if (folder / ".hydra").is_dir():
        return "; it is a single run: name the folder that holds the runs"
    inner = sorted(path.parent.parent for path in folder.glob("*/*/.hydra"))
    return f"; there are some in {inner[-1]}" if inner else ""


def _with_all_keys(job: Job, out: Path, sweep: int, keys: Iterable[str], configs: dict[Any, tuple[dict, dict]]) -> Job:
    """Add to a job's values those of the keys that only other sweeps name; `configs` caches what was read."""
    missing = [key for key in keys if key not in job.values]
    if not missing:
        return job
    # defaults depend on the group choices alone: one config speaks for all jobs that share them
    groups = (sweep, *sorted((k, str(v)) for k, v in job.values.items() if "." not in k and k not in SEEDS))
    if groups not in configs:
        configs[groups] = _config_and_choices(out / job.folder / ".hydra")
    defaults = {key: _default(key, job.values, *configs[groups]) for key in missing}
    return replace(job, values=job.values | {key: value for key, value in defaults.items() if value is not None})


def _config_and_choices(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """Read a job's composed config and its group choices; both are empty where a killed job left none."""
    nodes = []
    for name in ("config.yaml", "hydra.yaml"):
        try:
            nodes.append(yaml.load((folder / name).read_text("utf-8"), YAML) or {})
        except FileNotFoundError:
            nodes.append({})
    return nodes[0], nodes[1].get("hydra", {}).get("runtime", {}).get("choices", {})


def _default(key: str, values: dict[str, Any], config: dict[str, Any], choices: dict[str, Any]) -> Any:
    """Look a key up in the job's values, its group choices, then its config; `${key}` leads on to that key."""
    if key in values:
        return values[key]
    if key in choices:
        return choices[key]
    value: Any = config
    for part in key.split("."):
        value = value.get(part) if isinstance(value, dict) else None
    if isinstance(value, str) and (match := REFERENCE.fullmatch(value)):
        return _default(match[1], values, config, choices)
    return value


def _names(sweeps: Sequence[Path]) -> list[str]:
    """Return the shortest ends of the paths that tell them apart."""
    parts = [sweep.resolve().parts for sweep in sweeps]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names
