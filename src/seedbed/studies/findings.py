"""The findings of a study, and the files that they are written to."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from seedbed.files import write_whole
from seedbed.tables import aligned, csv_text, figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def canvas(width: float, height: float, rows: int = 1, columns: int = 1, **options: Any) -> tuple[Figure, Any]:
    """Return a figure of width × height inches and its axes."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots(rows, columns, **options)


@dataclass
class Findings:
    """A conclusion of a line or two, a table that fits a terminal, pictures, and curves for TensorBoard.

    curves: tag → step → value. details: a second table, too long to read, of everything that was measured.
    """

    conclusion: str
    header: Sequence[str]
    rows: Sequence[Sequence[object]]
    figures: dict[str, Figure]
    curves: dict[str, dict[int, float]] = field(default_factory=dict)
    details: Sequence[dict[str, Any]] = ()

    def text(self) -> str:
        """Return the table for the terminal."""
        cells = [[figure(v) if isinstance(v, float | None) else str(v) for v in row] for row in self.rows]
        return aligned(list(self.header), cells)

    def write(self, folder: Path) -> None:
        """Write table.csv (and details.csv), a PNG file for each figure, and an event file with figures and curves."""
        from torch.utils.tensorboard import SummaryWriter

        write_whole(folder / "table.csv", csv_text(self.header, self.rows))
        if self.details:
            write_whole(folder / "details.csv", csv_text(list(self.details[0]), (row.values() for row in self.details)))
        with SummaryWriter(str(folder)) as writer:
            for tag, values in self.curves.items():
                for step, value in values.items():
                    writer.add_scalar(tag, value, step)
            for name, picture in self.figures.items():
                picture.savefig(folder / f"{name}.png", dpi=150)
                writer.add_figure(name, picture)
