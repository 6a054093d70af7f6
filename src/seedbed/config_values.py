"""The values of a composed config, as plain nested dicts."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Mapping
from typing import Any

# Keys about a sweep as a whole. A job's config has them too, but they change no result of the job.
SWEEP_KEYS = ("resume", "extend", "on_error", "retries", "ckpt", "same_bits")
PLAIN = (str, int, float, bool, type(None))


def is_of_sweep(key: str) -> bool:
    """Return whether a dotted key is one of SWEEP_KEYS or below one."""
    return key.partition(".")[0] in SWEEP_KEYS


def leaves(config: Mapping[str, Any], prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yield (dotted key, value) of every value that is neither a mapping nor a list of mappings.

    The items of a list of mappings are numbered in the key, as in `schedule.phases.0.start`. Keys that begin with an
    underscore, such as `_target_`, are left out.
    """
    for key, value in config.items():
        # most values are plain; to look for a Mapping takes ten times as long
        if type(value) in PLAIN:
            if not str(key).startswith("_"):
                yield f"{prefix}{key}", value
        elif isinstance(value, Mapping):
            yield from leaves(value, f"{prefix}{key}.")
        elif isinstance(value, list) and value and all(isinstance(item, Mapping) for item in value):
            for i, item in enumerate(value):
                yield from leaves(item, f"{prefix}{key}.{i}.")
        elif not str(key).startswith("_"):
            yield f"{prefix}{key}", value


def typed(key: str, value: object) -> str:
    """Return an override as one types it in a shell, quoted for Hydra and for the shell where that is needed."""
    text = str(value)
    if re.fullmatch(r"[\w./+-]+", text, re.ASCII):
        return f"{key}={text}"
    return shlex.quote(f"{key}={quoted(text)}")


def quoted(text: str) -> str:
    """Return text in quotes, as Hydra's grammar reads it."""
    from hydra.core.override_parser.types import Quote, QuotedString

    return QuotedString(text, Quote.single).with_quotes()
