"""A sweep's report.html and its pictures, from what the jobs left."""

from __future__ import annotations

import io
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from tqdm import tqdm

from seedbed.report import findings, page, tables
from seedbed.report.effects import Effect, Pairs, effect, intervals, pairs, size
from seedbed.report.events import curves
from seedbed.report.gather import gather, optimized_metric
from seedbed.report.grid import Axis, Grid, mean_table
from seedbed.report.pictures import Picture
from seedbed.report.pictures.axes import STYLE
from seedbed.sweeps.records import WORDS, Job
from seedbed.sweeps.summary import smaller_is_better

PICTURES = "report"  # the folder of the PNGs
NOT_METRICS = {"seed", "lr"}
FAR = 1000
MOST_PAIRS = 15  # rows a key
MOST_CURVES = 4  # keys whose values get curves of their own
METHOD = (
    "Intervals are 95 % intervals of Student's t over the seeds. The mean of a value averages, seed by seed, over all "
    "other swept values, taking only the combinations and seeds that all values of that key have, so that a failed job "
    "shifts no comparison. Comparisons are two-sided paired t-tests: the same seed and the same other values on both "
    "sides, the differences averaged to one number a seed. “p (Holm)” is corrected for all pairs of one key (Holm's "
    "step-down), which also covers that the best was chosen by the same data; it is not corrected across keys. With "
    "few seeds a real difference can be missed: not told apart does not mean equal."
)


def write_report(
    sweeps: Sequence[Path], out: Path, metric: str | None = None, by_sweep: bool = False, say: Callable = print
) -> Path:
    """Reads the sweeps, writes report.html and report/*.png into `out`; the page's path.

    `metric`: what is compared; None for what the sweep optimised. `by_sweep`: compare the sweeps with each other.
    `say` hears what is being done. Raises ValueError for folders without jobs and unknown metrics.
    """
    say(f"reading {', '.join(map(str, sweeps))}")
    jobs, repeated = gather(sweeps, out, by_sweep)
    metric, note = choose_metric(jobs, metric, optimized_metric(jobs, out))
    notes = [note, f"{repeated:,} jobs with the configuration of another sweep's job are left out." if repeated else ""]
    say(f"{len(jobs):,} jobs; reading their curves")
    waiting = tqdm(jobs, delay=2, unit="job", leave=False)
    lines = curves(f"{out}/{job.folder}" for job in waiting)
    with rc_context(STYLE):
        text = Report(Grid(jobs, metric), lines, out, say).page(sweeps, [note for note in notes if note])
    path = out / "report.html"
    temporary = path.with_name("report.html.tmp")
    temporary.write_text(text, encoding="utf-8")
    os.replace(temporary, path)
    return path


def choose_metric(jobs: Sequence[Job], asked: str | None, optimised: str) -> tuple[str, str]:
    """The metric, and a sentence where it is another than one would expect."""
    known = [name for name in Counter(name for job in jobs for name in job.metrics if job.metric(name) is not None)]
    known = [name for name in known if name not in NOT_METRICS and not isinstance(jobs[0].metrics.get(name), bool)]
    if asked:
        if asked not in known:
            raise ValueError(f"no job has a {asked}; there are: {', '.join(known) or 'no metrics at all'}")
        return asked, ""
    if optimised in known or "val/loss" not in known:
        return optimised, ""
    return "val/loss", f"No job has a {optimised}: shown is val/loss."


