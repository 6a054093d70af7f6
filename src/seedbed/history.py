"""The metrics of a run by epoch: history.csv."""

from __future__ import annotations

import csv
import os
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path
from typing import Any

from seedbed.event_files import read_scalars
from seedbed.files import write_whole
from seedbed.metrics import TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS
from seedbed.tables import csv_text

NAME = "history.csv"
COLUMNS = ("epoch", TRAIN_LOSS, VAL_LOSS, VAL_ACCURACY, "lr", "seconds")


def write_history(folder: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Write history.csv: one row an epoch, with the values of COLUMNS that it has."""
    write_whole(folder / NAME, csv_text(COLUMNS, ([row.get(column, "") for column in COLUMNS] for row in rows)))


def read_history(folder: str | os.PathLike, metrics: Collection[str]) -> dict[str, dict[int, float]]:
    """Return metric → epoch → value from a run's history.csv; epoch 0 is the untrained network.

    A killed run left no history.csv, so its events are read instead. They have one validation an epoch; in an earlier
    version every metric had one value an epoch, so the n-th step is epoch n.
    """
    try:
        with open(f"{folder}/{NAME}", newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
    except FileNotFoundError:
        by_step = read_scalars(folder, {*metrics, VAL_LOSS})
        first = 0 if 0 in by_step.get(VAL_LOSS, {}) else 1
        by_epoch = [m for m in metrics if m in by_step and (first or m.startswith("val/"))]
        return {m: {n: by_step[m][step] for n, step in enumerate(sorted(by_step[m]), first)} for m in by_epoch}
    curves = {metric: {int(row["epoch"]): float(row[metric]) for row in rows if row.get(metric)} for metric in metrics}
    return {metric: curve for metric, curve in curves.items() if curve}
