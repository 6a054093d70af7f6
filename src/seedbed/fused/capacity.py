"""How many members a stack of a network may have: what memory holds, and none where stacking does not pay."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence

import torch
from torch import nn

from seedbed.fused.net import StackedNet

BUDGET = 4 << 30  # bytes at most for a stack, however much is free


class NotWorthIt(Exception):
    """Raised where a stack of a network was seen to be no faster than its members one after another."""


def capacity(nets: Sequence[nn.Module], x: torch.Tensor, batches: float) -> int:
    """Members that fit, each like `nets` on batches like x, of which a member has `batches` (less than 1: shared).

    Raises NotWorthIt if a short timed probe says that stacking does not pay.
    """
    if not any(True for _ in nets[0].parameters()):
        raise NotWorthIt("nothing is learned by gradient")
    if len(nets) > 1:
        alone, together = _probe(nets, x)
        if together > alone:
            raise NotWorthIt(f"a step takes {alone * 1e3:.0f} ms alone and {together * 1e3:.0f} ms a member stacked")
    weights = sum(p.numel() for p in nets[0].parameters()) * 4 * 8  # gradient, optimiser, best and final copies
    activations = _activations(nets[0], x) * 4 * 3
    return max(1, int(min(BUDGET, _free_memory() / 2) / (weights + activations + x.numel() * 4 * 2 * batches)))


def _probe(nets: Sequence[nn.Module], x: torch.Tensor) -> tuple[float, float]:
    """Seconds of a step of one network, and of a member of a stack; (1, 0) where a step is short enough to pay."""

    def step_seconds(net: nn.Module, repeats: int) -> float:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            net(x if net is nets[0] else x.unsqueeze(0)).sum().backward()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    alone = step_seconds(nets[0], 2)
    if alone < 0.005:
        return 1.0, 0.0
    return alone, step_seconds(StackedNet(nets, 1), 2) / len(nets)


def _activations(net: nn.Module, x: torch.Tensor) -> int:
    """Numbers that the layers of `net` put out for the batch x."""
    total = 0

    def count(module, inputs, output):
        nonlocal total
        total += output.numel()

    hooks = [m.register_forward_hook(count) for m in net.modules() if not isinstance(m, nn.Flatten)]
    with torch.no_grad():
        net(x)
    for hook in hooks:
        hook.remove()
    return total


def _free_memory() -> int:
    if torch.cuda.is_available():
        return torch.cuda.mem_get_info()[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 2 * BUDGET
