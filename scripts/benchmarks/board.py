"""Seconds of training per run to 99 % of full MNIST's test set: one run, and its share of a stack.

Prints the mean and spread over 20 seeds for each recipe. A stack's time is divided by its members.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import fmean, stdev

from benchmarks.measure import command_seconds

# recipe → accuracy that it is to reach
RECIPES = {"speedrun": 0.99}


def main(seeds: int = 20) -> None:
    header = f"{'goal':>6} {'seconds':>8} {'± sd':>6} {'accuracy':>9} {'± sd':>7} {'reached':>8}"
    print(f"{'recipe':<28} {header}")
    for name, goal in RECIPES.items():
        for title, launcher in ((f"{name}, alone", "basic"), (f"{name}, in a stack", "fused")):
            runs = sweep(name, launcher, seeds)
            seconds, accuracies = [run["fit_seconds"] for run in runs], [run["test/accuracy"] for run in runs]
            reached = sum(accuracy >= goal for accuracy in accuracies)
            cells = f"{goal:6.3f} {fmean(seconds):8.2f} {stdev(seconds):6.2f}"
            cells += f" {fmean(accuracies):9.4f} {stdev(accuracies):7.4f} {reached:>4}/{seeds}"
            print(f"{title:<28} {cells}", flush=True)


def sweep(recipe: str, launcher: str, seeds: int) -> list[dict]:
    """Return the metrics of the recipe's runs, one for each seed."""
    with tempfile.TemporaryDirectory() as folder:
        words = f"experiment={recipe}", f"hydra/launcher={launcher}", f"seed=range(0,{seeds})"
        command_seconds("train.py", "-m", *words, f"hydra.sweep.dir={folder}")
        return [json.loads(path.read_text(encoding="utf-8")) for path in sorted(Path(folder).glob("*/metrics.json"))]
