"""Read an IDX file: two zeros, the type (8: bytes), the number of dimensions, each as big-endian uint32, the bytes."""

from __future__ import annotations

import gzip
import math
import zlib
from pathlib import Path

import numpy as np

MAX_BYTES = 2**30  # the largest set in this format (EMNIST by class) has 0.6 GB
MAX_RATIO = 1032  # deflate packs at most this many bytes into one


def read_idx(path: Path) -> np.ndarray:
    """Return uint8 [N] or [N, H, W], the contents of a raw or gzip-compressed (.gz) IDX file.

    Raises ValueError for anything that is not exactly one whole file. Memory is taken only for what the file can hold,
    whatever its header claims: a small .gz can unpack to terabytes.
    """
    size = path.stat().st_size
    packed = path.suffix == ".gz"
    try:
        with gzip.open(path) if packed else path.open("rb") as f:
            if (head := f.read(4)) not in (b"\0\0\x08\x01", b"\0\0\x08\x03"):
                raise ValueError("not an IDX file of bytes")
            shape = np.frombuffer(f.read(4 * head[3]), ">u4").tolist()
            count, most = math.prod(shape), min(size * MAX_RATIO if packed else size, MAX_BYTES)
            if len(shape) < head[3] or not 0 < count <= most:
                raise ValueError(f"cut short, or with a wrong header: the shape would be {shape}")
            content = np.empty(count, np.uint8)
            if f.readinto(content) < count or f.read(1):
                raise ValueError(f"cut short, or longer than the {count:,} bytes of its header")
    except (ValueError, gzip.BadGzipFile, EOFError, zlib.error) as error:
        raise ValueError(f"{path} is damaged ({error}); delete it to fetch it again") from error
    return content.reshape(shape)
