"""Compare the files that two runs or sweeps of one command left, except times and the commit of the code."""

import csv
import json
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

TIMES = ("fit_seconds", "seconds", "git")


def differences(folder: Path, reference: Path) -> list[str]:
    """Return a line for each file of the jobs in which two sweeps, or two runs, are not equal to the bit."""
    jobs = sorted(path.parent.relative_to(reference) for path in reference.rglob("metrics.json"))
    lines = [f"{job}: {name}" for job in jobs for name in _differing(folder / job, reference / job)]
    if (reference / "summary.csv").exists() and _text(folder / "summary.csv") != _text(reference / "summary.csv"):
        lines.append("summary.csv")
    return lines


def _differing(job: Path, reference: Path) -> list[str]:
    readers = {"metrics.json": _metrics, "history.csv": _history, "curves": _curves}
    readers |= {f"checkpoints/{name}.ckpt": _checkpoint(name) for name in ("last", "best")}
    return [name for name, read in readers.items() if not _equal(read(job), read(reference))]


def _equal(a: Any, b: Any) -> bool:
    """Compare nested values bit for bit; nan equals nan."""
    if isinstance(a, torch.Tensor):
        alike = isinstance(b, torch.Tensor) and (a.shape, a.dtype) == (b.shape, b.dtype)
        return alike and bool(((a == b) | (a != a) & (b != b)).all())
    if isinstance(a, Mapping):
        return isinstance(b, Mapping) and a.keys() == b.keys() and all(_equal(a[key], b[key]) for key in a)
    if isinstance(a, list | tuple):
        return isinstance(b, list | tuple) and len(a) == len(b) and all(map(_equal, a, b))
    return a == b or (a != a and b != b)


def _text(path: Path) -> str | None:
    return path.read_text(encoding="utf-8") if path.exists() else None


def _metrics(job: Path) -> dict[str, Any]:
    content = json.loads(_text(job / "metrics.json") or "{}")
    return {key: str(value) for key, value in content.items() if key not in TIMES}


def _history(job: Path) -> list[dict[str, str]]:
    rows = csv.DictReader((_text(job / "history.csv") or "").splitlines())
    return [{key: value for key, value in row.items() if key not in TIMES} for row in rows]


def _checkpoint(name: str) -> Any:
    def read(job: Path) -> dict[str, Any]:
        path = job / "checkpoints" / f"{name}.ckpt"
        content = torch.load(path, weights_only=True) if path.exists() else {}
        return {key: content.get(key) for key in ("state_dict", "optimizer_states", "steps", "epoch")}

    return read


def _curves(job: Path) -> dict[str, Any]:
    """Return tag and step → value, how often each point was logged, and the number of HParams records."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    values: dict[str, float] = {}
    points, records = Counter(), 0
    for file in sorted(job.glob("events.out.tfevents.*")):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.HasField("simple_value") and not value.tag.startswith("_hparams_"):
                    point = f"{value.tag} {event.step}"
                    values[point] = value.simple_value
                    points[point] += 1
                records += value.tag == "_hparams_/session_start_info"
    return {"values": values, "points": dict(points), "records": records}
