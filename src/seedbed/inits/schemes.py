"""Inits that draw each layer's weights from a distribution scaled by the layer's fans."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator

import torch
from torch import Tensor, nn


def layers(net: nn.Module) -> Iterator[nn.Module]:
    """Yield the layers whose weight has fans: [out, in] or [out, in, *receptive field]."""
    return (m for m in net.modules() if isinstance(getattr(m, "weight", None), nn.Parameter) and m.weight.dim() > 1)


def _fill(net: nn.Module, fill: Callable[[Tensor], Tensor]) -> None:
    for layer in layers(net):
        fill(layer.weight)
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)


def default(net: nn.Module, x: Tensor | None = None) -> None:
    """Keep PyTorch's own init: kaiming_uniform with a = √5, biases uniform in ±1/√fan_in."""


def normal(net: nn.Module, x: Tensor | None = None, std: float = 1.0) -> None:
    """randn × std for weights and biases: `init_params` of fastbook ch. 4."""
    for layer in layers(net):
        nn.init.normal_(layer.weight, std=std)
        if layer.bias is not None:
            nn.init.normal_(layer.bias, std=std)


def kaiming_normal(
    net: nn.Module, x: Tensor | None = None, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> None:
    """Normal with std = gain/√fan; gain = √(2/(1+a²)) for a leaky ReLU of slope a (He et al. 2015)."""
    _fill(net, lambda w: nn.init.kaiming_normal_(w, a, mode, nonlinearity))


def kaiming_uniform(
    net: nn.Module, x: Tensor | None = None, a: float = 0.0, mode: str = "fan_in", nonlinearity: str = "leaky_relu"
) -> None:
    """Uniform in ±gain·√(3/fan): the same std as kaiming_normal (He et al. 2015)."""
    _fill(net, lambda w: nn.init.kaiming_uniform_(w, a, mode, nonlinearity))


def fans(weight: Tensor) -> tuple[int, int]:
    """Return (fan_in, fan_out) of a weight [out, in, *receptive field]: channels × size of the receptive field."""
    field = math.prod(weight.shape[2:])
    return weight.shape[1] * field, weight.shape[0] * field


@torch.no_grad()
def kaiming_scratch(
    net: nn.Module, x: Tensor | None = None, a: float = 0.0, mode: str = "fan_in", uniform: bool = False
) -> None:
    """kaiming_normal (or kaiming_uniform) written from scratch: std = gain/√fan, gain = √(2/(1+a²))."""

    def fill(weight: Tensor) -> None:
        fan = fans(weight)[mode == "fan_out"]
        std = math.sqrt(2 / (1 + a**2)) / math.sqrt(fan)
        bound = math.sqrt(3) * std  # a uniform in ±bound has std bound/√3
        weight.uniform_(-bound, bound) if uniform else weight.normal_(0, std)

    _fill(net, fill)


def xavier_normal(net: nn.Module, x: Tensor | None = None, gain: float = 1.0) -> None:
    """Normal with std = gain·√(2/(fan_in + fan_out)) (Glorot & Bengio 2010)."""
    _fill(net, lambda w: nn.init.xavier_normal_(w, gain))


def xavier_uniform(net: nn.Module, x: Tensor | None = None, gain: float = 1.0) -> None:
    """Uniform with the std of xavier_normal (Glorot & Bengio 2010)."""
    _fill(net, lambda w: nn.init.xavier_uniform_(w, gain))


@torch.no_grad()
def orthogonal(net: nn.Module, x: Tensor | None = None, gain: float = 1.0) -> None:
    """Orthogonal rows or columns, times gain (Saxe et al. 2013)."""

    def fill(weight: Tensor) -> None:
        # PyTorch's fails on a channels-last kernel
        weight.copy_(nn.init.orthogonal_(torch.empty_like(weight, memory_format=torch.contiguous_format), gain))

    _fill(net, fill)


def lecun_normal(net: nn.Module, x: Tensor | None = None) -> None:
    """Normal with std = 1/√fan_in: for SELU, whose activations then normalise themselves (Klambauer et al. 2017)."""
    _fill(net, lambda w: nn.init.kaiming_normal_(w, nonlinearity="linear"))
