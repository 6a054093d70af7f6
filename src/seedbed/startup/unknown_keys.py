"""Refuse keys that were added on the command line and that nothing reads."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from difflib import get_close_matches
from typing import Any

from hydra.conf import HydraConf
from omegaconf import DictConfig, OmegaConf

from seedbed.allowed_values import RULES
from seedbed.config_values import leaves
from seedbed.errors import ConfigError
from seedbed.sweeps.choices import LAUNCHERS, SWEEPERS

# the groups of a config whose class checks the keys inside them
PARTS = {key.partition(".")[0] for key in RULES} | {"callbacks", "logger", "module"}
# no class checks the keys of this group: it has those with a rule in allowed_values.py
PLAIN_PART = "ckpt"
# groups of a launcher's options that another package takes, with any keys
FREE = ("ray.init", "ray.remote")


def check_added_keys(overrides: Sequence[str], config: Mapping[str, Any], hydra: Mapping[str, Any]) -> None:
    """Raise ConfigError for `+lr=0.1` or `+mine.lr=0.1`: a new key at the top that no interpolation names.

    overrides: as typed. config, hydra: composed, interpolations kept; config is without the hydra node. A new key
    inside a part is checked by the part, which accepts or refuses it.
    """
    texts = [*overrides, *(str(value) for node in (config, hydra) for _, value in leaves(node))]
    known = [key for key, _ in leaves(config)]
    for override in overrides:
        added = re.match(r"\+\+?(\w+)([.\w]*)(@|=)", override)
        if not added or added[3] == "@":
            continue
        key, path = added[1], added[1] + added[2]
        if key == "hydra" or (key == PLAIN_PART and path != key):
            if not (_is_hydras(path.split(".")[1:], hydra) if key == "hydra" else path in RULES):
                meant = _meant(path.rpartition(".")[2], [name for name in known if name != path])
                raise ConfigError(f"{override}: nothing reads the key {path}{meant}")
            continue
        is_part = added[2] and key in PARTS
        is_group = not added[2] and any(name.startswith(f"{key}.") for name in known)  # added as a whole
        if is_part or is_group:
            continue
        if not any(re.search(rf"\$\{{{key}\b", text) for text in texts):
            raise ConfigError(f"{override}: nothing reads the key {key}{_meant(key, known)}")


def _is_hydras(path: Sequence[str], hydra: Mapping[str, Any]) -> bool:
    """Return whether Hydra, or the launcher or sweeper in use, has this key; a dict of free keys has any."""
    for part, nodes in (("launcher", LAUNCHERS), ("sweeper", SWEEPERS)):
        if path[0] == part and len(path) > 1:
            node = nodes.get(hydra["runtime"]["choices"].get(f"hydra/{part}"))
            return path[1] == "sampler" or ".".join(path[1:3]) in FREE or _has(node, path[1:])
    schema = OmegaConf.structured(HydraConf)
    for name in path:
        if not isinstance(schema, DictConfig) or OmegaConf.get_type(schema) in (None, dict):
            return True
        if name not in [*schema]:
            return False
        is_value = OmegaConf.is_missing(schema, name) or OmegaConf.is_interpolation(schema, name)
        schema = None if is_value else schema[name]
    return True


def _has(node: Any, path: Sequence[str]) -> bool:
    """Return whether nested options have this key; an option that is no group may get any keys."""
    return not path or not isinstance(node, Mapping) or (path[0] in node and _has(node[path[0]], path[1:]))


def _meant(key: str, known: Sequence[str]) -> str:
    """Return "; did you mean …?" with the key whose last part is spelt most like this one, or an empty text."""
    endings: dict[str, str] = {}
    for name in sorted(known, key=len, reverse=True):  # the shortest of several is kept
        if name != key:
            endings[name.rpartition(".")[2]] = name
    close = get_close_matches(key, endings, 1, 0.7)
    return f"; did you mean {endings[close[0]]}?" if close else ""
