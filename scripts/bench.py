"""Time Seedbed beside what a user would write or use else: python scripts/bench.py [epoch] [start] [sweep] [convnets] …

Every row measures both sides in this one process, alternating, and prints the medians and the median of the ratios.
`epoch`: an epoch with validation, TensorBoard, progress bar and checkpoints, against the plain loop. About a minute.
`start`: whole commands that need no torch. Ten seconds.
`sweep`: fused sweeps beside the basic launcher, one job, plain loops and bare matrix products. Ten minutes.
`convnets`: resnet18 beside fastai (pip install fastai), the speedrun beside the published recipe. Ten minutes.
`halving`: 256 learning rates trained to the end and halved. Three minutes.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parents[1]


def alternate(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each side, round by round; one uncounted round first."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for r in range(rounds + 1):
        for name, side in sides.items():
            seconds = side()
            if r:
                times[name].append(seconds)
    return times


def row(title: str, times: dict[str, list[float]], limit: str) -> None:
    (_, reference), (_, ours) = times.items()
    ratios = [b / a for a, b in zip(reference, ours, strict=True)]
    spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
    cells = f"{median(reference) * 1e3:9.1f} {median(ours) * 1e3:9.1f} {median(ratios):7.2f}  {spread:>11}"
    print(f"{title:<28} {cells}   {limit}", flush=True)


def epoch(rounds: int = 7) -> None:
    import lightning.pytorch as pl
    import torch
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from seedbed.build import Parts, build_data, build_trainer
    from seedbed.callbacks.checkpoints import Checkpoints
    from seedbed.callbacks.progress import RunProgress
    from seedbed.run_logger import RunLogger

    class Clock(pl.Callback):
        def on_train_start(self, *_):
            self.start = time.perf_counter()

        def on_train_end(self, *_):
            self.seconds = time.perf_counter() - self.start

    def compare(title: str, overrides: list[str], epochs: int, limit: str) -> None:
        with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
            cfg = compose("config", [*overrides, f"trainer.max_epochs={epochs}", "trainer.accelerator=cpu"])
        config = OmegaConf.to_container(cfg, resolve=True)
        data = build_data(config)
        normalized = data.train_dataloader().convert
        x, y = normalized(data.digits.train[0]).flatten(1), data.digits.train[1]
        valid_x, valid_y = normalized(data.digits.valid[0]).flatten(1), data.digits.valid[1]

        def by_hand() -> float:
            module = Parts().module(config, data)
            net, loss, opt = module.net[1:], module.loss, module.configure_optimizers()  # without its Flatten
            start = time.perf_counter()
            for _ in range(epochs):
                for i in torch.randperm(len(x)).split(config["data"]["batch_size"]):
                    loss(net(x[i]), y[i]).backward()
                    opt.step()
                    opt.zero_grad()
                with torch.no_grad():
                    output = net(valid_x)
                    loss(output, valid_y).item(), (loss.predict(output) == valid_y).float().mean().item()
            return (time.perf_counter() - start) / epochs

        def with_lightning() -> float:
            module, clock = Parts().module(config, data), Clock()
            with tempfile.TemporaryDirectory() as folder:
                callbacks = [Checkpoints(Path(folder) / "checkpoints"), RunProgress(), clock]
                trainer = build_trainer(config, RunLogger(folder), callbacks)
                trainer.fit(module, data)
                trainer.logger.close()
            return clock.seconds / epochs

        row(title, alternate({"by hand": by_hand, "seedbed": with_lightning}, rounds), limit)

    print(f"{'one epoch':<28} {'by hand':>9} {'seedbed':>9} {'ratio':>7}  {'from–to':>11}   goal   (ms)")
    compare("linear, batch 256", ["model=linear"], 20, "≤ 1.3")
    compare("MLP 784-30-1, batch 256", [], 20, "≤ 1.1")
    compare("MLP 10 classes, batch 64", ["experiment=mlp_10class"], 2, "≤ 1.0")


def start(rounds: int = 5) -> None:
    def command(*words: str) -> Callable[[], float]:
        def side() -> float:
            begin = time.perf_counter()
            subprocess.run([sys.executable, *words], cwd=ROOT, check=True, capture_output=True)
            return time.perf_counter() - begin

        return side

    print(f"{'whole command':<28} {'python':>9} {'seedbed':>9} {'ratio':>7}  {'from–to':>11}   goal   (ms)")
    sides = {"import hydra": command("-c", "import hydra"), "cfg": command("train.py", "--cfg", "job")}
    row("--cfg job (import hydra)", alternate(sides, rounds), "≤ 700 ms")
    sides = {"import torch": command("-c", "import torch"), "train": command("train.py", "trainer.max_epochs=0")}
    row("0 epochs (import torch)", alternate(sides, rounds), "")


def sweep() -> None:
    """Whole commands, cold start included; then the training of 100 MLPs alone."""
    print(f"{'whole command':<28} {'other':>9} {'fused':>9} {'ratio':>7}   goal   (s)")
    ten = ["model=linear", "trainer.max_epochs=10", "seed=range(0,10)"]
    hundred = [*ten, "optim.lr=0.1,0.2,0.3,0.4,0.5,0.6,0.7,0.8,0.9,1"]
    thousand = [*ten, f"optim.lr={','.join(f'{k / 100:g}' for k in range(1, 101))}"]
    one = median(whole("model=linear", "trainer.max_epochs=10") for _ in range(3))
    fused = median(whole("-m", "hydra/launcher=fused", *hundred) for _ in range(3))
    basic = whole("-m", *hundred)
    large = whole("-m", "hydra/launcher=fused", *thousand)
    compare_seconds("100 linear jobs, basic", basic, fused, "≥ 8")
    compare_seconds("1,000, basic (100 scaled)", one + (basic - one) * 999 / 99, large, "≥ 25")
    compare_seconds("100 linear jobs, one job", one, fused, "≥ 0.33")
    compare_seconds("1,000 jobs, 100 jobs", fused, large, "")
    mlps()


def mlps(rounds: int = 3) -> None:
    """100 MLPs, 5 inits × 20 lrs, one seed, 10 epochs: training alone, beside plain loops and bare products."""
    import lightning.pytorch as pl
    import torch
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from seedbed.build import Parts, build_data, build_trainer
    from seedbed.callbacks.progress import RunProgress
    from seedbed.fused.checkpoints import StackCheckpoints

    epochs, inits = 10, ["default", "kaiming_normal", "kaiming_uniform", "xavier_normal", "orthogonal"]
    configs = []
    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        for init in inits:
            words = [f"init={init}", f"trainer.max_epochs={epochs}", "trainer.accelerator=cpu"]
            config = OmegaConf.to_container(compose("config", [*words, "+trainer.limit_val_batches=0"]), resolve=True)
            configs += [{**config, "optim": {**config["optim"], "lr": (k + 1) / 100}} for k in range(20)]
    data = build_data(configs[0])
    x, y = data.train_dataloader().convert(data.digits.train[0]).flatten(1), data.digits.train[1]

    class Clock(pl.Callback):
        def on_train_start(self, *_):
            self.start = time.perf_counter()

        def on_train_end(self, *_):
            self.seconds = time.perf_counter() - self.start

    def fused() -> float:
        data.seed, clock = [0], Clock()
        with tempfile.TemporaryDirectory() as folder:
            trainer = build_trainer(configs[0], False, [StackCheckpoints(folder), RunProgress(), clock])
            trainer.fit(Parts().stack(configs, 1, data), data)
        return clock.seconds

    def plain() -> float:  # ten of the hundred, scaled
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
        """The first layer's product and its gradient's, which are all but 1/784 of the arithmetic."""
        weights, rows, gradient = torch.randn(3000, 784), x[:256], torch.randn(3000, 256)
        begin = time.perf_counter()
        for _ in range(epochs * 49):
            weights @ rows.mT
            gradient @ rows
        return time.perf_counter() - begin

    times = alternate({"plain": plain, "products": products, "fused": fused}, rounds)
    for other, goal in (("plain", "≥ 3"), ("products", "≥ 0.67")):
        ratio = median(a / b for a, b in zip(times[other], times["fused"], strict=True))
        seconds = f"{median(times[other]):9.1f} {median(times['fused']):9.1f}"
        print(f"{f'100 MLPs trained, {other}':<28} {seconds} {ratio:7.2f}   {goal}", flush=True)


FASTAI = """
import json, sys, time
from fastai.vision.all import *

