"""Multilayer perceptron."""

from __future__ import annotations

import math
from collections.abc import Sequence

from torch import nn

ACTIVATIONS: dict[str, type[nn.Module]] = {
    "relu": nn.ReLU,
    "leaky_relu": nn.LeakyReLU,
    "elu": nn.ELU,
    "selu": nn.SELU,
    "gelu": nn.GELU,
    "silu": nn.SiLU,
    "tanh": nn.Tanh,
    "sigmoid": nn.Sigmoid,
}


def mlp(
    in_shape: Sequence[int],
    num_outputs: int,
    hidden: Sequence[int] = (30,),
    activation: str = "relu",
    dropout: float = 0.0,
) -> nn.Module:
    """Linear layers with an activation between them; `hidden=[]` is the linear model.

    hidden: widths of the hidden layers. dropout: share of hidden units dropped in training.
    """
    blocks: list[nn.Module] = [nn.Flatten()]
    width = math.prod(in_shape)
    for units in hidden:
        blocks += [nn.Linear(width, units), ACTIVATIONS[activation]()]
        if dropout:
            # the dropout that keeps a self-normalising network's mean and variance (Klambauer et al. 2017)
            blocks.append(nn.AlphaDropout(dropout) if activation == "selu" else nn.Dropout(dropout))
        width = units
    return nn.Sequential(*blocks, nn.Linear(width, num_outputs))
