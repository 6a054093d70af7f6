"""The TensorBoard event file of one member of a stack, written in one go, without a writer thread or a queue."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterable
from itertools import count
from pathlib import Path

from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter
from torch.utils.tensorboard.summary import hparams as hparams_summaries

from seedbed.training.event_files import cut

_number = count()


def write_events(
    folder: Path,
    curves: Iterable[tuple[float, int, dict[str, float]]],
    hparams: dict[str, str | int | float],
    metrics: dict[str, float],
) -> None:
    """Replace a folder's event files by one with the curves and the HParams record.

    curves: (wall time, step, metrics) of each epoch.
    """
    cut(folder, None)
    curves = list(curves)
    now = curves[-1][0]
    name = f"events.out.tfevents.{int(now)}.{socket.gethostname()}.{os.getpid()}.f{next(_number)}"
    with open(folder / name, "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(wall_time=curves[0][0], file_version="brain.Event:2").SerializeToString())
        for wall_time, step, values in curves:
            summary = Summary(value=[Summary.Value(tag=tag, simple_value=value) for tag, value in values.items()])
            writer.write(Event(wall_time=wall_time, step=step, summary=summary).SerializeToString())
        for summary in hparams_summaries(hparams, metrics):
            writer.write(Event(wall_time=now, summary=summary).SerializeToString())
