"""Convolutional networks: the course's small one, and timm's resnet18."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor, nn


def require_images(model: str, in_shape: Sequence[int]) -> None:
    """Raise ValueError unless the data's inputs are images."""
    if len(in_shape) != 3:
        raise ValueError(f"{model} takes images, and an input of this data has the shape {tuple(in_shape)}")


def convnet(in_shape: Sequence[int], num_outputs: int) -> nn.Module:
    """Four strided convolutions, ReLUs between, global average pool: the body used to study initialisation."""
    require_images("convnet", in_shape)
    channels = [in_shape[0], 8, 16, 32, num_outputs]
    blocks: list[nn.Module] = []
    for i, (c_in, c_out) in enumerate(itertools.pairwise(channels)):
        size = 5 if i == 0 else 3
        blocks += [nn.Conv2d(c_in, c_out, size, stride=2, padding=size // 2), nn.ReLU()]
    blocks.pop()  # no ReLU behind the last
    return nn.Sequential(*blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten())


class TightConv2d(nn.Conv2d):
    """A convolution that multiplies only the part of its kernel that meets the image, if its output is one pixel.

    In resnet18's last blocks a digit is one pixel, and eight of nine taps would multiply the padding.
    """

    def forward(self, x: Tensor) -> Tensor:
        sides = list(zip(x.shape[-2:], self.kernel_size, self.padding, self.stride, strict=True))
        one_pixel = all(size + pad <= k <= size + 2 * pad < k + stride for size, k, pad, stride in sides)
        if not one_pixel or self.groups > 1:
            return super().forward(x)
        rows, columns = (slice(pad, pad + size) for size, _, pad, _ in sides)
        taps = self.weight[..., rows, columns]  # [C_out, C_in, height, width]
        return F.linear(x.flatten(1), taps.flatten(1), self.bias)[..., None, None]


def resnet18(in_shape: Sequence[int], num_outputs: int, width: int = 64) -> nn.Module:
    """timm's resnet18, not pretrained, with `width` channels in the first of its four stages (He et al. 2015)."""
    from timm import create_model  # a second of import

    require_images("resnet18", in_shape)
    sizes = {"stem_width": width, "channels": [width, 2 * width, 4 * width, 8 * width]}
    net = create_model("resnet18", pretrained=False, in_chans=in_shape[0], num_classes=num_outputs, **sizes)
    for module in net.modules():
        if type(module) is nn.Conv2d:
            module.__class__ = TightConv2d  # the same weights, under the same names
    return net.to(memory_format=torch.channels_last)  # half the time of a step on a CPU
