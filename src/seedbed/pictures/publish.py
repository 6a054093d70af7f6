"""Put a figure into a run: a PNG file in its folder and an image in TensorBoard, rendered once."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from seedbed.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch.utils.tensorboard import FileWriter


def publish(trainer, name: str, figure: Figure) -> None:
    """Write `pictures/NAME.png` into the run's folder, over an earlier one, and the same to TensorBoard at this step.

    Only the first process writes. The folder is the trainer's `default_root_dir`.
    """
    if not trainer.is_global_zero:
        return
    png = BytesIO()
    figure.savefig(png, format="png")
    path = Path(trainer.default_root_dir, "pictures", f"{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, png.getvalue())
    if writer := event_writer(trainer):
        from tensorboard.compat.proto.summary_pb2 import Summary

        width, height = figure.canvas.get_width_height()
        image = Summary.Image(encoded_image_string=png.getvalue(), width=width, height=height, colorspace=4)
        value = Summary.Value(tag=f"pictures/{name}", image=image)
        writer.add_summary(Summary(value=[value]), trainer.global_step)


def event_writer(trainer) -> FileWriter | None:
    """Return what writes into the run's event file, or None where TensorBoard is not among its loggers."""
    from lightning.pytorch.loggers import TensorBoardLogger

    loggers = (logger for logger in trainer.loggers if isinstance(logger, TensorBoardLogger))
    return next((logger.experiment._get_file_writer() for logger in loggers), None)
