"""RMSprop of a stack."""

from __future__ import annotations

import torch
from torch import Tensor

from seedbed.optim.stacked_arithmetic import plus, plus_, plus_quotient_, plus_square_
from seedbed.optim.stacked_optimizer import StackedOptimizer, shared, used


class StackedRMSprop(StackedOptimizer):
    """`torch.optim.RMSprop`, not centered."""

    numbers = ("lr", "alpha", "eps", "momentum", "weight_decay")
    counts_steps = True

    def _state_names(self):
        return ("step", "square_avg", *(("momentum_buffer",) if used(self._number["momentum"]) else ()))

    def _coefficients(self, step, lr, alpha, momentum, **numbers):
        into_buffer, into_p = 1.0, -lr
        # torch.optim multiplies by lr before it divides where momentum is 0, and after that where it is not
        if isinstance(momentum, Tensor):
            without = (momentum == 0).double()
            into_buffer, into_p = shared(without * -lr + (1 - without)), without + (1 - without) * -lr
        now = {"into_buffer": into_buffer, "into_p": into_p}
        return {"alpha": alpha, "of_square": 1 - alpha, "momentum": momentum, **numbers, **now}

    def _update(
        self, p, grad, square, buffer=(), *, weight_decay, alpha, of_square, eps, momentum, into_buffer, into_p
    ):
        if weight_decay:
            grad = plus(grad, p, weight_decay)
        torch._foreach_mul_(square, alpha)
        plus_square_(square, grad, of_square)
        root = torch._foreach_sqrt(square)
        torch._foreach_add_(root, eps)
        if buffer:
            torch._foreach_mul_(buffer, momentum)
            plus_quotient_(buffer, grad, root, into_buffer)
            plus_(p, buffer, into_p)
        else:
            plus_quotient_(p, grad, root, into_p)
