"""Refuse a run's folder that already holds another run."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from seedbed.config_values import typed
from seedbed.errors import ConfigError, Refusal
from seedbed.formats import MANIFEST
from seedbed.owner import owned
from seedbed.sweeps.states import finished

TRACES = ("metrics.json", "checkpoints", ".hydra", MANIFEST)
EVENTS = "events.out.tfevents.*"
# path → content of the files that were there before this command: a refused command puts them back
_before: dict[Path, bytes] = {}
# checkpoints and events that were there: they stay
_kept: set[Path] = set()


def check_free(folder: Path, config: Mapping[str, Any]) -> None:
    """Raise Refusal if the folder holds another run, or a finished one.

    A run may resume from its own checkpoint. An unfinished run with the same config may start again.
    """
    _before.clear()
    _kept.clear()
    if not any((folder / name).exists() for name in TRACES):
        return
    try:
        with owned(folder):
            pass
    except ConfigError as error:
        raise Refusal(f"hydra.run.dir={folder}: {error}") from None
    for path in (*(folder / ".hydra").glob("*.yaml"), folder / "train.log", folder / "metrics.json"):
        if path.is_file():
            _before[path.absolute()] = path.read_bytes()
    _kept.update(path.absolute() for path in (folder / "checkpoints", *folder.glob(EVENTS)) if path.exists())
    checkpoint = config.get("ckpt_path")
    if checkpoint and folder.resolve() in Path(checkpoint).resolve().parents:
        return
    if (folder / MANIFEST).exists():
        raise Refusal(f"hydra.run.dir={folder}: holds a sweep; choose another folder")
    if finished(folder) is not None:
        raise Refusal(
            f"hydra.run.dir={folder}: holds a finished run; choose another folder, or go on from it with "
            f"{typed('ckpt_path', folder / 'checkpoints/last.ckpt')}"
        )
    if _config_of(folder) != {**config}:
        raise Refusal(f"hydra.run.dir={folder}: holds a run with another config; choose another folder")
    for events in folder.glob(EVENTS):
        events.unlink()


def check_writable(folder: Path) -> None:
    """Make the run's folder. Raises OSError if that fails, or if no file can be written there."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryFile(dir=folder) as file:
        file.write(b"x")


def _config_of(folder: Path) -> dict[str, Any] | None:
    try:
        return yaml.safe_load((folder / ".hydra" / "config.yaml").read_text(encoding="utf-8"))
    except (FileNotFoundError, ValueError, yaml.YAMLError):
        return None


def discard(folder: Path) -> None:
    """Remove what this process put into a folder in which nothing was trained; what was there before stays."""
    events = [path for path in folder.glob(EVENTS) if path.absolute() not in _kept]
    for path in (*folder.glob(".hydra/*.yaml"), folder / "train.log", *events):
        path.unlink(missing_ok=True)
    if (checkpoints := (folder / "checkpoints").absolute()) not in _kept:
        shutil.rmtree(checkpoints, ignore_errors=True)
    for empty in (folder / ".hydra", folder):
        if empty.is_dir() and not any(empty.iterdir()):
            empty.rmdir()
    for path, content in _before.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
