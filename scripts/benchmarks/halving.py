"""256 lrs of the MLP in one stack, all trained for 40 epochs and halved: training alone, and the best accuracy."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.measure import command_seconds


def main() -> None:
    print(f"{'256 lrs of the MLP':<28} {'seconds':>9} {'accuracy':>9} {'ratio':>7}   goal")
    seconds, best = sweep("hydra.launcher.halving.factor=null")
    print(f"{'all for 40 epochs':<28} {seconds:9.1f} {best:9.4f}", flush=True)
    halved, found = sweep()
    print(f"{'halved':<28} {halved:9.1f} {found:9.4f} {halved / seconds:7.2f}   ≤ 0.35, accuracy ≥ {best - 0.002:.4f}")


def sweep(*words: str) -> tuple[float, float]:
    """(seconds of training, the best accuracy of those that were trained to the end)"""
    with tempfile.TemporaryDirectory() as folder:
        command_seconds("train.py", "-m", "experiment=halving_lr", f"hydra.sweep.dir={folder}", *words)
        jobs = [json.loads(path.read_text()) for path in Path(folder).glob("*/metrics.json")]
    finished = [job["val/accuracy"] or 0.0 for job in jobs if "stopped" not in job]
    return sum(job["fit_seconds"] for job in jobs), max(finished)
