"""Compose the jobs of a sweep in bulk.

Hydra takes about 100 ms to compose a job, and the jobs of a sweep share nearly all of it. A job's overrides are plain
values of existing keys (`optim.lr=0.1`) or structure: choices of groups, additions, deletions, hydra.…,
interpolations. Hydra composes the first job of each structure, unless that is the structure of the sweep's own config;
each further job is a plain copy of the first one's config in which its values are set.
"""

from __future__ import annotations

import copy
import json
import math
import os
import re
from collections.abc import Mapping, Sequence
from functools import cache
from typing import Any

import yaml
from hydra.conf import HydraConf
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType, ValueType
from hydra.errors import HydraException
from omegaconf import DictConfig, OmegaConf, read_write
from omegaconf.errors import OmegaConfBaseException

from seedbed.sweeps.structure import ComposedJob, Override, Structure, are_independent, dirname

# a number that Hydra and Python read alike
PLAIN_NUMBER = re.compile(r"(0|[1-9][0-9]*)(\.[0-9]+)?")


class BulkComposer:
    """Composes the jobs of a sweep; `loader` is Hydra's, which composes one job of each structure."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self._parser = OverridesParser.create()
        self._master: DictConfig | None = None

    def job(
        self, master_config: DictConfig, overrides: Sequence[str], num: int, name: str | None = None
    ) -> ComposedJob:
        """Compose the job of this number. name: its hydra.job.id; the number unless it is given.

        Raises Hydra's errors, and OmegaConf's if a value cannot be resolved.
        """
        if master_config is not self._master:
            self._begin(master_config)
        for line in overrides:
            if line not in self._overrides:
                self._overrides[line] = self._parse(line)
        read = [self._overrides[line] for line in overrides]
        signature = tuple((o.kind, o.key) if o.kind else o.line for o in read)
        structure = self._structures.get(signature)
        if structure is None:
            cfg = self._with_values(read) or self.loader.load_sweep_config(master_config, list(overrides))
            structure = Structure(cfg, read)
            if structure.is_shared:
                self._structures[signature] = structure
        return structure.job(read, num, name or str(num))

    def _begin(self, master: DictConfig) -> None:
        name, of_hydra = master.hydra.job.config_name, OmegaConf.to_container(master.hydra.overrides.hydra)
        self._groups = set(self.loader.get_group_options("", ObjectType.GROUP, name, of_hydra))
        self._overrides: dict[str, Override] = {}
        # keys that an override has set to a plain value
        self._plain: set[str] = set()
        self._structures: dict[tuple, Structure] = {}
        self._master = master
        self._words = OmegaConf.to_container(master.hydra.overrides.task, resolve=False)

    def _with_values(self, read: Sequence[Override]) -> DictConfig | None:
        """Return the sweep's own config with a job's values set in it; None if the job differs in more than values."""
        raw, structural = OmegaConf.to_container(self._master), [o.line for o in read if not o.kind]
        # the sweep's config has the command's words, but for those with several values
        keys = {word.partition("=")[0] for word in self._words}
        has_words = keys <= {o.line.partition("=")[0] for o in read}
        if not has_words or structural != [word for word in self._words if word in structural]:
            return None
        if "???" in raw["hydra"]["runtime"]["choices"].values() or not are_independent(raw, read):
            return None
        cfg = copy.deepcopy(self._master)
        try:
            with read_write(cfg), read_write(cfg.hydra):
                for override in read:
                    if override.kind:
                        OmegaConf.update(cfg, override.key, override.value)
                cfg.hydra.overrides.task = [override.line for override in read]
                if "${" not in raw["hydra"]["job"]["override_dirname"]:
                    cfg.hydra.job.override_dirname = dirname(raw["hydra"], read)
        except OmegaConfBaseException:  # Hydra says it in its own words
            return None
        return cfg

    def _parse(self, line: str) -> Override:
        """Read an override. Hydra's grammar takes 0.3 ms; numbers of a key that it has read are read without it."""
        name, _, text = line.partition("=")
        if name in self._plain and PLAIN_NUMBER.fullmatch(text):
            return Override(line, name, float(text) if "." in text else int(text), "value", False, False)
        override = self._parse_by_hydra(line)
        if override.kind == "value" and name == override.key:
            self._plain.add(name)
        return override

    def _parse_by_hydra(self, line: str) -> Override:
        try:
            (o,) = self._parser.parse_overrides([line])
        except HydraException:  # Hydra says it in its own words when it composes the job
            return Override(line, line, None, "", False, False)
        key, value = o.key_or_group, o.value()
        is_group, is_hydra = o.package is not None or "/" in key or key in self._groups, o.is_hydra_override()
        is_value = o.type is OverrideType.CHANGE and o.value_type is ValueType.ELEMENT and _is_plain(value)
        kind = "list" if isinstance(value, list) else "value"
        if not is_value or is_group or is_hydra or not re.fullmatch(r"[\w.-]+", key):
            kind = ""
        return Override(line, key, value, kind, is_group, is_hydra)


def _is_plain(value: Any) -> bool:
    """Return whether OmegaConf takes the value as it is."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, dict) and not (isinstance(value, str) and ("${" in value or value == "???"))


def write_hydra_folder(job: ComposedJob) -> None:
    """Make the job's folder and write what Hydra writes there: .hydra/{config,hydra,overrides}.yaml."""
    os.makedirs(job.folder, exist_ok=True)
    if job.structure.output_subdir is None:
        return
    folder = f"{job.folder}/{job.structure.output_subdir}"
    os.makedirs(folder, exist_ok=True)
    for name, parts in job.structure.texts.items():
        # text, key, text, key, …, text
        filled = [_yaml(job.values[part]) if i % 2 else part for i, part in enumerate(parts)]
        with open(f"{folder}/{name}", "wb") as file:
            file.write("".join(filled).encode())


def _yaml(value: Any) -> str:
    """Return a value or a list of values on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable() and (not isinstance(value, float) or re.fullmatch(r"-?\d+\.\d+", text)):
        return text
    style = '"' if isinstance(value, str) else None
    return yaml.safe_dump([value], default_flow_style=True, default_style=style, width=math.inf)[1:-2]


def hydra_config(config: Mapping[str, Any], hydra_node: Mapping[str, Any]) -> DictConfig:
    """Join a job's plain config and hydra node to the config that hydra.core.utils.run_job takes."""
    cfg = OmegaConf.unsafe_merge({"hydra": _hydra_schema()}, {**config, "hydra": hydra_node})
    OmegaConf.set_struct(cfg, True)
    return cfg


@cache
def _hydra_schema() -> DictConfig:
    schema = OmegaConf.structured(HydraConf, flags={"struct": False})
    del schema["defaults"]
    return schema
