"""The HTML of a report: one file that holds its pictures, too."""

from __future__ import annotations

import base64
import re
from collections.abc import Iterable
from html import escape
from urllib.parse import quote

from seedbed.report.tables import Table

STYLE = """
:root { color-scheme: light; }
body { font: 15px/1.5 system-ui, sans-serif; color: #222; background: #fff; }
body { max-width: 1120px; margin: 2em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: .2em; }
h2 { font-size: 1.2em; margin: 2em 0 .4em; border-bottom: 1px solid #ddd; }
h3 { font-size: 1em; margin: 1.4em 0 .3em; }
p, li { max-width: 60em; } .note, figcaption { color: #555; font-size: .9em; max-width: 66em; }
figure { margin: .6em 0 1.6em; } img { max-width: 100%; height: auto; }
div.wide { overflow-x: auto; } table { border-collapse: collapse; font-size: .88em; margin: .4em 0; }
th, td { padding: .2em .7em; text-align: left; white-space: nowrap; } th { border-bottom: 1.5px solid #888; }
td { border-bottom: 1px solid #eee; } td.n, th.n { text-align: right; font-variant-numeric: tabular-nums; }
tr:hover td { background: #f6f8fa; } .bad { color: #c0392b; } summary { cursor: pointer; color: #1f4e79; }
nav a { margin-right: 1.2em; } a { color: #1f4e79; }
"""

NUMBER = re.compile(r"(< )?[-+]?[\d.,]+(e[-+]?\d+)?( ± .+)?|–|")  # a cell


def page(title: str, parts: list[str], sections: list[str]) -> str:
    links = " ".join(f'<a href="#{anchor(name)}">{escape(name)}</a>' for name in sections)
    head = f'<meta charset="utf-8"><title>{escape(title)}</title><style>{STYLE}</style>'
    body = "\n".join([f"<h1>{escape(title)}</h1>", *parts[:1], f"<nav>{links}</nav>", *parts[1:]])
    return f'<!doctype html>\n<html lang="en"><head>{head}</head><body>\n{body}\n</body></html>\n'


def anchor(name: str) -> str:
    return "".join(c if c.isalnum() else "-" for c in name.lower())


def heading(name: str) -> str:
    return f'<h2 id="{anchor(name)}">{escape(name)}</h2>'


def paragraph(text: str) -> str:
    return f"<p>{escape(text)}</p>"


def note(text: str) -> str:
    return f'<p class="note">{escape(text)}</p>'


def subheading(name: str) -> str:
    return f"<h3>{escape(name)}</h3>"


def points(texts: list[str]) -> str:
    return f"<ul>{''.join(f'<li>{escape(text)}</li>' for text in texts)}</ul>" if texts else ""


def picture(png: bytes, name: str, caption: str) -> str:
    data = base64.b64encode(png).decode()
    image = f'<img alt="{escape(name)}" src="data:image/png;base64,{data}">'
    return f"<figure>{image}<figcaption>{escape(caption)}</figcaption></figure>"


def table(content: Table, links: bool = False) -> str:
    """Return a table whose columns of numbers stand on the right; `links`: the column "job" leads to the job's log."""
    columns = list(zip(*content.rows, strict=True)) if content.rows else [()] * len(content.header)
    classes = [' class="n"' if column and all(map(NUMBER.fullmatch, column)) else "" for column in columns]
    lines = [_row("th", map(escape, content.header), classes)]
    for row in content.rows:
        cells = [escape(cell) for cell in row]
        if links and "job" in content.header:
            at = content.header.index("job")
            cells[at] = f'<a href="{escape(quote(row[at]))}/train.log">{cells[at]}</a>'
        lines.append(_row("td", cells, classes))
    more = note(f"{content.left_out:,} more.") if content.left_out > 0 else ""
    return f'<div class="wide"><table>{"".join(lines)}</table></div>{more}'


def folded(summary: str, content: str) -> str:
    return f"<details><summary>{escape(summary)}</summary>{content}</details>"


def _row(tag: str, cells: Iterable[str], classes: list[str]) -> str:
    inner = "".join(f"<{tag}{css}>{cell}</{tag}>" for cell, css in zip(cells, classes, strict=True))
    return f"<tr>{inner}</tr>"
