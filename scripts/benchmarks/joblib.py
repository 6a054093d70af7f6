"""20 MLPs in as many processes as there are cores, beside the basic launcher, start-up aside."""

from __future__ import annotations

import os
from statistics import median

from benchmarks.measure import alternate, train_seconds

WORDS = ["-m", "trainer.max_epochs=40", "optim.lr=0.1,1"]


def main(rounds: int = 3) -> None:
    """Start-up cancels in the difference of two sweeps: one of 4 jobs and one of 24."""
    sides = {
        (launcher, jobs): lambda launcher=launcher, jobs=jobs: train_seconds(
            *WORDS, f"hydra/launcher={launcher}", f"seed=range(0,{jobs // 2})"
        )
        for launcher in ("basic", "joblib")
        for jobs in (4, 24)
    }
    times = alternate(sides, rounds)
    seconds = {name: median(times[name, 24]) - median(times[name, 4]) for name in ("basic", "joblib")}
    print(f"{f'20 MLPs, {os.cpu_count()} cores':<28} {'basic':>9} {'joblib':>9} {'ratio':>7}   goal   (s)")
    cells = f"{seconds['basic']:9.1f} {seconds['joblib']:9.1f} {seconds['basic'] / seconds['joblib']:7.2f}"
    print(f"{'40 epochs each':<28} {cells}   ≥ 1.7")
