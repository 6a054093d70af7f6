"""The learning-rate finder: train with an lr that grows every mini-batch, and read from the losses how large it may be.

Source: Smith, Cyclical Learning Rates (2015). Lightning's Tuner does not fit: it wants one step a call and the loss of
each from `training_step`.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import count, islice
from statistics import fmean
from typing import Protocol

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor, nn
from tqdm import tqdm

WIDTH = 0.12  # decades: standard deviation of the Gaussian that smooths the losses
LAG = 0.9  # of the running mean that says whether the loss diverges
DIVERGED = 4.0  # × the least running mean
FALLEN = 0.9  # of the way from the first loss to the least: here the flat bottom begins


@dataclass
class Found:
    """lrs and losses of the ramp's steps, the losses smoothed, the suggested lr and whether it has trained a net."""

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float
    tried: bool


class Run(Protocol):
    """What is needed of an untrained run: `Supervised`."""

    net: nn.Module
    loss: Callable[[Tensor, Tensor], Tensor]
    clip: float | None
    accumulate: int

    def configure_optimizers(self) -> torch.optim.Optimizer: ...


def find(
    make: Callable[[], Run],
    loader,
    start: float = 1e-5,
    end: float = 100.0,
    steps: int = 200,
    precision: Precision | None = None,
) -> Found:
    """Train a new run with lrs from start to end, a constant factor a step, until it diverges; suggest an lr, try it.

    Tried: that many steps bring a new run half the way to the ramp's least loss; else a half, a quarter or an eighth of
    the lr is tried. precision: the Trainer's plugin, that of 32-true by default. Raises ValueError if the ramp ends
    before its third step, or start ≥ end.
    """
    if start >= end:
        raise ValueError(f"lr_find.start={start:g}: must be less than lr_find.end={end:g}")
    lrs = [start * (end / start) ** (i / (steps - 1)) for i in range(steps)]
    precision = precision or Precision()
    losses = train(make(), _endless(loader), lrs, "searching", precision)
    if len(losses) < 3 or not math.isfinite(losses[2]):
        shown = ", ".join(f"{loss:.3g}" for loss in losses)
        raise ValueError(f"the loss is {shown}: it diverges at once, from lr_find.start={start:g} on")
    losses = losses if math.isfinite(losses[-1]) else losses[:-1]
    lrs = lrs[: len(losses)]
    smoothed = smooth(lrs, losses)
    halfway = (smoothed[0] + min(smoothed)) / 2
    suggestion = suggest(lrs, smoothed)
    for lr in (suggestion, suggestion / 2, suggestion / 4, suggestion / 8):
        tried = train(make(), _endless(loader), [lr] * steps, f"trying {lr:.2g}", precision)
        if len(tried) == steps and fmean(tried[-steps // 4 :]) < halfway:
            return Found(lrs, losses, smoothed, lr, tried=True)
    return Found(lrs, losses, smoothed, suggestion, tried=False)


def train(
    run: Run, batches: Iterator[tuple[Tensor, Tensor]], lrs: Sequence[float], title: str, precision: Precision
) -> list[float]:
    """Losses of a step at each lr, the last one the first that is not finite or brings the running mean over 4 × its
    least; a step is that of a Trainer, of `run.accumulate` batches, clipped and in its precision.
    """
    run = precision.convert_module(run)
    optimizer, params = run.configure_optimizers(), list(run.net.train().parameters())
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError("model: no single optimiser trains it, so there is no learning rate to find")
    losses: list[float] = []
    running, least = 0.0, math.inf
    for lr in tqdm(lrs, title, unit="step", delay=2, leave=False):
        for group in optimizer.param_groups:
            group["lr"] = lr
        with precision.train_step_context():
            together = islice(batches, run.accumulate)
            losses.append(fmean(_gradient(run, precision.convert_input(batch)) for batch in together))
            if run.clip:
                nn.utils.clip_grad_norm_(params, run.clip)
            optimizer.step()
        optimizer.zero_grad()
        running = LAG * running + (1 - LAG) * losses[-1]
        mean = running / (1 - LAG ** len(losses))
        least = min(least, mean)
        if not math.isfinite(losses[-1]) or mean > DIVERGED * least:
            break
    return losses


def _gradient(run: Run, batch: tuple[Tensor, Tensor]) -> float:
    """Adds a batch's share of a step's gradient; its loss."""
    x, y = batch
    loss = run.loss(run.net(x), y)
    (loss / run.accumulate).backward()
    return loss.item()


def _endless(loader) -> Iterator[tuple[Tensor, Tensor]]:
    """The batches of one epoch after another."""
    for epoch in count():
        loader.sampler.set_epoch(epoch)
        yield from loader


def smooth(lrs: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Means with Gaussian weights on the log axis of the lr: centred, so that the curve is not late."""
    x = torch.tensor(lrs, dtype=torch.float64).log10()
    weights = torch.exp(-0.5 * ((x[:, None] - x) / WIDTH).square())
    return ((weights @ torch.tensor(losses, dtype=torch.float64)) / weights.sum(1)).tolist()


def suggest(lrs: Sequence[float], smoothed: Sequence[float]) -> float:
    """5 × the lr at which the flat bottom of the curve begins, but at most 2/3 of the lr at which the loss is least.

    The bottom's beginning hardly varies with the seed, but by then much has been learnt at smaller lrs: runs that train
    for longer like more. Near the least loss a constant lr soon diverges.
    """
    least = min(range(len(smoothed)), key=smoothed.__getitem__)
    enough = smoothed[0] - FALLEN * (smoothed[0] - smoothed[least])
    bottom = next(i for i, value in enumerate(smoothed) if value <= enough)
    return min(5 * lrs[bottom], 2 / 3 * lrs[least])


def picture(found: Found, title: str):
    """Loss against lr, with the suggestion."""
    from matplotlib.figure import Figure

    fig = Figure(figsize=(8, 5), layout="constrained")
    ax = fig.subplots()
    ax.plot(found.lrs, found.losses, ".", color="C0", alpha=0.35, label="a mini-batch")
    ax.plot(found.lrs, found.smoothed, color="C0", linewidth=2, label="smoothed")
    ax.axvline(found.suggestion, color="C3", linestyle="--", label=f"suggested: {found.suggestion:.2g}")
    low, high = min(found.losses), max(found.smoothed[:1] + found.losses[: len(found.losses) // 4])
    ax.set_ylim(low - 0.1 * (high - low), high + 0.3 * (high - low))  # the divergence would squeeze all the rest
    ax.set_xscale("log")
    ax.set_xlabel("learning rate, growing every mini-batch (log)")
    ax.set_ylabel("training loss")
    ax.set_title(textwrap.fill(title, 80, break_on_hyphens=False))  # a command of many words
    ax.legend()
    ax.grid(alpha=0.3)
    return fig
