"""What a study found, and how it is written down."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedbed.tables import aligned, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure

Cell = str | int | float | None


@dataclass
class Findings:
    """A conclusion of a line or two, a table that fits a terminal, pictures, and curves for TensorBoard.

    curves: tag → step → value. details: another table, of all that was measured, too long to read.
    """

    conclusion: str
    header: Sequence[str]
    rows: Sequence[Sequence[Cell]]
    figures: dict[str, Figure]
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    details: Sequence[dict[str, Any]] = ()

    def text(self) -> str:
        """The table for the terminal."""
        shown = [[figure(v) if isinstance(v, float | None) else str(v) for v in row] for row in self.rows]
        return aligned(list(self.header), shown)

    def write(self, folder: Path) -> None:
        """table.csv (details.csv), a PNG a figure, and an event file with figures and curves."""
        from torch.utils.tensorboard import SummaryWriter

        _write_csv(folder / "table.csv", self.header, self.rows)
        if self.details:
            _write_csv(folder / "details.csv", self.details[0], [row.values() for row in self.details])
        with SummaryWriter(str(folder)) as writer:
            for tag, values in self.curves.items():
                for step, value in values.items():
                    writer.add_scalar(tag, value, step)
            for name, picture in self.figures.items():
                picture.savefig(folder / f"{name}.png", dpi=150)
                writer.add_figure(name, picture)


def _write_csv(path: Path, header: Sequence[str], rows: Sequence[Sequence[Cell]]) -> None:
    with open(path, "w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *rows])
