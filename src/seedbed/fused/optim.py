"""Optimisers of a stack of M independent members: `torch.optim`'s arithmetic with one number per member.

Operations, their order and their roundings are those of torch.optim, so that in float32 on a CPU every member's bits
are those of its solo run.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from seedbed.fused.stacked_optimizer import Number, StackedOptimizer, shared
from seedbed.optim import BasicOptim

Tensors = Sequence[Tensor]
Coefficient = float | Tensors  # equal for all members, or a tensor [m, 1, …] for each of those it goes with


class StackedSGD(StackedOptimizer):
    """`torch.optim.SGD` without dampening, and `BasicOptim`."""

    numbers = ("lr", "momentum", "weight_decay")
    flags = ("nesterov",)

    def _state_names(self):
        return ("momentum_buffer",) if _used(self._number["momentum"]) else ()

    def _coefficients(self, step, lr, **numbers):
        return {"minus_lr": -lr, **numbers}

    def _update(self, p, grad, buffer=(), *, minus_lr, momentum, weight_decay, nesterov):
        if weight_decay:
            grad = _plus(grad, p, weight_decay)
        if buffer:
            torch._foreach_mul_(buffer, momentum)
            torch._foreach_add_(buffer, grad)
            grad = _plus(grad, buffer, momentum) if nesterov else buffer
        _plus_(p, grad, minus_lr)


class StackedAdam(StackedOptimizer):
    """`torch.optim.Adam` and, with decoupled_weight_decay, `AdamW`; no amsgrad."""

    numbers = ("lr", "beta1", "beta2", "eps", "weight_decay")
    flags = ("decoupled_weight_decay",)
    momentum = "beta1"
    corrects_bias = True

    def _state_names(self):
        return ("step", "exp_avg", "exp_avg_sq")

    def _coefficients(self, step, lr, beta1, beta2, eps, weight_decay, decoupled_weight_decay):
        return {
            "keep": 1 - lr * weight_decay if decoupled_weight_decay and _used(weight_decay) else 1.0,
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
            grad = _plus(grad, p, weight_decay)
        torch._foreach_lerp_(mean, grad, of_grad)
        torch._foreach_mul_(square, beta2)
        _plus_square_(square, grad, of_square)
        root = torch._foreach_sqrt(square)
        torch._foreach_div_(root, correction)
        torch._foreach_add_(root, eps)
        _plus_quotient_(p, mean, root, minus_size)


class StackedRMSprop(StackedOptimizer):
    """`torch.optim.RMSprop`, not centered."""

    numbers = ("lr", "alpha", "eps", "momentum", "weight_decay")

    def _state_names(self):
        return ("step", "square_avg", *(("momentum_buffer",) if _used(self._number["momentum"]) else ()))

    def _coefficients(self, step, lr, alpha, momentum, **numbers):
        into_buffer, into_p = 1.0, -lr
        if isinstance(momentum, Tensor):  # torch.optim multiplies by lr before it divides where momentum is 0
            without = (momentum == 0).double()
            into_buffer, into_p = shared(without * -lr + (1 - without)), without + (1 - without) * -lr
        now = {"into_buffer": into_buffer, "into_p": into_p}
        return {"alpha": alpha, "of_square": 1 - alpha, "momentum": momentum, **numbers, **now}

    def _update(
        self, p, grad, square, buffer=(), *, weight_decay, alpha, of_square, eps, momentum, into_buffer, into_p
    ):
        if weight_decay:
            grad = _plus(grad, p, weight_decay)
        torch._foreach_mul_(square, alpha)
        _plus_square_(square, grad, of_square)
        root = torch._foreach_sqrt(square)
        torch._foreach_add_(root, eps)
        if buffer:
            torch._foreach_mul_(buffer, momentum)
            _plus_quotient_(buffer, grad, root, into_buffer)
            _plus_(p, buffer, into_p)
        else:
            _plus_quotient_(p, grad, root, into_p)


# --- arithmetic with a coefficient that is a float or differs from member to member, rounding alike


def _plus(x: Tensors, y: Tensors, c: Coefficient) -> Tensors:
    """x + c·y"""
    return torch._foreach_add(x, y, alpha=c) if isinstance(c, float) else torch._foreach_addcmul(x, y, c)


def _plus_(x: Tensors, y: Tensors, c: Coefficient) -> None:
    """x += c·y"""
    if isinstance(c, float):
        torch._foreach_add_(x, y, alpha=c)
    else:
        torch._foreach_addcmul_(x, y, c)


def _plus_square_(x: Tensors, y: Tensors, c: Coefficient) -> None:
    """x += c·y·y"""
    if isinstance(c, float):
        torch._foreach_addcmul_(x, y, y, value=c)
    else:
        torch._foreach_addcmul_(x, torch._foreach_mul(y, c), y)


def _plus_quotient_(x: Tensors, y: Tensors, z: Tensors, c: Coefficient) -> None:
    """x += c·y / z"""
    if isinstance(c, float):
        torch._foreach_addcdiv_(x, y, z, value=c)
    else:
        torch._foreach_addcdiv_(x, torch._foreach_mul(y, c), z)


def _used(number: Number) -> bool:
    return isinstance(number, Tensor) or number != 0


# --- from the members' own optimisers

KINDS: dict[type[torch.optim.Optimizer], type[StackedOptimizer]] = {
    BasicOptim: StackedSGD,
    torch.optim.SGD: StackedSGD,
    torch.optim.Adam: StackedAdam,
    torch.optim.AdamW: StackedAdam,
    torch.optim.RMSprop: StackedRMSprop,
}
ANY = ("foreach", "fused")  # options that say how fast, not what


def stacked(
    kind: type[torch.optim.Optimizer], defaults: Sequence[dict[str, Any]], params: Sequence[Tensor]
) -> StackedOptimizer:
    """The optimiser of a stack whose member i would have a `kind` with `.defaults == defaults[i]`.

    Raises TypeError for what a stack does not do: another kind, an option such as amsgrad, flags that differ, numbers
    that are tensors, parameters in half precision.
    """
    if kind not in KINDS:
        known = ", ".join(k.__name__ for k in KINDS)
        raise TypeError(f"no stacked version of {kind.__module__}.{kind.__qualname__}; there is one of {known}")
    for p in params:
        if p.dtype not in (torch.float32, torch.float64):
            raise TypeError(f"a stack's parameters are float32 or float64, not {p.dtype}")
    cls = KINDS[kind]
    if "betas" in defaults[0]:
        defaults = [{**d, "beta1": d["betas"][0], "beta2": d["betas"][1], "betas": None} for d in defaults]
    numbers: dict[str, Tensor | bool] = {name: False for name in cls.flags}
    for name in sorted(set(cls.numbers).union(*defaults).difference(ANY)):
        values = [d.get(name, 0.0) for d in defaults]
        if name in cls.numbers:
            if not all(isinstance(v, (int, float)) for v in values):
                raise TypeError(f"{name} of a stack's members must be plain numbers, not {values[:3]}")
            numbers[name] = torch.tensor(values, dtype=torch.float64)
        elif any(bool(v) != bool(values[0]) for v in values):
            raise TypeError(f"{name} differs between members of a stack of {kind.__name__}")
        elif name in cls.flags:
            numbers[name] = bool(values[0])
        elif values[0]:
            raise TypeError(f"a stack of {kind.__name__} does not do {name}={values[0]}")
    return cls(params, numbers)
