"""LeNet-style network: convolutions with pooling, then linear layers."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import nn

from seedbed.models.convnet import require_images
from seedbed.models.mlp import mlp
from seedbed.tables import show


def lenet(
    in_shape: Sequence[int],
    num_outputs: int,
    channels: Sequence[int] = (24, 32),
    kernel_sizes: Sequence[int] = (5, 3),
    hidden: Sequence[int] = (256,),
    batch_norm: bool = False,
) -> nn.Module:
    """For each of `channels` a convolution, 2×2 max pool, batch norm if wanted and ReLU; then an MLP.

    Raises ValueError unless there are as many kernel sizes as channels and a pixel is left of the image.
    Source: LeCun et al. (1998).
    """
    if len(channels) != len(kernel_sizes):
        raise ValueError(f"kernel_sizes={show(kernel_sizes)}: must be {len(channels)}, one for each of channels")
    require_images("lenet", in_shape)
    c_in, *size = in_shape
    blocks: list[nn.Module] = []
    for c_out, kernel in zip(channels, kernel_sizes, strict=True):
        blocks += [nn.Conv2d(c_in, c_out, kernel, bias=not batch_norm), nn.MaxPool2d(2)]
        if batch_norm:
            blocks.append(nn.BatchNorm2d(c_out))
        blocks.append(nn.ReLU())  # ReLU and maximum commute: behind the pool it has a quarter of the pixels
        c_in, size = c_out, [(s - kernel + 1) // 2 for s in size]
    if min(size) < 1:
        raise ValueError(f"kernel_sizes={show(kernel_sizes)}: nothing is left of an image of {list(in_shape[1:])}")
    net = nn.Sequential(*blocks, mlp((c_in, *size), num_outputs, hidden))
    return net.to(memory_format=torch.channels_last)  # faster on a CPU
