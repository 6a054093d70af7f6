"""What a sweep's folder holds besides its jobs: summary.csv, a line a job, and summary.md, means over seeds.

Read from the files that the jobs left, or given in memory; nothing heavy is imported. A metric whose name ends in
"loss" is better the smaller it is, any other the larger. A job is a number of its combination's mean wherever it has
that metric: one that diverged to an accuracy of 0.5 counts with 0.5, and the table says that it diverged.
"""

from __future__ import annotations

import csv
import io
import json
import math
import os
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import NormalDist, fmean, stdev
from typing import Any

import yaml

from seedbed.manifest import Manifest

SEEDS = ("seed", "data.seed")  # keys that are averaged over
METRICS = ("val/accuracy", "val/loss", "train/loss", "test/accuracy")
EFFORT = ("epochs", "steps")  # no seconds: the same sweep gives the same file
MOST_ROWS = 200
MOST_FAILURES = 20
WORDS = {"true": True, "false": False, "null": None}
MEANS = "Mean over the seeds with its 95 % interval (Student's t), the best first."
YAML = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # 20 µs a file, eight times faster than the other


@dataclass
class Job:
    """A job of a sweep: its overrides, key → value, and what its metrics.json holds, {} where there is none."""

    number: int
    folder: str  # relative to the sweep's
    values: dict[str, Any]
    metrics: dict[str, Any]

    @property
    def status(self) -> str:
        """completed, diverged or failed; unfinished without a metrics.json: refused, killed or still at it."""
        return self.metrics.get("status", "unfinished")

    def metric(self, name: str) -> float | None:
        """None for what is missing, null or not finite."""
        value = self.metrics.get(name)
        return value if isinstance(value, int | float) and math.isfinite(value) else None

    def shown(self, key: str) -> str:
        """The override's value as one types it; empty without one."""
        return show(self.values[key]) if key in self.values else ""


@dataclass
class Combination:
    """The jobs that share all swept values but the seeds."""

    values: list[str]
    jobs: list[Job]
    numbers: list[float]  # the metric of those that have it


# --- reading


def read(sweep: Path) -> list[Job]:
    """The jobs of a sweep in the order of their numbers: from its manifest, or from its folders where there is none."""
    if jobs := Manifest(sweep).jobs:
        return [
            Job(n, line["folder"], dict(map(_parse, line["overrides"])), _metrics(f"{sweep}/{line['folder']}"))
            for n, line in sorted(jobs.items())
        ]
    return _read_folders(sweep)


def _read_folders(sweep: Path) -> list[Job]:
    """Numbers are what begins the folders' names, else their order."""
    found = {}
    for folder in sorted(os.listdir(sweep)):
        try:
            with open(f"{sweep}/{folder}/.hydra/overrides.yaml", encoding="utf-8") as file:
                found[folder] = dict(map(_parse, yaml.load(file, YAML) or ()))
        except (FileNotFoundError, NotADirectoryError):
            continue  # no job's folder
    numbers = [int(match[0]) for folder in found if (match := re.match(r"\d+", folder))]
    if len(set(numbers)) < len(found):
        numbers = range(len(found))
    return sorted(
        (Job(n, *item, _metrics(f"{sweep}/{item[0]}")) for n, item in zip(numbers, found.items(), strict=True)),
        key=lambda job: job.number,
    )


def _parse(override: str) -> tuple[str, Any]:
    """`+optim.lr=0.1` → ("optim.lr", 0.1); lists and mappings stay text."""
    key, _, text = override.partition("=")
    return key.lstrip("+"), _typed(text)


def _typed(text: str) -> Any:
    """A value as Hydra's grammar reads it (YAML would take 1e-3 for text)."""
    if len(text) > 1 and text[0] == text[-1] and text[0] in "'\"":
        return text[1:-1].replace(f"\\{text[0]}", text[0])
    if text.lower() in WORDS:
        return WORDS[text.lower()]
    for kind in (int, float):
        try:
            return kind(text)
        except ValueError:
            continue
    return text


def _metrics(folder: str) -> dict[str, Any]:
    try:
        with open(f"{folder}/metrics.json", "rb") as file:
            return json.loads(file.read())
    except FileNotFoundError:
        return {}


# --- arithmetic


