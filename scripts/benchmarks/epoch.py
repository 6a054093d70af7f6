"""One epoch with validation, TensorBoard, progress bar and checkpoints, beside the plain loop with as many threads."""

from __future__ import annotations

import time

import torch
from benchmarks.measure import alternate, composed, fit_seconds, print_header, print_row

from seedbed.training.build import Parts, build_data
from seedbed.training.threads import run_threads


def main(rounds: int = 7) -> None:
    print_header("one epoch", "by hand", "seedbed", "ms")
    compare("linear, batch 256", ["model=linear"], 20, "≤ 1.0", rounds)
    compare("MLP 784-30-1, batch 256", [], 20, "≤ 0.9", rounds)
    compare("MLP 10 classes, batch 64", ["experiment=mlp_10class"], 5, "≤ 0.95", rounds)


def compare(title: str, overrides: list[str], epochs: int, goal: str, rounds: int) -> None:
    config = composed(*overrides, f"trainer.max_epochs={epochs}")
    data = build_data(config)
    normalized = data.train_dataloader().convert
    x, y = normalized(data.splits.train[0]).flatten(1), data.splits.train[1]
    valid_x, valid_y = normalized(data.splits.valid[0]).flatten(1), data.splits.valid[1]

    def by_hand() -> float:
        module = Parts().module(config, data)
        # without the network's Flatten: x is flat
        net, loss, opt = module.net[1:], module.loss, module.configure_optimizers()
        start = time.perf_counter()
        for _ in range(epochs):
            for i in torch.randperm(len(x)).split(config["data"]["batch_size"]):
                loss(net(x[i]), y[i]).backward()
                opt.step()
                opt.zero_grad()
            with torch.no_grad():
                output = net(valid_x)
                loss(output, valid_y).item(), (loss.predict(output) == valid_y).float().mean().item()
        return time.perf_counter() - start

    sides = {"by hand": by_hand, "seedbed": lambda: fit_seconds(config, Parts().module(config, data), data)}
    with run_threads(config) as choose_threads:
        choose_threads(Parts().module(config, data).parameters())
        print_row(title, *alternate(sides, rounds).values(), goal, scale=1e3 / epochs)
