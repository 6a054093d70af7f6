"""A stack's members spread over the cores: each core makes its members' whole step with one thread.

Threads inside an operation wait for each other at its end, hundreds of times a step, and spin while they wait. Members
need nothing of each other, so here a step has two such ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from typing import TypeVar

import torch
from torch import Tensor

T = TypeVar("T")


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

    def map(self, call: Callable[[int], T], shares: Iterable[int]) -> list[T]:
        """Return call(share) of each share, the first one computed by this thread."""
        first, *others = shares
        if not self._pool:
            return [call(first), *map(call, others)]
        waiting = [self._pool.submit(call, share) for share in others]
        return [call(first), *(result.result() for result in waiting)]

    def each(self, call: Callable[[T], object], items: Sequence[T]) -> None:
        """Call with every item, each core with every count-th of them."""
        cores = range(min(self.count, len(items)))
        self.map(lambda core: [call(item) for item in items[core :: self.count]], cores)


def shares(members: int, cores: int) -> list[slice]:
    """Cut members into consecutive shares of nearly equal size, one for each core."""
    count = min(cores, members)
    cuts = [members * i // count for i in range(count + 1)]
    return [slice(a, b) for a, b in pairwise(cuts)]


class KnownGradients(torch.autograd.Function):
    """A scalar whose gradients by `params` are known already; a backward pass hands them out."""

    @staticmethod
    def forward(ctx, value: Tensor, gradients: Sequence[Tensor], *params: Tensor) -> Tensor:
        ctx.gradients = gradients
        return value.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(ctx, scale: Tensor):
        # without another reference they become the parameters' .grad, and are not copied
        gradients, ctx.gradients = ctx.gradients, None
        if scale != 1:
            torch._foreach_mul_(gradients, scale.item())
        return None, None, *gradients
