"""A picture file of any mode and depth becomes its pixels, converted by its range, or is refused by name."""

import io
import os
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from seedbed.data.picture_file import PictureError, SizeError, read_picture, to_bytes

RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
RGB = RNG.integers(0, 256, (6, 5, 3), dtype=np.uint8)
ALPHA = RNG.integers(0, 256, (6, 5), dtype=np.uint8)
PIXELS[0, :2] = ALPHA[1, :2] = 0, 255  # both ends of the range
GREY, COLOUR = Image.fromarray(PIXELS), Image.fromarray(RGB)


def with_alpha(picture, alpha):
    picture = picture.copy()
    picture.putalpha(Image.fromarray(alpha))
    return picture


def on_white(pixels):
    """The pixels blended with white paper by ALPHA."""
    alpha = ALPHA / 255 if pixels.ndim == 2 else ALPHA[..., None] / 255
    return 255 + (pixels - 255.0) * alpha


def palette_with_a_transparent_entry():
    """A palette picture whose entry 1 is transparent: (pixels on white paper, picture)."""
    picture = Image.fromarray(PIXELS % 4).convert("P")
    colours = np.array([[10, 20, 30], [200, 0, 0], [0, 200, 0], [0, 0, 200]], np.uint8)
    picture.putpalette(colours.tobytes())
    picture.info["transparency"] = 1
    colours[1] = 255
    return colours[PIXELS % 4], picture


def from_ycbcr(pixels):
    """JFIF's formula."""
    y, cb, cr = np.moveaxis(pixels.astype(float), -1, 0) - np.array([0, 128, 128])[:, None, None]
    return np.stack([y + 1.402 * cr, y - 0.344136 * cb - 0.714136 * cr, y + 1.772 * cb], -1).clip(0, 255)


CMYK = np.concatenate([RGB, ALPHA[..., None]], -1)
KEYED, KEYED_PICTURE = palette_with_a_transparent_entry()
# name → (picture, ending, expected pixels, tolerance)
CASES = {
    "1 bit": (GREY.point(lambda v: 255 * (v > 127), "1"), "png", 255 * (PIXELS > 127), 0),
    **{f"grey {ending}": (GREY, ending, PIXELS, 0) for ending in ("png", "bmp", "tif", "ppm", "gif")},
    **{f"RGB {ending}": (COLOUR, ending, RGB, 0) for ending in ("png", "bmp", "tiff", "ppm")},
    "RGB webp": (COLOUR, "webp", RGB, 0),
    "opaque LA": (with_alpha(GREY, np.full_like(PIXELS, 255)), "png", PIXELS, 0),
    "opaque RGBA": (with_alpha(COLOUR, np.full_like(PIXELS, 255)), "png", RGB, 0),
    "LA": (with_alpha(GREY, ALPHA), "png", on_white(PIXELS), 1),
    "RGBA": (with_alpha(COLOUR, ALPHA), "webp", on_white(RGB), 1),
    "alpha only, black ink": (with_alpha(Image.new("L", (5, 6), 0), ALPHA), "png", 255 - ALPHA, 0),
    "alpha only, white ink": (with_alpha(Image.new("L", (5, 6), 255), ALPHA), "png", ALPHA, 0),
    "palette": (COLOUR.quantize(256), "png", RGB, 0),
    "palette of greys": (GREY.convert("P"), "png", PIXELS, 0),
    "palette with a transparent entry": (KEYED_PICTURE, "png", KEYED, 0),
    "CMYK": (Image.fromarray(CMYK, "CMYK"), "tif", (255 - RGB) * (255.0 - ALPHA[..., None]) / 255, 1),
    "YCbCr": (Image.fromarray(RGB, "YCbCr"), "tif", from_ycbcr(RGB), 2),
    "16 bit png": (Image.fromarray(PIXELS * np.uint16(257)), "png", PIXELS, 0),
    "16 bit pgm": (Image.fromarray(PIXELS * np.uint16(257)), "pgm", PIXELS, 0),
    "16 bit tif, shifted": (Image.fromarray(PIXELS.astype(np.uint16) << 8), "tif", PIXELS, 0),
    "16 bit tif, big-endian": (Image.fromarray((PIXELS * np.uint16(257)).astype(">u2")), "tif", PIXELS, 0),
    "8 bits in 16": (Image.fromarray(PIXELS.astype(np.uint16)), "png", PIXELS, 0),
    "8 bits in 32": (Image.fromarray(PIXELS.astype(np.int32)), "tif", PIXELS, 0),
    "16 bits in 32": (Image.fromarray(PIXELS.astype(np.int32) * 257), "tif", PIXELS, 0),
    "float 0-1": (Image.fromarray(PIXELS.astype(np.float32) / 255), "tif", PIXELS, 0),
    "float 0-255": (Image.fromarray(PIXELS.astype(np.float32)), "tif", PIXELS, 0),
    "float 0-65535": (Image.fromarray(PIXELS.astype(np.float32) * 257), "tif", PIXELS, 0),
}


