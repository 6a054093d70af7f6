"""A digit as the numbers that a network sees (fastbook ch. 4)."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from seedbed.colours import PIXELS
from seedbed.errors import ConfigError
from seedbed.studies.findings import Findings, canvas
from seedbed.tables import show

MAX_SIDE = 20  # rows and columns of the printed table


def pixels(lab, image: int, overrides: Sequence[str]) -> Findings:
    """Print the pixels of a training image. Raises ConfigError where there is no such image."""
    splits = lab.data(overrides).splits
    if len(splits.shape) != 3:
        raise ConfigError(f"study.overrides={show(overrides)}: this data holds no images")
    images, labels = splits.train
    if image >= len(images):
        raise ConfigError(f"study.image={image}: must be < {len(images)}, the number of training images")
    values = images[image].float().mean(0).round().int()  # [H, W], colours averaged
    name = splits.classes[labels[image]]
    rows, columns = (slice(*ends) for ends in box(values))
    height, width = values.shape
    return Findings(
        f"Training image {image}, labelled {name}, is {height} × {width} numbers from 0 (white here) to 255; "
        f"rows {rows.start}–{rows.stop - 1}, columns {columns.start}–{columns.stop - 1}:",
        ["row", *map(str, range(columns.start, columns.stop))],
        [[y, *values[y, columns].tolist()] for y in range(rows.start, rows.stop)],
        {"pixels": _picture(values, f"Training image {image}, labelled {name}")},
        details=[{"row": y} | {str(x): value for x, value in enumerate(row)} for y, row in enumerate(values.tolist())],
    )


def box(values: Tensor) -> list[tuple[int, int]]:
    """Return (first, end) of the rows and of the columns that hold the digit, at most MAX_SIDE of each."""
    ends = []
    for axis in (1, 0):
        inked = values.any(axis).nonzero()[:, 0].tolist() or [0]
        first = inked[0]
        ends.append((first, min(inked[-1] + 1, first + MAX_SIDE)))
    return ends


def _picture(values: Tensor, title: str):
    height, width = values.shape
    fig, ax = canvas(min(0.33 * width + 0.8, 20), min(0.3 * height + 0.9, 20))
    ax.imshow(values, cmap=PIXELS, vmin=0, vmax=255, aspect="auto")
    if values.numel() <= 2500:
        for y, x in torch.cartesian_prod(torch.arange(height), torch.arange(width)).tolist():
            value = int(values[y, x])
            ax.text(x, y, value, ha="center", va="center", fontsize=7, color="white" if value > 128 else "black")
    ax.set_xticks(range(0, width, 2))
    ax.set_yticks(range(0, height, 2))
    ax.set_xlabel("column")
    ax.set_ylabel("row")
    ax.set_title(f"{title}: {height} × {width} numbers")
    return fig
