"""A resumed run keeps its events up to the checkpoint, even if the end of the event file is damaged."""

import struct

import pytest
from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter, masked_crc32c

from seedbed.training.event_files import cut

LENGTH = struct.pack("<Q", 20)
TAILS = {
    "nothing": b"",
    "half a record": LENGTH + struct.pack("<I", masked_crc32c(LENGTH)) + b"half",
    "a record of other bytes": LENGTH + struct.pack("<I", masked_crc32c(LENGTH)) + b"x" * 24,
    "zeros": bytes(64),
}


@pytest.mark.parametrize("tail", TAILS)
def test_events_up_to_the_checkpoint_stay_whatever_follows_them(tmp_path, tail):
    path = tmp_path / "events.out.tfevents.1.host.1.0"
    with open(path, "wb") as file:
        writer = RecordWriter(file)
        for step in (10, 20, 30):
            summary = Summary(value=[Summary.Value(tag="train/loss", simple_value=step)])
            writer.write(Event(wall_time=step, step=step, summary=summary).SerializeToString())
        file.write(TAILS[tail])
    cut(tmp_path, 20)
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    events = [Event.FromString(record) for record in RawEventFileLoader(str(path)).Load()]
    assert [event.step for event in events] == [10, 20]
