"""Photographs of digits as MNIST's pictures were made: ink found, cut out, scaled to 20 pixels, centred by its mass."""

from __future__ import annotations

import numpy as np
from PIL import Image

SIDE = 28  # pixels of a picture of MNIST, height and width
BOX = 20  # pixels of the longer side of a digit in it
STROKE = (1.4, 1.9)  # pixels: the tenth of MNIST's digits that are thinnest, and the median
WORK = 256  # pixels of the longer side of the photograph in which the ink is looked for
FINE = 8  # pixels of a stroke's width are measured on a picture so many times as fine as MNIST's


class NoDigitError(ValueError):
    """A picture without anything written on it."""


def photograph_as_digit(picture: np.ndarray) -> np.ndarray:
    """uint8 [28, 28], light on dark, of a photograph uint8 [H, W] or [H, W, 3] of any size, dark on light or not.

    A picture of that form already stays as it is. Raises NoDigitError where there is nothing to be seen.
    """
    grey = picture if picture.ndim == 2 else picture @ np.array([0.299, 0.587, 0.114])
    if grey.shape == (SIDE, SIDE) and np.median(_border(grey)) < 32:
        return grey.astype(np.uint8)
    factor = min(1.0, WORK / max(grey.shape))
    size = [max(1, round(side * factor)) for side in grey.shape[::-1]]
    small = np.asarray(Image.fromarray(grey.astype(np.float32)).resize(size, Image.Resampling.BOX), np.float64)
    ink, mask = _largest(*_ink(small))
    rows, columns = np.flatnonzero(mask.any(1)), np.flatnonzero(mask.any(0))
    box = ink[rows[0] : rows[-1] + 1, columns[0] : columns[-1] + 1]
    return centred(_thick_enough(_scaled(box, FINE * BOX / max(box.shape))))


def centred(ink: np.ndarray) -> np.ndarray:
    """uint8 [28, 28] of ink [H, W] in 0–1 that fills its frame.

    Scaled so that the longer side is 20 pixels, each the mean of what it covers, and moved by whole pixels until the
    centre of mass lies in the middle.
    """
    small = _scaled(ink, BOX / max(ink.shape))
    picture, mass = np.zeros((SIDE, SIDE)), small.sum()
    places = []
    for axis, size in enumerate(small.shape):
        centre = (small.sum(1 - axis) * np.arange(size)).sum() / mass
        # MNIST's centres of mass lie within half a pixel of 14, counted from the first pixel's 0
        places.append(int(np.clip(np.floor(SIDE / 2 - centre + 0.5), 0, SIDE - size)))
    picture[places[0] : places[0] + small.shape[0], places[1] : places[1] + small.shape[1]] = small
    return np.floor(255 * picture.clip(0, 1) + 0.5).astype(np.uint8)


def _scaled(picture: np.ndarray, factor: float) -> np.ndarray:
    """[H, W] × factor, at least a pixel; each pixel is the mean of the area that it covers."""
    for axis in (0, 1):
        size = picture.shape[axis]
        new = max(1, int(np.floor(size * factor + 0.5)))
        edges = np.arange(new + 1) * size / new
        # [new, size]: how much of each old pixel lies in each new one
        low, high = edges[:-1, None], edges[1:, None]
        covered = (np.minimum(high, np.arange(size) + 1) - np.maximum(low, np.arange(size))).clip(0)
        picture = np.moveaxis(np.tensordot(covered * new / size, picture, (1, axis)), 0, axis)
    return picture


def _border(grey: np.ndarray) -> np.ndarray:
    return np.concatenate([grey[0], grey[-1], grey[:, 0], grey[:, -1]])


