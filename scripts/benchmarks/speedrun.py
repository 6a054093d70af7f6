"""One epoch of full MNIST: experiment=speedrun beside the published recipe, in one process."""

from __future__ import annotations

import time
from statistics import fmean

import torch
import torch.nn.functional as F
from benchmarks.measure import alternate, composed, fit_seconds, print_header, print_row
from torch import nn

from seedbed.data.idx import mnist
from seedbed.training.build import Parts, build_data, build_trainer


def main(rounds: int = 5) -> None:
    accuracies: dict[str, list[float]] = {"published": [], "speedrun": []}
    sides = {"published": lambda: published(accuracies["published"]), "speedrun": lambda: ours(accuracies["speedrun"])}
    times = alternate(sides, rounds)
    print_header("training and validation", "published", "speedrun", "s")
    print_row("full MNIST, one epoch", *times.values(), "≤ 0.40")
    for name, values in accuracies.items():
        print(f"test accuracy of {name}: mean of {len(values)} seeds {fmean(values):.4f}, lowest {min(values):.4f}")


def ours(accuracies: list[float]) -> float:
    config = composed("experiment=speedrun", f"seed={len(accuracies)}")
    data = build_data(config)
    module = Parts().module(config, data)
    seconds = fit_seconds(config, module, data)
    build_trainer(config, False, []).test(module, data, verbose=False)
    accuracies.append(module.metrics["test/accuracy"])
    return seconds


def published(accuracies: list[float]) -> float:
    """Train the published one: Conv 24·5×5, pool, Conv 32·3×3, pool, 256, 10; Adam, one-cycle, batch 256, float32."""
    torch.manual_seed(len(accuracies))
    splits = mnist(None)
    train, valid, test = (
        (pixels.float() / 255, targets) for pixels, targets in (splits.train, splits.valid, splits.test)
    )
    net = nn.Sequential(
        *(nn.Conv2d(1, 24, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(24, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)),
    )

    @torch.no_grad()
    def accuracy(x: torch.Tensor, y: torch.Tensor) -> float:
        batches = zip(x.split(256), y.split(256), strict=True)
        return sum((net(a).argmax(1) == b).sum().item() for a, b in batches) / len(y)

    x, y = train
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.7, 0.9))
    steps = -(-len(x) // 256)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps, cycle_momentum=False)
    start = time.perf_counter()
    for rows in torch.randperm(len(x)).split(256):
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    accuracy(*valid)
    seconds = time.perf_counter() - start
    accuracies.append(accuracy(*test))
    return seconds
