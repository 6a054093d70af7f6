"""The course's training loop from scratch: each piece needs only those above it, and equals its twin in the library.

The twins are in `nn.Linear`, `nn.functional`, `torch.optim.SGD`, `torch.utils.data`, `torch.optim.lr_scheduler` and the
parts of `python train.py experiment=linear_scratch`. `python scripts/study.py study=from_scratch` puts them side by
side, and tests/test_from_scratch.py checks that they are equal. Sources: fastbook ch. 4; fast.ai part 2, lessons 9 and
18.
"""

from __future__ import annotations

import math
from bisect import bisect_right
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import accumulate

import torch
from torch import Tensor

# 1. A model is a function of its parameters


def init_params(*size: int, std: float = 1.0) -> Tensor:
    """Return normal numbers that remember their gradient."""
    return (torch.randn(*size) * std).requires_grad_()


def linear1(xb: Tensor, weights: Tensor, bias: Tensor) -> Tensor:
    """[B, 784] → [B, 1], as `nn.Linear` does."""
    return xb @ weights + bias


# 2. A loss says how wrong its predictions are


def mnist_loss(predictions: Tensor, targets: Tensor) -> Tensor:
    """Mean distance of sigmoid(prediction) from its target, 0 or 1; twins: `losses.MnistLoss`, `F.l1_loss`."""
    predictions = predictions.sigmoid()
    return torch.where(targets == 1, 1 - predictions, predictions).mean()


def log_softmax(x: Tensor) -> Tensor:
    """x − logsumexp(x) along dim 1, the maximum subtracted first so that exp never overflows; twin: `F.log_softmax`."""
    x = x - x.amax(1, keepdim=True)
    return x - x.exp().sum(1, keepdim=True).log()


def nll(log_probabilities: Tensor, targets: Tensor) -> Tensor:
    """Mean of −log p of the right class; twins: `F.nll_loss`, and `F.cross_entropy` if log_softmax comes first."""
    return -log_probabilities[range(len(targets)), targets].mean()


def batch_accuracy(predictions: Tensor, targets: Tensor) -> Tensor:
    """Share of predictions on the right side of a half."""
    return ((predictions.sigmoid() > 0.5) == targets).float().mean()


# 3. An optimiser takes a step against the gradient


class BasicOptim:
    """Gradient descent; twin: `torch.optim.SGD`. Without `zero_grad`, backward adds to the old gradients."""

    def __init__(self, params: Iterable[Tensor], lr: float):
        self.params, self.lr = list(params), lr

    def step(self) -> None:
        for p in self.params:
            p.data -= self.lr * p.grad.data

    def zero_grad(self) -> None:
        for p in self.params:
            p.grad = None


# 4. Batches are made of an order


class Sampler:
    """The numbers 0 … size − 1, shuffled anew for each pass; twins: `RandomSampler`, `SequentialSampler`."""

    def __init__(self, size: int, shuffle: bool, generator: torch.Generator | None = None):
        self.size, self.shuffle, self.generator = size, shuffle, generator

    def __iter__(self) -> Iterator[int]:
        order = torch.randperm(self.size, generator=self.generator) if self.shuffle else torch.arange(self.size)
        return iter(order.tolist())


class DataLoader:
    """Batches of (x, y), in a sampler's order; twin: `torch.utils.data.DataLoader`."""

    def __init__(self, x: Tensor, y: Tensor, batch_size: int, sampler: Iterable[int]):
        self.x, self.y, self.batch_size, self.sampler = x, y, batch_size, sampler

    def __iter__(self) -> Iterator[tuple[Tensor, Tensor]]:
        order = list(self.sampler)
        for start in range(0, len(order), self.batch_size):
            rows = order[start : start + self.batch_size]
            yield self.x[rows], self.y[rows]


# 5. A schedule gives a number for each share of training that is done

Annealed = Callable[[float], float]


def cosine(start: float, end: float) -> Annealed:
    """Half a cosine wave; twin: `CosineAnnealingLR`."""
    return lambda done: start + (1 + math.cos(math.pi * (1 - done))) * (end - start) / 2


def combined(shares: Sequence[float], parts: Sequence[Annealed]) -> Annealed:
    """One schedule after another, each in its share of training; twin, for up and down again: `OneCycleLR`."""
    starts = [0.0, *accumulate(shares)][:-1]

    def at(done: float) -> float:
        i = bisect_right(starts, done) - 1
        return parts[i]((done - starts[i]) / shares[i])

    return at


# 6. Training: predict, compare, differentiate, step, clear


def train_epoch(
    model: Callable[[Tensor], Tensor],
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: BasicOptim,
    batches: Iterable[tuple[Tensor, Tensor]],
    clear: bool = True,
) -> None:
    """Take a step for each batch. clear=False leaves out `zero_grad`: each step then uses the sum of all gradients."""
    for xb, yb in batches:
        loss(model(xb), yb).backward()
        optimizer.step()
        if clear:
            optimizer.zero_grad()


@torch.no_grad()
def validate_epoch(model: Callable[[Tensor], Tensor], batches: Iterable[tuple[Tensor, Tensor]]) -> float:
    """Return the mean accuracy of the batches, as the book does; a smaller last batch counts as much as the others."""
    return torch.stack([batch_accuracy(model(xb), yb) for xb, yb in batches]).mean().item()
