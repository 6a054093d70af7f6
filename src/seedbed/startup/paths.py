"""Refuse paths on the command line with characters that mean something to Hydra: quotes, brackets, commas, blanks."""

from __future__ import annotations

from collections.abc import Sequence

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.errors import HydraException

from seedbed.config_values import typed
from seedbed.errors import Refusal

PATHS = ("resume", "ckpt_path", "data.root", "data.points", "hydra.run.dir", "hydra.sweep.dir")


def check_paths(words: Sequence[str]) -> None:
    """Raise Refusal, with what to type instead, for a path that Hydra cannot read, or would read as a list or a dict.

    words: of the command line.
    """
    for word in words:
        key, _, text = word.partition("=")
        if key.lstrip("+") not in PATHS:
            continue
        try:
            override = OverridesParser.create().parse_override(word)
            if override.is_sweep_override() or not isinstance(override.value(), list | dict):
                continue
        except HydraException:
            pass
        raise Refusal(f"{word}: has characters that mean something else to Hydra: type {typed(key, text)}")
