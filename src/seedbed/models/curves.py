"""Models of a function of one number: x [B, 1] → [B, 1]."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


def _require_numbers(model: str, in_shape: Sequence[int], num_outputs: int) -> None:
    if tuple(in_shape) != (1,) or num_outputs != 1:
        size = "×".join(map(str, in_shape))
        raise ValueError(
            f"{model} fits a function of one number (data=roller_coaster, data=function); "
            f"here an input has the size {size}, and {num_outputs} output(s) are wanted"
        )


class Quadratic(nn.Module):
    """a·t² + b·t + c; the three begin as standard normal numbers, whatever the init (fastbook ch. 4)."""

    def __init__(self, in_shape: Sequence[int], num_outputs: int):
        super().__init__()
        _require_numbers("quadratic", in_shape, num_outputs)
        self.coefficients = nn.Parameter(torch.randn(3))

    def forward(self, t: Tensor) -> Tensor:
        a, b, c = self.coefficients
        return a * t**2 + b * t + c


def rectified_lines(in_shape: Sequence[int], num_outputs: int, lines: int = 8) -> nn.Module:
    """A sum of K rectified lines, Σ hᵢ·max(0, mᵢ·x + bᵢ) + c: near any function for K large enough.

    The lines begin with slopes 1 and −1 in turn and bend at places spread evenly over (−1, 1).
    Source: Cybenko 1989; fast.ai part 1, lesson 3.
    """
    _require_numbers("rectified_lines", in_shape, num_outputs)
    slopes, heights = nn.Linear(1, lines), nn.Linear(lines, 1)
    index = torch.arange(lines)
    slope, bend = 1.0 - 2 * (index % 2), (2 * index + 1) / lines - 1
    slopes.weight.data.copy_(slope[:, None])
    slopes.bias.data.copy_(-slope * bend)
    return nn.Sequential(slopes, nn.ReLU(), heights)
