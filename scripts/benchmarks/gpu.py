"""On an NVIDIA GPU: epochs beside the plain loop there, stacks of 1 to 10,000, resnet18, and full MNIST to 99 %.

The plain loop has its data on the GPU, too. Times are of training with validation, checkpoints and TensorBoard; a
stack's of its training. The last column is the share of the GPU's best float32 product, by the arithmetic of the
network's layers.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from statistics import fmean, median, stdev
from typing import Any

import torch
from benchmarks.measure import alternate, composed, fit_seconds
from torch.utils.flop_counter import FlopCounterMode

from seedbed.fused.build import build_stack
from seedbed.training.build import Parts, build_data, build_trainer

# title → (overrides, epochs timed together)
EPOCHS = {
    "linear, batch 256": (["model=linear"], 20),
    "MLP 784-30-1, batch 256": (["model=mlp"], 20),
    "MLP 10 classes, batch 64": (["experiment=mlp_10class"], 2),
    "convnet, batch 256": (["model=convnet", "loss=cross_entropy", "optim=adam"], 10),
    "resnet18, one-cycle SGD": (["experiment=resnet18_one_cycle_sgd"], 1),
    "speedrun, full MNIST": (["experiment=speedrun"], 1),
}
# title → (overrides, metric, seeds, goal)
SEEDS = {
    "resnet18_one_cycle_sgd": (["experiment=resnet18_one_cycle_sgd"], "val/accuracy", 10, "≤ 1.0 s, ≥ 0.9956"),
    "speedrun, alone": (["experiment=speedrun"], "test/accuracy", 20, "≤ 0.15 s, ≥ 0.99"),
}
STACKS = (1, 10, 100, 1_000, 10_000)


class Bench:
    """The benchmark on one device. small: a few steps of each, to see that all of it runs."""

    def __init__(self, device: str = "cuda", small: bool = False):
        self.device, self.small, self.rounds = torch.device(device), small, 1 if small else 5
        self.accelerator = "cpu" if device == "cpu" else "gpu"
        self.limits = ["+trainer.limit_train_batches=5"] if small else []
        self.peak = self._peak()

    def config(self, *words: str, **trainer: Any) -> dict[str, Any]:
        config = composed(*words, *self.limits)
        return {**config, "trainer": {**config["trainer"], "accelerator": self.accelerator, **trainer}}

    def wait(self) -> None:
        if self.device.type == "cuda":
            torch.cuda.synchronize()

    def seconds(self, call: Callable[[], Any]) -> float:
        self.wait()
        begin = time.perf_counter()
        call()
        self.wait()
        return time.perf_counter() - begin

    def _peak(self) -> float:
        """Return the operations a second of the best large float32 product."""
        size = 512 if self.small else 8192
        a, b = torch.randn(2, size, size, device=self.device)
        return max(2 * size**3 / self.seconds(lambda: a @ b) for _ in range(10))

    # --- one run

    def epoch(self, title: str, words: list[str], epochs: int) -> None:
        config = self.config(*words, max_epochs=1 if self.small else epochs)
        data = build_data(config)

        def ours() -> float:
            return fit_seconds(config, Parts().module(config, data), data)

        times = alternate({"by hand": lambda: self.by_hand(config, data), "seedbed": ours}, self.rounds)
        hand, seedbed = (median(seconds) / config["trainer"]["max_epochs"] for seconds in times.values())
        steps = -(-len(data.splits.train[1]) // data.batch_size)
        share = self.operations(config, data) * steps / seedbed / self.peak
        print(f"{title:<28} {hand * 1e3:9.1f} {seedbed * 1e3:9.1f} {hand / seedbed:7.1f} × {share:8.3f}", flush=True)

    def by_hand(self, config: dict[str, Any], data: Any) -> float:
        """Return the seconds of the plain loop: a step one operation after another, an epoch's losses never read."""
        module = Parts().module(config, data)
        net, loss = module.net.to(self.device), module.loss
        optimizer = module.configure_optimizers()
        (x, y), valid = (self._floats(data, split) for split in (data.splits.train, data.splits.valid))
        precision = config["trainer"]["precision"]
        context = torch.autocast(self.device.type, torch.bfloat16, enabled=precision == "bf16-mixed")

        def train() -> None:
            for _ in range(config["trainer"]["max_epochs"]):
                net.train()
                order = torch.randperm(len(x)).to(self.device).split(data.batch_size)
                for rows in order[: 5 if self.small else None]:
                    with context:
                        output = loss(net(x[rows]), y[rows])
                    output.backward()
                    optimizer.step()
                    optimizer.zero_grad()
                net.eval()
                with torch.no_grad(), context:
                    for a, b in zip(*(t.split(2048) for t in valid), strict=True):
                        (loss.predict(net(a)) == b).sum()

        return self.seconds(train)

    def _floats(self, data: Any, split: Any) -> tuple[torch.Tensor, torch.Tensor]:
        return data.train_dataloader().convert(split[0]).to(self.device), split[1].to(self.device)

    def operations(self, config: dict[str, Any], data: Any) -> int:
        """Return the operations of a step: those of products and convolutions, forward and backward."""
        net = Parts().net(config, data)[0]
        with FlopCounterMode(display=False) as counter:
            net(data.sample[: data.batch_size]).sum().backward()
        return counter.get_total_flops() * data.batch_size // len(data.sample[: data.batch_size])

    # --- stacks

    def stack(self, members: int, epochs: int) -> float:
        """Return the seconds of a stack of MLPs with different lrs and one order of the data."""
        config = self.config("model=mlp", max_epochs=epochs)
        data = build_data(config)
        data.seed = [0]
        optim = config["optim"]
        configs = [{**config, "optim": {**optim, "lr": optim["lr"] * (0.5 + m / members)}} for m in range(members)]
        # with the checkpoints of a stack, even for one member
        return fit_seconds(config, build_stack(Parts(), configs, 1, data), data, max(members, 2))

    def stacks(self) -> None:
        print(f"\n{'stacks of MLPs, an epoch':<28} {'seconds':>9} {'ms a run':>9}", flush=True)
        epochs = 1 if self.small else 10

        def row(members: int) -> None:
            # the first epochs record the step
            seconds = self.stack(members, epochs) / epochs
            print(f"{members:<28,} {seconds:9.3f} {seconds / members * 1e3:9.3f}", flush=True)

        for members in STACKS[:2] if self.small else STACKS:
            attempt(f"{members:,}", partial(row, members))
        members, epochs = (10, 1) if self.small else (1_000, 40)
        title = f"{members:,} MLPs × {epochs} epochs"
        attempt(title, lambda: print(f"{title:<28} {self.stack(members, epochs):9.3f}   goal ≤ 3 s", flush=True))

    # --- seeds

    def seeds(self, title: str, words: list[str], metric: str, count: int, goal: str) -> None:
        """Print the mean and spread of seconds and accuracy over seeds, after a run that is not counted."""
        seconds, values = [], []
        for seed in [0, *range(2 if self.small else count)]:
            config = self.config(*words, f"seed={seed}")
            data = build_data(config)
            module = Parts().module(config, data)
            seconds.append(fit_seconds(config, module, data))
            self._test(config, module, data)
            values.append(module.metrics[metric])
        self._print(title, seconds[1:], values[1:], goal)

    def stack_of_seeds(self, words: list[str], members: int) -> None:
        config = self.config(*words)
        data = build_data(config)
        data.seed = list(range(members))
        configs = [{**config, "seed": seed, "data": {**config["data"], "seed": seed}} for seed in range(members)]
        stack = build_stack(Parts(), configs, members, data)
        data.eval_batch = max(64, 2**17 // members)
        seconds = fit_seconds(config, stack, data, members)
        stack.use_final()
        self._test(config, stack, data)
        title = f"  in a stack of {members:,}"
        self._print(title, [seconds / members] * 2, stack.metrics["test/accuracy"].tolist(), "≤ 0.15 s")

    def _test(self, config: dict[str, Any], module: Any, data: Any) -> None:
        if data.splits.test is not None:
            build_trainer(config, False, []).test(module, data, verbose=False)

    def _print(self, title: str, seconds: list[float], values: list[float], goal: str) -> None:
        cells = f"{fmean(seconds):9.3f} {stdev(seconds):7.3f} {fmean(values):9.4f} {stdev(values):7.4f}"
        print(f"{title:<28} {cells}   goal {goal}", flush=True)


def main(device: str = "cuda", small: bool = False) -> None:
    if device == "cuda" and not torch.cuda.is_available():
        print("scripts/bench.py gpu: there is no NVIDIA GPU that torch can use", file=sys.stderr)
        raise SystemExit(1)
    bench = Bench(device, small)
    name = torch.cuda.get_device_name() if device == "cuda" else device
    print(f"{name}: {bench.peak / 1e12:.2f} TFLOP/s in its best large float32 product", flush=True)
    print(f"{'one epoch':<28} {'by hand':>9} {'seedbed':>9} {'faster':>9} {'of peak':>8}   (ms)", flush=True)
    for title, (words, epochs) in list(EPOCHS.items())[: 2 if small else None]:
        attempt(title, partial(bench.epoch, title, words, epochs))
    bench.stacks()
    print(f"\n{'mean and spread over seeds':<28} {'seconds':>9} {'± sd':>7} {'accuracy':>9} {'± sd':>7}", flush=True)
    for title, (words, metric, count, goal) in SEEDS.items():
        if small:
            words, metric = ["model=linear", "trainer.max_epochs=1"], "val/accuracy"
        attempt(title, partial(bench.seeds, title, words, metric, count, goal))
    if not small:
        attempt("stack", lambda: bench.stack_of_seeds(["experiment=speedrun"], 1_000))


def attempt(title: str, row: Callable[[], None]) -> None:
    """Print a row, or why there is none: one that does not fit must not cost the others."""
    try:
        row()
    except (RuntimeError, FileNotFoundError) as error:
        print(f"{title:<28} failed: {next(iter(str(error).splitlines()), repr(error))}", flush=True)
