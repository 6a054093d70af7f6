"""Find the linear layer on flattened inputs with which a network begins."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from seedbed.models.linear import LinearLayer


def leaves(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) of a network's layers in the order of their calls, which nn.Sequential guarantees.

    A module of another class is one layer, and so is a Sequential that calls one of its modules twice.
    """
    children = dict(net.named_children())
    if type(net) is nn.Sequential and len(children) == len(net):
        for name, child in children.items():
            yield from leaves(child, f"{prefix}{name}.")
    else:
        yield prefix.rstrip("."), net


def first_linear(net: nn.Module) -> str | None:
    """Return the name of the linear layer behind a Flatten with which `net` begins; None if it begins otherwise."""
    (_, first), (name, second), *_ = [*leaves(net), ("", None), ("", None)]
    # a class derived from these may do more
    flattens = type(first) is nn.Flatten and (first.start_dim, first.end_dim) == (1, -1)
    return name if flattens and type(second) in (nn.Linear, LinearLayer) else None
