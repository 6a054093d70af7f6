"""Tables as text: aligned for the terminal, Markdown, CSV; numbers with few digits."""

from __future__ import annotations

import csv
import io
import re
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

# text that Hydra would read as another type unless it stands in quotes
NO_TEXT = re.compile(r"true|false|null|[-+]?(inf|nan|(\d[\d_]*\.?\d*|\.\d+)(e[-+]?\d+)?)", re.IGNORECASE)


def show(value: Any) -> str:
    """Return a value as one types it on the command line."""
    if isinstance(value, Mapping):
        return f"{{{','.join(f'{key}:{show(item)}' for key, item in value.items())}}}"
    if isinstance(value, list | tuple):
        return f"[{','.join(map(show, value))}]"
    if isinstance(value, str):
        return f"'{value}'" if NO_TEXT.fullmatch(value) else value
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def figure(number: float | None, scale: float | None = None) -> str:
    """Return four decimals, or three digits where the number is tiny or huge; a dash for None.

    `scale`: the number whose form to take, for an interval beside its mean.
    """
    if number is None:
        return "–"
    size = abs(number if scale is None else scale)
    return f"{number:.4f}" if size == 0 or 0.01 <= size < 1e5 else f"{number:#.3g}"


def counted(words: Iterable[str]) -> str:
    """Return "38 completed, 1 diverged, 1 failed": of a job's states the alphabet's order is from good to bad."""
    return ", ".join(f"{count:,} {word}" for word, count in sorted(Counter(words).items()))


def csv_text(header: Sequence[Any], rows: Iterable[Iterable[Any]]) -> str:
    """Return lines of comma-separated values."""
    text = io.StringIO()
    csv.writer(text, lineterminator="\n").writerows([header, *rows])
    return text.getvalue()


def aligned(header: list[str], rows: list[list[str]]) -> str:
    """Return a table for the terminal: columns of equal width, numbers on the right."""
    _, lines = _padded(header, rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """Return a table in GitHub's Markdown, padded so that it reads as text too."""
    header, *rows = ([cell.replace("|", r"\|") for cell in row] for row in (header, *rows))
    right, lines = _padded(header, rows)
    rule = ["-" * (len(cell) - 1) + (":" if r else "-") for cell, r in zip(lines[0], right, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _padded(header: list[str], rows: list[list[str]]) -> tuple[list[bool], list[list[str]]]:
    """Return which columns hold numbers, and so stand on the right, and the lines with their cells padded."""
    columns = list(zip(header, *rows, strict=True))
    right = [all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|–|", cell) for cell in column[1:]) for column in columns]
    widths = [max(3, *map(len, column)) for column in columns]
    lines = [
        [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right, strict=True)]
        for line in (header, *rows)
    ]
    return right, lines
