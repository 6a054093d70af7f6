"""Pictures in a grid, each with a caption: samples, class means, mistakes."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import torch
from torch import Tensor

from seedbed.colours import DIGITS
from seedbed.tables import figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CELL = 0.95  # inches of a picture
LINE = 0.16  # inches of a line of its caption
GAP = 0.12  # inches between two pictures
SAMPLES = 40
MAX_CLASSES = 20  # of the class means
MISTAKES = 32


def grid(
    images: np.ndarray,
    captions: Sequence[str],
    title: str,
    columns: int,
    cmap: str = DIGITS,
    limits: tuple[float, float] = (0, 255),
    bar: str = "",
) -> Figure:
    """Draw images [N, H, W] in `cmap` between `limits`, or [N, H, W, 3] in 0–1. bar: title of a colour bar, if any."""
    from matplotlib.figure import Figure

    n, height, width = images.shape[:3]
    rows, lines = -(-n // columns), max(caption.count("\n") + 1 for caption in captions)
    # one canvas holds all pictures, each below the space for its caption; sizes in pixels of the pictures
    scale = max(height, width) / CELL  # pixels in an inch
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


def as_images(pixels: Tensor) -> np.ndarray:
    """Convert pixels 0–255 [N, C, H, W] to what `grid` takes: [N, H, W] in 0–255, or [N, H, W, 3] in 0–1."""
    if pixels.shape[1] == 3:
        return pixels.permute(0, 2, 3, 1).cpu().numpy() / 255
    return pixels.float().mean(1).cpu().numpy()


def samples(images: Tensor, target: Tensor, classes: Sequence[str]) -> Figure:
    """Draw evenly spaced pictures of a set."""
    n = min(SAMPLES, len(target))
    chosen = torch.arange(n, device=target.device) * len(target) // n
    captions = [classes[k] for k in target[chosen].tolist()]
    return grid(as_images(images[chosen]), captions, f"Samples of the {len(target)} training pictures, with labels", 10)


def class_means(images: Tensor, target: Tensor, classes: Sequence[str]) -> Figure:
    """Draw the mean picture of each class that has any."""
    counts = target.bincount(minlength=len(classes)).tolist()
    present = [k for k, n in enumerate(counts) if n][:MAX_CLASSES]
    means = torch.stack([images[target == k].double().mean(0) for k in present])
    captions = [f"{classes[k]}\n(n = {counts[k]})" for k in present]
    return grid(as_images(means), captions, "Mean training picture of each class", min(len(means), 10))


def worst_mistakes(
    images: Tensor,
    target: Tensor,
    losses: Tensor,
    probabilities: Tensor,
    predicted: Tensor,
    classes: Sequence[str],
    weights: str = "last weights",
    pictures: str = "validation pictures",
) -> Figure:
    """Draw the wrong predictions with the greatest losses; probabilities [N, C]."""
    wrong = (target != predicted).nonzero()[:, 0]
    if not len(wrong):
        caption = f"{classes[target[0]]}, predicted so"
        return grid(as_images(images[:1]), [caption], f"No mistakes on {len(target)} {pictures}", 1)
    order = wrong[losses[wrong].argsort(descending=True, stable=True)][:MISTAKES]
    captions = []
    between = ", " if max(map(len, classes)) < 4 else "\n"
    for i in order.tolist():
        prediction = int(predicted[i])
        names = f"true {classes[target[i]]}{between}pred. {classes[prediction]}"
        captions.append(f"{names}\np = {probabilities[i, prediction]:.4f}\nloss {figure(losses[i].item())}")
    title = f"Worst {len(order)} of {len(wrong)} mistakes of the {weights} on {len(target)} {pictures}"
    title += "\n(p: the probability of the predicted class)"
    return grid(as_images(images[order.to(images.device)]), captions, title, min(len(order), 8))
