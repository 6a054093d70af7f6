"""Print how long a run trains to reach 99 % and 99.4 % on full MNIST's test set, alone and in a stack.

The table has the mean and spread over 20 seeds for each recipe. A stack's time is divided by its members. Where
stacking is slower, a sweep trains its jobs one by one, and a line says so. A recipe in bfloat16 runs in float32 on a
processor without instructions for bfloat16.
"""

from __future__ import annotations

import json
import tempfile
from pathlib import Path
from statistics import fmean, stdev

import torch
from benchmarks.measure import command_seconds

from seedbed.training.precision import SLOW, slowness

# (overrides, accuracy to reach)
RECIPES = [
    (["experiment=speedrun"], 0.99),
    (["experiment=speedrun", "model.channels=[16,64]", "trainer.max_epochs=6"], 0.994),
]


def main(seeds: int = 20) -> None:
    precision = [] if torch.cuda.is_available() or slowness() < SLOW else ["trainer.precision=32-true"]
    header = f"{'goal':>6} {'seconds':>8} {'± sd':>6} {'accuracy':>9} {'± sd':>7} {'reached':>8}"
    print(f"{'':<20} {header}")
    for recipe, goal in RECIPES:
        words = [*recipe, *precision]
        print(*words)
        fused, is_stacked = sweep(words, "fused", seeds)
        if is_stacked:
            show("in a stack", fused, goal)
            show("alone", sweep(words, "basic", seeds)[0], goal)
        else:
            show("alone", fused, goal)
            print("  in a stack: slower here, so that a fused sweep trains its jobs one by one")


def show(title: str, runs: list[dict], goal: float) -> None:
    seconds, accuracies = [run["fit_seconds"] for run in runs], [run["test/accuracy"] for run in runs]
    reached = sum(accuracy >= goal for accuracy in accuracies)
    cells = f"{goal:6.3f} {fmean(seconds):8.2f} {stdev(seconds):6.2f}"
    cells += f" {fmean(accuracies):9.4f} {stdev(accuracies):7.4f} {reached:>4}/{len(runs)}"
    print(f"  {title:<18} {cells}", flush=True)


def sweep(words: list[str], launcher: str, seeds: int) -> tuple[list[dict], bool]:
    """Return the metrics of the recipe's runs, one for each seed, and whether they trained as a stack."""
    with tempfile.TemporaryDirectory() as folder:
        words = [*words, f"hydra/launcher={launcher}", f"seed=range(0,{seeds})", f"hydra.sweep.dir={folder}"]
        command_seconds("train.py", "-m", *words)
        jobs = [path.parent for path in sorted(Path(folder).glob("*/metrics.json"))]
        is_stacked = all("of a stack" in (job / "train.log").read_text(encoding="utf-8") for job in jobs)
        return [json.loads((job / "metrics.json").read_text(encoding="utf-8")) for job in jobs], is_stacked
