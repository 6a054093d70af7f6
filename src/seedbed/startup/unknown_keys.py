"""Refuse keys that were added on the command line and that nothing reads."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches
from typing import Any

from seedbed.allowed_values import RULES
from seedbed.config_values import leaves
from seedbed.errors import ConfigError

# the parts of a config, which check the keys inside them
PARTS = {key.partition(".")[0] for key in RULES} | {"callbacks", "logger", "module", "hydra"}


def check_added_keys(overrides: Sequence[str], config: dict[str, Any]) -> None:
    """Raise ConfigError for `+lr=0.1` or `+mine.lr=0.1`: a new key at the top that no interpolation names.

    overrides: as typed. config: composed, its interpolations kept, without the hydra node. A new key inside a part is
    checked by the part, which accepts or refuses it.
    """
    texts = [*overrides, *(str(value) for _, value in leaves(config))]
    known = [key for key, _ in leaves(config)]
    for override in overrides:
        added = re.match(r"\+\+?(\w+)([.\w]*)(@|=)", override)
        if not added or added[3] == "@":
            continue
        key = added[1]
        is_part = added[2] and key in PARTS
        is_group = not added[2] and any(name.startswith(f"{key}.") for name in known)  # added as a whole
        if is_part or is_group:
            continue
        if not any(re.search(rf"\$\{{{key}\b", text) for text in texts):
            raise ConfigError(f"{override}: nothing reads the key {key}{_meant(key, known)}")


def _meant(key: str, known: Sequence[str]) -> str:
    """Name the key that was probably meant: one with this ending, or with one that is spelt alike."""
    endings: dict[str, str] = {}
    for name in sorted(known, key=len, reverse=True):  # the shortest of several is kept
        if name != key:
            endings[name.rpartition(".")[2]] = name
    close = get_close_matches(key, endings, 1, 0.7)
    return f"; did you mean {endings[close[0]]}?" if close else ""