def save(picture, path, **options):
    picture.save(path, {"tif": "TIFF", "pgm": "PPM"}.get(path.suffix[1:]), **options)
    return path


@pytest.mark.filterwarnings("ignore:'mode' parameter:DeprecationWarning")
@pytest.mark.parametrize("name", CASES)
def test_picture_is_converted_by_its_mode_and_range(tmp_path, name):
    picture, ending, expected, tolerance = CASES[name]
    options = {"lossless": True, "exact": True} if ending == "webp" else {}
    (pixels,) = to_bytes([read_picture(save(picture, tmp_path / f"x.{ending}", **options))])
    assert pixels.dtype == np.uint8 and pixels.shape == np.shape(expected)
    assert np.abs(pixels - np.asarray(expected, float)).max() <= tolerance


# EXIF orientation → what turns the stored pixels upright, by the standard's table
UPRIGHT = {
    1: lambda p: p,
    2: np.fliplr,
    3: lambda p: np.rot90(p, 2),
    4: np.flipud,
    5: np.transpose,
    6: lambda p: np.rot90(p, -1),
    7: lambda p: np.rot90(p, 2).T,
    8: np.rot90,
}


@pytest.mark.parametrize("ending", ["png", "tif"])
@pytest.mark.parametrize("picture", [GREY, Image.fromarray(PIXELS * np.uint16(257))], ids=["8 bit", "16 bit"])
def test_picture_is_turned_as_its_exif_orientation_says(tmp_path, ending, picture):
    for orientation, upright in UPRIGHT.items():
        exif = Image.Exif()
        exif[0x0112] = orientation
        path = save(picture, tmp_path / f"{orientation}.{ending}", exif=exif)
        (pixels,) = to_bytes([read_picture(path)])
        assert np.array_equal(pixels, upright(PIXELS)), orientation
        read_picture(path, upright(PIXELS).shape)
        with pytest.raises(SizeError, match="scale them to one size"):
            read_picture(path, upright(PIXELS).shape[::-1])


def test_deep_pictures_of_a_set_share_one_range():
    dark, bright = np.full((2, 2), 200, np.int32), np.full((2, 2), 65_535, np.int32)
    assert [p.max() for p in to_bytes([dark, bright])] == [0, 255]
    assert [p.max() for p in to_bytes([dark])] == [200]
    half, full = np.full((2, 2), 0.5, np.float32), np.full((2, 2), 255, np.float32)
    assert [p.max() for p in to_bytes([half, dark])] == [128, 200]  # of 0–1, and of 0–255
    assert [p.max() for p in to_bytes([full, half])] == [255, 0]


def test_pictures_that_use_few_of_their_16_bits_are_named_in_a_warning(caplog):
    to_bytes([np.full((2, 2), 3000, np.int32)])
    assert "reach only 3000 of 65535" in caplog.text


def test_phones_photograph_with_a_preview_is_its_first_picture(tmp_path):
    path = tmp_path / "x.jpg"
    COLOUR.save(path, "MPO", save_all=True, append_images=[GREY.convert("RGB")], quality=100, subsampling=0)
    assert Image.open(path).format == "MPO"
    assert np.abs(read_picture(path).astype(float) - RGB).max() < 10  # it is a JPEG


