"""Checkpoints that differ in numbers and weights only: torch saves one, the others are its bytes with these replaced.

torch.save takes 0.4 ms for a small checkpoint, most of it to pickle the counts of Lightning's loops.
"""

from __future__ import annotations

import io
import re
import struct
import zipfile
import zlib
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Any

import numpy as np
import torch
from torch import Tensor

# the first five bytes of each placeholder float; its last three count the placeholders
MARK = b"\x5e\xedbed"
ID = ".data/serialization_id"


def marks() -> Iterator[float]:
    """Yield floats, found nowhere else, to hold the places of a checkpoint's numbers."""
    return (struct.unpack(">d", MARK + n.to_bytes(3, "big"))[0] for n in count())


class Template:
    """The bytes of a checkpoint with `marks` in the place of its numbers. tensors: those of its tensors that vary."""

    def __init__(self, checkpoint: dict[str, Any], tensors: Sequence[Tensor]):
        buffer = io.BytesIO()
        torch.save(checkpoint, buffer)
        self._records = _records(buffer)
        self._file = np.frombuffer(buffer.getvalue(), np.uint8).copy()
        pickled, _ = self._records["data.pkl"]
        # a pickled float is a G and its 8 bytes, the first one first
        found = re.finditer(b"G" + re.escape(MARK) + b"(...)", self._file[pickled].tobytes(), re.DOTALL)
        places = sorted((match[1], pickled.start + match.start() + 1) for match in found)
        # [N, 8]: the places of the bytes of each number
        self._places = np.array([place for _, place in places])[:, None] + np.arange(8)
        # torch numbers the tensors in the order in which it meets them
        order = list(dict.fromkeys(map(id, _tensors(checkpoint))))
        names = [f"data/{order.index(id(tensor))}" for tensor in tensors]
        self._tensors = [self._records[name][0] for name in names]
        self._changed = {"data.pkl", *names}
        self._checksums = {name: zlib.crc32(self._file[place]) for name, (place, _) in self._records.items()}

    def filled(self, numbers: Sequence[float], tensors: Sequence[np.ndarray]) -> bytes:
        """Return the checkpoint with these numbers, in the order of their marks, and these bytes of its tensors."""
        self._file[self._places] = np.array(numbers, ">f8").view(np.uint8).reshape(-1, 8)
        for place, content in zip(self._tensors, tensors, strict=True):
            self._file[place] = content
        for name in self._changed:
            self._write_checksum(name)
        # torch's id of a file: a hash of the records' names, 20 digits, and one of their checksums
        place, _ = self._records[ID]
        hashed = 0
        for name in self._checksums:
            if name != ID:
                hashed ^= (self._checksums[name] + 0x9E3779B9 + (hashed << 6) + (hashed >> 2)) & (2**64 - 1)
        self._file[place][20:] = np.frombuffer(b"%020d" % hashed, np.uint8)
        self._write_checksum(ID)
        return self._file.tobytes()

    def _write_checksum(self, name: str) -> None:
        """Write the checksum of a record."""
        place, copies = self._records[name]
        self._checksums[name] = zlib.crc32(self._file[place])
        for at in copies:
            struct.pack_into("<I", self._file, at, self._checksums[name])


def _tensors(node: Any) -> Iterator[Tensor]:
    """Yield the tensors of a checkpoint in the order in which it is pickled."""
    if isinstance(node, Tensor):
        yield node
    elif isinstance(node, dict | list | tuple):
        for child in node.values() if isinstance(node, dict) else node:
            yield from _tensors(child)


def _records(file: io.BytesIO) -> dict[str, tuple[slice, tuple[int, int]]]:
    """Return name → (the place of its bytes, the two places of their checksum) of the records of a zip file."""
    content, records = file.getvalue(), {}
    with zipfile.ZipFile(file) as archive:
        # the directory at the end has an entry for each record
        entry = archive.start_dir
        for info in archive.infolist():
            name, extra = struct.unpack_from("<HH", content, info.header_offset + 26)
            start = info.header_offset + 30 + name + extra
            stop = start + info.file_size
            # the other checksum follows the bytes, or stands before them
            own = stop + 4 if info.flag_bits & 8 else info.header_offset + 14
            records[info.filename.partition("/")[2]] = slice(start, stop), (own, entry + 16)
            entry += 46 + name + len(info.extra) + len(info.comment)
    return records
