"""The largest number of members for a stack: as many as memory holds, none where stacking is no faster."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import nn

from seedbed.fused.net import StackedNet

# largest size of a stack in bytes on a CPU, however much memory is free
BUDGET = 4 << 30


class NotWorthIt(Exception):
    """Raised where a stack was measured to be no faster than its members one after another."""


def capacity(nets: Sequence[nn.Module], x: torch.Tensor, batches: float) -> int:
    """Return how many members fit into memory of x's device, each with a network like `nets` on batches like x.

    batches: batches that are held for each member, less than 1 where members share them. Raises NotWorthIt if a short
    timed probe shows that stacking is slower.
    """
    if not any(True for _ in nets[0].parameters()):
        raise NotWorthIt("nothing is learned by gradient")
    if len(nets) > 1:
        alone, together = _probe(nets, x)
        if together > alone:
            raise NotWorthIt(f"a step takes {alone * 1e3:.0f} ms alone and {together * 1e3:.0f} ms a member stacked")
    # bytes of a member in float32: weights, gradient, optimiser state, best and final copies, temporaries
    weights = sum(p.numel() for p in nets[0].parameters()) * 4 * 8
    # activations, their gradients, temporaries
    activations = _activations(nets[0], x) * 4 * 3
    usable_bytes = _free_memory(x.device) / 2
    usable_bytes = min(BUDGET, usable_bytes) if x.device.type == "cpu" else usable_bytes
    return max(1, int(usable_bytes / (weights + activations + x.numel() * 4 * 2 * batches)))


def _probe(nets: Sequence[nn.Module], x: torch.Tensor) -> tuple[float, float]:
    """Return the seconds a step takes for one network alone and for one member of a stack.

    A step below 5 ms is mostly overhead, which stacking saves: the answer is (1, 0) without measuring a stack.
    """

    def step_seconds(net: nn.Module, repeats: int) -> float:
        seconds = []
        for _ in range(repeats):
            start = time.perf_counter()
            net(x if net is nets[0] else x.unsqueeze(0)).sum().backward()
            if x.is_cuda:
                torch.cuda.synchronize()
            seconds.append(time.perf_counter() - start)
        return min(seconds)

    alone = step_seconds(nets[0], 2)
    if alone < 0.005:
        return 1.0, 0.0
    return alone, step_seconds(StackedNet(nets, 1), 2) / len(nets)


def _activations(net: nn.Module, x: torch.Tensor) -> int:
    """Count the outputs of all layers of `net` for the batch x."""
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


def device_of(trainer: Mapping[str, Any]) -> torch.device:
    """Return the device on which a run with these options of the Trainer trains: the first GPU or the CPU."""
    is_on_gpu = trainer["accelerator"] in ("auto", "gpu", "cuda") and torch.cuda.is_available()
    return torch.device("cuda" if is_on_gpu else "cpu")


def _free_memory(device: torch.device) -> int:
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0]
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE")
    except (ValueError, OSError):
        return 2 * BUDGET