def png(width, height):
    """A grey PNG that claims these sizes and has no pixels; its checksums are right."""
    header = struct.pack(">IIBBBBB", width, height, 8, 0, 0, 0, 0)
    chunks = ((b"IHDR", header), (b"IDAT", zlib.compress(b"")), (b"IEND", b""))
    parts = [struct.pack(">I", len(d)) + name + d + struct.pack(">I", zlib.crc32(name + d)) for name, d in chunks]
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def encoded(picture, form, **options):
    picture.save(file := io.BytesIO(), form, **options)
    return file.getvalue()


FRAMES = {"save_all": True, "append_images": [COLOUR.rotate(180)]}
FLOATS = PIXELS.astype(np.float32)
WHOLE = encoded(COLOUR, "PNG")
FLIPPED = WHOLE[:50] + bytes([WHOLE[50] ^ 4]) + WHOLE[51:]
# name → (ending, content, words of the error)
REFUSED = {
    "nothing": ("png", b"", "is damaged or no picture"),
    "text": ("jpg", b"not a picture", "is damaged or no picture"),
    "program": ("png", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", "is damaged or no picture"),
    "half": ("png", WHOLE[: len(WHOLE) // 2], "is damaged or no picture: "),
    "half a jpg": ("jpg", encoded(COLOUR, "JPEG")[:-30], "is damaged or no picture: "),
    "half a tif": ("tif", encoded(COLOUR, "TIFF", compression="tiff_lzw")[:-20], "is damaged or no picture"),
    "flipped bit": ("png", FLIPPED, "is damaged or no picture: "),
    "bomb": ("png", png(60_000, 60_000), "is damaged or no picture: .* decompression bomb"),
    "smaller bomb": ("png", png(10_000, 10_000), "claims 10000 × 10000 pixels"),
    "gif frames": ("gif", encoded(COLOUR, "GIF", **FRAMES), "has 2 frames"),
    "apng frames": ("png", encoded(COLOUR, "PNG", **FRAMES), "has 2 frames"),
    "webp frames": ("webp", encoded(COLOUR, "WEBP", **FRAMES), "has 2 frames"),
    "pages": ("tif", encoded(COLOUR, "TIFF", **FRAMES), "has 2 frames or pages"),
    "LAB": ("tif", encoded(Image.new("LAB", (5, 6)), "TIFF"), "mode LAB"),
    "deep and transparent": (
        "png",
        encoded(Image.fromarray(PIXELS * np.uint16(257)), "PNG", transparency=257),
        "mode I;16 with a transparent value",
    ),
    "negative": ("tif", encoded(Image.fromarray(PIXELS.astype(np.int32) - 9), "TIFF"), "values go from -9 to 246"),
    "over 16 bits": ("tif", encoded(Image.fromarray(FLOATS * 1000), "TIFF"), "values go from 0 to 255000"),
    "nan": ("tif", encoded(Image.fromarray(FLOATS * np.nan), "TIFF"), "values go from nan"),
}


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning", "ignore:Truncated File Read")
@pytest.mark.parametrize("name", REFUSED)
def test_picture_without_an_obvious_meaning_is_refused_by_name(tmp_path, name):
    ending, content, words = REFUSED[name]
    path = tmp_path / f"x.{ending}"
    path.write_bytes(content)
    with pytest.raises(PictureError, match=words) as raised:
        read_picture(path)
    assert str(raised.value).startswith(str(path)) and "\n" not in str(raised.value)


def test_what_is_no_file_is_refused_without_waiting(tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    (tmp_path / "link.png").symlink_to(tmp_path / "nowhere.png")
    (tmp_path / "loop.png").symlink_to(tmp_path / "loop.png")
    (tmp_path / "folder.png").mkdir()
    for path in tmp_path.iterdir():
        with pytest.raises(PictureError, match="is no file, or a link to none"):
            read_picture(path)


def test_picture_of_another_size_is_refused_before_it_is_decoded(tmp_path):
    path = tmp_path / "x.png"
    path.write_bytes(png(9_000, 9_000))
    with pytest.raises(SizeError, match=r"has 9000 × 9000 pixels, others 28 × 28"):
        read_picture(path, (28, 28))
