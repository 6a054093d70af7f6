"""The identity of a sweep: manifest.jsonl in its folder, written before its first job starts.

The first line holds the command, each other line a job: its number, folder, overrides, composed config and the
config's hash. The state of a job stands in the job's own folder (see states.py), so nothing is written here while jobs
run, and a kill at any moment leaves a valid manifest.
"""

from __future__ import annotations

import hashlib
import json
import os
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from seedbed.config_values import SWEEP_KEYS, is_of_sweep, leaves
from seedbed.formats import FORMAT, MANIFEST, check_format
from seedbed.machine import here
from seedbed.moved import with_current_targets
from seedbed.owner import give_up, take


class Refused(Exception):
    """The sweep in a folder is not the one that was asked for."""


class Manifest:
    """The manifest of the sweep in a folder. jobs: number → the content of its line."""

    def __init__(self, sweep: Path):
        self.path = sweep / MANIFEST
        self.command: list[str] | None = None
        self.version = FORMAT
        # the facts on which its bits depend besides the configs; None: an earlier version did not write them down
        self.made_with: dict[str, Any] | None = None
        self.extended = False  # by a later command: the jobs are not numbered in its order
        self.jobs: dict[int, dict[str, Any]] = {}
        content = self.path.read_bytes() if self.path.exists() else b""
        self._size = content.rfind(b"\n") + 1  # a line without an end was being written when the process was killed
        for line in map(self._read, content[: self._size].splitlines()):
            if "command" in line:
                self.extended = self.command is not None
                self.made_with = line.get("made_with") if self.command is None else self.made_with
                self.command, self.version = line["command"], check_format(line, str(self.path), "version")
            else:
                self.jobs[line["job"]] = line if self.version == FORMAT else _of_today(line)

    def _read(self, line: bytes) -> dict[str, Any]:
        try:
            content = json.loads(line)
            if "command" in content or {"job", "folder", "overrides", "config"} <= content.keys():
                return content
        except (ValueError, TypeError, AttributeError):
            pass
        shown = line[:60].decode(errors="replace")
        raise Refused(f"{self.path}: is damaged: a line is no job: {shown}…; repair it, or begin a new sweep")

    @property
    def is_new(self) -> bool:
        """True if the sweep has no job yet."""
        return not self.jobs

    def begin(self, command: Sequence[str], extend: bool = False) -> None:
        """Take the sweep for this process, until it or this object ends.

        extend: the command may differ from that of the manifest; its new jobs are added.
        Raises Refused, or ConfigError that names the process that runs it.
        """
        if self.command is None and any(any(self.path.parent.glob(f"{at}metrics.json")) for at in ("", "*/")):
            raise Refused(f"{self.path.parent} holds runs and no {MANIFEST}: choose another hydra.sweep.dir")
        if self.command not in (None, list(command)) and not extend:
            lines = _differing(self.command, list(command))
            raise Refused("\n".join([f"{self.path.parent} is the sweep of another command:", *lines]))
        self.path.parent.mkdir(parents=True, exist_ok=True)
        self._end = weakref.finalize(self, give_up, self.path.parent, take(self.path.parent))
        self._file = open(self.path, "ab")  # noqa: SIM115  # open as long as this process runs the sweep
        self._file.truncate(self._size)
        if self.command != list(command):
            self.command = list(command)
            self._append([{"command": self.command, "version": self.version, "made_with": here()}])

    def add(self, jobs: Sequence[Mapping[str, Any]]) -> None:
        """Write down jobs (job, folder, overrides, config) before the first of them starts.

        Raises Refused, with the difference, if a job is not as the manifest has it.
        """
        jobs = [{**job, "hash": digest(job["config"])} for job in jobs]
        known = [(self.jobs[job["job"]], job) for job in jobs if job["job"] in self.jobs]
        changed = [(old, new) for old, new in known if not self._same(old, new)]
        if changed:
            raise Refused(_explain(self.path.parent, changed))
        new = [job for job in jobs if job["job"] not in self.jobs]
        self._append(new)
        self.jobs |= {job["job"]: job for job in new}

    def identity(self, overrides: Sequence[str], config: Mapping[str, Any] | None) -> str:
        """Return a text that is equal for equal jobs: the config's hash; for an earlier version, the overrides."""
        return digest(config) if self.version == FORMAT else json.dumps(list(overrides))

    def _same(self, old: Mapping[str, Any], new: Mapping[str, Any]) -> bool:
        if old["overrides"] != new["overrides"]:
            return False
        if old["hash"] == new["hash"] or self.version == FORMAT:
            return old["hash"] == new["hash"]
        # an earlier version's config lacks newer keys, and its metric was the accuracy even for data without classes;
        # the overrides are the same
        after = dict(leaves(_plain(new["config"])))
        before = ((k, v) for k, v in leaves(_plain(old["config"])) if k != "optimized_metric" and not is_of_sweep(k))
        return all(after.get(key) == value for key, value in before)

    def _append(self, lines: Sequence[Mapping[str, Any]]) -> None:
        self._file.write("".join(json.dumps(line) + "\n" for line in lines).encode())
        self._file.flush()
        os.fsync(self._file.fileno())

    def close(self) -> None:
        """Give the sweep up."""
        self._file.close()
        self._end()


def digest(config: Mapping[str, Any] | None) -> str:
    """Return a hash that is equal for equal configs; SWEEP_KEYS do not count."""
    config = {key: value for key, value in (config or {}).items() if key not in SWEEP_KEYS}
    return hashlib.sha256(json.dumps(config, sort_keys=True).encode()).hexdigest()[:16]


def _of_today(line: dict[str, Any]) -> dict[str, Any]:
    config = with_current_targets(line["config"])
    return {**line, "config": config, "hash": digest(config)}


def _plain(config: Mapping[str, Any] | None) -> dict[str, Any]:
    return json.loads(json.dumps(config or {}))


def _differing(old: Sequence[str], new: Sequence[str]) -> list[str]:
    gone, come = [word for word in old if word not in new], [word for word in new if word not in old]
    if not gone and not come:  # the order numbers the jobs
        gone, come = [" ".join(old)], [" ".join(new)]
    return [*(f"  was: {word}" for word in gone), *(f"  now: {word}" for word in come)]


def _explain(sweep: Path, changed: Sequence[tuple[Mapping, Mapping]]) -> str:
    """Name the difference of the first job that differs."""
    old, new = changed[0]
    lines = _differing(old["overrides"], new["overrides"]) if old["overrides"] != new["overrides"] else []
    before, after = (dict(leaves(_plain(job["config"]))) for job in (old, new))
    for key in [] if lines else [key for key in before | after if not is_of_sweep(key)]:
        a, b = (json.dumps(side[key]) if key in side else "not there" for side in (before, after))
        if a != b:
            lines.append(f"  {key} was {a}, is now {b}")
    if not lines:  # _target_ and its like
        lines = ["  a class or function in its config is another one"]
    more = f" (and of {len(changed) - 1} more)" if len(changed) > 1 else ""
    return "\n".join([f"{sweep} was begun with another config of job {new['job']}{more}:", *lines])
