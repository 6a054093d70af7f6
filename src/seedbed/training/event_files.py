"""Remove the TensorBoard events that a killed run logged after its last checkpoint, since it will log them again."""

from __future__ import annotations

import os
from pathlib import Path

from seedbed.metrics import OVER_EPOCHS

PATTERN = "events.out.tfevents.*"
# tags of the values that a run without a step left computes again
RESULTS = ("val/", "test/")


def cut(folder: Path, step: int | None, with_results: bool = True) -> None:
    """Merge a run's event files into one that ends at `step`; with None, remove them.

    What a run writes at its end is left out: the curves over epochs and the HParams record.

    with_results: keep the validation and test at `step` too. If this is killed, another call with the remaining files
    gives the same result.
    """
    files = sorted(folder.glob(PATTERN))
    if files and step is not None:
        merged = folder / "cut.tmp"
        _merge(files, merged, step, with_results)
        os.replace(merged, files.pop(0))
    for file in files:
        file.unlink()


def _merge(files: list[Path], merged: Path, step: int, with_results: bool) -> None:
    from tensorboard.backend.event_processing.event_file_loader import RawEventFileLoader
    from tensorboard.compat.proto.event_pb2 import Event
    from tensorboard.summary.writer.record_writer import RecordWriter

    seen = set()
    with open(merged, "wb") as out:
        writer = RecordWriter(out)
        for file in files:
            # the loader stops at a record that is damaged or was not written completely
            for record in RawEventFileLoader(str(file)).Load():
                event = Event.FromString(record)
                tags = [value.tag for value in event.summary.value]
                kind = event.file_version, event.step, *tags
                hparams = any(value.metadata.plugin_data.plugin_name == "hparams" for value in event.summary.value)
                at_end = hparams or any(tag.startswith(OVER_EPOCHS) for tag in tags)
                results = event.step == step and not with_results and any(tag.startswith(RESULTS) for tag in tags)
                if event.step <= step and not at_end and not results and kind not in seen:
                    seen.add(kind)
                    writer.write(record)


def own_checkpoint(folder: Path) -> str | None:
    """Return the path of a killed job's last.ckpt; if there is none, remove its event files and return None."""
    path = folder / "checkpoints" / "last.ckpt"
    if not path.exists():
        cut(folder, None)
        return None
    return str(path)
