"""A schedule over the steps of a run."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from seedbed.schedules import Schedule

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MAX_POINTS = 1000


def schedule(numbers: Schedule, total_steps: int, lr: float, momentum: float = 0.0) -> Figure:
    """Draw the lr on the left axis, and the momentum on the right one if it varies."""
    from matplotlib.figure import Figure

    steps = np.unique(np.linspace(0, total_steps - 1, min(total_steps, MAX_POINTS)).round())
    lrs = [numbers(step / total_steps, "lr", lr) for step in steps]
    momenta = [numbers(step / total_steps, "momentum", momentum) for step in steps]
    figure = Figure(figsize=(7, 4), dpi=100, layout="constrained")
    left = figure.subplots()
    left.plot(steps, lrs, color="tab:blue", lw=2)
    left.set_xlabel("training step")
    left.set_ylabel("learning rate", color="tab:blue")
    left.set_ylim(bottom=0)
    left.grid(alpha=0.3)
    if min(momenta) < max(momenta):
        right = left.twinx()
        right.plot(steps, momenta, color="tab:orange", lw=2, ls="--")
        right.set_ylabel("momentum (dashed)", color="tab:orange")
    left.set_title(f"Schedule of the {total_steps} training steps")
    return figure
