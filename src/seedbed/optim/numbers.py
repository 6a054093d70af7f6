"""The numbers of an optimiser by name, wherever it keeps them. Imports no torch.

`options` are its keyword arguments, its `defaults` or one of its `param_groups`: all have the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any


def key_of(options: Mapping[str, Any], number: str) -> str:
    """Return the key as a user writes it: the momentum of Adam is the first of its `betas`."""
    return "betas[0]" if number == "momentum" and "betas" in options else number


def number_of(options: Mapping[str, Any], number: str) -> float | None:
    """Return the number, None if the optimiser has none of that name."""
    return options["betas"][0] if key_of(options, number) == "betas[0]" else options.get(number)


def set_number(options: MutableMapping[str, Any], number: str, value: float) -> None:
    """Replace the number."""
    if key_of(options, number) == "betas[0]":
        options["betas"] = (value, *options["betas"][1:])
    else:
        options[number] = value


def flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with `betas` as two numbers, beta1 and beta2."""
    options = dict(options)
    if "betas" in options:
        options["beta1"], options["beta2"] = options.pop("betas")
    return options
