"""Time both sides of a comparison and print them."""

from __future__ import annotations

import atexit
import json
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from seedbed.machine import processor

if TYPE_CHECKING:
    from lightning.pytorch import LightningDataModule, LightningModule

ROOT = Path(__file__).resolve().parents[2]


def machine() -> str:
    """Return the processor's name, its number of cores and the speed of its best large product."""
    name = processor() or platform.machine()
    return f"{name}, {os.cpu_count()} cores, {peak() / 1e9:.0f} GFLOP/s in its best large product"


@cache
def peak() -> float:
    """Return the highest rate, in operations a second, of some large float32 products on all cores."""
    import torch

    def seconds(size: int) -> float:
        a, b = torch.randn(size, size), torch.randn(size, size)
        begin = time.perf_counter()
        a @ b
        return time.perf_counter() - begin

    return max(2 * size**3 / seconds(size) for size in (1024, 2048, 4096) for _ in range(4))


def alternate(sides: dict[str, Callable[[], float]], rounds: int) -> dict[str, list[float]]:
    """Return the seconds of each side in each round. A first round is not counted."""
    times: dict[str, list[float]] = {name: [] for name in sides}
    for r in range(rounds + 1):
        for name, side in sides.items():
            seconds = side()
            if r:
                times[name].append(seconds)
    return times


def ratio(reference: Sequence[float], ours: Sequence[float]) -> float:
    """Return the median over the rounds of ours / reference."""
    return median(b / a for a, b in zip(reference, ours, strict=True))


def print_header(title: str, reference: str, ours: str, unit: str) -> None:
    print(f"{title:<28} {reference:>9} {ours:>9} {'ratio':>7}  {'from–to':>11}   goal   ({unit})", flush=True)


def print_row(title: str, reference: Sequence[float], ours: Sequence[float], goal: str, scale: float = 1.0) -> None:
    """Print the medians of both sides, in seconds · scale, and the median and range of ours / reference."""
    ratios = [b / a for a, b in zip(reference, ours, strict=True)]
    spread = f"{min(ratios):.2f}–{max(ratios):.2f}"
    cells = f"{median(reference) * scale:9.1f} {median(ours) * scale:9.1f} {median(ratios):7.2f}  {spread:>11}"
    print(f"{title:<28} {cells}   {goal}", flush=True)


def command_seconds(*arguments: str, **environment: str) -> float:
    """Return the seconds that `python …` takes."""
    begin = time.perf_counter()
    subprocess.run(
        [sys.executable, *arguments], cwd=ROOT, check=True, capture_output=True, env=os.environ | environment
    )
    return time.perf_counter() - begin


def train_seconds(*arguments: str, **environment: str) -> float:
    """Return the seconds that `python train.py …` takes. Its folder is removed when the benchmark ends.

    If it were removed at once, the next command would be slower: ext4 looks for a free inode behind all those that were
    deleted within the last minute.
    """
    folder = tempfile.mkdtemp()
    atexit.register(shutil.rmtree, folder)
    folders = f"hydra.sweep.dir={folder}/sweep", f"hydra.run.dir={folder}/run"
    return command_seconds("train.py", *arguments, *folders, **environment)


def train_metrics(*arguments: str) -> dict[str, Any]:
    """Return the metrics.json that `python train.py …` leaves."""
    with tempfile.TemporaryDirectory() as folder:
        command_seconds("train.py", *arguments, f"hydra.run.dir={folder}/run")
        return json.loads(Path(folder, "run/metrics.json").read_text(encoding="utf-8"))


def composed(*overrides: str) -> dict[str, Any]:
    from hydra import compose
    from omegaconf import OmegaConf

    from seedbed.startup.command import hydra_with

    with hydra_with(ROOT / "conf"):
        return OmegaConf.to_container(compose("config", [*overrides, "trainer.accelerator=cpu"]), resolve=True)


def fit_seconds(config: dict[str, Any], module: LightningModule, data: LightningDataModule, members: int = 1) -> float:
    """Return the seconds from the first step to the last; checkpoints, progress bar, TensorBoard as in train.py.

    members: the size of a stack, 1 for a single run. A stack's event files are written after training.
    """
    from lightning.pytorch.callbacks import LambdaCallback

    from seedbed.fused.checkpoints import StackCheckpoints
    from seedbed.training.build import build_trainer
    from seedbed.training.checkpoints import Checkpoints
    from seedbed.training.logger import RunLogger
    from seedbed.training.progress import RunProgress

    times: list[float] = []
    clock = LambdaCallback(
        on_train_start=lambda *_: times.append(time.perf_counter()),
        on_train_end=lambda *_: times.append(time.perf_counter()),
    )
    with tempfile.TemporaryDirectory() as folder:
        checkpoints = StackCheckpoints(folder) if members > 1 else Checkpoints(Path(folder) / "checkpoints")
        logger = RunLogger(folder) if members == 1 else None
        build_trainer(config, logger or False, [checkpoints, RunProgress(), clock]).fit(module, data)
        if logger:
            logger.close()
    return times[1] - times[0]
