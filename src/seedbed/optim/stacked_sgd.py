"""SGD of a stack."""

from __future__ import annotations

import torch

from seedbed.optim.stacked_arithmetic import plus, plus_
from seedbed.optim.stacked_optimizer import StackedOptimizer, used


class StackedSGD(StackedOptimizer):
    """`torch.optim.SGD` without dampening, and `BasicOptim`."""

    numbers = ("lr", "momentum", "weight_decay")
    flags = ("nesterov",)

    def _state_names(self):
        return ("momentum_buffer",) if used(self._number["momentum"]) else ()

    def _coefficients(self, step, lr, **numbers):
        return {"minus_lr": -lr, **numbers}

    def _update(self, p, grad, buffer=(), *, minus_lr, momentum, weight_decay, nesterov):
        if weight_decay:
            grad = plus(grad, p, weight_decay)
        if buffer:
            torch._foreach_mul_(buffer, momentum)
            torch._foreach_add_(buffer, grad)
            grad = plus(grad, buffer, momentum) if nesterov else buffer
        plus_(p, grad, minus_lr)
