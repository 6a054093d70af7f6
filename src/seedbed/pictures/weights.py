"""The first layer's weights as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import torch
from torch import nn

from seedbed.inits.schemes import layers
from seedbed.pictures.digits import grid

if TYPE_CHECKING:
    from matplotlib.figure import Figure

UNITS = 60  # at most


def first_weights(net: nn.Module, shape: Sequence[int], when: str) -> Figure | None:
    """The first layer's weights over the pixels, or its kernels; None where they are no pictures of 1 or 3 channels."""
    weight = next((layer.weight.detach().float().cpu() for layer in layers(net)), torch.empty(0))
    if weight.dim() == 2 and weight.shape[1] == math.prod(shape) and len(shape) == 3:
        weight = weight.view(-1, *shape)
    if weight.dim() != 4 or weight.shape[1] not in (1, 3):
        return None
    n, limit = len(weight), weight.abs().max().item() or 1.0
    title = f"First layer's weights {when}" + (f" (the first {UNITS} of {n} units)" if n > UNITS else "")
    captions, columns = [f"unit {i}" for i in range(n)][:UNITS], min(n, 10)
    if weight.shape[1] == 3:
        images = (0.5 + weight[:UNITS] / (2 * limit)).permute(0, 2, 3, 1).numpy()
        return grid(images, captions, f"{title}: red, green and blue inputs, grey is 0", columns)
    images = weight[:UNITS, 0].numpy()
    return grid(images, captions, title, columns, "RdBu_r", (-limit, limit), "weight (0 is white)")
