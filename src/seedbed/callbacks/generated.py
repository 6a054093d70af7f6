"""Draw what a GAN's generator makes of the same noise during training."""

from __future__ import annotations

import lightning.pytorch as pl
import torch
from matplotlib.figure import Figure

from seedbed.colours import DIGITS
from seedbed.errors import ConfigError
from seedbed.pictures.publish import publish
from seedbed.training.gan import GAN, noise

SIDE = 8  # pictures in a row, and rows


class Generated(pl.Callback):
    """Draws 8 × 8 generated pictures after each `every` epochs and after the last. Raises ConfigError without a GAN."""

    def __init__(self, every: int = 2):
        self.every = every

    def on_fit_start(self, trainer, module) -> None:
        if not isinstance(module, GAN):
            raise ConfigError("callbacks=generated draws what a GAN generates: model=gan")

    def on_train_epoch_end(self, trainer, module) -> None:
        done = trainer.current_epoch + 1
        if done % self.every == 0 or done == trainer.max_epochs:
            publish(trainer, "generated", grid(module, done))


@torch.no_grad()
def grid(module: GAN, epochs: int) -> Figure:
    was_training = module.generator.training
    module.generator.eval()
    pixels = (
        module.generator(noise(SIDE * SIDE, module.latent).to(module.device, module.dtype)).float().cpu()
    )  # [N, C, H, W]
    module.generator.train(was_training)
    canvas = pixels.unflatten(0, (SIDE, SIDE)).permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1)  # [8·H, 8·W, C]
    figure = Figure(figsize=(5, 5.4), dpi=100, layout="constrained")
    ax = figure.subplots()
    canvas = canvas if canvas.shape[2] == 3 else canvas.mean(2)
    ax.imshow(canvas, cmap=DIGITS, vmin=0, vmax=1, interpolation="nearest")
    ax.set_axis_off()
    ax.set_title(f"generated after epoch {epochs}, from the same noise each time", fontsize=11)
    return figure