def interval(numbers: Sequence[float]) -> tuple[float, float | None]:
    """Mean and half the width of its 95 % interval (Student's t); None for the latter where there is one number."""
    n = len(numbers)
    return fmean(numbers), t_quantile(n - 1) * stdev(numbers) / math.sqrt(n) if n > 1 else None


def t_quantile(df: int) -> float:
    """97.5 % quantile of Student's t to 1e-5 of itself: tabulated to df = 8, then Abramowitz & Stegun 26.7.5."""
    if df < 1:
        raise ValueError(f"degrees of freedom must be ≥ 1, got {df}")
    if df <= 8:
        return (12.706205, 4.302653, 3.182446, 2.776445, 2.570582, 2.446912, 2.364624, 2.306004)[df - 1]
    x = NormalDist().inv_cdf(0.975)
    terms = (
        x,
        (x**3 + x) / 4,
        (5 * x**5 + 16 * x**3 + 3 * x) / 96,
        (3 * x**7 + 19 * x**5 + 17 * x**3 - 15 * x) / 384,
        (79 * x**9 + 776 * x**7 + 1482 * x**5 - 1920 * x**3 - 945 * x) / 92160,
    )
    return sum(term / df**k for k, term in enumerate(terms))


def swept(jobs: Sequence[Job]) -> list[str]:
    """The keys whose value differs between jobs, as they come; of a single job all."""
    keys = dict.fromkeys(key for job in jobs for key in job.values)
    return [key for key in keys if len(jobs) == 1 or len({job.shown(key) for job in jobs}) > 1]


def combinations(jobs: Sequence[Job], metric: str) -> list[Combination]:
    """Jobs by their swept values other than the seeds, the best mean first, those without the metric last."""
    keys = [key for key in swept(jobs) if key not in SEEDS]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.shown(key) for key in keys), []).append(job)
    found = [
        Combination(list(values), members, [m for job in members if (m := job.metric(metric)) is not None])
        for values, members in groups.items()
    ]
    return sorted(found, key=lambda c: _merit(fmean(c.numbers) if c.numbers else None, metric))


def smaller_is_better(metric: str) -> bool:
    return metric.endswith(("loss", "seconds"))


def _merit(number: float | None, metric: str) -> float:
    """Sorts the best to the front."""
    if number is None:
        return math.inf
    return number if smaller_is_better(metric) else -number


# --- writing


def headline(jobs: Sequence[Job]) -> str:
    """The metric to compare jobs by: val/accuracy, or the first of METRICS that any of them has."""
    return next((name for name in METRICS if any(job.metric(name) is not None for job in jobs)), METRICS[0])


def write(sweep: Path, jobs: Sequence[Job], metric: str | None = None) -> None:
    """summary.csv and summary.md into the sweep's folder, each whole or not at all. metric: `headline` by default."""
    metric = metric or headline(jobs)
    for name, text in (("summary.csv", _csv(jobs, metric)), ("summary.md", _markdown(jobs, metric))):
        temporary = Path(sweep, f"{name}.tmp")
        temporary.write_text(text, encoding="utf-8", newline="")
        os.replace(temporary, Path(sweep, name))


def _csv(jobs: Sequence[Job], metric: str) -> str:
    keys = swept(jobs)
    metrics = [name for name in dict.fromkeys((*METRICS, metric)) if any(name in job.metrics for job in jobs)]
    file = io.StringIO()
    lines = csv.writer(file, lineterminator="\n")
    lines.writerow(["job", "folder", "status", *keys, *metrics, *EFFORT])
    for job in jobs:
        numbers = [job.metric(name) for name in (*metrics, *EFFORT)]
        lines.writerow([job.number, job.folder, job.status, *map(job.shown, keys), *numbers])
    return file.getvalue()


def _markdown(jobs: Sequence[Job], metric: str) -> str:
    keys = swept(jobs)
    constant = [f"{key}={jobs[0].shown(key)}" for key in (jobs[0].values if jobs else ()) if key not in keys]
    facts = [f"- {key}: {_spread(jobs, key)}" for key in keys]
    facts += [f"- in every job: {' '.join(constant)}"] * bool(constant)
    title = f"{' × '.join(keys) or 'One configuration'}: {len(jobs):,} job{'s' * (len(jobs) != 1)}"
    parts = [f"# {title}", _statuses(jobs), "\n".join(facts), f"## {metric}", MEANS, _means(jobs, metric)]
    header, rows = _best(jobs, metric, 10)
    if rows:
        parts += ["## Best jobs", _table(header, rows)]
    if incomplete := [job for job in jobs if job.status != "completed"]:
        header = ["job", "status", *keys, metric]
        rows = [[j.folder, j.status, *map(j.shown, keys), figure(j.metric(metric))] for j in incomplete]
        parts += ["## Not completed", "`train.log` in a job's folder says more.", _table(header, rows[:MOST_ROWS])]
        parts += [_left_out(len(rows), "jobs")]
    return "\n\n".join(filter(None, parts)) + "\n"


