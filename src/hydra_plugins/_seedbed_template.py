"""A composed config with slots in place of values, from which the jobs of one structure are filled in."""

from __future__ import annotations

import copy
import hashlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, NamedTuple

from hydra.core.hydra_config import HydraConfig
from omegaconf import DictConfig, OmegaConf, SCMode, open_dict, read_write
from omegaconf.errors import OmegaConfBaseException

PREFIX = "slot_7d1f0c93b5e64a_"
SLOT = re.compile(PREFIX + r"(\w+?)_")
# interpolations that give the same with a slot in place of a value; a resolver might look into its arguments
EASY = re.compile(r"\$\{(?:(?:now|oc\.env):[^${}]*|[\w.\-\[\]]+)\}")


class Override(NamedTuple):
    """An override as Hydra reads it; `kind` is "value" or "list" for one that a slot can take, else ""."""

    line: str
    key: str
    value: Any
    kind: str
    is_hydra: bool

    def slot(self, position: int) -> str:
        return f"{self.kind}{position}"


class Template:
    """A composed config, its slots and its texts."""

    def __init__(self, cfg: DictConfig) -> None:
        self.cfg = cfg
        self.typed = _is_typed(cfg)
        self.raw = raw = _unwrap(OmegaConf.to_container(cfg))
        hydra = raw["hydra"]
        self.choices = hydra["runtime"]["choices"]
        self.output_subdir = hydra["output_subdir"]
        hydra["job"] |= {"num": slot_name("num"), "id": slot_name("id"), "override_dirname": slot_name("dirname")}
        hydra["runtime"]["output_dir"] = slot_name("folder")
        hydra["overrides"]["task"] = slot_name("task")
        self.hydra_name = hashlib.md5(repr({**hydra, "runtime": None}).encode()).hexdigest()
        strings = [leaf for leaf in _leaves(raw) if isinstance(leaf, str)]
        self.slots = {name for text in strings for name in SLOT.findall(text)}
        task_config = {key: value for key, value in raw.items() if key != "hydra"}
        texts = {"config.yaml": task_config, "hydra.yaml": {"hydra": hydra}}
        self.texts = {name: SLOT.split(OmegaConf.to_yaml(content)) for name, content in texts.items()}
        self.texts["overrides.yaml"] = ["", "task", "\n"]
        self.resolved = None  # then it is done job by job
        if not self.typed and not any("${" in EASY.sub("", text) for text in strings):
            with suppress(OmegaConfBaseException):
                self.resolved = _resolve(self._untyped(raw))

    def evaluate(self, values: Mapping[str, Any]) -> tuple[dict[str, Any], str]:
        """(a job's resolved config, its absolute folder)"""
        if self.resolved and "${" not in values["dirname"]:
            config, folder = fill(self.resolved, values)
        else:
            cfg = self.cfg if self.typed else self._untyped(fill(self.raw, values))
            with open_dict(cfg):
                cfg.hydra.job.num, cfg.hydra.job.id = values["num"], values["id"]
            config, folder = _resolve(cfg)
        return config, os.path.abspath(os.path.join(*map(str, folder)))

    def dirname(self, task: Sequence[Override]) -> str:
        how = self.raw["hydra"]["job"]["config"]["override_dirname"]
        lines = sorted(o.line for o in task if o.key not in how["exclude_keys"])
        return re.sub("=", how["kv_sep"], how["item_sep"].join(lines))

    def _untyped(self, content: Any) -> DictConfig:
        cfg = OmegaConf.create(content)
        OmegaConf.copy_cache(from_config=self.cfg, to_config=cfg)  # ${now:…} is the sweep's
        return cfg


def _resolve(cfg: DictConfig) -> tuple[dict[str, Any], list[str]]:
    """(the plain config, [sweep.dir, sweep.subdir]) as hydra.core.utils.run_job evaluates them."""
    before, HydraConfig.instance().cfg = HydraConfig.instance().cfg, cfg  # for ${hydra:…}
    try:
        folder = [str(OmegaConf.select(cfg, key)) for key in ("hydra.sweep.dir", "hydra.sweep.subdir")]
        with open_dict(cfg):
            cfg.hydra.runtime.output_dir = os.path.abspath(os.path.join(*folder))
        task_config = copy.deepcopy(cfg)  # a masked_copy would lose its types
        with read_write(task_config), open_dict(task_config):
            del task_config["hydra"]
        return OmegaConf.to_container(task_config, resolve=True), folder
    finally:
        HydraConfig.instance().cfg = before


def slot_name(name: str) -> str:
    return f"{PREFIX}{name}_"


def fill(node: Any, values: Mapping[str, Any]) -> Any:
    """A deep copy with values for slots; a slot inside a longer string becomes text, as in OmegaConf."""
    if isinstance(node, dict):
        return {key: fill(child, values) for key, child in node.items()}
    if isinstance(node, list | tuple):
        return [fill(child, values) for child in node]
    if not isinstance(node, str) or PREFIX not in node:
        return node
    whole = SLOT.fullmatch(node)
    return copy.deepcopy(values[whole[1]]) if whole else SLOT.sub(lambda slot: str(values[slot[1]]), node)


def _unwrap(node: Any) -> Any:
    """The slots of lists in place of the lists that hold them."""
    if isinstance(node, dict):
        return {key: _unwrap(child) for key, child in node.items()}
    if isinstance(node, list):
        is_slot = len(node) == 1 and str(node[0]).startswith(slot_name("list")[:-1])
        return node[0] if is_slot else [_unwrap(child) for child in node]
    return node


def _leaves(node: Any) -> Iterator[Any]:
    if isinstance(node, dict | list):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _leaves(child)
    else:
        yield node


def _is_typed(cfg: DictConfig) -> bool:
    """Whether the config, besides the hydra node, has a schema, which converts and refuses values."""
    shown = OmegaConf.to_container(cfg, structured_config_mode=SCMode.DICT_CONFIG)
    return OmegaConf.is_config(shown) or any(map(OmegaConf.is_config, _leaves({**shown, "hydra": None})))
