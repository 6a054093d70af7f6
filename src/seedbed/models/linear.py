"""The linear model, with PyTorch's layer and with one from scratch."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from torch import nn


def linear(in_shape: Sequence[int], num_outputs: int) -> nn.Module:
    """One linear layer on the flattened pixels."""
    return nn.Sequential(nn.Flatten(), nn.Linear(math.prod(in_shape), num_outputs))


class LinearLayer(nn.Module):
    """x @ weight.T + bias, written out; standard normal weights until an init replaces them. weight: [out, in]."""

    def __init__(self, num_inputs: int, num_outputs: int):
        super().__init__()
        self.weight = nn.Parameter(torch.randn(num_outputs, num_inputs))
        self.bias = nn.Parameter(torch.randn(num_outputs))

    def forward(self, x):
        return x @ self.weight.T + self.bias


def linear_scratch(in_shape: Sequence[int], num_outputs: int) -> nn.Module:
    """The same as `linear` with the layer from scratch (fastbook ch. 4: xb@weights + bias)."""
    return nn.Sequential(nn.Flatten(), LinearLayer(math.prod(in_shape), num_outputs))