def _means(jobs: Sequence[Job], metric: str) -> str:
    """A row for each combination: how many seeds, their mean with its interval, their range."""
    found = combinations(jobs, metric)
    header = [*(key for key in swept(jobs) if key not in SEEDS), "seeds", "mean", "± 95 %", "min", "max"]
    rows, notes = [], []
    for c in found[:MOST_ROWS]:
        mean, half = interval(c.numbers) if c.numbers else (None, None)
        ends = (min(c.numbers), max(c.numbers)) if c.numbers else (None, None)
        rows.append([*c.values, str(len(c.numbers)), figure(mean), figure(half, mean), *map(figure, ends)])
        notes.append(_statuses(job for job in c.jobs if job.status != "completed"))
    if any(notes):
        header, rows = [*header, "not completed"], [[*row, note] for row, note in zip(rows, notes, strict=True)]
    return "\n\n".join(filter(None, [_table(header, rows), _left_out(len(found), "combinations")]))


def best_table(jobs: Sequence[Job], metric: str | None = None, count: int = 10) -> str:
    """The best jobs for the terminal: rank, folder, swept values, metric and status, aligned."""
    metric = metric or headline(jobs)
    header, rows = _best(jobs, metric, count)
    if not rows:
        return f"no job has a {metric}"
    return aligned(header, rows)


def aligned(header: list[str], rows: list[list[str]]) -> str:
    """A table for the terminal: columns of one width, numbers on the right."""
    _, lines = _aligned(header, rows)
    return "\n".join("  ".join(line).rstrip() for line in lines)


def _best(jobs: Sequence[Job], metric: str, count: int) -> tuple[list[str], list[list[str]]]:
    """Header and rows of the best jobs that have the metric, the first of two equals first."""
    keys = swept(jobs)
    having = [job for job in jobs if job.metric(metric) is not None]
    rows = [
        [str(rank), job.folder, *map(job.shown, keys), figure(job.metric(metric)), job.status]
        for rank, job in enumerate(sorted(having, key=lambda job: _merit(job.metric(metric), metric))[:count], start=1)
    ]
    return ["rank", "job", *keys, metric, "status"], rows


def failures(jobs: Sequence[Job]) -> str:
    """The failed jobs for the terminal: folder, swept values and message; empty if there is none."""
    keys = swept(jobs)
    rows = [[j.folder, *map(j.shown, keys), j.metrics.get("error", "")] for j in jobs if j.status == "failed"]
    if not rows:
        return ""
    _, lines = _aligned(["job", *keys, "failed with"], rows[:MOST_FAILURES])
    more = [f"… and {len(rows) - MOST_FAILURES} more; train.log in a job's folder says more"]
    return "\n".join(["  ".join(line).rstrip() for line in lines] + more * (len(rows) > MOST_FAILURES))


def _statuses(jobs: Iterable[Job]) -> str:
    """38 completed, 1 diverged, 1 failed: the alphabet's order is from good to bad."""
    return ", ".join(f"{count:,} {status}" for status, count in sorted(Counter(job.status for job in jobs).items()))


def _left_out(count: int, what: str) -> str:
    return f"{count - MOST_ROWS:,} more {what} are left out; summary.csv has every job." if count > MOST_ROWS else ""


def _spread(jobs: Sequence[Job], key: str) -> str:
    """The values of a key in a line: all of a few, the ends of many numbers, the first of many words."""
    values = {job.shown(key): job.values.get(key) for job in jobs}
    numeric = all(isinstance(value, int | float) for value in values.values())
    names = sorted(values, key=values.get) if numeric else list(values)
    if len(names) <= 10:
        return ", ".join(name or "(none)" for name in names)
    few = f"{names[0]} … {names[-1]}" if numeric else f"{', '.join(names[:10])}, …"
    return f"{few} ({len(names)} values)"


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


def _table(header: list[str], rows: list[list[str]]) -> str:
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
