"""A schedule over the steps of a run."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from matplotlib.figure import Figure

from seedbed.metrics import LR
from seedbed.schedules import Schedule

MAX_POINTS = 1000


def schedule(numbers: Schedule, total_steps: int, given: Mapping[str, float]) -> Figure:
    """Draw a panel for the lr and for each other number that varies. given: the numbers as the config gave them."""
    steps = np.unique(np.linspace(0, total_steps - 1, min(total_steps, MAX_POINTS)).round())
    curves = {name: [numbers(step / total_steps, name, value) for step in steps] for name, value in given.items()}
    curves = {name: values for name, values in curves.items() if name == LR or min(values) < max(values)}
    figure = Figure(figsize=(4.6 * len(curves) + 1.4, 4), dpi=100, layout="constrained")
    panels = figure.subplots(1, len(curves), squeeze=False)[0]
    for ax, (name, values) in zip(panels, curves.items(), strict=True):
        ax.plot(steps, values, lw=2)
        ax.set(xlabel="training step", ylabel="learning rate" if name == LR else name)
        if name == LR:
            ax.set_ylim(bottom=0)
        ax.grid(alpha=0.3)
    figure.suptitle(f"Schedule of the {total_steps} training steps")
    return figure
