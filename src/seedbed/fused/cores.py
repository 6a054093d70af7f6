"""A stack's members spread over the cores: each core makes its members' whole step with one thread.

Threads inside an operation wait for each other at its end, hundreds of times a step, and spin while they wait. Members
are independent, so here a step has only two such waits, and a thread that waits sleeps.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise

import torch
from torch import Tensor


class Cores:
    """As many threads as torch had when this was made, for calls of one thread each; `close` gives them back."""

    def __init__(self):
        self.count = torch.get_num_threads()
        torch.set_num_threads(1)
        self._pool = ThreadPoolExecutor(self.count - 1, "members") if self.count > 1 else None

    def close(self) -> None:
        if self._pool:
            self._pool.shutdown()
        torch.set_num_threads(self.count)

    def map(self, call: Callable, items: Sequence) -> list:
        """Return call(item) for each item. Each core takes every count-th item; this thread works for one of them."""
        results: list = [None] * len(items)

        def work(core: int) -> None:
            for i in range(core, len(items), self.count):
                results[i] = call(items[i])

        others = [self._pool.submit(work, core) for core in range(1, min(self.count, len(items)))] if self._pool else []
        work(0)
        for other in others:
            other.result()
        return results


def shares(members: int, cores: int) -> list[slice]:
    """Cut members into consecutive shares of nearly equal size, one for each core."""
    count = min(members, cores)
    cuts = [members * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(cuts)]


class KnownGradients(torch.autograd.Function):
    """A scalar whose gradients with respect to `params` are known; the backward pass returns them."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: Sequence[Tensor], *params: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, scale: Tensor):
        # if nothing else refers to them, autograd takes them as the parameters' .grad without a copy
        gradients, ctx.gradients = ctx.gradients, None
        if scale != 1:
            torch._foreach_mul_(gradients, scale.item())
        return None, None, *gradients
