"""A composed config in which the values of some keys are set, for the jobs of a sweep that differ in nothing else.

`Structure` finds once where each value ends up, also through interpolations: it resolves the config with a mark in the
place of each value. If marks cannot show that (a schema that converts values, resolvers, an override inside another's
value), it resolves each job by itself.
"""

from __future__ import annotations

import copy
import os
import pickle
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import partial
from itertools import permutations
from pathlib import Path
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, SCMode, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

# a text found nowhere else that holds the place of a key's value
MARK = re.compile(r"mark_7d1f0c93b5e64a<([\w.-]+)>")
# interpolations that can be resolved with a mark in place of a value; a resolver might look into its arguments
EASY = re.compile(r"\$\{(?:(?:now|oc\.env):[^${}]*|[\w.\-\[\]]+)\}")
DIRNAME = "hydra.job.override_dirname"
JOB_KEYS = ("hydra.job.num", "hydra.job.id", "hydra.overrides.task", "hydra.runtime.output_dir")


class Override(NamedTuple):
    """An override as Hydra reads it; `kind` is "value" or "list" for a plain value of a key, else ""."""

    line: str
    key: str
    value: Any
    kind: str
    is_group: bool
    is_hydra: bool


@dataclass
class ComposedJob:
    """One job of a sweep; `config` is plain, resolved and without the hydra node, `folder` is absolute."""

    num: int
    overrides: list[str]
    config: dict[str, Any]
    choices: dict[str, str | None]
    folder: Path
    structure: Structure = field(repr=False)
    # key → value, of all keys that differ between the jobs of the structure
    values: dict[str, Any] = field(repr=False)

    @property
    def shown(self) -> list[str]:
        """The overrides without those of Hydra itself."""
        return self.values["hydra.overrides.task"]

    def unresolved(self) -> dict[str, Any]:
        """Return the config as Hydra gives it to a task: plain, with its interpolations."""
        config = pickle.loads(self.structure.task)
        for key in self.structure.keys:
            _set(config, _path(config, key), copy.copy(self.values[key]))
        return config

    def hydra_node(self) -> dict[str, Any]:
        """Return the job's hydra node as plain data, unresolved but for what tells this job from others."""
        raw = {"hydra": pickle.loads(self.structure.hydra)}
        for key in (*self.structure.job_keys, "hydra.sweep.dir"):
            _set(raw, key.split("."), copy.copy(self.values[key]))
        return raw["hydra"]


class Structure:
    """A composed config, the keys whose values a job sets in it, and the texts of its .hydra/*.yaml."""

    def __init__(self, cfg: DictConfig, read: Sequence[Override]) -> None:
        self.cfg = cfg
        raw = OmegaConf.to_container(cfg)
        hydra = raw["hydra"]
        if hydra["sweep"]["dir"].startswith("${sweep_folder:"):  # one folder for all jobs
            hydra["sweep"]["dir"] = str(OmegaConf.select(cfg, "hydra.sweep.dir"))
        self.hydra = pickle.dumps(hydra)
        self.task = pickle.dumps({key: node for key, node in raw.items() if key != "hydra"})
        self.choices = hydra["runtime"]["choices"]
        self.output_subdir = hydra["output_subdir"]
        self._dirname = partial(dirname, hydra)
        typed = _is_typed(cfg)
        self.is_shared = not typed and are_independent(raw, read)
        self.keys = {o.key for o in read if o.kind} if self.is_shared else set()
        # Hydra 1.4 leaves a resolver in override_dirname
        name = hydra["job"]["override_dirname"]
        self.job_keys = [*JOB_KEYS, DIRNAME] if name == self._dirname(read) else JOB_KEYS
        for key in [*self.keys, *self.job_keys]:
            _set(raw, _path(raw, key), _mark(key))
        task = {key: node for key, node in raw.items() if key != "hydra"}
        texts = {"config.yaml": task, "hydra.yaml": {"hydra": hydra}}
        self.texts = {name: MARK.split(OmegaConf.to_yaml(content)) for name, content in texts.items()}
        self.texts["overrides.yaml"] = ["", "hydra.overrides.task", "\n"]
        if name == "${hydra_override_dirname:}":
            hydra["job"]["override_dirname"] = _mark(DIRNAME)
        self._config: bytes | None = None
        self._folder: list[list[str]] | None = None
        with suppress(OmegaConfBaseException):
            if not typed and _is_easy(task):
                self._find_places(raw)

    def _find_places(self, marked: dict[str, Any]) -> None:
        cfg = OmegaConf.create(marked)
        OmegaConf.copy_cache(from_config=self.cfg, to_config=cfg)  # ${now:…} is the sweep's
        with _as_hydra_config(cfg):
            if _is_easy(marked["hydra"]["sweep"]):
                self._folder = [MARK.split(text) for text in _folder(cfg)]
            config = _task_config(cfg)
        leaves = [(path, MARK.split(leaf)) for path, leaf in _leaves(config) if isinstance(leaf, str)]
        self._places = [(path, parts) for path, parts in leaves if len(parts) > 1]
        self._config = pickle.dumps(config)

    def job(self, read: Sequence[Override], num: int, name: str) -> ComposedJob:
        """Return the job with these overrides, which must be of this structure."""
        values = {o.key: o.value for o in read if o.kind}
        values |= {"hydra.job.num": num, "hydra.job.id": name, DIRNAME: self._dirname(read)}
        values["hydra.overrides.task"] = [o.line for o in read if not o.is_hydra]
        if self._config and self._folder and "${" not in values[DIRNAME]:
            folder = [str(_fill(parts, values)) for parts in self._folder]
            config = self._filled(values)
        else:
            folder, config = self._resolved(values)
        values["hydra.sweep.dir"] = os.path.abspath(folder[0])
        values["hydra.runtime.output_dir"] = path = os.path.abspath(os.path.join(*folder))
        return ComposedJob(num, [o.line for o in read], config, dict(self.choices), Path(path), self, values)

    def _filled(self, values: Mapping[str, Any]) -> dict[str, Any]:
        config = pickle.loads(self._config)
        for path, parts in self._places:
            _set(config, path, _fill(parts, values))
        return config

    def _resolved(self, values: Mapping[str, Any]) -> tuple[list[str], dict[str, Any]]:
        """Set the values in the composed config; return [sweep.dir, sweep.subdir] and the resolved config."""
        cfg = self.cfg
        with read_write(cfg), open_dict(cfg), _as_hydra_config(cfg):
            for key, value in values.items():
                if key in self.keys or key in self.job_keys:
                    OmegaConf.update(cfg, key, value)
            folder = _folder(cfg)
            cfg.hydra.runtime.output_dir = os.path.abspath(os.path.join(*folder))
            return folder, self._filled(values) if self._config else _task_config(cfg)


