"""The confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

from seedbed.colours import MISTAKES, RIGHT

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_LABELLED = 26  # classes; with more, cells have no numbers


def count_pairs(target: Tensor, predicted: Tensor, num_classes: int) -> np.ndarray:
    """Count the pairs of true and predicted class: int64 [C true, C predicted]."""
    pairs = target * num_classes + predicted
    return pairs.bincount(minlength=num_classes**2).view(num_classes, num_classes).numpy()


def confusion(
    target: Tensor,
    predicted: Tensor,
    classes: Sequence[str],
    weights: str = "last weights",
    pictures: str = "validation pictures",
) -> Figure:
    """Draw the counts, mistakes in red and right answers in green, and the accuracy of each class."""
    from matplotlib.figure import Figure

    c, wrong = len(classes), (target != predicted).sum().item()
    counts = count_pairs(target, predicted, c)
    side = min(max(3.5, 0.55 * c + 1.5), 16)
    figure = Figure(figsize=(max(side + 1, 5.5), side + 0.5), dpi=100, layout="constrained")
    ax = figure.subplots()
    # two images over each other: the diagonal is transparent in the second
    right = np.eye(c, dtype=bool)
    ax.imshow(np.where(right, 1.0, np.nan), cmap=RIGHT, vmin=0, vmax=3)
    ax.imshow(
        np.ma.masked_array(counts, right), cmap=MISTAKES, vmin=0, vmax=max(counts[~right].max(initial=0) * 1.4, 1)
    )
    if c <= MAX_LABELLED:
        for i, j in np.ndindex(c, c):
            ax.text(j, i, counts[i, j] or "·", ha="center", va="center", fontsize=9)
    of_class = counts.sum(1)
    accuracy = np.diag(counts) / np.maximum(of_class, 1)
    names = [
        f"{name}  ({100 * a:.1f} %)" if n else name for name, a, n in zip(classes, accuracy, of_class, strict=True)
    ]
    ax.set_xticks(range(c), classes, rotation=0 if max(map(len, classes)) < 4 else 90)
    ax.set_yticks(range(c), names)
    ax.set(xlabel="predicted", ylabel="true (share of it that is right)")
    rate = 100 * wrong / max(len(target), 1)
    title = f"{weights.capitalize()} on {len(target)} {pictures}:\n{wrong} wrong ({rate:.2f} %)"
    ax.set_title(title, fontsize=11)
    return figure
