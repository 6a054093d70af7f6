"""The learning-rate finder: train with an lr that grows every mini-batch, and read from the losses how large it may be.

Source: Smith, Cyclical Learning Rates (2015). Lightning's Tuner does not fit: it wants one step a call and the loss of
each from `training_step`.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn

WIDTH = 0.12  # decades: standard deviation of the Gaussian that smooths the losses
LAG = 0.9  # of the running mean that says whether the loss diverges
DIVERGED = 4.0  # × the least running mean
FALLEN = 0.9  # of the way from the first loss to the least: here the flat bottom begins


@dataclass
class Ramp:
    """lrs and losses of the steps made; `smoothed` losses; the suggested lr."""

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float


def endless(loader) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch after another."""
    epoch = 0
    while True:
        loader.sampler.set_epoch(epoch)
        yield from loader
        epoch += 1


def ramp(
    net: nn.Module,
    loss: Callable[[Tensor, Tensor], Tensor],
    optimizer: torch.optim.Optimizer,
    batches: Iterable[tuple[Tensor, Tensor]],
    start: float = 1e-5,
    end: float = 100.0,
    steps: int = 200,
) -> Ramp:
    """Train with lrs from start to end, a constant factor a step, until the loss diverges; the net is spoilt then.

    Diverged: not finite, or over 4 × its least running mean. Raises ValueError if the first steps do already.
    """
    lrs, losses = [start * (end / start) ** (i / (steps - 1)) for i in range(steps)], []
    running, least = 0.0, math.inf
    net.train()
    for i, (lr, (x, y)) in enumerate(zip(lrs, batches, strict=False)):
        for group in optimizer.param_groups:
            group["lr"] = lr
        value = loss(net(x), y)
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        current = value.item()
        running = LAG * running + (1 - LAG) * current
        mean = running / (1 - LAG ** (i + 1))
        if not math.isfinite(mean):
            break
        losses.append(current)
        least = min(least, mean)
        if mean > DIVERGED * least:
            break
    lrs = lrs[: len(losses)]
    if len(losses) < 3:
        raise ValueError(f"the loss is not finite from the start, at an lr of {start:g}")
    smoothed = smooth(lrs, losses)
    return Ramp(lrs, losses, smoothed, suggest(lrs, smoothed))


def smooth(lrs: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Means with Gaussian weights on the log axis of the lr: centred, so that the curve is not late."""
    x = torch.tensor(lrs, dtype=torch.float64).log10()
    weights = torch.exp(-0.5 * ((x[:, None] - x) / WIDTH).square())
    return ((weights @ torch.tensor(losses, dtype=torch.float64)) / weights.sum(1)).tolist()


def suggest(lrs: Sequence[float], smoothed: Sequence[float]) -> float:
    """4 × the lr at which the flat bottom of the curve begins, but at most 2/3 of the lr at which the loss is least.

    The bottom's beginning hardly varies with the seed, but by then much has been learnt at smaller lrs: runs that train
    for longer like more. Near the least loss a constant lr soon diverges.
    """
    least = min(range(len(smoothed)), key=smoothed.__getitem__)
    enough = smoothed[0] - FALLEN * (smoothed[0] - smoothed[least])
    bottom = next(i for i, value in enumerate(smoothed) if value <= enough)
    return min(4 * lrs[bottom], 2 / 3 * lrs[least])


def picture(found: Ramp, title: str):
    """Loss against lr, with the suggestion."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(8, 5), layout="constrained")
    ax = fig.subplots()
    ax.plot(found.lrs, found.losses, ".", color="C0", alpha=0.35, label="a mini-batch")
    ax.plot(found.lrs, found.smoothed, color="C0", linewidth=2, label="smoothed")
    ax.axvline(found.suggestion, color="C3", linestyle="--", label=f"suggested: {found.suggestion:.2g}")
    low, high = min(found.losses), max(found.smoothed[0], *found.losses[: len(found.losses) // 4])
    ax.set_ylim(low - 0.1 * (high - low), high + 0.3 * (high - low))  # the divergence would squeeze all the rest
    ax.set_xscale("log")
    ax.set_xlabel("learning rate, growing every mini-batch (log)")
    ax.set_ylabel("training loss")
    ax.set_title(title)
    ax.legend()
    ax.grid(alpha=0.3)
    return fig
