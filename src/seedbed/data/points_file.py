"""Read a file of points: two columns of numbers, x and y."""

from __future__ import annotations

import math
import re
from pathlib import Path

import torch
from torch import Tensor

MAX_BYTES = 2**26  # a million points and more


def read_points(path: str) -> tuple[Tensor, Tensor, tuple[str, str]]:
    """Return x [N] and y [N], float64 in the order of x, and the names of the columns.

    Columns are separated by semicolons, tabs, commas or spaces. A first line without numbers names them; without it
    they are x and y. Empty lines and lines that begin with # are passed over. Raises ValueError.
    """
    try:
        if (size := Path(path).stat().st_size) > MAX_BYTES:
            raise ValueError(f"{size:,} bytes are more than {MAX_BYTES:,}")
        points, names = _parse(Path(path).read_text(encoding="utf-8-sig"))
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise ValueError(f"data.points={path}: {reason}") from error
    points = torch.tensor(sorted(points), dtype=torch.float64)
    return points[:, 0], points[:, 1], names


def _parse(text: str) -> tuple[list[list[float]], tuple[str, str]]:
    lines = [(number, line.strip()) for number, line in enumerate(text.splitlines(), 1)]
    lines = [(number, line) for number, line in lines if line and not line.startswith("#")]
    separator = next((mark for mark in ";\t," if lines and mark in lines[0][1]), None)
    points, names = [], ("x", "y")
    for i, (number, line) in enumerate(lines):
        row = [field.strip().strip('"') for field in line.split(separator)]
        if len(row) != 2:
            raise ValueError(f"line {number} has {len(row)} columns; two are wanted, x and y")
        if i == 0 and not any(re.match(r"[-+.\d]", field) for field in row):
            names = (row[0], row[1])
            continue
        try:
            points.append([float(field) for field in row])
        except ValueError:
            raise ValueError(f"line {number} is no pair of numbers: {line[:40]}") from None
        if not all(map(math.isfinite, points[-1])):
            raise ValueError(f"line {number} is not finite: {line[:40]}")
    if len(points) < 5:
        raise ValueError(f"holds {len(points)} points; at least 5 are wanted, of which every fifth validates")
    return points, names
