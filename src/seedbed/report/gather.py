"""The jobs of one or several sweeps, under keys that all of them have."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import yaml

from seedbed.summary import SEEDS, YAML, Job, read

REFERENCE = re.compile(r"\$\{([\w.]+)\}")


def gather(sweeps: Sequence[Path], out: Path) -> list[Job]:
    """All jobs, their folders relative to `out`, numbered through.

    A key that only some commands name has, in the other jobs, the value of their config. Where two sweeps hold the
    same configuration, the sweep itself becomes a key. Raises ValueError for a folder without jobs.
    """
    parts = []
    for sweep in sweeps:
        if not sweep.is_dir():
            raise ValueError(f"{sweep}: no such folder")
        if not (jobs := read(sweep)):
            raise ValueError(f"{sweep}: no jobs in this folder{_hint(sweep)}")
        parts.append(jobs)
    if len(sweeps) > 1:
        keys = dict.fromkeys(key for jobs in parts for job in jobs for key in job.values)
        known: dict[Any, tuple[dict, dict]] = {}
        parts = [
            [_complete(job, sweep, keys, known) for job in jobs] for sweep, jobs in zip(sweeps, parts, strict=True)
        ]
        parts = _told_apart(parts, _names(sweeps))
    prefixes = [os.path.relpath(sweep, out) for sweep in sweeps]
    found = [
        replace(job, folder=os.path.normpath(f"{prefix}/{job.folder}"))
        for prefix, jobs in zip(prefixes, parts, strict=True)
        for job in jobs
    ]
    return found if len(sweeps) == 1 else [replace(job, number=n) for n, job in enumerate(found)]


def optimized_metric(folder: Path) -> str:
    """The metric that a job's sweep optimised, from its config."""
    try:
        match = re.search(r"^optimized_metric: (\S+)", (folder / ".hydra" / "config.yaml").read_text("utf-8"), re.M)
    except FileNotFoundError:
        match = None
    return match[1] if match else "val/accuracy"


def _hint(folder: Path) -> str:
    """Where the user named a folder too high or too deep."""
    if (folder / ".hydra").is_dir():
        return f"; it is a job itself, its sweep is {folder.resolve().parent}"
    inner = sorted(path.parent.parent.parent for path in folder.glob("*/*/.hydra"))
    return f"; there are some in {inner[-1]}" if inner else ""


def _complete(job: Job, sweep: Path, keys: Sequence[str], known: dict[Any, tuple[dict, dict]]) -> Job:
    missing = [key for key in keys if key not in job.values]
    if not missing:
        return job
    # defaults depend on the group choices alone: one config speaks for all jobs that share them
    groups = (sweep, *sorted((k, str(v)) for k, v in job.values.items() if "." not in k and k not in SEEDS))
    if groups not in known:
        known[groups] = _composed(sweep / job.folder / ".hydra")
    found = {key: _default(key, job.values, *known[groups]) for key in missing}
    return replace(job, values=job.values | {key: value for key, value in found.items() if value is not None})


def _composed(folder: Path) -> tuple[dict[str, Any], dict[str, Any]]:
    """A job's composed config and its group choices; empty where a killed job left none."""
    found = []
    for name in ("config.yaml", "hydra.yaml"):
        try:
            found.append(yaml.load((folder / name).read_text("utf-8"), YAML) or {})
        except FileNotFoundError:
            found.append({})
    return found[0], found[1].get("hydra", {}).get("runtime", {}).get("choices", {})


def _default(key: str, values: dict[str, Any], config: dict[str, Any], choices: dict[str, Any]) -> Any:
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
    """The shortest ends of the paths that tell them apart."""
    parts = [sweep.resolve().parts for sweep in sweeps]
    for depth in range(1, max(map(len, parts)) + 1):
        names = ["/".join(part[-depth:]) for part in parts]
        if len(set(names)) == len(names):
            break
    return names


def _told_apart(parts: list[list[Job]], names: list[str]) -> list[list[Job]]:
    keys = {key for jobs in parts for job in jobs for key in job.values}
    seen = [{tuple(job.shown(key) for key in keys) for job in jobs} for jobs in parts]
    if len(set().union(*seen)) == sum(map(len, seen)):
        return parts
    return [
        [replace(job, values={"sweep": name} | job.values) for job in jobs]
        for name, jobs in zip(names, parts, strict=True)
    ]
