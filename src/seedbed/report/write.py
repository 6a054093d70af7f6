"""Write a sweep's report.html and its pictures from the files of its jobs."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from matplotlib import rc_context
from tqdm import tqdm

from seedbed.files import write_whole
from seedbed.metrics import TRAIN_LOSS, VAL_ACCURACY, VAL_LOSS, merit, smaller_is_better
from seedbed.report import findings, page, tables
from seedbed.report.effects import Effect, Pairs, effect, mean_range, pairs
from seedbed.report.gather import curves, gather, optimized_metric
from seedbed.report.grid import Axis, Grid, mean_table
from seedbed.report.pictures import Picture, effects, heat_maps, parallel
from seedbed.report.pictures import curves as curve_pictures
from seedbed.report.pictures.axes import STYLE
from seedbed.statistics import intervals
from seedbed.sweeps.records import WORDS, Job
from seedbed.tables import counted

PICTURES = "report"  # folder of the PNG files
CURVES = (TRAIN_LOSS, VAL_LOSS, VAL_ACCURACY)
NOT_METRICS = {"seed", "lr"}
FAR = 1000  # times the median: a number that a mean says little about
MAX_PAIRS = 15  # rows for each key
MAX_CURVE_KEYS = 4  # keys whose values get curves of their own
METHOD = (
    "Intervals are 95 % intervals of Student's t over the seeds. The mean of a value averages, seed by seed, over all "
    "other swept values. It takes only the combinations and seeds that all values of that key have, so that a failed "
    "job shifts no comparison. Comparisons are two-sided paired t-tests: the same seed and the same other values on "
    "both sides, the differences averaged to one number for each seed. “p (Holm)” is corrected for all pairs of one "
    "key (Holm's step-down method), which also allows for the best value having been chosen by the same data; it is "
    "not corrected across keys. With few seeds a real difference can be missed: “not told apart” does not mean equal."
)


def write_report(
    sweeps: Sequence[Path], out: Path, metric: str | None = None, by_sweep: bool = False, say: Callable = print
) -> Path:
    """Read the sweeps, write report.html and report/*.png into `out`, and return the page's path.

    `metric`: the one to compare; None for the one that the sweep optimised. `by_sweep`: compare the sweeps with each
    other. `say` is called with a line for each stage. Raises ValueError for folders without jobs and unknown metrics.
    """
    say(f"reading {', '.join(map(str, sweeps))}")
    jobs, repeated = gather(sweeps, out, by_sweep)
    metric, note = choose_metric(jobs, metric, optimized_metric(jobs, out))
    notes = [note, f"{repeated:,} jobs with the configuration of another sweep's job are left out." if repeated else ""]
    say(f"{len(jobs):,} jobs; reading their curves")
    progress = tqdm(jobs, delay=2, unit="job", leave=False)
    by_epoch = curves((f"{out}/{job.folder}" for job in progress), CURVES)
    with rc_context(STYLE):
        text = Report(Grid(jobs, metric), by_epoch, out, say).page(sweeps, [note for note in notes if note])
    path = out / "report.html"
    write_whole(path, text)
    return path


def choose_metric(jobs: Sequence[Job], asked: str | None, optimized: str) -> tuple[str, str]:
    """Return the metric to compare, and a sentence where it is not the one to expect."""
    known = Counter(name for job in jobs for name in job.metrics if job.metric(name) is not None)
    known = [name for name in known if name not in NOT_METRICS and not isinstance(jobs[0].metrics.get(name), bool)]
    if asked:
        if asked not in known:
            raise ValueError(f"no job has a {asked}; there are: {', '.join(known) or 'no metrics at all'}")
        return asked, ""
    if optimized in known or VAL_LOSS not in known:
        return optimized, ""
    return VAL_LOSS, f"No job has a {optimized}: this report compares {VAL_LOSS}."


class Report:
    """The sections of the page; pictures are drawn, saved and embedded one by one."""

    def __init__(self, grid: Grid, by_epoch: dict[str, np.ndarray], out: Path, say: Callable):
        self.grid, self.by_epoch, self.out, self.say = grid, by_epoch, out, say
        self.effects: dict[str, Effect | None] = {}  # None where the jobs are no grid
        self.pairs: dict[str, Pairs | None] = {}
        for axis in grid.axes:
            cells = grid.cells(axis)
            self.effects[axis.key] = None if cells is None else effect(*cells)
            self.pairs[axis.key] = None if cells is None else pairs(cells[0])
        flat = grid.combinations * grid.num_seeds + grid.seeds
        self.by_seed = mean_table(flat, grid.numbers, (len(grid.combination_codes), grid.num_seeds))  # [C, S]
        mean, _, _ = intervals(self.by_seed)
        order = np.argsort(-merit(mean, grid.metric), kind="stable")
        self.ranking = order[np.isfinite(mean[order])]  # combinations, the best first

    def page(self, sweeps: Sequence[Path], notes: list[str]) -> str:
        sections = {
            "Best": self._best,
            "Effects": self._effects,
            "Comparisons": self._comparisons,
            "Two at once": self._heat_maps,
            "Curves": self._curves,
            "All combinations": self._parallel,
            "Not completed": self._not_completed,
        }
        written = {name: text for name, write in sections.items() if (text := write())}
        parts = [self._summary(sweeps, notes)]
        parts += [f"{page.heading(name)}\n{text}" for name, text in written.items()]
        parts += [page.heading("How it is computed"), page.note(METHOD)]
        return page.page(title(self.grid), parts, [*written, "How it is computed"])

    def _summary(self, sweeps: Sequence[Path], notes: list[str]) -> str:
        grid = self.grid
        constant = [f"{k}={grid.jobs[0].shown(k)}" for k in grid.jobs[0].values if k not in grid.keys]
        constant = f"; in every job {' '.join(constant)}" if constant and len(grid.jobs) > 1 else ""
        seeds = f"{grid.num_seeds} seeds" if grid.num_seeds > 1 else "one seed: no intervals and no comparisons"
        better = "lower" if smaller_is_better(grid.metric) else "higher"
        facts = [
            f"Jobs: {counted(job.status for job in grid.jobs)}; {seeds}.",
            f"Metric: {grid.metric}, {better} is better.",
            f"Sweep: {', '.join(map(str, sweeps))}{constant}.",
            *_code(grid.jobs),
            *notes,
        ]
        if missing := int(np.isnan(grid.numbers).sum()):
            facts.append(f"{missing:,} of {len(grid.jobs):,} jobs have no {grid.metric} and are in no mean.")
        sizes = np.abs(grid.numbers[np.isfinite(grid.numbers)])
        if len(sizes) and sizes.max() > FAR * np.median(sizes) > 0:
            facts.append(f"Some jobs' {grid.metric} is over {FAR:,} times the median: their means say little.")
        if len(self.ranking):
            facts.append(findings.best_combination(grid, self.by_seed, self.ranking))
            facts += findings.best_values(grid, self.effects, self.pairs)
        return page.points(facts)

    def _best(self) -> str:
        if not len(self.ranking):
            return page.paragraph(f"No job has a {self.grid.metric}: there is nothing to compare.")
        jobs = page.table(tables.best_jobs(self.grid, 10), links=True)
        if not self.grid.axes or self.grid.num_seeds == 1:
            return page.note("Jobs; a link leads to the log.") + jobs
        tested = pairs(self.by_seed[:, None])
        combinations = tables.best_combinations(self.grid, self.by_seed, self.ranking, tested, 10)
        note = "Combinations of the swept values by their mean over seeds"
        note += "; p: paired t-test against the best over the same seeds." if tested else "."
        return page.note(note) + page.table(combinations) + page.note("Single jobs; a link leads to the log.") + jobs

    def _effects(self) -> str:
        if not self.grid.axes or not len(self.ranking):
            return ""
        by_axis = {axis: self.effects[axis.key] for axis in self.grid.axes}
        numbers = [page.table(tables.values(self.grid, axis, e, 100)) for axis, e in by_axis.items() if e]
        return self._picture(effects.draw(self.grid, self.effects)) + page.folded("The numbers", "".join(numbers))

    def _comparisons(self) -> str:
        parts = []
        for axis in self.grid.axes:
            if tested := self.pairs[axis.key]:
                count, sure = len(tested.p), int((tested.holm < tables.SIGNIFICANT).sum())
                shown = "; the table shows those with the best value" if count > MAX_PAIRS else ""
                test = f"{count:,} pair{'s' * (count > 1)} over the same seeds, paired t-test: "
                parts.append(page.subheading(axis.key))
                parts.append(page.note(f"{test}{sure:,} with a corrected p below {tables.SIGNIFICANT}{shown}."))
                parts.append(page.table(tables.comparisons(axis, self.grid.metric, tested, MAX_PAIRS)))
        return "\n".join(parts)

    def _heat_maps(self) -> str:
        if not len(self.ranking):
            return ""
        return self._picture(heat_maps.draw(self.grid, self.effects))

    def _curves(self) -> str:
        grid = self.grid
        by_epoch = {metric: table for metric, table in self.by_epoch.items() if np.isfinite(table).any()}
        names = [", ".join(short_names(grid, codes)) or "the jobs" for codes in grid.combination_codes]
        pictures = [curve_pictures.draw_best(grid, self.ranking, names, by_epoch)]
        pictures += [curve_pictures.draw_values(grid, a, self.effects[a.key], by_epoch) for a in self._strongest()]
        return "\n".join(filter(None, map(self._picture, pictures)))

    def _strongest(self) -> list[Axis]:
        """Return the keys with the largest effects, in their own order."""
        if len(self.grid.axes) < 2 and len(self.by_seed) <= 8:
            return []  # the curves of the combinations show the same
        by_size = sorted(self.grid.axes, key=lambda axis: mean_range(self.effects[axis.key]), reverse=True)
        return [axis for axis in self.grid.axes if axis in by_size[:MAX_CURVE_KEYS]]

    def _parallel(self) -> str:
        if len(self.grid.combination_codes) < 3 or not len(self.ranking):
            return ""
        return self._picture(parallel.draw(self.grid))

    def _not_completed(self) -> str:
        table = tables.not_completed(self.grid)
        return page.table(table, links=True) if table.rows else ""

    def _picture(self, picture: Picture | None) -> str:
        if picture is None:
            return ""
        self.say(f"drawing {picture.name}.png")
        stream = io.BytesIO()
        picture.figure.savefig(stream, format="png")
        folder = self.out / PICTURES
        folder.mkdir(exist_ok=True)
        write_whole(folder / f"{picture.name}.png", stream.getvalue())
        return page.picture(stream.getvalue(), picture.title, picture.caption)


def short_names(grid: Grid, codes: np.ndarray) -> list[str]:
    """Name a combination for a legend: "mlp", but "lr 0.1" for a value that does not speak for itself."""
    values = [(axis.key.split(".")[-1], axis.names[v]) for axis, v in zip(grid.axes, codes, strict=True)]
    return [name if name.isidentifier() and name not in WORDS else f"{key} {name}" for key, name in values]


def title(grid: Grid) -> str:
    return f"{' × '.join(grid.keys) or 'One configuration'}: {len(grid.jobs):,} job{'s' * (len(grid.jobs) != 1)}"


def _code(jobs: Sequence[Job]) -> list[str]:
    """Name the commit of the code that ran, or warn that there were several."""
    commits = Counter(str(job.metrics["git"]) for job in jobs if job.metrics.get("git"))
    if len(commits) < 2:
        return [f"Code: {commit}." for commit in commits]
    listed = ", ".join(f"{commit} ({count:,} jobs)" for commit, count in commits.items())
    return [f"The jobs ran with different code: {listed}."]
