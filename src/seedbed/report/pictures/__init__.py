"""The pictures of a report."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure


@dataclass
class Picture:
    name: str  # of its PNG file
    title: str
    caption: str
    figure: Figure
