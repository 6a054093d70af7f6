"""The training loop from scratch beside the library's, from the same weights over the same batches."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset

from seedbed import from_scratch as scratch
from seedbed.errors import ConfigError
from seedbed.losses import MnistLoss
from seedbed.studies.findings import Findings, canvas

BATCH_SIZE = 256


def from_scratch(lab, lr: float, epochs: int, seed: int, overrides: Sequence[str]) -> Findings:
    """Train a linear model on two classes both ways; compare accuracies and weights after each epoch."""
    splits = lab.data(overrides).splits
    if not splits.classes or len(splits.classes) != 2:
        raise ConfigError("study.overrides: the data must have two classes")
    (x, y), (valid_x, valid_y) = ((images.flatten(1) / 255, target) for images, target in (splits.train, splits.valid))
    torch.manual_seed(seed)
    weights, bias = scratch.init_params(x.shape[1], 1), scratch.init_params(1)

    def model(xb: Tensor) -> Tensor:
        return scratch.linear1(xb, weights, bias)[:, 0]

    net = nn.Linear(x.shape[1], 1)
    with torch.no_grad():
        net.weight.copy_(weights.T)
        net.bias.copy_(bias)
    orders = [scratch.Sampler(len(x), True, torch.Generator().manual_seed(seed)) for _ in range(2)]
    ours = scratch.DataLoader(x, y, BATCH_SIZE, orders[0])
    theirs = DataLoader(TensorDataset(x, y), BATCH_SIZE, sampler=orders[1])
    optimizers = scratch.BasicOptim([weights, bias], lr), torch.optim.SGD(net.parameters(), lr)
    rows: list[list[Any]] = []
    for epoch in range(epochs + 1):
        if epoch:
            scratch.train_epoch(model, scratch.mnist_loss, optimizers[0], ours)
            _library_epoch(net, MnistLoss(), optimizers[1], theirs)
        valid, models = [(valid_x, valid_y)], (model, lambda x: net(x)[:, 0])
        accuracies = [scratch.validate_epoch(predict, valid) for predict in models]
        apart = max((weights.T - net.weight).abs().max().item(), (bias - net.bias).abs().max().item())
        rows.append([epoch, *accuracies, apart])
    differ = f"differ by {rows[-1][3]:.1g} at most" if rows[-1][3] else "are equal to the bit"
    return Findings(
        f"After {epochs} epochs the loop from scratch has an accuracy of {rows[-1][1]:.4f}, the library's has "
        f"{rows[-1][2]:.4f};\ntheir weights {differ}. Read src/seedbed/from_scratch.py from top to bottom.",
        ["epoch", "from scratch", "library", "weights differ by"],
        rows,
        {"from_scratch": _picture(rows)},
        {f"accuracy/{name}": {row[0]: row[k] for row in rows} for k, name in ((1, "from scratch"), (2, "library"))},
    )


def _library_epoch(net: nn.Module, loss: nn.Module, optimizer: torch.optim.Optimizer, batches: Iterable) -> None:
    for xb, yb in batches:
        loss(net(xb), yb).backward()
        optimizer.step()
        optimizer.zero_grad()


def _picture(rows: Sequence[Sequence[Any]]):
    fig, ax = canvas(7, 4)
    epochs, ours, theirs, _ = zip(*rows, strict=True)
    ax.plot(epochs, theirs, color="C1", linewidth=6, alpha=0.4, label="nn.Linear, SGD, DataLoader")
    ax.plot(epochs, ours, color="C0", marker="o", markersize=3, label="from scratch")
    ax.set(xlabel="epoch", ylabel="accuracy on the validation set", title="The same loop twice")
    ax.grid(alpha=0.3)
    ax.legend()
    return fig
