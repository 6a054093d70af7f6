"""A generator of pictures beside the critic that learns to tell them from real ones."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn


class Brightness(nn.Module):
    """tanh, as DCGAN ends in, scaled to pixels of 0–1."""

    def forward(self, x: Tensor) -> Tensor:
        return (x.tanh() + 1) / 2


class Adversaries(nn.Module):
    """`critic` maps pictures [B, *in_shape] to [B, num_outputs]; `generator` noise [B, latent] to pixels of 0–1.

    Its forward pass is the critic's.
    """

    def __init__(self, critic: nn.Module, generator: nn.Module, latent: int):
        super().__init__()
        self.critic, self.generator, self.latent = critic, generator, latent

    def forward(self, x: Tensor) -> Tensor:
        return self.critic(x)


def gan(in_shape: Sequence[int], num_outputs: int, latent: int = 16, width: int = 16) -> nn.Module:
    """Two small convolutional networks, mirror images of each other (DCGAN: Radford, Metz & Chintala 2015).

    width: channels of the layer next to the picture. Raises ValueError unless height and width are multiples of four.
    """
    channels, height, wide = in_shape
    if height % 4 or wide % 4:
        raise ValueError(f"gan halves a picture twice: {height}×{wide} is no multiple of 4×4")
    small = (2 * width, height // 4, wide // 4)
    critic = nn.Sequential(
        nn.Conv2d(channels, width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(width, 2 * width, 4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(torch.Size(small).numel(), num_outputs),
    )
    generator = nn.Sequential(
        nn.Linear(latent, torch.Size(small).numel(), bias=False),
        nn.BatchNorm1d(torch.Size(small).numel()),
        nn.ReLU(),
        nn.Unflatten(1, small),
        nn.ConvTranspose2d(2 * width, width, 4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(width),
        nn.ReLU(),
        nn.ConvTranspose2d(width, channels, 4, stride=2, padding=1),
        Brightness(),
    )
    return Adversaries(critic, generator, latent).to(memory_format=torch.channels_last)  # a third less time on a CPU
