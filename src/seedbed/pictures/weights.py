"""The first layer's weights as pictures."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from matplotlib.figure import Figure
from torch import nn

from seedbed.colours import WEIGHTS
from seedbed.inits.schemes import layers
from seedbed.pictures.digits import grid

MAX_UNITS = 60


def first_weights(net: nn.Module, shape: Sequence[int], when: str) -> Figure | None:
    """Draw the first layer's weights over the pixels, or its kernels; None where they are not of 1 or 3 channels.

    shape: (C, H, W) of an input.
    """
    weight = next((layer.weight.detach().float().cpu() for layer in layers(net)), torch.empty(0))
    if weight.dim() == 2 and weight.shape[1] == math.prod(shape) and len(shape) == 3:
        weight = weight.view(-1, *shape)
    if weight.dim() != 4 or weight.shape[1] not in (1, 3):
        return None
    n, limit = len(weight), weight.abs().max().item() or 1.0
    title = f"First layer's weights {when}" + (f" (the first {MAX_UNITS} of {n} units)" if n > MAX_UNITS else "")
    captions, columns = [f"unit {i}" for i in range(n)][:MAX_UNITS], min(n, 10)
    if weight.shape[1] == 3:
        images = (0.5 + weight[:MAX_UNITS] / (2 * limit)).permute(0, 2, 3, 1).numpy()
        return grid(images, captions, f"{title}: red, green and blue inputs, grey is 0", columns)
    images = weight[:MAX_UNITS, 0].numpy()
    return grid(images, captions, title, columns, WEIGHTS, (-limit, limit), "weight (0 is white)")
