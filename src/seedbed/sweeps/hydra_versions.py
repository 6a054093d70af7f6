"""The differences between Hydra 1.3 and 1.4 that concern us, each in one place."""

from __future__ import annotations

import inspect
import warnings
from typing import Any

import hydra
from hydra.core.config_store import ConfigStore
from omegaconf import OmegaConf

# 1.3 wants to be told which behaviour is meant; 1.4 has one, and warns of the option
VERSION_BASE = {"version_base": "1.3"} if hydra.__version__.startswith("1.3") else {}


def set_version_base() -> None:
    """Tell Hydra 1.3 which behaviour is meant in a process that `hydra.main` did not start, such as a worker."""
    if VERSION_BASE:
        hydra.version.setbase(VERSION_BASE["version_base"])


# 1.4 asks for a list of the classes and functions that a config may name. Ours names whatever the user types.
warnings.filterwarnings("ignore", message=r"hydra\.utils\.instantiate\(\) resolved _target_")

# OmegaConf 2.4 gave `register_resolver`, which was another function in 2.3, the arguments of `register_new_resolver`
_is_new = "replace" in inspect.signature(OmegaConf.register_resolver).parameters
register_resolver = OmegaConf.register_resolver if _is_new else OmegaConf.register_new_resolver

REPLACE = {"replace": True} if "replace" in inspect.signature(ConfigStore.store).parameters else {}


def store(group: str, name: str, node: dict[str, Any]) -> None:
    """Store a choice in the place of another of the same name."""
    ConfigStore.instance().store(group=group, name=name, node=node, provider="seedbed", **REPLACE)
