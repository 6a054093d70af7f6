"""Put a figure into a run: a PNG file in its folder and an image in TensorBoard, rendered once."""

from __future__ import annotations

import hashlib
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from seedbed.files import write_whole
from seedbed.formats import MANIFEST

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import FileWriter


def publish(trainer, name: str, figure: Figure, shared: bool = False) -> None:
    """Write `pictures/NAME.png` into the run's folder, replacing an earlier one, and add it to TensorBoard.

    Only the first process writes. The folder is the trainer's `default_root_dir`. shared: the jobs of a sweep may have
    the same picture; then it is written once, into the sweep's folder `pictures` and by one job to TensorBoard.
    """
    if not trainer.is_global_zero:
        return
    png = BytesIO()
    figure.savefig(png, format="png")
    folder = Path(trainer.default_root_dir)
    path = folder / "pictures" / f"{name}.png"
    if shared and (sweep := sweep_of(folder)):
        path = sweep / "pictures" / f"{name}-{hashlib.sha256(png.getvalue()).hexdigest()[:8]}.png"
        if not claim(path, str(folder.relative_to(sweep))):
            return
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, png.getvalue())
    if writer := event_writer(trainer):
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = figure.canvas.get_width_height()
        image = Summary.Image(encoded_image_string=png.getvalue(), width=width, height=height, colorspace=4)
        value = Summary.Value(tag=f"pictures/{name}", image=image)
        writer.add_summary(Summary(value=[value]), trainer.global_step)


def sweep_of(folder: Path) -> Path | None:
    """Return the folder of the sweep that a job's folder lies in, None for a run alone."""
    return next((parent for parent in folder.parents if (parent / MANIFEST).is_file()), None)


def claim(path: Path, job: str) -> bool:
    """Return whether this job writes the picture for its sweep; a job that is run again still does."""
    owner = path.with_name(f".{path.stem}.job")
    owner.parent.mkdir(exist_ok=True)
    try:
        with open(owner, "x", encoding="utf-8") as file:
            file.write(job)
        return True
    except FileExistsError:
        return owner.read_text(encoding="utf-8") == job


def event_writer(trainer) -> FileWriter | None:
    """Return the writer of the run's event file, or None if TensorBoard is not among its loggers."""
    from lightning.pytorch.loggers import TensorBoardLogger

    loggers = (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))
    return next((logger.experiment._get_file_writer() for logger in loggers), None)
