"""An optimiser's step that can be recorded and repeated: the numbers that change are read from the device.

A recorded step repeats its operations with the numbers of the step that was recorded. So a learning rate that a
schedule drives, or Adam's correction of its bias, must lie in memory of the device, where `advance` writes it before
each step. The arithmetic is that of `StackedOptimizer`, which takes numbers as tensors too; a single run's optimiser is
a stack of one, over views of its parameters and its state.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seedbed.optim.numbers import flat
from seedbed.optim.stacked import stacked
from seedbed.optim.stacked_optimizer import Number, StackedOptimizer


class DeviceStep:
    """Steps `params`, which all get gradients, as `optimizer` does; the optimiser's state stays complete.

    A number becomes a tensor on the device at the first step in which it differs from the step before.
    Raises TypeError for an optimiser whose arithmetic no stack has, and for parameters at different steps.
    """

    def __init__(self, optimizer: torch.optim.Optimizer, params: Sequence[Tensor]):
        self.optimizer, self.params = optimizer, list(params)
        self.stack, self.views = stack_of_one(optimizer, self.params)
        steps = [state["step"] for state in map(self.stack.state.get, self.views) if state and "step" in state]
        counts = {float(step) for step in steps}
        if len(counts) > 1:
            raise TypeError(f"the parameters of {type(optimizer).__name__} have made different numbers of steps")
        self._count = counts.pop() if counts else 0.0
        # torch keeps the counts on the CPU, except for fused=True
        self._on_host = [step for step in steps if step.is_cpu]
        self._on_device = [step for step in steps if not step.is_cpu]
        # numbers of a single run's optimiser at the last step
        self._given: dict[str, float] = {}
        # coefficients that have not changed yet, and those that have, as tensors
        self._fixed: dict[str, float] = {}
        self._changing: dict[str, Tensor] = {}
        self.coefficients: dict[str, Number | bool] = {}

    def advance(self) -> bool:
        """Count a step and write its numbers to the device; return whether a step recorded before still holds."""
        self._follow()
        self._count += 1
        if self._on_host:
            torch._foreach_add_(self._on_host, 1)
        now, known = self.stack.coefficients(self._count), set(self._changing)
        self.coefficients = {name: self._as_read(name, value) for name, value in now.items()}
        self.stack.refresh(self.coefficients)
        return known == self._changing.keys()

    def update(self) -> None:
        """Make the step by the gradients; this is what can be recorded."""
        for view, p in zip(self.views, self.params, strict=True):
            if view is not p:
                view.grad = p.grad[None]
        with torch.no_grad():
            self.stack.update(self.views, self.coefficients)
            if self._on_device:
                torch._foreach_add_(self._on_device, 1)
        for view in self.views:
            view.grad = None

    def _follow(self) -> None:
        """Take over the numbers that a schedule has set in a single run's optimiser."""
        if self.stack is self.optimizer:
            return
        group = flat(self.optimizer.param_groups[0])
        for name in self.stack.numbers:
            value = group.get(name, 0.0)
            if self._given.get(name) != value:
                self._given[name] = value
                self.stack.param_groups[0][name] = torch.tensor([value], dtype=torch.float64)

    def _as_read(self, name: str, value: Number | bool) -> Number | bool:
        """Return a coefficient as `update` reads it: a tensor [M] if it differs between members or has changed."""
        if isinstance(value, bool):
            return value
        if isinstance(value, Tensor):
            self._changing[name] = value
        elif name in self._changing or self._fixed.setdefault(name, value) != value:
            before = self._changing.get(name)
            # the same tensor for the same number: `refresh` writes only what is new
            if before is None or before.stride(0) or before[0].item() != value:
                members = len(self.stack.lr)
                self._changing[name] = torch.tensor([value], dtype=torch.float64).expand(members)
        return self._changing.get(name, value)


def stack_of_one(optimizer: torch.optim.Optimizer, params: Sequence[Tensor]) -> tuple[StackedOptimizer, list[Tensor]]:
    """Return the optimiser as a stack, with `params` as its parameters; a stack's own is one already.

    Raises TypeError for an optimiser that cannot be stacked.
    """
    if isinstance(optimizer, StackedOptimizer):
        return optimizer, list(params)
    if len(optimizer.param_groups) > 1:
        raise TypeError("a stack has one group of parameters")
    views = [p.detach()[None] for p in params]
    stack = stacked(type(optimizer), [optimizer.defaults], views)
    for p, view in zip(params, views, strict=True):
        state = {name: value for name, value in optimizer.state.get(p, {}).items() if isinstance(value, Tensor)}
        stack.state[view] = {name: value if name == "step" else value[None] for name, value in state.items()}
    return stack, views