def dirname(hydra: Mapping[str, Any], read: Sequence[Override]) -> str:
    """Return the hydra.job.override_dirname of a job with these overrides. hydra: the hydra node, unresolved."""
    options = hydra["job"]["config"]["override_dirname"]
    lines = sorted(o.line for o in read if not o.is_hydra and o.key not in options["exclude_keys"])
    return options["item_sep"].join(lines).replace("=", options["kv_sep"])


def _is_typed(cfg: DictConfig) -> bool:
    """Return whether any node outside `hydra` has a schema, which would convert or refuse values."""
    shown = OmegaConf.to_container(cfg, structured_config_mode=SCMode.DICT_CONFIG)
    return OmegaConf.is_config(shown) or any(OmegaConf.is_config(x) for _, x in _leaves({**shown, "hydra": None}))


def are_independent(raw: dict[str, Any], read: Sequence[Override]) -> bool:
    """Return whether no override reaches into another's value or through an interpolation."""
    read = [o for o in read if not o.is_group and not o.is_hydra]
    if any(_path(raw, o.key if o.kind else o.key.rpartition(".")[0]) is None for o in read):
        return False
    for a, b in permutations(read, 2):
        both_set_it = a.key == b.key and a.kind and b.kind  # the last wins
        if (a.kind or b.kind) and not both_set_it and f"{b.key}.".startswith(f"{a.key}."):
            return False
    return True


def _is_easy(node: Any) -> bool:
    return not any("${" in EASY.sub("", leaf) for _, leaf in _leaves(node) if isinstance(leaf, str))


@contextmanager
def _as_hydra_config(cfg: DictConfig) -> Iterator[None]:
    """Let ${hydra:…} read this config."""
    before, HydraConfig.instance().cfg = HydraConfig.instance().cfg, cfg
    try:
        yield
    finally:
        HydraConfig.instance().cfg = before


def _folder(cfg: DictConfig) -> list[str]:
    return [str(OmegaConf.select(cfg, key)) for key in ("hydra.sweep.dir", "hydra.sweep.subdir")]


def _task_config(cfg: DictConfig) -> dict[str, Any]:
    """Return the resolved config as hydra.core.utils.run_job gives it to the job."""
    task_config = copy.deepcopy(cfg)  # a masked_copy would lose its types
    with read_write(task_config), open_dict(task_config):
        del task_config["hydra"]
    return OmegaConf.to_container(task_config, resolve=True)


def _path(node: Any, key: str) -> list[str | int] | None:
    """Return the path of a dotted key through plain dicts and lists, None if it leads nowhere."""
    path: list[str | int] = []
    for part in key.split(".") if key else ():
        path.append(int(part) if isinstance(node, list) and part.isdecimal() else part)
        try:
            node = node[path[-1]]
        except (KeyError, IndexError, TypeError):
            return None
    return path


def _set(node: Any, path: Sequence[str | int], value: Any) -> None:
    for part in path[:-1]:
        node = node[part]
    node[path[-1]] = value


def _leaves(node: Any, path: tuple = ()) -> Iterator[tuple[tuple, Any]]:
    if isinstance(node, dict | list):
        for key, child in node.items() if isinstance(node, dict) else enumerate(node):
            yield from _leaves(child, (*path, key))
    else:
        yield path, node


def _mark(key: str) -> str:
    return f"mark_7d1f0c93b5e64a<{key}>"


def _fill(parts: Sequence[str], values: Mapping[str, Any]) -> Any:
    """Return a text that was split at its marks, with their values; a mark alone gives the value itself."""
    if len(parts) == 3 and not parts[0] and not parts[2]:
        value = values[parts[1]]
        return copy.deepcopy(value) if isinstance(value, list) else value
    return "".join(str(values[part]) if i % 2 else part for i, part in enumerate(parts))
