"""The state of a job, as the files in its folder tell it; `records.Job.status` names it.

completed     metrics.json is there: it is written last and whole; its `status` may also be `diverged`
failed        metrics.json says so; the job is run again when the sweep is resumed
interrupted   the folder is there without a metrics.json: the job was killed, or is in flight in another process
pending       there is no folder: the job has not begun
"""

from __future__ import annotations

import fcntl
import json
import math
import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seedbed.errors import ConfigError


def read_metrics(folder: str | Path) -> dict[str, Any] | None:
    """Return the content of metrics.json, or None without one. Raises ConfigError if it is damaged."""
    try:
        with open(f"{folder}/metrics.json", "rb") as file:
            metrics = json.loads(file.read())
    except (FileNotFoundError, NotADirectoryError):
        return None
    except ValueError:
        metrics = None
    if not isinstance(metrics, dict):
        raise _damaged(folder)
    return metrics


def _damaged(folder: str | Path) -> ConfigError:
    hint = "remove it to have the run start again or go on from its checkpoint"
    return ConfigError(f"{folder}/metrics.json: is damaged; {hint}")


def finished(folder: str | Path) -> dict[str, Any] | None:
    """Return the metrics of a job that is not to run again; None for one that failed or has not ended."""
    metrics = read_metrics(folder)
    if metrics is not None and "status" not in metrics:
        raise _damaged(folder)
    return None if metrics is None or metrics["status"] == "failed" else metrics


def returned(metrics: Mapping[str, Any] | None, name: str | None) -> float | None:
    """Return what a sweeper sees of a job: the metric of this name, or None where it is not a finite number."""
    number = (metrics or {}).get(name)
    return number if isinstance(number, int | float) and math.isfinite(number) else None


@contextmanager
def in_flight(folder: Path) -> Iterator[None]:
    """Hold a job's folder; wait until no other process does: a worker may outlive a sweep that was killed."""
    folder.mkdir(parents=True, exist_ok=True)
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
