"""Folders of runs, sweeps and jobs.

Two OmegaConf resolvers give each run and each sweep a folder of its own, in `hydra.run.dir` and `hydra.sweep.dir`:

    ${run_folder:ROOT,NAME}      ROOT/NAME-0, or the first free number
    ${sweep_folder:ROOT,NAME}    the folder that `resume` names; else ROOT/NAME, or the first free NAME-1, NAME-2, …

The folder is made when the value is first resolved. Its path stays in the config's resolver cache, which Hydra copies
to the jobs of a sweep, so that every later look gives the same path.
"""

from __future__ import annotations

import re
from collections.abc import Container, Iterable, Mapping, Sequence
from itertools import chain, count
from pathlib import Path

from omegaconf import DictConfig, OmegaConf

from seedbed.config_values import is_of_sweep
from seedbed.errors import Refusal
from seedbed.formats import MANIFEST
from seedbed.sweeps.hydra_versions import register_resolver
from seedbed.sweeps.manifest import Manifest

LONGEST_NAME = 100  # characters of a job's folder; file systems allow 255 bytes
LONGEST_VALUE = 24


def register_resolvers() -> None:
    register_resolver("run_folder", run_folder, replace=True)
    register_resolver("sweep_folder", sweep_folder, replace=True)


def run_folder(root: str, name: str, *, _root_: DictConfig) -> str:
    cache = OmegaConf.get_cache(_root_)["run_folder"]
    key = f"{root}/{name}"
    if key not in cache:
        cache[key] = _claim(Path(root), (f"{name}-{n}" for n in count()))
    return cache[key]


def sweep_folder(root: str, name: str, *, _root_: DictConfig) -> str:
    cache = OmegaConf.get_cache(_root_)["sweep_folder"]
    key = f"{root}/{name}"
    if key not in cache:
        resume = _root_.get("resume")
        if resume is None:
            cache[key] = _claim(Path(root), chain([name], (f"{name}-{n}" for n in count(1))))
        else:
            cache[key] = str(_resumed(Path(root), str(resume), _root_))
    return cache[key]


def _claim(root: Path, names: Iterable[str]) -> str:
    """Make the first folder that is not there yet."""
    for name in names:
        folder = root / name
        try:
            folder.parent.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise _unwritable(folder.parent, error) from error
        try:
            folder.mkdir()
        except FileExistsError:
            continue
        except OSError as error:
            raise _unwritable(folder, error) from error
        return str(folder)
    raise AssertionError("names do not end")


def _unwritable(folder: Path, error: OSError) -> Refusal:
    return Refusal(f"{folder}: cannot be written: {error.strerror}; choose another hydra.run.dir or hydra.sweep.dir")


def _resumed(root: Path, resume: str, config: DictConfig) -> Path:
    """Return the sweep's folder, or the newest sweep of this command under `root`. Raises Refusal."""
    if resume != "latest":
        if not (Path(resume) / MANIFEST).is_file():
            raise Refusal(f"resume={resume}: must be latest or the folder of a sweep (with a {MANIFEST})")
        return Path(resume)
    sweeps = sorted(root.glob(f"*/*/{MANIFEST}"), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in sweeps:
        if Manifest(path.parent).command == command(config):
            return path.parent
    number = f"{len(sweeps) or 'no'} sweep{'s' * (len(sweeps) != 1)}"
    raise Refusal(f"resume=latest: {root} has {number}, none of this command")


def command(config: DictConfig) -> list[str]:
    """Return the identity of a sweep: its command without folder, launcher and SWEEP_KEYS.

    `${…}` stays as typed: each job resolves it with its own values.
    """
    overrides = OmegaConf.to_container(config.hydra.overrides, resolve=False)
    kept = re.compile(r"\+*hydra[./](sweeper|sweep\.subdir|launcher\.halving)")
    of_hydra = [word for word in overrides["hydra"] if kept.match(word)]
    return [f"--config-name={config.hydra.job.config_name}", *without_sweep_keys(overrides["task"]), *of_hydra]


def without_sweep_keys(overrides: Sequence[str]) -> list[str]:
    return [override for override in overrides if not is_of_sweep(override.partition("=")[0].lstrip("+"))]


# --- the names of a sweep's jobs


def job_names(
    jobs: Mapping[int, Mapping[str, str]], swept: Sequence[str], groups: Container[str], width: int
) -> dict[int, str]:
    """Return number → name, such as `03-linear-lr0.1-seed3`.

    jobs: number → the job's overrides, key → value as typed. swept: the keys that a name shows. groups: config
    groups, of which a name shows only the choice. A name has letters, digits and `._+-` only.
    """

    def part(key: str, value: str) -> str:
        text = re.sub(r"[^\w.+-]+", "_", value.rsplit("/", 1)[-1], flags=re.ASCII).strip("_")[-LONGEST_VALUE:]
        text = text or "none"  # an empty list
        return text if key in groups else f"{re.split(r'[./]', key)[-1]}{text}"

    names = {}
    for number, values in jobs.items():
        parts = [f"{number:0{width}d}", *(part(key, values[key]) for key in swept if key in values)]
        names[number] = "-".join(parts)[:LONGEST_NAME].rstrip("-.")
    return names