def _ink(grey: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(ink in 0–1, mask of what is surely ink), whatever the paper's shade and the light on it."""
    reach = max(2, round(0.15 * max(grey.shape)))
    smooth = _mean(grey, 1)
    noise = 1.4826 * np.median(np.abs(grey - smooth))
    # ink is little beside the paper around it; a shadow's edge is as much lighter on one side as darker on the other
    dark = smooth if ((grey - _mean(grey, reach)) ** 3).sum() < 0 else -smooth
    # the paper's shade closes over strokes, which are narrower than the window, and keeps shadows
    paper = -_highest(-_highest(dark, reach), reach)
    ink = paper - dark
    ink = (ink - np.median(ink)).clip(0)
    threshold = _otsu(ink)
    full = np.percentile(ink[ink > threshold], 75) if (ink > threshold).any() else 0.0
    if full < max(16.0, 4 * noise):
        raise NoDigitError("nothing is to be seen on it")
    low = max(0.25 * full, noise)
    return ((ink - low) / (0.9 * full - low)).clip(0, 1), ink > 0.5 * full


def _mean(picture: np.ndarray, reach: int) -> np.ndarray:
    """Means [H, W] over windows of 2 reach + 1 pixels each way, as many of them as there are."""
    for axis in (0, 1):
        sums = np.insert(picture.cumsum(axis), 0, 0.0, axis)
        first = np.maximum(np.arange(picture.shape[axis]) - reach, 0)
        end = np.minimum(np.arange(picture.shape[axis]) + reach + 1, picture.shape[axis])
        count = np.expand_dims(end - first, 1 - axis)
        picture = (sums.take(end, axis) - sums.take(first, axis)) / count
    return picture


def _highest(picture: np.ndarray, reach: int) -> np.ndarray:
    """The highest [H, W] in windows of 2 reach + 1 pixels each way."""
    for _ in (0, 1):
        picture = np.pad(picture, ((reach, reach), (0, 0)), mode="minimum")
        width = 1
        while width < 2 * reach + 1:  # the windows grow to twice their width, or to what is left
            step = min(width, 2 * reach + 1 - width)
            picture, width = np.maximum(picture[:-step], picture[step:]), width + step
        picture = picture.T
    return picture


def _otsu(values: np.ndarray) -> float:
    """The threshold that parts values into two groups with the least variance inside them (Otsu 1979)."""
    counts, edges = np.histogram(values, 128)
    weight, centres = counts.cumsum(), (edges[1:] + edges[:-1]) / 2
    mass = (counts * centres).cumsum()
    below, above = weight[:-1], weight[-1] - weight[:-1]
    between = (mass[-1] * below / weight[-1] - mass[:-1]) ** 2 / np.maximum(below * above, 1)
    return edges[1 + between.argmax()]


def _largest(ink: np.ndarray, mask: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Ink and mask of the largest thing on the picture, with what lies near it: a five's bar may hang in the air."""
    thick = np.pad(_highest(mask, 2), 1)
    # each pixel's number spreads over all that it touches; nothing touches across the margin of one pixel
    labels, spread = None, thick * np.arange(1, thick.size + 1).reshape(thick.shape)
    while labels is None or (labels != spread).any():
        labels = spread
        for step, axis in ((1, 0), (-1, 0), (1, 1), (-1, 1)):
            spread = np.maximum(spread, np.roll(spread, step, axis)) * thick
    labels = labels[1:-1, 1:-1] * mask
    sizes = np.bincount(labels.ravel(), ink.ravel())
    sizes[0] = 0
    inside = sizes.copy()
    inside[np.unique(_border(labels))] = 0
    # a shadow or the table's edge touches the picture's, but so may a digit that fills it
    sizes = inside if inside.max() > 0.1 * sizes.max() else sizes
    mask = labels == sizes.argmax()
    side = max(np.ptp(np.nonzero(mask), axis=1)) + 1
    near = np.unique(labels[_highest(mask, round(0.12 * side)) > 0])
    mask = np.isin(labels, near[sizes[near] > 0.03 * sizes.max()])
    return ink * _highest(mask, 2), mask


def _thick_enough(ink: np.ndarray) -> np.ndarray:
    """A thin pen's strokes, which would be grey threads on MNIST's scale, as thick as MNIST's are."""
    mask = np.pad(ink > 0.5, 1)
    outline = sum((mask & ~np.roll(mask, step, axis)).sum() for step in (1, -1) for axis in (0, 1))
    width = 2 * mask.sum() / max(outline, 1) / FINE
    if width >= STROKE[0]:
        return ink
    grow = round((STROKE[1] - width) / 2 * FINE)
    return _highest(np.pad(ink, grow), grow)
