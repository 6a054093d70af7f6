"""What a sweep is: manifest.jsonl in its folder, written before its first job starts.

Its first line is the command, each other one a job: number, folder, overrides, composed config and its hash. How far
a job is, its own folder says (metrics.json is there if and only if it is over), so nothing is written here while jobs
run, and a kill at any moment leaves a manifest that holds.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from glob import glob
from pathlib import Path
from typing import Any

from seedbed.allowed_values import CONTROL, leaves

NAME = "manifest.jsonl"


class Refused(Exception):
    """The sweep in a folder is not the one that was asked for, or another process is at it."""


class Stopped(BaseException):
    """A job failed under on_error=stop. No Exception: Hydra keeps those until all jobs have run."""


class Manifest:
    """The manifest of the sweep in a folder. jobs: number → what its line holds."""

    def __init__(self, sweep: Path):
        self.path = sweep / NAME
        self.command: list[str] | None = None
        self.jobs: dict[int, dict[str, Any]] = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        self._size = content.rfind(b"\n") + 1  # a line without an end was being written when the process was killed
        for line in map(json.loads, content[: self._size].splitlines()):
            if "command" in line:
                self.command = line["command"]
            else:
                self.jobs[line["job"]] = line

    def begin(self, command: Sequence[str]) -> None:
        """Take the sweep for this process alone, which dies with it. Raises Refused."""
        if self.command is None and any(self.path.parent.glob("*/metrics.json")):
            raise Refused(f"{self.path.parent} holds runs and no {NAME}: choose another hydra.sweep.dir")
        if self.command not in (None, list(command)):
            lines = _differing(self.command, list(command))
            raise Refused("\n".join([f"{self.path.parent} is the sweep of another command:", *lines]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._file = open(self.path, "ab")  # noqa: SIM115  # it holds the lock
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            raise Refused(f"{self.path.parent} is being run by another process") from None
        self._file.truncate(self._size)
        if self.command is None:
            self.command = list(command)
            self._append([{"command": self.command}])

    def add(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Write down jobs (job, folder, overrides, config) before the first of them starts.

        Raises Refused, with the difference, where one is not what the manifest says it was.
        """
        jobs = [{**job, "hash": digest(job["config"])} for job in jobs]
        known = [(self.jobs[job["job"]], job) for job in jobs if job["job"] in self.jobs]
        changed = [(old, new) for old, new in known if any(old[k] != new[k] for k in ("hash", "overrides"))]
        if changed:
            raise Refused(_explain(self.path.parent, changed))
        new = [job for job in jobs if job["job"] not in self.jobs]
        self._append(new)
        self.jobs |= {job["job"]: job for job in new}

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())


def digest(config: Mapping[str, Any] | None) -> str:
    """The same for equal configs, whatever is said of errors and retries."""
    config = {key: value for key, value in (config or {}).items() if key not in CONTROL}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def result(folder: str | Path) -> dict[str, Any] | None:
    """The metrics of a job that is over, completed or diverged; None for one that is to run, or to run again."""
    try:
        with open(f"{folder}/metrics.json", "rb") as file:
            metrics = json.loads(file.read())
    except FileNotFoundError:
        return None
    return None if metrics["status"] == "failed" else metrics


def latest(pattern: str, command: Sequence[str]) -> Path:
    """The folder of the newest sweep of this command among those that match. Raises Refused if there is none."""
    found = sorted(map(Path, glob(f"{pattern}/{NAME}")), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found:
        with open(path, "rb") as file:
            line = file.readline()
        if line.endswith(b"\n") and json.loads(line)["command"] == list(command):
            return path.parent
    sweeps = f"{len(found) or 'no'} sweep{'s' * (len(found) != 1)}"
    raise Refused(f"resume=latest: {pattern} has {sweeps}, none of this command")


def _differing(old: Sequence[str], new: Sequence[str]) -> list[str]:
    gone, come = [word for word in old if word not in new], [word for word in new if word not in old]
    if not gone and not come:  # the order numbers the jobs
        gone, come = [" ".join(old)], [" ".join(new)]
    return [*(f"  was: {word}" for word in gone), *(f"  now: {word}" for word in come)]


def _explain(sweep: Path, changed: Sequence[tuple[Mapping, Mapping]]) -> str:
    """What differs in the first job that does."""
    old, new = changed[0]
    lines = _differing(old["overrides"], new["overrides"]) if old["overrides"] != new["overrides"] else []
    before, after = (dict(leaves(json.loads(json.dumps(job["config"] or {})))) for job in (old, new))
    for key in [] if lines else [key for key in before | after if key not in CONTROL]:
        a, b = (json.dumps(side[key]) if key in side else "not there" for side in (before, after))
        if a != b:
            lines.append(f"  {key} was {a}, is now {b}")
    if not lines:  # _target_ and its like
        lines = ["  a class or function in its config is another one"]
    more = f" (and of {len(changed) - 1} more)" if len(changed) > 1 else ""
    return "\n".join([f"{sweep} was begun with another config of job {new['job']}{more}:", *lines])
