"""Sum up a sweep: summary.csv has a line for each job, summary.md the means over seeds.

Both are made from the files that the jobs left. A job counts in the mean of its combination if it has the metric: one
that diverged to an accuracy of 0.5 counts with 0.5, and the table says that it diverged.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean

from seedbed.files import write_whole
from seedbed.metrics import SHOWN, merit
from seedbed.statistics import interval
from seedbed.sweeps.records import Job, read
from seedbed.tables import aligned, counted, csv_text, figure, markdown

log = logging.getLogger("seedbed")

SEEDS = ("seed", "data.seed")  # keys that are averaged over
EFFORT = ("epochs", "steps")  # no seconds: the same sweep gives the same file
MAX_ROWS = 200  # of a table of summary.md
MAX_SHOWN = 10  # rows of a table on the terminal
MAX_FAILURES = 20
MEANS = "Mean over the seeds with its 95 % interval (Student's t), the best first."


@dataclass
class Combination:
    """The jobs that share all swept values but the seeds."""

    values: list[str]
    jobs: list[Job]
    numbers: list[float]  # the metric of the jobs that have it


def swept(jobs: Sequence[Job]) -> list[str]:
    """Return the keys whose value differs between jobs, in their order; of a single job all keys."""
    keys = dict.fromkeys(key for job in jobs for key in job.values)
    return [key for key in keys if len(jobs) == 1 or len({job.shown(key) for job in jobs}) > 1]


def combinations(jobs: Sequence[Job], metric: str) -> list[Combination]:
    """Group jobs by their swept values other than the seeds: the best mean first, those without the metric last."""
    keys = [key for key in swept(jobs) if key not in SEEDS]
    groups: dict[tuple[str, ...], list[Job]] = {}
    for job in jobs:
        groups.setdefault(tuple(job.shown(key) for key in keys), []).append(job)
    found = [
        Combination(list(values), members, [m for job in members if (m := job.metric(metric)) is not None])
        for values, members in groups.items()
    ]
    return sorted(found, key=lambda c: _order(fmean(c.numbers) if c.numbers else None, metric))


def _order(number: float | None, metric: str) -> float:
    """Return the key that sorts the best to the front, and a missing number to the end."""
    return math.inf if number is None else -merit(number, metric)


def headline(jobs: Sequence[Job], wanted: str = SHOWN[0]) -> str:
    """Return the metric to compare jobs by: `wanted`, or the first of SHOWN, that any job has."""
    known = (name for name in (wanted, *SHOWN) if any(job.metric(name) is not None for job in jobs))
    return next(known, wanted)


def finish(sweep: Path, optimized: str) -> bool:
    """Write the summary of a sweep and show its best jobs and its failed ones; return whether any has failed."""
    jobs = read(sweep)
    metric = headline(jobs, optimized)
    write(sweep, jobs, metric)
    failed = failures(jobs)
    tables = [means_table(jobs, metric), best_table(jobs, metric), _shown_of(jobs, metric), failed]
    log.info("\n%s", "\n\n".join(filter(None, tables)))
    log.info("\nsummary: %s\nlook:    tensorboard --logdir %s", sweep / "summary.md", sweep)
    return bool(failed)


def write(sweep: Path, jobs: Sequence[Job], metric: str | None = None) -> None:
    """Write summary.csv and summary.md into the sweep's folder. metric: that of `headline` unless it is given."""
    metric = metric or headline(jobs)
    for name, text in (("summary.csv", _csv(jobs, metric)), ("summary.md", _markdown(jobs, metric))):
        write_whole(Path(sweep, name), text)


def _csv(jobs: Sequence[Job], metric: str) -> str:
    keys = swept(jobs)
    metrics = [name for name in dict.fromkeys((*SHOWN, metric)) if any(name in job.metrics for job in jobs)]
    names = (*metrics, *EFFORT)
    rows = ([j.number, j.folder, j.status, *map(j.shown, keys), *map(j.metric, names)] for j in jobs)
    return csv_text(["job", "folder", "status", *keys, *names], rows)


def _markdown(jobs: Sequence[Job], metric: str) -> str:
    keys = swept(jobs)
    constant = [f"{key}={jobs[0].shown(key)}" for key in (jobs[0].values if jobs else ()) if key not in keys]
    facts = [f"- {key}: {_spread(jobs, key)}" for key in keys]
    facts += [f"- in every job: {' '.join(constant)}"] * bool(constant)
    title = f"{' × '.join(keys) or 'One configuration'}: {len(jobs):,} job{'s' * (len(jobs) != 1)}"
    states = counted(job.status for job in jobs)
    parts = [f"# {title}", states, "\n".join(facts), f"## {metric}", MEANS, _means(jobs, metric)]
    header, rows = _best(jobs, metric, 10)
    if rows:
        parts += ["## Best jobs", markdown(header, rows)]
    if incomplete := [job for job in jobs if job.status != "completed"]:
        header = ["job", "status", *keys, metric]
        rows = [[j.folder, _outcome(j), *map(j.shown, keys), figure(j.metric(metric))] for j in incomplete]
        parts += ["## Not completed", "`train.log` in a job's folder says more.", markdown(header, rows[:MAX_ROWS])]
        parts += [_left_out(len(rows), "jobs")]
    return "\n\n".join(filter(None, parts)) + "\n"


