"""resnet18 without any normalisation layer, for Fixup (Zhang, Dauphin & Ma 2019)."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import torch
from torch import Tensor, nn

from seedbed.models.convnet import require_images

# Under gradient descent a number that enters as RATE·p moves with RATE², a tenth, of the learning rate, as in published
# training scripts. With the full rate, an epoch of one-cycle at 0.1 ended at an accuracy of ½.
RATE = 0.1**0.5


class Bias(nn.Module):
    """One learned number, from 0, added everywhere."""

    def __init__(self):
        super().__init__()
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x + RATE * self.bias


class Multiplier(nn.Module):
    """One learned number, from 1, that multiplies everything."""

    def __init__(self):
        super().__init__()
        self.scale = nn.Parameter(torch.zeros(1))

    def forward(self, x: Tensor) -> Tensor:
        return x * (1 + RATE * self.scale)


def _conv(c_in: int, c_out: int, size: int, stride: int = 1) -> nn.Conv2d:
    return nn.Conv2d(c_in, c_out, size, stride, padding=size // 2, bias=False)


class Residual(nn.Module):
    """relu(branch(x) + shortcut(x)): a bias before every convolution and ReLU, a multiplier at the branch's end."""

    def __init__(self, c_in: int, c_out: int, stride: int):
        super().__init__()
        first, last = _conv(c_in, c_out, 3, stride), _conv(c_out, c_out, 3)
        self.branch = nn.Sequential(Bias(), first, Bias(), nn.ReLU(), Bias(), last, Multiplier(), Bias())
        same = c_in == c_out and stride == 1
        self.shortcut = nn.Identity() if same else nn.Sequential(Bias(), _conv(c_in, c_out, 1, stride))
        self.relu = nn.ReLU()

    def forward(self, x: Tensor) -> Tensor:
        return self.relu(self.branch(x) + self.shortcut(x))


def fixup_resnet18(in_shape: Sequence[int], num_outputs: int, width: int = 64) -> nn.Module:
    """resnet18's convolutions with Fixup's scalars where its BatchNorms were; `init=fixup` makes it train.

    It tolerates half of resnet18's learning rate, or needs `trainer.gradient_clip_val=1`: at 0.1 one of two seeds
    diverged. The residual blocks have an attribute `branch`, by which the init finds them.
    """
    require_images("fixup_resnet18", in_shape)
    stem = [_conv(in_shape[0], width, 7, 2), Bias(), nn.ReLU(), nn.MaxPool2d(3, 2, padding=1)]
    widths = [width * times for times in (1, 1, 1, 2, 2, 4, 4, 8, 8)]
    blocks = [Residual(c_in, c_out, 1 if c_in == c_out else 2) for c_in, c_out in itertools.pairwise(widths)]
    head = [nn.AdaptiveAvgPool2d(1), nn.Flatten(), Bias(), nn.Linear(widths[-1], num_outputs)]
    return nn.Sequential(*stem, *blocks, *head).to(memory_format=torch.channels_last)  # as resnet18
