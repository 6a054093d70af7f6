"""LSUV, an init that looks at data."""

from __future__ import annotations

from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.nn.modules.batchnorm import _NormBase

from seedbed.inits.schemes import layers, orthogonal

PASSES = 10  # an affine layer is right after one; further ones correct float32's rounding
NOISE = 1e-6  # a std below this share of the mean is a constant's rounding


@torch.no_grad()
def lsuv(net: nn.Module, x: Tensor, tol: float = 1e-3) -> None:
    """Orthogonal weights, then each layer's output on x brought to mean 0 and std 1 (Mishkin & Matas 2015).

    x: a batch [B, C, H, W] as the network will see it. Layers are corrected in the order in which the forward pass
    calls them: a hook scales the weight and shifts the bias until |std − 1| and |mean| are below tol, and passes the
    corrected output on. A layer without a bias keeps its mean, a layer with constant output its weight; a layer that is
    called several times is corrected at the first call.
    """
    if not any(True for _ in layers(net)):
        return
    orthogonal(net)
    handles = [layer.register_forward_hook(_correct_once(tol)) for layer in layers(net)]
    like = next(net.parameters())
    try:
        with _as_in_training_without_dropout(net):
            net(x.to(like.device, like.dtype))
    finally:
        for handle in handles:
            handle.remove()


def _correct_once(tol: float):
    called = False

    def hook(layer: nn.Module, inputs: tuple, output: Tensor) -> Tensor:
        nonlocal called
        if called:
            return output
        called = True
        for _ in range(PASSES):
            std, mean = torch.std_mean(output, correction=0)
            varies = std.isfinite() and std > NOISE * mean.abs()
            scale = std if varies else torch.ones_like(std)
            shift = mean if layer.bias is not None and mean.isfinite() else torch.zeros_like(mean)
            if abs(scale - 1) < tol and abs(shift) < tol:
                break
            layer.weight.div_(scale)
            if layer.bias is not None:
                layer.bias.sub_(shift).div_(scale)
            output = layer.forward(*inputs)
        return output

    return hook


@contextmanager
def _as_in_training_without_dropout(net: nn.Module):
    """Let BatchNorm normalise by the batch, as in training; restore modes and buffers afterwards."""
    modes = [(m, m.training) for m in net.modules()]
    buffers = [(b, b.clone()) for b in net.buffers()]
    net.eval()
    for module, _ in modes:
        if isinstance(module, _NormBase):
            module.training = True
    try:
        yield
    finally:
        for module, mode in modes:
            module.training = mode
        for buffer, before in buffers:
            buffer.copy_(before)
