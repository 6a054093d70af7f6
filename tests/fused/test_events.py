"""Event files of members, written in one go, are read by TensorBoard as those of its own writer."""

import numpy as np
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter, masked_crc32c

from seedbed.fused.events import Points, masked_crc, serialized

STEPS = np.array([0, 1, 127, 128, 300, 20_000, 2**31, 2**34])
VALUES = {"train/loss": np.linspace(-1, 1e30, 8, dtype=np.float32), "lr": np.float32([0.1, np.nan, np.inf, *range(5)])}


def test_points_are_the_events_of_tensorboards_writer(tmp_path):
    times = 1.7e9 + np.arange(8) / 3
    (tmp_path / "ours").write_bytes(serialized(Points(times, STEPS, VALUES)).tobytes())
    with open(tmp_path / "theirs", "wb") as file:
        writer = RecordWriter(file)
        for i, (time, step) in enumerate(zip(times, STEPS, strict=True)):
            values = [Summary.Value(tag=tag, simple_value=column[i]) for tag, column in VALUES.items()]
            event = Event(wall_time=time, step=step, summary=Summary(value=values))
            writer.write(event.SerializeToString())
    ours, theirs = (
        [Event.FromString(record) for record in RawEventFileLoader(str(tmp_path / name)).Load()]
        for name in ("ours", "theirs")
    )
    assert list(map(str, ours)) == list(map(str, theirs)) and len(ours) == 8
    assert serialized(Points(times[:0], STEPS[:0], {"lr": times[:0]})).tobytes() == b""


def test_checksums_are_tensorboards():
    rows = np.random.default_rng(0).integers(0, 256, (20, 70), dtype=np.uint8)
    expected = [masked_crc32c(row.tobytes()) for row in rows]
    assert masked_crc(rows).tolist() == expected and masked_crc(rows[:1]).tolist() == expected[:1]
