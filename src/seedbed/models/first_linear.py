"""Find the linear layer on flattened inputs with which a network begins."""

from __future__ import annotations

from collections.abc import Iterator

from torch import nn

from seedbed.models.linear import LinearLayer


def leaves(net: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """Yield (name, module) of a network's layers in the order of their calls, which nn.Sequential guarantees."""
    if isinstance(net, nn.Sequential):
        for name, child in net.named_children():
            yield from leaves(child, f"{prefix}{name}.")
    else:
        yield prefix.rstrip("."), net


def first_linear(net: nn.Module) -> str | None:
    """Return the name of the linear layer behind a Flatten with which `net` begins; None if it begins otherwise."""
    (_, first), (name, second), *_ = [*leaves(net), ("", None), ("", None)]
    return name if isinstance(first, nn.Flatten) and isinstance(second, nn.Linear | LinearLayer) else None
