"""The learning-rate finder: train with an lr that grows every mini-batch, and suggest one from the losses.

Source: Smith, Cyclical Learning Rates (2015). Lightning's Tuner does not fit: it needs a `training_step` that makes one
step and returns its loss.
"""

from __future__ import annotations

import math
import textwrap
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import count, islice
from statistics import fmean

import torch
from lightning.pytorch.plugins.precision import Precision
from torch import Tensor, nn
from tqdm import tqdm

from seedbed.optim.driven import drive
from seedbed.schedules import linear
from seedbed.studies.findings import canvas
from seedbed.training.supervised import Supervised

WIDTH = 0.12  # decades: standard deviation of the Gaussian that smooths the losses
LAG = 0.9  # of the running mean that says whether the loss diverges
DIVERGED = 4.0  # × the least running mean
FALLEN = 0.9  # of the way from the first loss to the least: there the flat bottom begins


@dataclass
class Search:
    """The ramp's lrs and losses, the smoothed losses, the suggested lr, and whether it has trained a new run."""

    lrs: list[float]
    losses: list[float]
    smoothed: list[float]
    suggestion: float
    tried: bool


@dataclass
class Stepping:
    """The Trainer's way of making a step: its precision plugin, gradient_clip_val and accumulate_grad_batches."""

    precision: Precision = field(default_factory=Precision)
    clip: float | None = None
    accumulate: int = 1


def find(
    make: Callable[[], Supervised],
    loader,
    start: float = 1e-5,
    end: float = 100.0,
    steps: int = 200,
    stepping: Stepping | None = None,
) -> Search:
    """Train a new run with lrs from start to end, until it diverges; suggest an lr, and try it on another new run.

    The lr grows by a constant factor each step. A suggestion is good if as many steps with it bring the loss halfway to
    the ramp's least; else a half, a quarter or an eighth of it is tried. Raises ValueError if the ramp ends before its
    third step, or start ≥ end.
    """
    if start >= end:
        raise ValueError(f"lr_find.start={start:g}: must be less than lr_find.end={end:g}")
    lrs = [start * (end / start) ** (i / (steps - 1)) for i in range(steps)]
    stepping = stepping or Stepping()
    losses = train(make(), _endless(loader), lrs, "searching", stepping)
    if len(losses) < 3 or not math.isfinite(losses[2]):
        shown = ", ".join(f"{loss:.3g}" for loss in losses)
        raise ValueError(f"the loss is {shown}: it diverges at once, from lr_find.start={start:g} on")
    losses = losses if math.isfinite(losses[-1]) else losses[:-1]
    lrs = lrs[: len(losses)]
    smoothed = smooth(lrs, losses)
    halfway = (smoothed[0] + min(smoothed)) / 2
    suggestion = suggest(lrs, smoothed)
    for lr in (suggestion, suggestion / 2, suggestion / 4, suggestion / 8):
        tried = train(make(), _endless(loader), [lr] * steps, f"trying {lr:.2g}", stepping)
        if len(tried) == steps and fmean(tried[-steps // 4 :]) < halfway:
            return Search(lrs, losses, smoothed, lr, tried=True)
    return Search(lrs, losses, smoothed, suggestion, tried=False)


def train(
    run: Supervised, batches: Iterator[tuple[Tensor, Tensor]], lrs: Sequence[float], title: str, stepping: Stepping
) -> list[float]:
    """Make a step at each lr and return the losses; end when one is not finite or the running mean is 4 × its least.

    A step is the Trainer's: of accumulated batches, clipped, in its precision.
    """
    run = stepping.precision.convert_module(run)
    optimizer, params = run.configure_optimizers(), list(run.net.train().parameters())
    if not isinstance(optimizer, torch.optim.Optimizer):
        raise ValueError("model: no single optimiser trains it, so there is no learning rate to find")
    losses: list[float] = []
    running, least = 0.0, math.inf
    for lr in tqdm(lrs, title, unit="step", delay=2, leave=False):
        drive(optimizer, linear(lr, lr, absolute=True), 0.0)
        losses.append(fmean(_add_gradient(run, batch, stepping) for batch in islice(batches, stepping.accumulate)))
        if stepping.clip:
            nn.utils.clip_grad_norm_(params, stepping.clip)
        optimizer.step()
        optimizer.zero_grad()
        running = LAG * running + (1 - LAG) * losses[-1]
        mean = running / (1 - LAG ** len(losses))
        least = min(least, mean)
        if not math.isfinite(losses[-1]) or mean > DIVERGED * least:
            break
    return losses


def _add_gradient(run: Supervised, batch: tuple[Tensor, Tensor], stepping: Stepping) -> float:
    """Add a batch's share of a step's gradient, and return its loss."""
    x, y = stepping.precision.convert_input(batch)
    with stepping.precision.train_step_context():
        loss = run.loss(run.net(x), y)
    (loss / stepping.accumulate).backward()
    return loss.item()


def _endless(loader) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield the batches of one epoch after another."""
    for epoch in count():
        loader.sampler.set_epoch(epoch)
        yield from loader


def smooth(lrs: Sequence[float], losses: Sequence[float]) -> list[float]:
    """Average the losses with Gaussian weights on the log axis of the lr: centred, so that the curve does not lag."""
    x = torch.tensor(lrs, dtype=torch.float64).log10()
    weights = torch.exp(-0.5 * ((x[:, None] - x) / WIDTH).square())
    return ((weights @ torch.tensor(losses, dtype=torch.float64)) / weights.sum(1)).tolist()


def suggest(lrs: Sequence[float], smoothed: Sequence[float]) -> float:
    """Return 5 × the lr at which the curve's flat bottom begins, at most 2/3 of the lr of the least loss.

    The start of the bottom hardly varies with the seed, but much has been learnt by then at smaller lrs: longer runs
    take a larger lr. Near the least loss a constant lr soon diverges.
    """
    least = min(range(len(smoothed)), key=smoothed.__getitem__)
    threshold = smoothed[0] - FALLEN * (smoothed[0] - smoothed[least])
    bottom = next(i for i, value in enumerate(smoothed) if value <= threshold)
    return min(5 * lrs[bottom], 2 / 3 * lrs[least])


def picture(search: Search, title: str):
    """Draw the loss against the lr, with the suggestion."""
    fig, ax = canvas(8, 5)
    ax.plot(search.lrs, search.losses, ".", color="C0", alpha=0.35, label="a mini-batch")
    ax.plot(search.lrs, search.smoothed, color="C0", linewidth=2, label="smoothed")
    ax.axvline(search.suggestion, color="C3", linestyle="--", label=f"suggested: {search.suggestion:.2g}")
    low, high = min(search.losses), max(search.smoothed[:1] + search.losses[: len(search.losses) // 4])
    ax.set_ylim(low - 0.1 * (high - low), high + 0.3 * (high - low))  # the diverging end would squeeze the rest
    ax.set_xscale("log")
    ax.set_xlabel("learning rate, growing every mini-batch (log)")
    ax.set_ylabel("training loss")
    ax.set_title(textwrap.fill(title, 80, break_on_hyphens=False))  # a long command
    ax.legend()
    ax.grid(alpha=0.3)
    return fig
