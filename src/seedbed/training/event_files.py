"""Remove the TensorBoard events that a killed run logged after its last checkpoint, since it will log them again."""

from __future__ import annotations

import os
from pathlib import Path

PATTERN = "events.out.tfevents.*"


def cut(folder: Path, step: int | None) -> None:
    """Merge a run's event files into one that ends at `step`, without an HParams record; with None, remove them.

    If this is killed, another call with the remaining files gives the same result.
    """
    files = sorted(folder.glob(PATTERN))
    if files and step is not None:
        merged = folder / "cut.tmp"
        _merge(files, merged, step)
        os.replace(merged, files.pop(0))
    for file in files:
        file.unlink()


def _merge(files: list[Path], merged: Path, step: int) -> None:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    seen = set()
    with open(merged, "wb") as out:
        writer = RecordWriter(out)
        for file in files:
            # the loader stops at a record that was not written completely
            for record in RawEventFileLoader(str(file)).Load():
                event = Event.FromString(record)
                kind = event.file_version, event.step, *(value.tag for value in event.summary.value)
                hparams = any(value.metadata.plugin_data.plugin_name == "hparams" for value in event.summary.value)
                if event.step <= step and not hparams and kind not in seen:
                    seen.add(kind)
                    writer.write(record)


def own_checkpoint(folder: Path) -> str | None:
    """Return the path of a killed job's last.ckpt; if there is none, remove its event files and return None."""
    path = folder / "checkpoints" / "last.ckpt"
    if not path.exists():
        cut(folder, None)
        return None
    return str(path)
