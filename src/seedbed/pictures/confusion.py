"""The confusion matrix."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

LABELLED = 26  # classes up to which every cell has its number


def counted(target: Tensor, predicted: Tensor, c: int) -> np.ndarray:
    """int64 [C true, C predicted]."""
    return (target * c + predicted).bincount(minlength=c * c).view(c, c).numpy()


def confusion(target: Tensor, predicted: Tensor, classes: Sequence[str]) -> Figure:
    """Counts, mistakes in red and what is right in green; each row says its accuracy."""
    from matplotlib.figure import Figure

    counts, c, wrong = counted(target, predicted, len(classes)), len(classes), (target != predicted).sum().item()
    side = min(max(3.5, 0.55 * c + 1.5), 16)
    figure = Figure(figsize=(max(side + 1, 5.5), side + 0.5), dpi=100, layout="constrained")
    ax = figure.subplots()
    right = np.eye(c, dtype=bool)
    mistakes = np.ma.masked_array(counts, right)  # what is masked stays transparent
    ax.imshow(np.where(right, 1.0, np.nan), cmap="Greens", vmin=0, vmax=3)
    ax.imshow(mistakes, cmap="Reds", vmin=0, vmax=max(counts[~right].max(initial=0) * 1.4, 1))
    if c <= LABELLED:
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
    title = f"Last weights on {len(target)} validation pictures:\n{wrong} wrong ({rate:.2f} %)"
    ax.set_title(title, fontsize=11)
    return figure
