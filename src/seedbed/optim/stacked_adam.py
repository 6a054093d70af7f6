"""Adam and AdamW of a stack."""

from __future__ import annotations

import torch

from seedbed.optim.stacked_arithmetic import plus, plus_quotient_, plus_square_
from seedbed.optim.stacked_optimizer import StackedOptimizer, used


class StackedAdam(StackedOptimizer):
    """`torch.optim.Adam` and, with decoupled_weight_decay, `AdamW`; no amsgrad."""

    numbers = ("lr", "beta1", "beta2", "eps", "weight_decay")
    flags = ("decoupled_weight_decay",)
    momentum = "beta1"
    counts_steps = corrects_bias = True

    def _state_names(self):
        return ("step", "exp_avg", "exp_avg_sq")

    def _coefficients(self, step, lr, beta1, beta2, eps, weight_decay, decoupled_weight_decay):
        return {
            "keep": 1 - lr * weight_decay if decoupled_weight_decay and used(weight_decay) else 1.0,
            "weight_decay": 0.0 if decoupled_weight_decay else weight_decay,
            "of_grad": 1 - beta1,
            "beta2": beta2,
            "of_square": 1 - beta2,
            "correction": (1 - beta2**step) ** 0.5,
            "eps": eps,
            "minus_size": -(lr / (1 - beta1**step)),
        }

    def _update(
        self, p, grad, mean, square, *, keep, weight_decay, of_grad, beta2, of_square, correction, eps, minus_size
    ):
        if keep != 1.0:
            torch._foreach_mul_(p, keep)
        if weight_decay:
            grad = plus(grad, p, weight_decay)
        torch._foreach_lerp_(mean, grad, of_grad)
        torch._foreach_mul_(square, beta2)
        plus_square_(square, grad, of_square)
        root = torch._foreach_sqrt(square)
        torch._foreach_div_(root, correction)
        torch._foreach_add_(root, eps)
        plus_quotient_(p, mean, root, minus_size)
