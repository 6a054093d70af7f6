"""256 learning rates of the MLP in one stack, with and without halving: seconds of training, and the best accuracy."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from benchmarks.measure import command_seconds


def main() -> None:
    print(f"{'256 lrs of the MLP':<28} {'seconds':>9} {'accuracy':>9} {'ratio':>7}   goal")
    seconds, best = sweep("hydra.launcher.halving.factor=null")
    print(f"{'all for 40 epochs':<28} {seconds:9.1f} {best:9.4f}", flush=True)
    halved, best_halved = sweep()
    goal = f"≤ 0.35, accuracy ≥ {best - 0.002:.4f}"
    print(f"{'halved':<28} {halved:9.1f} {best_halved:9.4f} {halved / seconds:7.2f}   {goal}")


def sweep(*overrides: str) -> tuple[float, float]:
    """Return the seconds of training and the best accuracy of the jobs that were trained to the end."""
    with tempfile.TemporaryDirectory() as folder:
        command_seconds("train.py", "-m", "experiment=halving_lr", f"hydra.sweep.dir={folder}", *overrides)
        jobs = [json.loads(path.read_text(encoding="utf-8")) for path in Path(folder).glob("*/metrics.json")]
    finished = [job["val/accuracy"] or 0.0 for job in jobs if "stopped" not in job]
    return sum(job["fit_seconds"] for job in jobs), max(finished)