class Report:
    """The parts of the page; pictures are drawn, saved and embedded one by one."""

    def __init__(self, grid: Grid, lines: dict[str, np.ndarray], out: Path, say: Callable):
        self.grid, self.lines, self.out, self.say = grid, lines, out, say
        self.effects: dict[str, Effect | None] = {}  # None for what is no grid
        self.pairs: dict[str, Pairs | None] = {}
        for axis in grid.axes:
            cells = grid.cells(axis)
            self.effects[axis.key] = None if cells is None else effect(*cells)
            self.pairs[axis.key] = None if cells is None else pairs(cells[0])
        count = len(grid.combination_codes)
        flat = grid.combinations * grid.num_seeds + grid.seeds
        self.by_seed = mean_table(flat, grid.numbers, (count, grid.num_seeds))  # [C, S]
        mean, _, _ = intervals(self.by_seed)
        merit = mean if smaller_is_better(grid.metric) else -mean
        self.ranking = np.array([c for c in np.argsort(merit, kind="stable") if np.isfinite(merit[c])], dtype=int)

    def page(self, sweeps: Sequence[Path], notes: list[str]) -> str:
        sections = {
            "Best": self._best,
            "Effects": self._effects,
            "Comparisons": self._comparisons,
            "Two at once": self._heatmap,
            "Curves": self._curves,
            "All combinations": self._parallel,
            "Not completed": self._not_completed,
        }
        made = {name: part for name, make in sections.items() if (part := make())}
        parts = [self._head(sweeps, notes)]
        parts += [f"{page.heading(name)}\n{part}" for name, part in made.items()]
        parts += [page.heading("How it is computed"), page.note(METHOD)]
        return page.page(title(self.grid), parts, [*made, "How it is computed"])

    def _head(self, sweeps: Sequence[Path], notes: list[str]) -> str:
        grid = self.grid
        constant = [f"{k}={grid.jobs[0].shown(k)}" for k in grid.jobs[0].values if k not in grid.keys]
        seeds = f"{grid.num_seeds} seeds" if grid.num_seeds > 1 else "one seed: no intervals and no comparisons"
        constant = f"; in every job {' '.join(constant)}" if constant and len(grid.jobs) > 1 else ""
        better = "lower" if smaller_is_better(grid.metric) else "higher"
        facts = [
            f"Jobs: {tables.statuses(grid.jobs)}; {seeds}.",
            f"Metric: {grid.metric}, {better} is better.",
            f"Sweep: {', '.join(map(str, sweeps))}{constant}.",
            *_code(grid.jobs),
            *notes,
        ]
        if missing := int(np.isnan(grid.numbers).sum()):
            facts.append(f"{missing:,} of {len(grid.jobs):,} jobs have no {grid.metric} and are in no mean.")
        known = np.abs(grid.numbers[np.isfinite(grid.numbers)])
        if len(known) and known.max() > FAR * np.median(known) > 0:
            facts.append(f"Some jobs' {grid.metric} is over {FAR:,} times the median: means they are in say little.")
        if len(self.ranking):
            facts.append(findings.best(grid, self.by_seed, self.ranking))
            facts += findings.of_keys(grid, self.effects, self.pairs)
        return page.points(facts)

    def _best(self) -> str:
        if not len(self.ranking):
            return page.paragraph(f"No job has a {self.grid.metric}: there is nothing to compare.")
        best = page.table(tables.best_jobs(self.grid, 10), links=True)
        if not self.grid.axes or self.grid.num_seeds == 1:
            return page.note("Jobs; a link leads to the log.") + best
        compared = pairs(self.by_seed[:, None])
        found = tables.best_combinations(self.grid, self.by_seed, self.ranking, compared, 10)
        what = "Combinations of the swept values by their mean over seeds"
        what += "; p: paired t-test against the best over the same seeds." if compared else "."
        return f"{page.note(what)}{page.table(found)}{page.note('Single jobs; a link leads to the log.')}{best}"

    def _effects(self) -> str:
        if not self.grid.axes or not len(self.ranking):
            return ""
        from seedbed.report.pictures import effects

        found = {axis: self.effects[axis.key] for axis in self.grid.axes}
        numbers = [page.table(tables.values(self.grid, axis, e, 100)) for axis, e in found.items() if e]
        return self._picture(effects.draw(self.grid, self.effects)) + page.folded("The numbers", "".join(numbers))

    def _comparisons(self) -> str:
        parts = []
        for axis in self.grid.axes:
            if found := self.pairs[axis.key]:
                count, sure = len(found.p), int((found.holm < tables.SIGNIFICANT).sum())
                shown = "; shown are those with the best value" if count > MOST_PAIRS else ""
                test = f"{count:,} pair{'s' * (count > 1)} over the same seeds, paired t-test: "
                parts.append(page.subheading(axis.key))
                parts.append(page.note(f"{test}{sure:,} with a corrected p below 0.05{shown}."))
                parts.append(page.table(tables.comparisons(axis, self.grid.metric, found, MOST_PAIRS)))
        return "\n".join(parts)

    def _heatmap(self) -> str:
        if not len(self.ranking):
            return ""
        from seedbed.report.pictures import heatmaps

        return self._picture(heatmaps.draw(self.grid, self.effects))

    def _curves(self) -> str:
        from seedbed.report.pictures import curves as drawing

        grid, lines = self.grid, {tag: table for tag, table in self.lines.items() if np.isfinite(table).any()}
        names = [", ".join(short_names(grid, codes)) or "the jobs" for codes in grid.combination_codes]
        parts = [self._picture(drawing.draw_best(grid, self.ranking, names, lines))]
        parts += [self._picture(drawing.draw_values(grid, a, self.effects[a.key], lines)) for a in self._strongest()]
        return "\n".join(filter(None, parts))

    def _strongest(self) -> list[Axis]:
        """The keys with the largest effects, in their own order."""
        if len(self.grid.axes) < 2 and len(self.by_seed) <= 8:
            return []  # the curves of the combinations are theirs
        chosen = sorted(self.grid.axes, key=lambda axis: size(self.effects[axis.key]), reverse=True)[:MOST_CURVES]
        return [axis for axis in self.grid.axes if axis in chosen]

    def _parallel(self) -> str:
        if len(self.grid.combination_codes) < 3 or not len(self.ranking):
            return ""
        from seedbed.report.pictures import parallel

        return self._picture(parallel.draw(self.grid))

    def _not_completed(self) -> str:
        found = tables.not_completed(self.grid)
        return page.table(found, links=True) if found.rows else ""

    def _picture(self, drawn: Picture | None) -> str:
        if drawn is None:
            return ""
        self.say(f"drawing {drawn.name}.png")
        stream = io.BytesIO()
        drawn.figure.savefig(stream, format="png")
        folder = self.out / PICTURES
        folder.mkdir(exist_ok=True)
        (folder / f"{drawn.name}.png").write_bytes(stream.getvalue())
        return page.picture(stream.getvalue(), drawn.title, drawn.caption)


def short_names(grid: Grid, codes: np.ndarray) -> list[str]:
    """A combination for a legend: names alone, other values with the last part of their key: mlp, lr 0.1."""
    pairs = [(axis.key.split(".")[-1], axis.names[v]) for axis, v in zip(grid.axes, codes, strict=True)]
    return [name if name.isidentifier() and name not in WORDS else f"{key} {name}" for key, name in pairs]


def title(grid: Grid) -> str:
    return f"{' × '.join(grid.keys) or 'One configuration'}: {len(grid.jobs):,} job{'s' * (len(grid.jobs) != 1)}"


def _code(jobs: Sequence[Job]) -> list[str]:
    """Which code ran, said loudly where it was not one."""
    found = Counter(str(job.metrics.get("git")) for job in jobs if job.metrics.get("git"))
    if not found:
        return []
    listed = ", ".join(f"{git} ({count:,} jobs)" for git, count in found.items())
    return [f"Code: {next(iter(found))}."] if len(found) == 1 else [f"The jobs ran with different code: {listed}."]
