"""Pictures in a grid with a caption each: samples, class means, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 0.95  # inches of a picture
LINE = 0.16  # inches of a line of its caption
GAP = 0.12  # inches between two
SAMPLES = 40
CLASSES = 20  # at most, of the means
MISTAKES = 32


def grid(
    images: np.ndarray,
    captions: Sequence[str],
    title: str,
    columns: int,
    cmap: str = "gray",
    limits: tuple[float, float] = (0, 255),
    bar: str = "",
) -> Figure:
    """images [N, H, W], shown in cmap between limits, or [N, H, W, 3] in 0–1. bar: what the colours mean, if shown."""
    from matplotlib.figure import Figure

    n, height, width = images.shape[:3]
    rows, lines = -(-n // columns), max(caption.count("\n") + 1 for caption in captions)
    scale = max(height, width) / CELL  # pixels of an image an inch
    gap, head = round(GAP * scale) + 1, round(LINE * lines * scale) + 1
    empty = np.ones(3) if images.ndim == 4 else np.nan
    canvas = np.full((rows * (head + height + gap) - gap, columns * (width + gap) - gap, *images.shape[3:]), empty)
    inches = (canvas.shape[1] / scale + 0.3 + bool(bar), canvas.shape[0] / scale + 0.5)
    figure = Figure(figsize=(max(inches[0], 5.5), inches[1]), dpi=100, layout="constrained")
    ax = figure.subplots()
    for i, (image, caption) in enumerate(zip(images, captions, strict=True)):
        top, left = (i // columns) * (head + height + gap) + head, (i % columns) * (width + gap)
        canvas[top : top + height, left : left + width] = image
        ax.text(left + width / 2, top - 1, caption, ha="center", va="bottom", fontsize=8, linespacing=1.05)
    shown = ax.imshow(canvas, cmap=cmap, vmin=limits[0], vmax=limits[1], interpolation="nearest")
    if bar:
        figure.colorbar(shown, ax=ax, label=bar, shrink=min(1.0, 4 / inches[1]), aspect=15)
    ax.set_axis_off()
    figure.suptitle(title, fontsize=11)
    return figure


def shown(images: Tensor) -> np.ndarray:
    """Pixels 0–255 [N, C, H, W] as `grid` takes them: [N, H, W] in 0–255, or [N, H, W, 3] in 0–1."""
    if images.shape[1] == 3:
        return images.permute(0, 2, 3, 1).cpu().numpy() / 255
    return images.float().mean(1).cpu().numpy()


def samples(images: Tensor, target: Tensor, classes: Sequence[str]) -> Figure:
    """Pictures from all over a set, in its order."""
    n = min(SAMPLES, len(target))
    chosen = torch.arange(n, device=target.device) * len(target) // n
    captions = [classes[k] for k in target[chosen].tolist()]
    return grid(shown(images[chosen]), captions, f"Samples of the {len(target)} training pictures, with labels", 10)


def class_means(images: Tensor, target: Tensor, classes: Sequence[str]) -> Figure:
    """The mean picture of each class that has any."""
    counts = target.bincount(minlength=len(classes)).tolist()
    present = [k for k, n in enumerate(counts) if n][:CLASSES]
    means = torch.stack([images[target == k].double().mean(0) for k in present])
    captions = [f"{classes[k]}\n(n = {counts[k]})" for k in present]
    return grid(shown(means), captions, "Mean training picture of each class", min(len(means), 10))


def worst_mistakes(
    images: Tensor, target: Tensor, losses: Tensor, probabilities: Tensor, predicted: Tensor, classes: Sequence[str]
) -> Figure:
    """The wrong predictions of the greatest losses; probabilities [N, C]."""
    wrong = (target != predicted).nonzero()[:, 0]
    if not len(wrong):
        return grid(shown(images[:1]), [f"{classes[target[0]]}, as it said"], "No mistakes on the validation set", 1)
    order = wrong[losses[wrong].argsort(descending=True, stable=True)][:MISTAKES]
    captions = []
    between = ", " if max(map(len, classes)) < 4 else "\n"
    for i in order.tolist():
        said = int(predicted[i])
        names = f"true {classes[target[i]]}{between}said {classes[said]}"
        captions.append(f"{names}\np = {probabilities[i, said]:.4f}\nloss {losses[i]:.3f}")
    title = f"Worst {len(order)} of {len(wrong)} mistakes of the last weights on the validation set"
    note = "\n(p: the probability of what it said)"
    return grid(shown(images[order.to(images.device)]), captions, title + note, min(len(order), 8))
