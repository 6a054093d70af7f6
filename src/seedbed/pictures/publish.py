"""Put a figure into a run: a PNG file in its folder and an image in TensorBoard, rendered once."""

from __future__ import annotations

from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING

from seedbed.files import write_whole

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def publish(trainer, name: str, figure: Figure) -> None:
    """Write `pictures/NAME.png` into the run's folder, over an earlier one, and the same to TensorBoard at this step.

    Only the first process writes; nothing is written for a trainer whose logger has no folder.
    """
    if not trainer.is_global_zero or trainer.logger is None or trainer.logger.log_dir is None:
        return
    from tensorboard.compat.proto.summary_pb2 import Summary

    png = BytesIO()
    figure.savefig(png, format="png")
    path = Path(trainer.logger.log_dir, "pictures", f"{name}.png")
    path.parent.mkdir(parents=True, exist_ok=True)
    write_whole(path, png.getvalue())
    width, height = figure.canvas.get_width_height()
    image = Summary.Image(encoded_image_string=png.getvalue(), width=width, height=height, colorspace=4)
    trainer.logger.experiment._get_file_writer().add_summary(
        Summary(value=[Summary.Value(tag=f"pictures/{name}", image=image)]), trainer.global_step
    )
