"""Train 100 MLPs for ten epochs in one stack; compare with plain loops and with the processor's peak."""

from __future__ import annotations

import time
from statistics import median

import torch
from benchmarks.measure import alternate, composed, fit_seconds, peak, print_header, print_row

from seedbed.fused.build import build_stack
from seedbed.training.build import Config, Parts, build_data

MEMBERS, EPOCHS, BATCH = 100, 10, 256
INITS = ("default", "kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal")


def main(rounds: int = 3) -> None:
    print_header("100 MLPs × 10 epochs", "by hand", "stack", "s")
    compare("one order of the data", "≤ 0.14", rounds, seeds=[0] * MEMBERS)
    compare("each its own order", "≤ 0.29", rounds, seeds=list(range(MEMBERS)))


def compare(title: str, goal: str, rounds: int, seeds: list[int]) -> None:
    """Train 5 inits × 20 lrs with these seeds; the plain loops train every tenth job, and their time is scaled."""
    configs: list[Config] = []
    for init in INITS:
        config = composed(f"init={init}", f"trainer.max_epochs={EPOCHS}", "+trainer.check_val_every_n_epoch=1000")
        configs += [{**config, "optim": {**config["optim"], "lr": (k + 1) / 100}} for k in range(MEMBERS // len(INITS))]
    configs = [{**config, "seed": seed} for config, seed in zip(configs, seeds, strict=True)]
    data = build_data(configs[0])
    orders = sorted(set(seeds))
    x, y = data.train_dataloader().convert(data.splits.train[0]).flatten(1), data.splits.train[1]

    def stack() -> float:
        data.seed = orders
        return fit_seconds(configs[0], build_stack(Parts(), configs, len(orders), data), data, MEMBERS)

    def by_hand() -> float:
        """Return the time with one thread or with all of them, whichever is less."""
        everything = torch.get_num_threads()
        seconds = []
        for threads in {1, everything}:
            torch.set_num_threads(threads)
            seconds.append(plain_loops())
        torch.set_num_threads(everything)
        return min(seconds)

    def plain_loops() -> float:
        begin = time.perf_counter()
        for config in configs[::10]:
            module = Parts().module(config, data)
            # without the network's Flatten: x is flat
            net, loss, opt = module.net[1:], module.loss, module.configure_optimizers()
            for _ in range(EPOCHS):
                for i in torch.randperm(len(x)).split(BATCH):
                    loss(net(x[i]), y[i]).backward()
                    opt.step()
                    opt.zero_grad()
        return (time.perf_counter() - begin) * 10

    times = alternate({"by hand": by_hand, "stack": stack}, rounds)
    print_row(title, *times.values(), goal)
    # the first layer's products, forward and for the gradient of the weights: all but a thirtieth of the arithmetic
    operations = 2 * 2 * MEMBERS * EPOCHS * len(x) * 784 * 30
    shares = [operations / median(seconds) / peak() for seconds in times.values()]
    print(f"{'  share of the peak, as if dense':<28} {shares[0]:9.2f} {shares[1]:9.2f}", flush=True)
