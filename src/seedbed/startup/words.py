"""Refuse overrides that Hydra would misread, or would answer with a traceback."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.override_parser.types import ChoiceSweep, Glob, Override, QuotedString
from hydra.errors import HydraException

from seedbed.config_values import typed
from seedbed.errors import Refusal

# keys whose text may hold characters that mean something to Hydra: paths, and a formula
TEXTS = ("resume", "ckpt_path", "data.root", "data.points", "data.expression", "hydra.run.dir", "hydra.sweep.dir")
# groups of which a run may take several choices, and groups of which it may take none
SEVERAL, NONE = ("callbacks", "logger"), ("callbacks", "logger", "init", "schedule")


def check_words(words: Sequence[str], conf: Path) -> None:
    """Raise Refusal, with what to type instead, for a path, a formula or a choice that Hydra does not take.

    words: overrides; from the command line also options, such as -m. conf: the folder of the config groups.
    """
    for word in words:
        if not isinstance(word, str):
            raise Refusal(f"{word!r}: must be text, as 'model=linear'")
        key, _, text = word.partition("=")
        try:
            override = OverridesParser.create().parse_override(word)
        except HydraException:
            if key.lstrip("+") in TEXTS:
                raise _unread(word, key, text) from None
            continue  # an option, or refused in Hydra's words
        if key.lstrip("+") in TEXTS and not override.is_sweep_override() and isinstance(override.value(), list | dict):
            raise _unread(word, key, text)
        if (conf / override.key_or_group).is_dir() or override.key_or_group.partition("/")[0] == "hydra":
            _check_choice(override, word, conf / override.key_or_group)


def _unread(word: str, key: str, text: str) -> Refusal:
    return Refusal(f"{word}: has characters that mean something else to Hydra: type {typed(key, text)}")


def _check_choice(override: Override, word: str, folder: Path) -> None:
    """Raise Refusal if a group's choice is not a name, or if a group that every run needs is removed."""
    group, value = override.key_or_group, override.value()
    if not group:
        raise Refusal(f"{word}: must name a key")
    values = value.list if isinstance(value, ChoiceSweep) else [value]
    if not (group in NONE if override.is_delete() else all(_is_choice(v, group) for v in values)):
        names = ", ".join(sorted(file.stem for file in folder.glob("*.yaml"))) or "its names"
        several = ", or a list of them" if group in SEVERAL else ""
        raise Refusal(f"{word}: {'a run needs' if override.is_delete() else 'must be'} one of {names}{several}")


def _is_choice(value: Any, group: str) -> bool:
    if isinstance(value, list):
        return all(_is_choice(v, group) for v in value) if group in SEVERAL else not value and group in NONE
    return isinstance(value, str | QuotedString | Glob)
