"""The numbers that a config's schedule may drive, read from its optimiser's node. Imports no torch."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from seedbed.errors import ConfigError
from seedbed.optim.numbers import key_of, number_of
from seedbed.tables import show

DRIVABLE = ("lr", "momentum", "weight_decay", "dropout")
WHERE = {"momentum": "optim.momentum or optim.betas", "weight_decay": "optim.weight_decay"}


class Curve(NamedTuple):
    """A number driven through the values at some keys, and the key that names the number, if any does."""

    number: str
    named_by: str | None
    values: dict[str, list[float]]
    absolute: bool
    exponential: bool


def check_schedule(schedule: Mapping[str, Any], optim: Mapping[str, Any]) -> None:
    """Raise ConfigError unless the optimiser has what is driven, momenta stay below 1 and exponentials above 0."""
    for curve in _curves(schedule, "schedule"):
        given = number_of(optim, curve.number)
        needed = given is None or (given == 0 and (curve.number == "momentum" or not curve.absolute))
        if curve.named_by and curve.number in WHERE and needed:
            raise ConfigError(f"{curve.named_by}: the optimiser has none: {WHERE[curve.number]} must be > 0")
        for key, value in ((key, value) for key, values in curve.values.items() for value in values):
            if curve.exponential and value == 0:
                raise ConfigError(f"{key}=0: must be > 0 for an exponential, which never gets to 0")
            if curve.number != "momentum":
                continue
            # at 0 torch.optim leaves its buffer as it is, which a stack does not
            if value == 0 and not key.endswith(".end"):
                raise ConfigError(f"{key}=0: a momentum must be > 0")
            momentum = value if curve.absolute else value * (given or 0.0)
            if momentum >= 1:
                product = f"times optim.{key_of(optim, 'momentum')}={show(given)} it is {momentum:g}, and "
                raise ConfigError(f"{key}={show(value)}: {'' if curve.absolute else product}a momentum must be < 1")


def _curves(node: Mapping[str, Any], key: str) -> Iterator[Curve]:
    """Yield the curves of a schedule, phase by phase; of one_cycle only that of the momentum, which may be absent."""
    target = node.get("_target_", "")
    if "phases" in node:
        for i, phase in enumerate(node["phases"]):
            if isinstance(phase, Mapping):
                yield from _curves(phase, f"{key}.phases.{i}")
    elif target.endswith(".values"):
        for number in DRIVABLE:
            if values := node.get(number):
                place, exponential = f"{key}.{number}", node.get("shape") == "exponential"
                yield Curve(number, f"{place}={show(values)}", {place: values}, node.get("absolute", True), exponential)
    elif "momentum_low" in node:
        yield Curve("momentum", None, {f"{key}.momentum_low": [node["momentum_low"]]}, False, False)
    elif not target.endswith(".constant"):
        number = node.get("drives", "lr")
        values = {f"{key}.{end}": [node[end]] for end in ("start", "end") if end in node}
        exponential = target.endswith(".exponential")
        yield Curve(number, f"{key}.drives={number}", values, node.get("absolute", False), exponential)
