"""Give damaged files to the readers of IDX, pictures and checkpoints: each reads them or raises its declared error.

fuzz_idx(10_000), fuzz_pictures(1_000) and fuzz_checkpoints(1_000) take a minute or two together. Call each in a fresh
process, because it checks the peak memory of its process.
"""

import gzip
import io
import random
import resource
import tempfile
import warnings
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from seedbed.data.idx_file import read_idx
from seedbed.data.picture_file import MAX_PIXELS, read_picture, to_bytes

MAX_GROWTH = 24 * MAX_PIXELS  # bytes by which memory may grow: a transparent picture on two papers
EXTREMES = (b"\0\0\0\0", b"\xff\xff\xff\xff", b"\x7f\xff\xff\xff", b"\0\0\0\1", b"\0\1\0\0", b"\0\0\x40\0")


def damaged(content: bytes, rng: random.Random) -> bytes:
    """Return the content with one to four random changes: bits flipped; bytes cut off, removed, repeated, replaced."""
    data = bytearray(content)
    for _ in range(rng.randint(1, 4)):
        # half of the changes hit the header
        at = rng.randrange(max(1, min(len(data), 40) if rng.random() < 0.5 else len(data)))
        length = rng.randint(1, 64)
        match rng.choice(("cut", "flip", "byte", "number", "remove", "repeat", "noise")):
            case "cut":
                del data[at:]
            case "flip" if data:
                data[at] ^= 1 << rng.randrange(8)
            case "byte" if data:
                data[at] = rng.choice((0, 1, 127, 128, 255))
            case "number":
                number = rng.choice(EXTREMES)
                data[at : at + 4] = number if rng.random() < 0.5 else number[::-1]
            case "remove":
                del data[at : at + length]
            case "repeat":
                data[at:at] = data[at : at + length] * rng.randint(1, 20)
            case "noise":
                data[at : at + length] = rng.randbytes(length)
    return bytes(data)


def idx_files() -> list[tuple[str, bytes]]:
    """Return (ending, content) of whole IDX files, and of bombs, whose header or data are far too large."""
    images = np.arange(20 * 28 * 28, dtype=np.uint32).astype(np.uint8)
    header = b"\0\0\x08\x03" + np.array([20, 28, 28], ">u4").tobytes()
    huge = b"\0\0\x08\x03" + np.array([2**20, 28, 28], ">u4").tobytes()
    contents = [header + images.tobytes(), b"\0\0\x08\x01\0\0\0\x14" + bytes(range(20))]
    bombs = [huge + bytes(2**24), header + bytes(2**24)]
    return [("", raw) for raw in contents] + [(".gz", gzip.compress(raw)) for raw in contents + bombs]


def picture_files() -> list[tuple[str, bytes]]:
    """Return (ending, content) of pictures in every format, of many modes and with several frames."""
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (24, 20), dtype=np.uint8).cumsum(1, dtype=np.uint8)
    grey = Image.fromarray(pixels)
    rgba = Image.merge("RGBA", [grey, grey.rotate(180), grey, grey])
    deep = Image.fromarray(pixels.astype(np.uint16) * 257)
    wide = [Image.fromarray(pixels.astype(np.int32)), Image.fromarray(pixels.astype(np.float32) / 255)]
    turned = Image.Exif()
    turned[0x0112] = 6
    pictures: dict[str, list[tuple[Image.Image, dict]]] = {
        "png": [
            (picture, {}) for picture in (grey, grey.convert("1"), rgba, rgba.convert("P"), rgba.convert("LA"), deep)
        ],
        "jpg": [(grey, {"exif": turned}), (rgba.convert("RGB"), {"progressive": True}), (rgba.convert("CMYK"), {})],
        "gif": [(grey, {}), (rgba, {}), (grey, {"save_all": True, "append_images": [rgba.convert("L")]})],
        "webp": [(rgba, {"lossless": True}), (rgba, {}), (rgba, {"save_all": True, "append_images": [grey]})],
        "bmp": [(grey, {}), (rgba, {})],
        "ppm": [(grey, {}), (rgba.convert("RGB"), {}), (deep, {})],
        "tif": [(picture, {}) for picture in (grey, rgba, deep, *wide, rgba.convert("CMYK"))]
        + [(grey, {"compression": kind}) for kind in ("tiff_lzw", "tiff_deflate", "packbits")]
        + [(grey, {"save_all": True, "append_images": [rgba]})],
    }
    formats = {"jpg": "JPEG", "tif": "TIFF"}
    files = []
    for ending, variants in pictures.items():
        for picture, options in variants:
            picture.save(file := io.BytesIO(), formats.get(ending, ending.upper()), **options)
            files.append((f".{ending}", file.getvalue()))
    return files


def fuzz_idx(count: int, seed: int = 0) -> str:
    return _fuzz("IDX reader", read_idx, idx_files(), count, seed)


def fuzz_pictures(count: int, seed: int = 0) -> str:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # Pillow's, of odd metadata
        return _fuzz("picture reader", lambda path: to_bytes([read_picture(path)]), picture_files(), count, seed)


def fuzz_checkpoints(count: int, seed: int = 0) -> str:
    """Load the checkpoints of a trained run as those of a stranger."""
    # heavy, and of no use to the other two
    from seedbed.api import train
    from seedbed.training.load import load

    words = ["model=linear", "optim=momentum", "trainer.max_epochs=1", "trainer.accelerator=cpu", "logger=none"]
    with tempfile.TemporaryDirectory() as folder:
        run = train(*words, f"hydra.run.dir={folder}/run")
        config = (run.folder / ".hydra/config.yaml").read_text(encoding="utf-8")
        files = [(".ckpt", (run.folder / f"checkpoints/{name}.ckpt").read_bytes()) for name in ("last", "best")]

    def read(path: Path) -> None:
        beside = path.parent / ".hydra" / "config.yaml"
        beside.parent.mkdir(exist_ok=True)
        beside.write_text(config, encoding="utf-8")
        load(path)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # torch's, of odd pickles
        return _fuzz("checkpoint reader", read, files, count, seed)


def _fuzz(name: str, read: Callable[[Path], object], files: Sequence[tuple[str, bytes]], count: int, seed: int) -> str:
    """Return a line with the outcomes of `count` inputs. Raises AssertionError for an error that is not declared.

    Input number i of a seed is always the same; the whole files are read first.
    """
    before, outcomes = _peak(), Counter()
    with tempfile.TemporaryDirectory() as folder:
        for i in range(count):
            rng = random.Random(f"{seed} {i}")
            ending, content = files[i] if i < len(files) else rng.choice(files)
            path = Path(folder) / f"file{ending}"
            path.write_bytes(content if i < len(files) else damaged(content, rng))
            try:
                read(path)
                outcomes["read"] += 1
            except ValueError as error:
                assert str(path) in str(error), f"{name}, seed {seed}, input {i}: the error names no file: {error}"
                outcomes["refused"] += 1
            except Exception as error:
                raise AssertionError(f"{name}, seed {seed}, input {i} ({ending}): {error!r}") from error
    growth = _peak() - before
    assert growth < MAX_GROWTH, f"{name}, seed {seed}: took {growth / 2**20:.0f} MB of memory"
    shown = ", ".join(f"{number} {outcome}" for outcome, number in sorted(outcomes.items()))
    return f"{name}: {count} inputs, {shown}; memory + {growth / 2**20:.0f} MB"


def _peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024
