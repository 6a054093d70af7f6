"""Losses, accuracy and learning rate of a run over its steps or epochs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from seedbed.metrics import LR, TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS, smaller_is_better
from seedbed.pictures.log_axis import plain_numbers
from seedbed.tables import figure

# panel → metric → (label, style)
PANELS: dict[str, dict[str, tuple[str, dict[str, Any]]]] = {
    "loss": {
        TRAIN_LOSS: ("training", {"color": "tab:blue"}),
        VAL_LOSS: ("validation", {"color": "tab:orange", "marker": "o", "markersize": 3}),
    },
    "accuracy": {VAL_ACCURACY: ("validation", {"color": "tab:orange", "marker": "o", "markersize": 3})},
    "learning rate": {LR: ("", {"color": "tab:green"})},
}
LOG_FROM = 8  # a loss that spans more than this ratio has a log axis


def curves(by_step: Mapping[str, Mapping[int, float]], steps: str = "training step") -> Figure | None:
    """Draw metric → step → value; None where nothing was logged. steps: label of the axis."""
    panels = {title: {m: line for m, line in lines.items() if by_step.get(m)} for title, lines in PANELS.items()}
    panels = {title: lines for title, lines in panels.items() if lines}
    if not panels:
        return None
    figure = Figure(figsize=(4.6 * len(panels), 3.7), dpi=110, layout="constrained")
    for ax, (title, lines) in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels.items(), strict=True):
        for metric, (label, style) in lines.items():
            _draw_line(ax, metric, by_step[metric], label, style)
        values = [value for metric in lines for value in by_step[metric].values()]
        if title == "loss" and min(values) > 0 and max(values) > LOG_FROM * min(values):
            ax.set_yscale("log")
            plain_numbers(ax.yaxis)
        elif title == "accuracy":
            _show_trained(ax, by_step[VAL_ACCURACY])
        elif title == "learning rate":
            ax.set_ylim(bottom=0)
        ax.set(title=title, xlabel=steps)
        ax.grid(alpha=0.3, which="both")
        if title != "learning rate":
            ax.legend(fontsize=9)
    return figure


def _show_trained(ax: Axes, curve: Mapping[int, float]) -> None:
    """Let the axis begin below the trained network's accuracies: that of the untrained one would flatten them."""
    trained = [value for step, value in curve.items() if step]
    if 0 in curve and len(trained) > 1 and curve[0] < min(trained):
        margin = max(max(trained) - min(trained), 0.005) / 2
        ax.set_ylim(min(trained) - margin, max(trained) + margin)


def _draw_line(ax: Axes, metric: str, curve: Mapping[int, float], label: str, style: dict) -> None:
    """Draw a curve, with its last and its best value in the label; a single point as a dot."""
    steps, values = zip(*sorted(curve.items()), strict=True)
    if label:
        best = (min if smaller_is_better(metric) else max)(values)
        label = f"{label}: {figure(values[-1])}" + (f" (best {figure(best)})" if best != values[-1] else "")
    ax.plot(steps, values, label=label, **({"marker": "o"} if len(steps) == 1 else {}) | style)
