"""Fixup: the init for residual networks without normalisation layers (Zhang, Dauphin & Ma 2019)."""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from seedbed.inits.schemes import layers

NORMALISATIONS = (_NormBase, nn.LayerNorm, nn.GroupNorm, nn.RMSNorm, nn.LocalResponseNorm)  # _NormBase: Batch, Instance


def fixup(net: nn.Module, x: Tensor | None = None) -> None:
    """He normal everywhere, times L^(−1/(2m−2)) in the branches; 0 in each branch's last layer and in the classifier.

    L: residual branches, found as the attribute `branch` of a block. m: layers of one. A branch of one layer is 0.
    Raises ValueError for a network with normalisation layers or without residual branches.
    """
    normalisation = next((type(m).__name__ for m in net.modules() if isinstance(m, NORMALISATIONS)), None)
    if normalisation:
        raise ValueError(f"init=fixup is for networks without normalisation, and this one has {normalisation} layers")
    branches = [list(layers(m.branch)) for m in net.modules() if isinstance(getattr(m, "branch", None), nn.Module)]
    if not branches:
        raise ValueError("init=fixup needs residual branches, and this network has none; model=fixup_resnet18 has")
    everything = list(layers(net))
    for layer in everything:
        nn.init.kaiming_normal_(layer.weight, nonlinearity="relu")
        if layer.bias is not None:
            nn.init.zeros_(layer.bias)
    for branch in branches:
        for layer in branch[:-1]:
            layer.weight.data *= len(branches) ** (-1 / (2 * len(branch) - 2))
        nn.init.zeros_(branch[-1].weight)
    nn.init.zeros_(everything[-1].weight)
