"""Compose the jobs of a sweep in bulk: Hydra composes once for all jobs that differ only in values, we fill those in.

Hydra takes about 100 ms to compose a job, of which the jobs of a sweep share nearly all. A job's overrides are
*structure* (choices of groups, additions, deletions, hydra.…, interpolations) or plain *values* of keys that exist.
For each structure Hydra composes one config in which every value is a slot, a string found nowhere else; a job is
that config, and its .hydra/*.yaml are those texts, with the slots filled. What has no such form goes through Hydra.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from hydra.core.config_loader import ConfigLoader
from hydra.core.object_type import ObjectType
from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import OverrideType, ValueType
from omegaconf import DictConfig, OmegaConf

from hydra_plugins._seedbed_template import Override, Template, fill, slot_name


@dataclass
class QuickJob:
    """One job of a sweep; `config` is plain, resolved and without the hydra node, `folder` absolute."""

    num: int
    overrides: list[str]
    config: dict[str, Any]
    choices: dict[str, str | None]
    folder: Path
    template: Template = field(repr=False)
    values: dict[str, Any] = field(repr=False)

    def unresolved(self) -> tuple[dict[str, Any], dict[str, Any], str]:
        """(config without its hydra node, that node, what names the node: equal for all jobs but a few structures)"""
        raw = self.template.raw
        config = fill({key: value for key, value in raw.items() if key != "hydra"}, self.values)
        return config, fill(raw["hydra"], self.values), self.template.hydra_name


def write_hydra_folder(job: QuickJob) -> None:
    """Make the job's folder and write what Hydra writes there: .hydra/{config,hydra,overrides}.yaml."""
    job.folder.mkdir(parents=True, exist_ok=True)
    if job.template.output_subdir is None:
        return
    folder = job.folder / job.template.output_subdir
    folder.mkdir(parents=True, exist_ok=True)
    for name, parts in job.template.texts.items():
        # text, slot, text, slot, …, text
        filled = [_yaml(job.values[part]) if i % 2 else part for i, part in enumerate(parts)]
        with open(folder / name, "w", encoding="utf-8") as file:
            file.write("".join(filled))


class QuickLoader:
    """A Hydra ConfigLoader, in bulk; `loader` is the one that it asks, of which it has all other methods."""

    def __init__(self, loader: ConfigLoader) -> None:
        self.loader = loader
        self._parser = OverridesParser.create()
        self._master: DictConfig | None = None

    def __getattr__(self, name: str) -> Any:
        return getattr(self.loader, name)

    def load_sweep_config(self, master_config: DictConfig, sweep_overrides: Sequence[str]) -> None:
        """Raise what Hydra raises for a job that cannot be composed.

        Sweepers call this for each job and drop the result, which would cost more than all the rest: there is none.
        `job` gives a job's config, `loader.load_sweep_config` Hydra's own.
        """
        self._read(master_config, sweep_overrides)

    def job(self, master_config: DictConfig, overrides: Sequence[str], num: int) -> QuickJob:
        """The job of this number. Raises Hydra's errors, and OmegaConf's if a value cannot be resolved."""
        template, read = self._read(master_config, overrides)
        task = [o for o in read if not o.is_hydra]
        values = {o.slot(i): o.value for i, o in enumerate(read)}
        values |= {"num": num, "id": str(num), "dirname": template.dirname(task), "folder": "???"}
        values["task"] = [o.line for o in task]
        config, values["folder"] = template.evaluate(values)
        return QuickJob(num, list(overrides), config, dict(template.choices), Path(values["folder"]), template, values)

    def _read(self, master: DictConfig, lines: Sequence[str]) -> tuple[Template, list[Override]]:
        if master is not self._master:
            name = master.hydra.job.config_name
            of_hydra = OmegaConf.to_container(master.hydra.overrides.hydra, resolve=False)
            self._groups = set(self.loader.get_group_options("", ObjectType.GROUP, name, of_hydra))
            self._overrides: dict[str, Override] = {}
            self._templates: dict[tuple, Template | None] = {}  # None: Hydra composes each job of this structure
            self._master = master
        for line in lines:
            if line not in self._overrides:
                self._overrides[line] = self._parse(line)
        read = [self._overrides[line] for line in lines]
        structure = tuple((o.kind, o.key) if o.kind else o.line for o in read)
        if structure not in self._templates:
            self._templates[structure] = self._with_slots(read)
        return self._templates[structure] or self._compose(lines), read

    def _parse(self, line: str) -> Override:
        (o,) = self._parser.parse_overrides([line])
        key, value = o.key_or_group, o.value()
        changes_value = o.type is OverrideType.CHANGE and o.value_type is ValueType.ELEMENT and _is_plain(value)
        is_group = o.package is not None or "/" in key or key in self._groups
        kind = ""
        if changes_value and not is_group and not o.is_hydra_override():
            kind = "list" if isinstance(value, list) else "value"
        return Override(line, key, value, kind, o.is_hydra_override())

    def _with_slots(self, read: Sequence[Override]) -> Template | None:
        # Hydra merges a list, and not a value, into what is there: a list's slot is a list, until _unwrap
        forms = {"": "{o.line}", "value": "{o.key}={slot}", "list": "{o.key}=[{slot}]"}
        try:
            template = self._compose([forms[o.kind].format(o=o, slot=slot_name(o.slot(i))) for i, o in enumerate(read)])
        except Exception:  # Hydra will say it in terms of the job's own values
            return None
        # of equal keys the last wins; a slot lost in another way had a key inside another's value
        expected = {o.key: o.slot(i) for i, o in enumerate(read) if o.kind}
        return template if not template.typed and template.slots.issuperset(expected.values()) else None

    def _compose(self, lines: Sequence[str]) -> Template:
        return Template(self.loader.load_sweep_config(self._master, list(lines)))


def _is_plain(value: Any) -> bool:
    """Whether OmegaConf takes the value as it is."""
    if isinstance(value, list):
        return all(map(_is_plain, value))
    return not isinstance(value, dict) and not (isinstance(value, str) and ("${" in value or value == "???"))


def _yaml(value: Any) -> str:
    """A value or a list of values on one line."""
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    text = json.dumps(value, ensure_ascii=False)
    if text.isprintable() and (not isinstance(value, float) or re.fullmatch(r"-?\d+\.\d+", text)):
        return text
    style = '"' if isinstance(value, str) else None
    return yaml.safe_dump([value], default_flow_style=True, default_style=style, width=math.inf)[1:-2]
