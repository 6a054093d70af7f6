"""Outputs of a network on a whole set, sample by sample."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import torch
from torch import Tensor

from seedbed.losses import Loss


@dataclass(frozen=True)
class Answers:
    """Answers to N samples in their order, on the CPU.

    loss: the mean over samples of their batches' losses, as validation has it. losses [N]: of each sample by itself.
    probabilities [N, C] and predicted [N] mean nothing where the targets are numbers.
    """

    loss: float
    losses: Tensor
    probabilities: Tensor
    predicted: Tensor
    target: Tensor


@torch.no_grad()
def answer(net: Callable[[Tensor], Tensor], loss: Loss, batches: Iterable[tuple[Tensor, Tensor]]) -> Answers:
    """Ask a network, in evaluation mode, for all batches."""
    each_loss = torch.vmap(lambda output, target: loss(output[None], target[None]))
    total, parts = 0.0, []
    for x, y in batches:
        output, y = net(x).cpu(), y.cpu()
        output = output.to(torch.promote_types(output.dtype, torch.float32))
        total += loss(output, y).item() * len(y)
        parts.append((each_loss(output, y), loss.probabilities(output), loss.predict(output), y))
    losses, probabilities, predicted, target = (torch.cat(part) for part in zip(*parts, strict=True))
    return Answers(total / len(target), losses, probabilities, predicted, target)
