"""Gradient descent from scratch."""

from __future__ import annotations

import torch

from seedbed.optim.stacked_sgd import StackedSGD


class BasicOptim(torch.optim.Optimizer):
    """Gradient descent and nothing else: p −= lr · grad, bit-equal to `torch.optim.SGD` (fastbook ch. 4)."""

    stacked = StackedSGD

    def __init__(self, params, lr: float):
        super().__init__(params, {"lr": lr})

    @torch.no_grad()
    def step(self, closure=None):
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            for p in group["params"]:
                if p.grad is not None:
                    p.sub_(p.grad, alpha=group["lr"])  # one rounding, as SGD has: p -= lr * p.grad would have two
        return loss
