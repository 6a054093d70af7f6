"""Read a picture file of any mode and depth as pixels, or refuse it by name."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

log = logging.getLogger(__name__)

ENDINGS = {".png", ".jpg", ".jpeg", ".bmp", ".gif", ".tif", ".tiff", ".webp", ".ppm", ".pgm"}
# whatever the ending says; no format that runs a program
FORMATS = ("PNG", "JPEG", "BMP", "GIF", "TIFF", "WEBP", "PPM")
MAX_PIXELS = 90_000_000  # a file of a few kilobytes can claim more than any memory holds
GREY, COLOUR = {"1", "L", "LA"}, {"P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr"}
DEEP = {"I", "I;16", "I;16B", "F"}  # grey, of more than 8 bits
RANGES = (1, 255, 65_535)  # of the values of deep pictures; 1 for floats only


class PictureError(ValueError):
    """A file that is damaged, too large, or of a kind that has no one obvious conversion to pixels."""


class SizeError(ValueError):
    """A picture of another size than wanted."""


def read_picture(path: Path, size: tuple[int, int] | None = None) -> np.ndarray:
    """Return uint8 [H, W] of a grey picture, uint8 [H, W, 3] of a coloured one.

    A picture of more than 8 bits stays [H, W] of its own type, until `to_bytes` knows the range of the whole set.
    The picture is turned as its EXIF orientation says. Transparent parts become white, or black where a picture would
    vanish on white. With `size` = (H, W), a picture of another size raises SizeError before it is decoded.
    """
    if not path.is_file():  # a named pipe would block
        raise PictureError(f"{path} is no file, or a link to none")
    try:
        # an open file, not its name: by name Pillow maps an uncompressed TIFF into memory and garbles a turned one
        with path.open("rb") as file:
            image = Image.open(file, formats=FORMATS)
            _check_header(image, path, size)
            image.verify()  # the checksums of a PNG, which decoding passes over; the picture must be opened anew then
            file.seek(0)
            image = Image.open(file, formats=FORMATS)
            image.load()
            ImageOps.exif_transpose(image, in_place=True)
    except (PictureError, SizeError):
        raise
    except Exception as error:  # Pillow's decoders raise a dozen kinds of errors where a file is damaged
        reason = "" if isinstance(error, UnidentifiedImageError) else f": {error or repr(error)}"
        raise PictureError(f"{path} is damaged or no picture{reason}") from error
    if size and image.size != size[::-1]:
        raise _size_error(image, path, size)
    pixels = _pixels(image, path)
    if pixels.dtype != np.uint8 and not 0 <= pixels.min() <= pixels.max() <= RANGES[-1]:  # false for nan, too
        shown = f"{pixels.min():g} to {pixels.max():g}"
        raise PictureError(f"{path}: its values go from {shown}; scale them to 0–1, 0–255 or 0–65535")
    return pixels


def _check_header(image: Image.Image, path: Path, size: tuple[int, int] | None) -> None:
    width, height = image.size
    if not 0 < width * height <= MAX_PIXELS:
        raise PictureError(f"{path} claims {width} × {height} pixels: at most {MAX_PIXELS:,} are read; scale it down")
    if size and sorted(image.size) != sorted(size):  # the orientation is not known yet
        raise _size_error(image, path, size)
    # an MPO file is a phone's photograph with a preview behind it
    if image.format != "MPO" and (frames := getattr(image, "n_frames", 1)) > 1:
        raise PictureError(f"{path} has {frames} frames or pages: save the one that is meant as a picture")


def _size_error(image: Image.Image, path: Path, size: tuple[int, int]) -> SizeError:
    width, height = image.size
    return SizeError(f"{path} has {width} × {height} pixels, others {size[1]} × {size[0]}: scale them to one size")


def _pixels(image: Image.Image, path: Path) -> np.ndarray:
    transparent = image.has_transparency_data
    if image.mode in DEEP and not transparent:
        return np.asarray(image).astype(np.float32 if image.mode == "F" else np.int32)
    if image.mode not in GREY | COLOUR:
        kind = f"mode {image.mode}{' with a transparent value' * transparent}"
        raise PictureError(f"{path}: pictures of {kind} are not supported; convert it to RGB or grey")
    flat = _on_paper(image) if transparent else image
    pixels = np.asarray(flat.convert("L" if image.mode in GREY else "RGB"))
    if image.mode in ("P", "PA") and (pixels == pixels[..., :1]).all():
        return pixels[..., 0]  # a palette of greys
    return pixels


def _on_paper(image: Image.Image) -> Image.Image:
    """Put a picture with an alpha channel on white; on black where it can be seen on black only, as white ink can."""
    rgba = image.convert("RGBA")
    papers = (Image.new("RGBA", image.size, colour) for colour in ("white", "black"))
    flats = [Image.alpha_composite(paper, rgba).convert("RGB") for paper in papers]
    return max(flats, key=lambda flat: any(low < high for low, high in flat.getextrema()))  # the first of equals


def to_bytes(pictures: Sequence[np.ndarray]) -> list[np.ndarray]:
    """Convert deep pictures to uint8 by one range for all of a kind (int, float): the least of RANGES that holds them.

    A single dark picture among others stays dark.
    """
    highest = {kind: max((p.max() for p in pictures if p.dtype.kind == kind), default=0) for kind in "if"}
    most = next(r for r in RANGES if highest["f"] <= r)
    if 255 < max(highest.values()) < 4096:
        log.warning("pictures of 16 bits reach only %d of 65535: almost black; scale them up", max(highest.values()))

    def convert(picture: np.ndarray) -> np.ndarray:
        if picture.dtype.kind == "f":
            picture = np.rint(picture * (255 / most))
        elif picture.dtype.kind == "i" and highest["i"] > 255:
            picture = picture >> 8
        return picture.astype(np.uint8, copy=False)

    return list(map(convert, pictures))
