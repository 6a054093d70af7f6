"""A log axis with plain numbers."""

from __future__ import annotations

from matplotlib.axis import Axis
from matplotlib.ticker import FuncFormatter


def plain_numbers(axis: Axis) -> None:
    """Label a log axis 0.1, 0.2, 0.3 and 0.5, where matplotlib writes powers of ten."""
    formatter = FuncFormatter(lambda value, _: f"{value:g}" if f"{value:e}"[0] in "1235" else "")
    axis.set_major_formatter(formatter)
    axis.set_minor_formatter(formatter)
