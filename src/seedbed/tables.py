"""Tables of text: for the terminal, aligned, and for Markdown; numbers in a few figures."""

from __future__ import annotations

import re
from typing import Any


def show(value: Any) -> str:
    """A value as one types it on the command line."""
    if isinstance(value, list | tuple):
        return f"[{','.join(map(show, value))}]"
    return "null" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def figure(number: float | None, scale: float | None = None) -> str:
    """Four decimals, or three digits for what is tiny or huge; `scale`: the number whose decimals to match."""
    if number is None:
        return "–"
    size = abs(number if scale is None else scale)
    return f"{number:.4f}" if size == 0 or 0.01 <= size < 1e5 else f"{number:#.3g}"


def aligned(header: list[str], rows: list[list[str]]) -> str:
    """A table for the terminal: columns of one width, numbers on the right."""
    _, lines = _aligned(header, rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def markdown(header: list[str], rows: list[list[str]]) -> str:
    """GitHub's Markdown, padded so that it reads as text too."""
    header, *rows = ([cell.replace("|", r"\|") for cell in row] for row in (header, *rows))
    right, lines = _aligned(header, rows)
    rule = ["-" * (len(cell) - 1) + (":" if r else "-") for cell, r in zip(lines[0], right, strict=True)]
    return "\n".join(f"| {' | '.join(line)} |" for line in (lines[0], rule, *lines[1:]))


def _aligned(header: list[str], rows: list[list[str]]) -> tuple[list[bool], list[list[str]]]:
    """Which columns hold numbers and stand on the right, and the lines with cells padded to one width a column."""
    columns = list(zip(header, *rows, strict=True))
    right = [all(re.fullmatch(r"[-+]?[\d.]+(e[-+]?\d+)?|–|", cell) for cell in column[1:]) for column in columns]
    widths = [max(3, *map(len, column)) for column in columns]
    lines = [
        [cell.rjust(w) if r else cell.ljust(w) for cell, w, r in zip(line, widths, right, strict=True)]
        for line in (header, *rows)
    ]
    return right, lines
