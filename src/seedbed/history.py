"""Read the metrics of a run by epoch."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection

from seedbed.event_files import read_scalars

NAME = "history.csv"


def read_history(folder: str | os.PathLike, metrics: Collection[str]) -> dict[str, dict[int, float]]:
    """Return metric → epoch → value from a run's history.csv; epoch 0 is the untrained network.

    Runs of earlier versions left none, but logged each metric once an epoch to TensorBoard: their n-th step is epoch n.
    """
    try:
        with open(f"{folder}/{NAME}", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        return {
            metric: {epoch: steps[step] for epoch, step in enumerate(sorted(steps), start=1)}
            for metric, steps in read_scalars(folder, metrics).items()
        }
    curves = {metric: {int(row["epoch"]): float(row[metric]) for row in rows if row.get(metric)} for metric in metrics}
    return {metric: curve for metric, curve in curves.items() if curve}