dls = ImageDataLoaders.from_folder(Path(sys.argv[1]))
learn = vision_learner(dls, resnet18, pretrained=False, loss_func=F.cross_entropy, metrics=accuracy)
with learn.no_bar(), learn.no_logging():
    start = time.perf_counter()
    learn.fit_one_cycle(1, 0.1)
    print(json.dumps({"seconds": time.perf_counter() - start, "accuracy": float(learn.recorder.values[-1][2])}))
"""


def convnets(rounds: int = 3) -> None:
    """Seconds of fit, validation included, resnet18 in processes of its own; accuracies of the last round."""
    from PIL import Image

    from seedbed.data.mnist_sample import mnist_sample

    def train(*words: str) -> dict:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "train.py", *words, f"hydra.run.dir={folder}/run"]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            return json.loads(Path(folder, "run/metrics.json").read_text())

    def ours(*words: str) -> tuple[float, float]:
        metrics = train(*words)
        return metrics["fit_seconds"], metrics["val/accuracy"]

    def fastai() -> tuple[float, float]:
        command = [sys.executable, "-W", "ignore", "-c", FASTAI, images]
        found = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
        return found["seconds"], found["accuracy"]

    def show(title: str, reference: Callable, others: dict[str, tuple[Callable, str]]) -> None:
        found: dict[str, list[tuple[float, float]]] = {name: [] for name in ("", *others)}
        for _ in range(rounds):
            found[""].append(reference())
            for name, (side, _) in others.items():
                found[name].append(side())
        base = median(seconds for seconds, _ in found[""])
        print(f"{title:<28} {base:9.1f} s {found[''][-1][1]:.4f}", flush=True)
        for name, (_, goal) in others.items():
            ratio = median(ours[0] / theirs[0] for ours, theirs in zip(found[name], found[""], strict=True))
            seconds, accuracy = median(seconds for seconds, _ in found[name]), found[name][-1][1]
            print(f"{name:<28} {seconds:9.1f} s {accuracy:.4f} {ratio:7.2f}   {goal}", flush=True)

    with tempfile.TemporaryDirectory() as images:
        digits = mnist_sample()
        for split, (pixels, targets) in (("train", digits.train), ("valid", digits.valid)):
            for i, (picture, target) in enumerate(zip(pixels, targets.tolist(), strict=True)):
                folder = Path(images, split, digits.classes[target])
                folder.mkdir(parents=True, exist_ok=True)
                Image.fromarray(picture[0].numpy()).save(folder / f"{i}.png")
        one_cycle, fast = (partial(ours, f"experiment=resnet18_{name}") for name in ("one_cycle", "fast"))
        show(
            "fastai resnet18", fastai, {"resnet18_one_cycle": (one_cycle, "≤ 0.65"), "resnet18_fast": (fast, "≤ 0.35")}
        )
    show("published speedrun", published_speedrun, {"speedrun": (speedrun, "≤ 0.40")})


def speedrun() -> tuple[float, float]:
    """(seconds of training and validation, test accuracy) of experiment=speedrun, in this process."""
    import lightning.pytorch as pl
    from hydra import compose, initialize_config_dir
    from omegaconf import OmegaConf

    from seedbed.build import Parts, build_data, build_trainer
    from seedbed.callbacks.checkpoints import Checkpoints
    from seedbed.run_logger import RunLogger

    class Clock(pl.Callback):
        def on_train_start(self, *_):
            self.start = time.perf_counter()

        def on_train_end(self, *_):
            self.seconds = time.perf_counter() - self.start

    with initialize_config_dir(str(ROOT / "conf"), version_base="1.3"):
        cfg = compose("config", ["experiment=speedrun", "trainer.accelerator=cpu"])
    config = OmegaConf.to_container(cfg, resolve=True)
    data = build_data(config)
    module, clock = Parts().module(config, data), Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = build_trainer(config, RunLogger(folder), [Checkpoints(Path(folder) / "checkpoints"), clock])
        trainer.fit(module, data)
        trainer.test(module, data, verbose=False)
        trainer.logger.close()
    return clock.seconds, module.metrics["test/accuracy"]


def published_speedrun() -> tuple[float, float]:
    """Conv 24·5×5 – pool – Conv 32·3×3 – pool – 256 – 10, Adam, one-cycle, batch 256, one epoch, float32."""
    import torch
    import torch.nn.functional as F
    from torch import nn

    from seedbed.data.idx import mnist

    digits = mnist(None)
    (x, y), (valid_x, valid_y), (test_x, test_y) = (
        (s[0].float() / 255, s[1]) for s in (digits.train, digits.valid, digits.test)
    )
    net = nn.Sequential(
        *(nn.Conv2d(1, 24, 5), nn.ReLU(), nn.MaxPool2d(2), nn.Conv2d(24, 32, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(800, 256), nn.ReLU(), nn.Linear(256, 10)),
    )

    def accuracy(x: torch.Tensor, y: torch.Tensor) -> float:
        with torch.no_grad():
            return sum(
                (net(a).argmax(1) == b).sum().item() for a, b in zip(x.split(256), y.split(256), strict=True)
            ) / len(y)

    batches = -(-len(x) // 256)
    optimizer = torch.optim.Adam(net.parameters(), lr=0.01, betas=(0.7, 0.9))
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=batches, cycle_momentum=False)
    start = time.perf_counter()
    for rows in torch.randperm(len(x)).split(256):
        F.cross_entropy(net(x[rows]), y[rows]).backward()
        optimizer.step()
        optimizer.zero_grad()
        schedule.step()
    accuracy(valid_x, valid_y)
    return time.perf_counter() - start, accuracy(test_x, test_y)


def halving() -> None:
    """256 lrs of the MLP in one stack, all trained for 40 epochs and halved: training alone, and the best accuracy."""

    def sweep(*words: str) -> tuple[float, float]:
        with tempfile.TemporaryDirectory() as folder:
            command = [sys.executable, "train.py", "-m", "experiment=halving_lr", f"hydra.sweep.dir={folder}", *words]
            subprocess.run(command, cwd=ROOT, check=True, capture_output=True)
            jobs = [json.loads(path.read_text()) for path in Path(folder).glob("*/metrics.json")]
        finished = [job["val/accuracy"] or 0.0 for job in jobs if "stopped" not in job]
        return sum(job["fit_seconds"] for job in jobs), max(finished)

    print(f"{'256 lrs of the MLP':<28} {'seconds':>9} {'accuracy':>9} {'ratio':>7}   goal")
    seconds, best = sweep("hydra.launcher.halving.factor=null")
    print(f"{'all for 40 epochs':<28} {seconds:9.1f} {best:9.4f}", flush=True)
    halved, found = sweep()
    print(f"{'halved':<28} {halved:9.1f} {found:9.4f} {halved / seconds:7.2f}   ≤ 0.35, accuracy ≥ {best - 0.002:.4f}")


def compare_seconds(title: str, other: float, fused: float, goal: str) -> None:
    print(f"{title:<28} {other:9.1f} {fused:9.1f} {other / fused:7.2f}   {goal}", flush=True)


def whole(*words: str) -> float:
    """Seconds of `python train.py …`, whose folder is thrown away."""
    with tempfile.TemporaryDirectory() as folder:
        words = (*words, f"hydra.sweep.dir={folder}/sweep", f"hydra.run.dir={folder}/run")
        begin = time.perf_counter()
        subprocess.run([sys.executable, "train.py", *words], cwd=ROOT, check=True, capture_output=True)
        return time.perf_counter() - begin


SUBJECTS = {"epoch": epoch, "start": start, "sweep": sweep, "convnets": convnets, "halving": halving}

if __name__ == "__main__":
    for subject in sys.argv[1:] or ("epoch", "start"):
        SUBJECTS[subject]()