def _means(jobs: Sequence[Job], metric: str) -> str:
    """Return the table of the combinations in Markdown, with their range over seeds and the jobs not completed."""
    found = combinations(jobs, metric)
    header = [*(key for key in swept(jobs) if key not in SEEDS), "seeds", "mean", "± 95 %", "min", "max"]
    rows, notes = [], []
    for c in found[:MAX_ROWS]:
        mean, half = interval(c.numbers) if c.numbers else (None, None)
        ends = (min(c.numbers), max(c.numbers)) if c.numbers else (None, None)
        rows.append([*c.values, str(len(c.numbers)), figure(mean), figure(half, mean), *map(figure, ends)])
        notes.append(counted(job.status for job in c.jobs if job.status != "completed"))
    if any(notes):
        header, rows = [*header, "not completed"], [[*row, note] for row, note in zip(rows, notes, strict=True)]
    return "\n\n".join(filter(None, [markdown(header, rows), _left_out(len(found), "combinations")]))


def means_table(jobs: Sequence[Job], metric: str) -> str:
    """Return the best combinations for the terminal; empty where no combination has two seeds."""
    found = combinations(jobs, metric)
    if all(len(c.numbers) < 2 for c in found):
        return ""
    rows = []
    for c in found[:MAX_SHOWN]:
        mean, half = interval(c.numbers) if c.numbers else (None, None)
        rows.append([*c.values, str(len(c.numbers)), figure(mean), figure(half, mean)])
    keys = [key for key in swept(jobs) if key not in SEEDS]
    table = aligned([*keys, "seeds", f"mean {metric}", "± 95 %"], rows)
    more = f"\nthe best {MAX_SHOWN} of {len(found):,} combinations; summary.md has more"
    return table + more * (len(found) > MAX_SHOWN)


def _shown_of(jobs: Sequence[Job], metric: str) -> str:
    count = sum(job.metric(metric) is not None for job in jobs)
    return f"the best {MAX_SHOWN} of {count:,} jobs; summary.csv has all" if count > MAX_SHOWN else ""


def best_table(jobs: Sequence[Job], metric: str | None = None, count: int = MAX_SHOWN) -> str:
    """Return the best jobs for the terminal: rank, folder, swept values, metric and status."""
    metric = metric or headline(jobs)
    header, rows = _best(jobs, metric, count)
    if not rows:
        return f"no job has a {metric}"
    return aligned(header, rows)


def _best(jobs: Sequence[Job], metric: str, count: int) -> tuple[list[str], list[list[str]]]:
    """Return header and rows of the best jobs that have the metric; ties keep the jobs' order."""
    keys = swept(jobs)
    having = [job for job in jobs if job.metric(metric) is not None]
    rows = [
        [str(rank), job.folder, *map(job.shown, keys), figure(job.metric(metric)), _outcome(job)]
        for rank, job in enumerate(sorted(having, key=lambda job: _order(job.metric(metric), metric))[:count], start=1)
    ]
    return ["rank", "job", *keys, metric, "status"], rows


def _outcome(job: Job) -> str:
    """Return a job's status, with the step at which it diverged."""
    step = job.metrics.get("diverged_at")
    return job.status if step is None else f"{job.status} at step {step}"


def failures(jobs: Sequence[Job]) -> str:
    """Return the failed jobs for the terminal: folder, swept values and message; empty if there is none."""
    keys = swept(jobs)
    rows = [[j.folder, *map(j.shown, keys), j.metrics.get("error", "")] for j in jobs if j.status == "failed"]
    if not rows:
        return ""
    table = aligned(["job", *keys, "failed with"], rows[:MAX_FAILURES])
    more = f"\n… and {len(rows) - MAX_FAILURES} more; train.log in a job's folder says more"
    return table + more * (len(rows) > MAX_FAILURES)


def _left_out(count: int, what: str) -> str:
    return f"{count - MAX_ROWS:,} more {what} are left out; summary.csv has every job." if count > MAX_ROWS else ""


def _spread(jobs: Sequence[Job], key: str) -> str:
    """Return the values of a key in a line: all if they are few, else the ends of numbers or the first texts."""
    values = {job.shown(key): job.values.get(key) for job in jobs}
    numeric = all(isinstance(value, int | float) for value in values.values())
    names = sorted(values, key=values.get) if numeric else list(values)
    if len(names) <= 10:
        return ", ".join(name or "(none)" for name in names)
    few = f"{names[0]} … {names[-1]}" if numeric else f"{', '.join(names[:10])}, …"
    return f"{few} ({len(names)} values)"
