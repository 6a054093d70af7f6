"""Fitted curves over their data points."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from matplotlib.figure import Figure
from torch import Tensor


@dataclass
class Fit:
    """The network's curve [N] and its loss over the training points, after so many steps."""

    step: int
    curve: Tensor
    loss: float


def curve_fit(points: tuple[Tensor, Tensor], axes: tuple[str, str], x: Tensor, fits: Sequence[Fit]) -> Figure:
    """Draw a panel for each fit, all on the same axes. points: ([P, 1], [P]); axes: labels; x: [N, 1] of the curves."""
    columns = min(4, len(fits))
    rows = -(-len(fits) // columns)
    size = (5, 4.3) if len(fits) == 1 else (3.2 * columns, 2.7 * rows + 0.6)
    figure = Figure(figsize=size, dpi=100, layout="constrained")
    panels = figure.subplots(rows, columns, sharex=True, sharey=True, squeeze=False)
    low, high = points[1].min().item(), points[1].max().item()
    margin = 0.15 * (high - low)
    dot = {"color": "tab:gray", "markersize": 4 if len(points[1]) < 50 else 1.5}
    for ax, fit in zip(panels.flat, fits, strict=False):
        ax.plot(points[0][:, 0], points[1], "o", label="data", **dot)
        ax.plot(x[:, 0], fit.curve, color="tab:red", linewidth=2, label="fit")
        loss = f"{fit.loss:,.0f}" if fit.loss >= 1000 else f"{fit.loss:.3g}"
        ax.set_title(f"after step {fit.step:,}: loss {loss}", fontsize=10)
        ax.set_ylim(low - margin, high + margin)
    for ax in panels.flat[len(fits) :]:
        ax.set_axis_off()
    for ax in panels.flat[max(0, len(fits) - columns) : len(fits)]:  # nothing is below them
        ax.tick_params(labelbottom=True)
    figure.supxlabel(axes[0], fontsize=10)
    figure.supylabel(axes[1], fontsize=10)
    figure.legend(*panels[0, 0].get_legend_handles_labels(), loc="outside upper right", ncols=2, fontsize=9)
    return figure
