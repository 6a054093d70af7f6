"""A trained network asked about picture files."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from PIL import Image

from seedbed.data.picture_file import ENDINGS, read_picture, to_bytes
from seedbed.errors import ConfigError
from seedbed.pictures.digits import grid
from seedbed.trained.photographs import photograph_as_digit
from seedbed.training.load import Loaded

if TYPE_CHECKING:
    from matplotlib.figure import Figure

TILE = 140  # pixels of a picture's side on the sheet of what the network saw
MAX_SHOWN = 60  # pictures on that sheet


@dataclass(frozen=True)
class Prediction:
    """A prediction for one picture. tile: the picture beside what the network saw, uint8 [TILE, 2 TILE, 3]."""

    file: Path
    probabilities: dict[str, float]
    tile: np.ndarray

    @property
    def ranked(self) -> list[tuple[str, float]]:
        """Classes with their probabilities, the most probable first."""
        return sorted(self.probabilities.items(), key=lambda item: -item[1])


def pictures_in(paths: Iterable[Path]) -> list[Path]:
    """List files as they are, and the pictures in folders and in all folders below, but none with hidden names."""
    found = []
    for path in paths:
        inside = [path]
        if path.is_dir():
            inside = [p for p in sorted(path.rglob("*")) if p.suffix.lower() in ENDINGS and p.is_file()]
            inside = [p for p in inside if not any(part.startswith(".") for part in p.relative_to(path).parts)]
        if not inside:
            raise ConfigError(f"{path}: has no picture in it ({', '.join(sorted(ENDINGS))})")
        found += inside
    return found


def predict(loaded: Loaded, file: Path, as_digit: bool) -> Prediction:
    """Ask about one picture. Raises ValueError, in one line, for a file that is no picture or shows no digit."""
    picture = to_bytes([read_picture(file)])[0]
    try:
        seen = as_input(picture, loaded.facts.shape, as_digit)
    except ValueError as error:
        raise ValueError(f"{file}: {error}") from error
    probabilities = loaded.probabilities(torch.from_numpy(seen)[None])[0].tolist()
    return Prediction(file, dict(zip(loaded.require_classes(), probabilities, strict=True)), _tile(picture, seen))


def as_input(picture: np.ndarray, shape: Sequence[int], as_digit: bool) -> np.ndarray:
    """Return uint8 [C, H, W] of a picture uint8 [H, W] or [H, W, 3]: made as MNIST's were, or only resized."""
    if as_digit:
        return photograph_as_digit(picture)[None]
    channels, height, width = shape
    image = Image.fromarray(picture).convert("L" if channels == 1 else "RGB")
    pixels = np.array(image.resize((width, height), Image.Resampling.BILINEAR))
    return pixels[None] if channels == 1 else np.ascontiguousarray(pixels.transpose(2, 0, 1))


def _tile(picture: np.ndarray, seen: np.ndarray) -> np.ndarray:
    sheet = Image.new("RGB", (2 * TILE, TILE), "white")
    given = Image.fromarray(picture).convert("RGB")
    given.thumbnail((TILE - 4, TILE))
    sheet.paste(given, ((TILE - 4 - given.width) // 2, (TILE - given.height) // 2))
    pixels = Image.fromarray(seen[0] if len(seen) == 1 else seen.transpose(1, 2, 0)).convert("RGB")
    sheet.paste(pixels.resize((TILE, TILE), Image.Resampling.NEAREST), (TILE, 0))
    return np.asarray(sheet)


def sheet(predictions: Sequence[Prediction]) -> Figure:
    """Draw each picture, at most MAX_SHOWN, beside what the network saw of it."""
    shown = predictions[:MAX_SHOWN]
    captions = []
    for prediction in shown:
        name, probability = prediction.ranked[0]
        captions.append(f"{prediction.file.name[-28:]}\n{name}   p = {probability:.3f}")
    title = f"{len(shown)} of {len(predictions)} pictures, each beside what the network saw of it"
    return grid(np.stack([p.tile for p in shown]) / 255, captions, title, min(len(shown), 5))
