"""20 MLPs in as many processes as there are cores, beside one after another; the time to start is subtracted."""

from __future__ import annotations

import os
from statistics import median

from benchmarks.measure import train_seconds

OVERRIDES = ["-m", "trainer.max_epochs=40", "optim.lr=0.1,1"]


def main(rounds: int = 2) -> None:
    """Print the difference between a sweep of 24 jobs and one of 4, in which the start cancels out."""
    times: dict[str, list[float]] = {"basic": [], "processes": []}
    for _ in range(rounds):
        for launcher in times:
            few, many = (
                train_seconds(*OVERRIDES, f"hydra/launcher={launcher}", f"seed=range(0,{jobs // 2})")
                for jobs in (4, 24)
            )
            times[launcher].append(many - few)
    basic, processes = (median(seconds) for seconds in times.values())
    print(f"{f'20 MLPs, {os.cpu_count()} cores':<28} {'basic':>9} {'processes':>9} {'ratio':>7}   goal   (s)")
    print(f"{'one thread each':<28} {basic:9.1f} {processes:9.1f} {basic / processes:7.2f}   ≥ 1.7", flush=True)
