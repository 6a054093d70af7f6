"""Draw the fit of a function of one number during training."""

from __future__ import annotations

import math

import lightning.pytorch as pl
import torch

from seedbed.errors import ConfigError
from seedbed.pictures.curve_fit import Fit, curve_fit
from seedbed.pictures.publish import publish


class CurveFit(pl.Callback):
    """Draws the current fit as `curve_fit`, replaced during training, and at the end all of them as `curve_fit_steps`.

    pictures: number of fits after the untrained one, evenly spaced, at most one an epoch. The last fit is always drawn.
    Raises ConfigError where the data is no function of one number.
    """

    def __init__(self, pictures: int = 10):
        self.pictures = pictures
        self.fits: list[Fit] = []

    def setup(self, trainer, module, stage: str) -> None:
        splits = trainer.datamodule.splits
        if splits.classes is not None or splits.shape != (1,):
            raise ConfigError("callbacks=curve_fit draws functions of one number: data=roller_coaster or data=function")
        self.points, self.axes = splits.train, splits.axes
        ends = [end.item() for end in self.points[0].aminmax()]
        self.x = torch.linspace(*ends, 400)[:, None]

    def on_train_start(self, trainer, module) -> None:
        self.every = math.ceil(trainer.max_epochs / self.pictures)  # epochs
        self._draw(trainer, module)

    def on_train_epoch_end(self, trainer, module) -> None:
        if (trainer.current_epoch + 1) % self.every == 0:
            self._draw(trainer, module)

    def on_train_end(self, trainer, module) -> None:
        if self.fits[-1].step < trainer.global_step:  # stopped early, or the last interval is shorter
            self._draw(trainer, module)
        publish(trainer, "curve_fit_steps", curve_fit(self.points, self.axes, self.x, self.fits))

    @torch.no_grad()
    def _draw(self, trainer, module) -> None:
        convert = trainer.precision_plugin.convert_input
        x, y, line = (convert(values.to(module.device)) for values in (*self.points, self.x))
        loss = module.loss(module.net(x), y).item()
        self.fits.append(Fit(trainer.global_step, module.net(line)[:, 0].float().cpu(), loss))
        publish(trainer, "curve_fit", curve_fit(self.points, self.axes, self.x, self.fits[-1:]))
