"""Updates of lists of tensors by a coefficient that members share, a float, or that differs from member to member.

Both forms round where torch.optim rounds, so that a member gets its solo run's bits.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

Tensors = Sequence[Tensor]
Coefficient = float | Tensors  # equal for all members, or a tensor [m, 1, …] for each of the tensors it goes with


def plus(x: Tensors, y: Tensors, c: Coefficient) -> Tensors:
    """x + c·y"""
    return torch._foreach_add(x, y, alpha=c) if isinstance(c, float) else torch._foreach_addcmul(x, y, c)


def plus_(x: Tensors, y: Tensors, c: Coefficient) -> None:
    """x += c·y"""
    if isinstance(c, float):
        torch._foreach_add_(x, y, alpha=c)
    else:
        torch._foreach_addcmul_(x, y, c)


def plus_square_(x: Tensors, y: Tensors, c: Coefficient) -> None:
    """x += c·y·y"""
    if isinstance(c, float):
        torch._foreach_addcmul_(x, y, y, value=c)
    else:
        torch._foreach_addcmul_(x, torch._foreach_mul(y, c), y)


def plus_quotient_(x: Tensors, y: Tensors, z: Tensors, c: Coefficient) -> None:
    """x += c·y / z"""
    if isinstance(c, float):
        torch._foreach_addcdiv_(x, y, z, value=c)
    else:
        torch._foreach_addcdiv_(x, torch._foreach_mul(y, c), z)
