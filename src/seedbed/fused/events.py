"""TensorBoard's records as bytes, made without a writer's thread and queue.

A record is the length of an event, the length's checksum, the event and its checksum.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache, lru_cache

import numpy as np
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.summary.writer.record_writer import masked_crc32c
from torch.utils.tensorboard.summary import custom_scalars
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from seedbed.training.logger import CHARTS


@dataclass(frozen=True)
class Points:
    """Curves with the same tags: wall times [P], steps [P], tag → values [P]; values, or steps too, may be [M, P]."""

    times: np.ndarray
    steps: np.ndarray
    values: Mapping[str, np.ndarray]

    def of(self, members: slice) -> Points:
        """Return the curves of some of M members."""
        steps = self.steps[members] if self.steps.ndim > 1 else self.steps
        return Points(self.times, steps, {tag: values[members] for tag, values in self.values.items()})


# the members of a stack begin at one time
@lru_cache(1)
def beginning(time: float) -> bytes:
    """Return the records that begin a file: the format's version and the layout of the custom scalars."""
    return _record(Event(wall_time=time, file_version="brain.Event:2")) + _record(
        Event(wall_time=time, summary=custom_scalars(CHARTS))
    )


def hparams_records(hparams: dict[str, str | int | float], metrics: dict[str, float], time: float) -> bytes:
    """Return the records of a run for the HParams dashboard."""
    summaries = hparams_summaries(hparams, metrics)
    return b"".join(_record(Event(wall_time=time, summary=summary)) for summary in summaries)


def _record(event: Event) -> bytes:
    return _framed(event.SerializeToString())


# the members of a stack share most of these
@lru_cache(64)
def _framed(event: bytes) -> bytes:
    length = struct.pack("<Q", len(event))
    return length + _packed_crc(length) + event + _packed_crc(event)


def _packed_crc(content: bytes) -> bytes:
    return struct.pack("<I", masked_crc32c(content))


def serialized(points: Points) -> np.ndarray:
    """Return the records of all points as bytes [P, L], or [M, P, L]: ten times as fast as one by one.

    An event has the wall time, the step as a varint, here always of 5 bytes, and a summary: for each tag a value with
    the tag and a float32.
    """
    tags = [tag.encode() for tag in points.values]
    heads = [bytes([10, len(tag) + 7, 10, len(tag)]) + tag + b"\x15" for tag in tags]
    first = bytes([42, sum(len(head) + 4 for head in heads)]) + heads[0]
    layout: list[tuple] = [("length", "<u8"), ("length_crc", "<u4"), ("a", "u1"), ("time", "<f8"), ("b", "u1")]
    layout += [("step", "u1", 5)]
    for tag, head in zip(points.values, [first, *heads[1:]], strict=True):
        layout += [(f"head {tag}", f"S{len(head)}"), (tag, "<f4")]
    shape = np.broadcast_shapes(points.times.shape, points.steps.shape, *(v.shape for v in points.values.values()))
    rows = np.zeros(shape, [*layout, ("crc", "<u4")])
    length = rows.itemsize - 16
    rows["length"], rows["length_crc"] = length, masked_crc32c(struct.pack("<Q", length))
    rows["a"], rows["b"], rows["time"] = 9, 16, points.times
    rows["step"] = points.steps[..., None] >> 7 * np.arange(5) & 127 | [128, 128, 128, 128, 0]
    for (tag, values), head in zip(points.values.items(), [first, *heads[1:]], strict=True):
        rows[f"head {tag}"], rows[tag] = head, values
    content = rows.view(np.uint8).reshape(*shape, rows.itemsize)
    rows["crc"] = masked_crc(content[..., 12:-4].reshape(-1, length)).reshape(shape)
    return content


def masked_crc(rows: np.ndarray) -> np.ndarray:
    """Return TensorFlow's masked CRC-32C of each row of bytes [P, length]."""
    table, crc = _crc_table(), np.full(len(rows), 0xFFFFFFFF, np.uint32)
    for column in np.ascontiguousarray(rows.T):
        crc = table[(crc ^ column) & 0xFF] ^ (crc >> np.uint32(8))
    crc = ~crc
    return ((crc >> np.uint32(15)) | (crc << np.uint32(17))) + np.uint32(0xA282EAD8)


@cache
def _crc_table() -> np.ndarray:
    table = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        table = np.where(table & 1, (table >> np.uint32(1)) ^ np.uint32(0x82F63B78), table >> np.uint32(1))
    return table.astype(np.uint32)
