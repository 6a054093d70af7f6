"""Fused sweeps: whole commands, start-up included, beside the basic launcher; then the training of 100 MLPs alone."""

from __future__ import annotations

import time
from statistics import median

import torch
from benchmarks.measure import alternate, composed, fit_seconds, ratio, train_seconds

from seedbed.fused.build import build_stack
from seedbed.training.build import Parts, build_data

TEN = ["model=linear", "trainer.max_epochs=10", "seed=range(0,10)"]
HUNDRED = [*TEN, "optim.lr=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"]
THOUSAND = [*TEN, f"optim.lr={','.join(f'{k / 100:g}' for k in range(1, 101))}"]


def main() -> None:
    print(f"{'whole command':<28} {'other':>9} {'fused':>9} {'ratio':>7}   goal   (s)")
    sides = {
        "one": lambda: train_seconds("model=linear", "trainer.max_epochs=10"),
        "fused": lambda: train_seconds("-m", "hydra/launcher=fused", *HUNDRED),
        "large": lambda: train_seconds("-m", "hydra/launcher=fused", *THOUSAND),
    }
    one, fused, large = map(median, alternate(sides, 3).values())
    basic = train_seconds("-m", *HUNDRED)
    show("100 linear jobs, basic", basic, fused, "≥ 8")
    show("1,000, basic (100 scaled)", one + (basic - one) * 999 / 99, large, "≥ 25")
    show("100 linear jobs, one job", one, fused, "≥ 0.33")
    show("1,000 jobs, 100 jobs", fused, large, "")
    mlps()


def show(title: str, other: float, fused: float, goal: str) -> None:
    print(f"{title:<28} {other:9.1f} {fused:9.1f} {other / fused:7.2f}   {goal}", flush=True)


def mlps(rounds: int = 3, epochs: int = 10) -> None:
    """Time the training of 100 MLPs (5 inits × 20 lrs, one seed) beside plain loops and bare matrix products."""
    configs = []
    for init in ("default", "kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal"):
        config = composed(f"init={init}", f"trainer.max_epochs={epochs}", "+trainer.check_val_every_n_epoch=1000")
        configs += [{**config, "optim": {**config["optim"], "lr": (k + 1) / 100}} for k in range(20)]
    data = build_data(configs[0])
    x, y = data.train_dataloader().convert(data.splits.train[0]).flatten(1), data.splits.train[1]

    def fused() -> float:
        data.seed = [0]
        return fit_seconds(configs[0], build_stack(Parts(), configs, 1, data), data, len(configs))

    def plain() -> float:
        """Time ten of the hundred, and scale."""
        begin = time.perf_counter()
        for config in configs[::10]:
            module = Parts().module(config, data)
            net, loss, opt = module.net[1:], module.loss, module.configure_optimizers()
            for _ in range(epochs):
                for i in torch.randperm(len(x)).split(256):
                    loss(net(x[i]), y[i]).backward()
                    opt.step()
                    opt.zero_grad()
        return (time.perf_counter() - begin) * 10

    def products() -> float:
        """Time the products of the first layer, forward and backward: all but 1/784 of the arithmetic."""
        weights, rows, gradient = torch.randn(3000, 784), x[:256], torch.randn(3000, 256)
        begin = time.perf_counter()
        for _ in range(epochs * 49):
            weights @ rows.mT
            gradient @ rows
        return time.perf_counter() - begin

    times = alternate({"plain": plain, "products": products, "fused": fused}, rounds)
    for other, goal in (("plain", "≥ 3"), ("products", "≥ 0.67")):
        seconds = f"{median(times[other]):9.1f} {median(times['fused']):9.1f}"
        print(f"{f'100 MLPs trained, {other}':<28} {seconds} {1 / ratio(times[other], times['fused']):7.2f}   {goal}")
