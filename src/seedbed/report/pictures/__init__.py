"""The pictures of a report, each with the line that says what it shows."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Picture:
    name: str  # of its PNG
    title: str
    caption: str
    figure: Figure
