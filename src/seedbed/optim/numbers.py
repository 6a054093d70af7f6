"""The numbers of an optimiser by name, wherever it keeps them. Imports no torch.

`options` are its keyword arguments, its `defaults` or one of its `param_groups`: all have the same keys.
"""

from __future__ import annotations

from collections.abc import Mapping, MutableMapping
from typing import Any


def key_of_momentum(options: Mapping[str, Any]) -> str:
    """Return the key as a user writes it: `momentum`, or the first of Adam's `betas`."""
    return "betas[0]" if "betas" in options else "momentum"


def momentum_of(options: Mapping[str, Any]) -> float:
    """Return the momentum, 0 if the optimiser has none."""
    return options["betas"][0] if "betas" in options else options.get("momentum", 0.0)


def set_momentum(options: MutableMapping[str, Any], value: float) -> None:
    """Set the momentum if the optimiser has one."""
    if "betas" in options:
        options["betas"] = (value, *options["betas"][1:])
    elif "momentum" in options:
        options["momentum"] = value


def flat(options: Mapping[str, Any]) -> dict[str, Any]:
    """Return the options with `betas` as two numbers, beta1 and beta2."""
    options = dict(options)
    if "betas" in options:
        options["beta1"], options["beta2"] = options.pop("betas")
    return options
