"""The numbers that presets have for their parts.

They stand in conf/preset/PART/PRESET_CHOICE.yaml. The defaults list of conf/config.yaml takes the file if PRESET is the
experiment and CHOICE the choice of PART: beside another choice a preset's numbers are left out.
"""

from __future__ import annotations

import json
import shlex
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml

from seedbed.config_values import leaves
from seedbed.tables import show

SWEPT = "hydra.sweeper.params."


def left_out(jobs: Iterable[Mapping[str, Any]], sources: Sequence[Any]) -> list[str]:
    """Return a line for each preset of which numbers are left out; it names them as one would type them.

    jobs: each job's choices of the config groups. sources: hydra.runtime.config_sources.
    """
    folders = _folders(sources)
    numbers: dict[str, dict[str, dict[str, Path]]] = {}
    missing: dict[str, dict[str, str]] = {}
    for choices in jobs:
        preset = str(choices.get("experiment"))
        if preset not in numbers:
            numbers[preset] = _numbers(preset, folders)
        for part, files in numbers[preset].items():
            if choices.get(part) not in files:
                words = shlex.join(word for file in files.values() for word in _overrides(_read(file)))
                missing.setdefault(preset, {})[f"{part}={show(choices.get(part))}"] = words
    return [
        f"experiment={preset}: left out " + "; ".join(f"beside {choice}: {words}" for choice, words in texts.items())
        for preset, texts in missing.items()
    ]


def is_sweep(preset: str, sources: Sequence[Any]) -> bool:
    """Return whether a preset is a sweep by itself: one of its files configures Hydra."""
    folders = _folders(sources)
    files = [folder / "experiment" / f"{preset}.yaml" for folder in folders]
    files += [file for of_part in _numbers(preset, folders).values() for file in of_part.values()]
    return any("hydra" in _read(file) for file in files if file.is_file())


def _folders(sources: Sequence[Any]) -> list[Path]:
    return [Path(source.path) for source in sources if source.schema == "file"]


def _numbers(preset: str, folders: Sequence[Path]) -> dict[str, dict[str, Path]]:
    """Return part → choice → the file with the preset's numbers for it."""
    numbers: dict[str, dict[str, Path]] = {}
    for file in sorted(file for folder in folders for file in folder.glob(f"preset/*/{preset}_*.yaml")):
        part, choice = file.parent.name, file.stem.removeprefix(f"{preset}_")
        # of the presets `linear` and `linear_scratch`, linear_scratch_basic.yaml is the second one's
        if any((folder / part / f"{choice}.yaml").is_file() for folder in folders):
            numbers.setdefault(part, {})[choice] = file
    return numbers


def _overrides(numbers: Mapping[str, Any]) -> list[str]:
    """Return the numbers as overrides, those of a sweep too."""
    texts = {key.removeprefix(SWEPT): value for key, value in leaves(numbers) if key != "hydra.mode"}
    return [f"{key}={v if isinstance(v, str) else json.dumps(v, separators=(',', ':'))}" for key, v in texts.items()]


def _read(file: Path) -> dict[str, Any]:
    return yaml.safe_load(file.read_text(encoding="utf-8"))
