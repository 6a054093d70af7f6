"""20 MLPs in as many processes as there are cores, beside the basic launcher, start-up aside.

Torch gives the basic launcher's jobs a thread a core, and joblib's one: hence also the basic launcher with one.
"""

from __future__ import annotations

import os
from statistics import median

from benchmarks.measure import train_seconds

WORDS = ["-m", "trainer.max_epochs=40", "optim.lr=0.1,1"]


def main(rounds: int = 2) -> None:
    """Start-up cancels in the difference of two sweeps: one of 4 jobs and one of 24."""
    sides = {"joblib": ("joblib", {}), "basic": ("basic", {}), "one thread": ("basic", {"OMP_NUM_THREADS": "1"})}
    found: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(rounds):
        for name, (launcher, environment) in sides.items():
            few, many = (
                train_seconds(*WORDS, f"hydra/launcher={launcher}", f"seed=range(0,{jobs // 2})", **environment)
                for jobs in (4, 24)
            )
            found[name].append(many - few)
    seconds = {name: median(times) for name, times in found.items()}
    print(f"{f'20 MLPs, {os.cpu_count()} cores':<28} {'basic':>9} {'joblib':>9} {'ratio':>7}   goal   (s)")
    for name, title, goal in (("basic", "torch's default threads", "≥ 1.7"), ("one thread", "a thread each", "")):
        cells = f"{seconds[name]:9.1f} {seconds['joblib']:9.1f} {seconds[name] / seconds['joblib']:7.2f}"
        print(f"{title:<28} {cells}   {goal}", flush=True)
