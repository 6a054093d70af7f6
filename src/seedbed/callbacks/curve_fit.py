"""The fit of a function of one number, drawn as training goes on."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

import lightning.pytorch as pl
import torch
from torch import Tensor

from seedbed.check import ConfigError


@dataclass
class Fit:
    """The network's curve over `CurveFit.x` and its loss over the training points, after so many steps."""

    step: int
    curve: Tensor
    loss: float


class CurveFit(pl.Callback):
    """Pictures in TensorBoard as training goes on, and all of them as panels of curve_fit.png in the run's folder.

    pictures: how many besides that of the beginning, evenly spread; one an epoch where there are fewer epochs.
    Raises ConfigError where the data is no function of one number.
    """

    def __init__(self, pictures: int = 10):
        self.pictures = pictures
        self.fits: list[Fit] = []

    def setup(self, trainer, module, stage: str) -> None:
        digits = trainer.datamodule.digits
        if digits.classes is not None or digits.shape != (1,):
            raise ConfigError("callbacks=curve_fit draws functions of one number: data=roller_coaster or data=function")
        self.points, self.axes = digits.train, digits.axes
        ends = [end.item() for end in self.points[0].aminmax()]
        self.x = torch.linspace(*ends, 400)[:, None]

    def on_train_start(self, trainer, module) -> None:
        self.every = math.ceil(trainer.max_epochs / self.pictures)  # epochs
        self._draw(trainer, module)

    def on_train_epoch_end(self, trainer, module) -> None:
        if (trainer.current_epoch + 1) % self.every == 0:
            self._draw(trainer, module)

    def on_train_end(self, trainer, module) -> None:
        if trainer.is_global_zero:
            self._figure(self.fits).savefig(Path(trainer.logger.log_dir) / "curve_fit.png")

    @torch.no_grad()
    def _draw(self, trainer, module) -> None:
        x, y = (values.to(module.device) for values in self.points)
        loss = module.loss(module.net(x), y).item()
        self.fits.append(Fit(trainer.global_step, module.net(self.x.to(x.device))[:, 0].float().cpu(), loss))
        if trainer.is_global_zero:
            trainer.logger.experiment.add_figure("curve_fit", self._figure(self.fits[-1:]), trainer.global_step)

    def _figure(self, fits: list[Fit]):
        """A panel a fit, on equal axes that hold the points and the last fit."""
        from matplotlib.figure import Figure

        columns = min(4, len(fits))
        rows = -(-len(fits) // columns)
        size = (5, 4.3) if len(fits) == 1 else (3.2 * columns, 2.7 * rows + 0.6)
        figure = Figure(figsize=size, dpi=100, layout="constrained")
        axes = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
        x, y = self.points
        low, high = y.min().item(), y.max().item()
        margin = 0.15 * (high - low)
        for ax, fit in zip(axes.flat, fits, strict=False):
            ax.plot(x[:, 0], y, "o", color="tab:gray", markersize=4 if len(x) < 50 else 1.5, label="data")
            ax.plot(self.x[:, 0], fit.curve, color="tab:red", linewidth=2, label="fit")
            loss = f"{fit.loss:,.0f}" if fit.loss >= 1000 else f"{fit.loss:.3g}"
            ax.set_title(f"after step {fit.step:,}: loss {loss}", fontsize=10)
            ax.set_ylim(low - margin, high + margin)
        for ax in axes.flat[len(fits) :]:
            ax.set_axis_off()
        for ax in axes.flat[max(0, len(fits) - columns) : len(fits)]:  # below them is nothing
            ax.tick_params(labelbottom=True)
        figure.supxlabel(self.axes[0], fontsize=10)
        figure.supylabel(self.axes[1], fontsize=10)
        figure.legend(*axes[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=9)
        return figure
