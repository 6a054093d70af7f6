"""One epoch of resnet18 on MNIST_SAMPLE beside fastai: seconds of fit with validation, each in its own process."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median

from benchmarks.measure import ratio, train_metrics
from PIL import Image

from seedbed.data.mnist_sample import mnist_sample

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
GOALS = {"resnet18_one_cycle": "≤ 0.65", "resnet18_fast": "≤ 0.35"}


def main(rounds: int = 3) -> None:
    results: dict[str, list[tuple[float, float]]] = {name: [] for name in ("fastai", *GOALS)}
    with tempfile.TemporaryDirectory() as images:
        write_images(Path(images))
        for _ in range(rounds):
            for name in results:
                results[name].append(fastai(images) if name == "fastai" else ours(name))
    print(f"{'resnet18, one epoch':<28} {'seconds':>9} {'ratio':>7}   goal     accuracies")
    theirs = [seconds for seconds, _ in results["fastai"]]
    for name, rows in results.items():
        seconds = [row[0] for row in rows]
        accuracies = " ".join(f"{accuracy:.4f}" for _, accuracy in rows)
        print(
            f"{name:<28} {median(seconds):9.1f} {ratio(theirs, seconds):7.2f}   {GOALS.get(name, ''):<7}  {accuracies}"
        )


def ours(name: str) -> tuple[float, float]:
    """Return (seconds, accuracy) of the experiment."""
    metrics = train_metrics(f"experiment={name}")
    return metrics["fit_seconds"], metrics["val/accuracy"]


def fastai(images: str) -> tuple[float, float]:
    """Return (seconds, accuracy) of fastai."""
    command = [sys.executable, "-W", "ignore", "-c", FASTAI, images]
    result = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return result["seconds"], result["accuracy"]


def write_images(root: Path) -> None:
    """Write MNIST_SAMPLE as fastai reads it: <split>/<class>/<number>.png."""
    splits = mnist_sample()
    for split, (pixels, targets) in (("train", splits.train), ("valid", splits.valid)):
        for i, (picture, target) in enumerate(zip(pixels, targets.tolist(), strict=True)):
            folder = root / split / splits.classes[target]
            folder.mkdir(parents=True, exist_ok=True)
            Image.fromarray(picture[0].numpy()).save(folder / f"{i}.png")
