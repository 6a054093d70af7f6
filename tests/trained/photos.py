"""Photographs of digits as a phone might take them, made of MNIST's: paper, pen, light from a side, noise, JPEG."""

from __future__ import annotations

import io

import numpy as np
from PIL import Image, ImageFilter


def photograph(digit: np.ndarray, draw: np.random.Generator, shadow: bool = False) -> np.ndarray:
    """Return uint8 [H, W, 3] of a digit uint8 [28, 28], anywhere on paper of 70 to 2,000 pixels."""
    box = digit[digit.any(1)][:, digit.any(0)]
    side = int(draw.integers(60, 600))
    large = Image.fromarray(box).resize([max(4, s * side // 20) for s in box.shape[::-1]], Image.Resampling.BICUBIC)
    edges = np.asarray(large.filter(ImageFilter.GaussianBlur(side / 40))) / 255
    strokes = 1 / (1 + np.exp(-14 * (edges - 0.5)))
    margins = (draw.uniform(0.15, 1.2, 4) * max(strokes.shape)).astype(int)
    ink = np.pad(strokes, (margins[:2], margins[2:]))
    dark = draw.random() < 0.7
    paper = draw.uniform(0.6, 1) if dark else draw.uniform(0, 0.25)
    pen = paper - draw.uniform(0.3, 0.55) if dark else paper + draw.uniform(0.35, 0.7)
    y, x = np.meshgrid(*(np.linspace(-1, 1, size) for size in ink.shape), indexing="ij")
    light = 1 + draw.uniform(-0.2, 0.2) * x + draw.uniform(-0.2, 0.2) * y - draw.uniform(0, 0.15) * (x**2 + y**2)
    if shadow:
        angle = draw.uniform(0, np.pi)
        across = np.cos(angle) * x + np.sin(angle) * y - draw.uniform(-0.5, 0.5)
        light *= 1 - draw.uniform(0.15, 0.4) / (1 + np.exp(-across * draw.uniform(15, 60)))
    tint = np.array([1, draw.uniform(0.85, 1), draw.uniform(0.75, 1)])
    grey = (paper * (1 - ink) + pen * ink) * light
    noisy = grey[..., None] * tint + draw.normal(0, draw.uniform(0.005, 0.04), (*grey.shape, 3))
    file = io.BytesIO()
    Image.fromarray((255 * noisy.clip(0, 1)).astype(np.uint8)).save(file, "JPEG", quality=int(draw.integers(50, 95)))
    return np.asarray(Image.open(file))
