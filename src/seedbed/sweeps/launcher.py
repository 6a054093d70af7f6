"""The launcher of every sweep: from the overrides of its jobs to their results.

    compose     all jobs, in bulk                                       compose.py
    write down  manifest.jsonl with each job's config, columns.json     manifest.py, columns.py
    skip        the jobs that are finished                              states.py
    run         the others: in this process, by workers, or as stacks   batch.py, job.py, workers/

It knows nothing of training. Hydra gives it the function to run on a config; the nodes of the launchers (choices.py)
name the workers and the class that trains stacks.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Iterable, Mapping, Sequence
from itertools import count
from pathlib import Path
from typing import Any

from hydra.core.override_parser.overrides_parser import OverridesParser
from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, setup_globals
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf
from omegaconf.errors import OmegaConfBaseException

from seedbed.config_values import is_of_sweep, typed
from seedbed.errors import ConfigError, Interrupted, Refusal, unwritten
from seedbed.machine import here, not_promised
from seedbed.presets import left_out
from seedbed.sweeps.batch import Batch
from seedbed.sweeps.columns import columns, write_columns
from seedbed.sweeps.compose import BulkComposer, ComposedJob
from seedbed.sweeps.folders import command, job_names, without_sweep_keys
from seedbed.sweeps.job import fail
from seedbed.sweeps.manifest import Manifest, Refused
from seedbed.sweeps.states import finished, returned

log = logging.getLogger("seedbed")


class SweepLauncher:
    """Launches the batches of one sweep.

    workers: node of a class of workers/, or None for this process. stacks: node of a class that trains several jobs as
    one (see Stacks in batch.py), or None.
    """

    def __init__(self, workers: Mapping[str, Any] | None, stacks: Mapping[str, Any] | None):
        self.workers, self.stacks = workers, stacks
        self.stopped = False  # by on_error=stop
        self._said: set[str] = set()

    def setup(self, hydra_context: HydraContext, task_function: TaskFunction, config: DictConfig) -> None:
        """Take the sweep's folder. Raises Refusal if it holds the sweep of another command."""
        self.context, self.task, self.config = hydra_context, task_function, config
        self.on_error, self.retries = config.get("on_error", "continue"), config.get("retries", 0)
        self.extend = bool(config.get("extend"))
        words = OmegaConf.to_container(config.hydra.overrides.task, resolve=False)
        _check_one_value(words)
        # keys that the sweeper varies, even if all jobs of a batch agree: a search may have batches of one job
        self.searched = {*(config.hydra.sweeper.get("params") or {}), *_sweeping(words)}
        self.folder = Path(config.hydra.sweep.dir)
        self.composer = BulkComposer(hydra_context.config_loader)
        try:
            self.manifest = Manifest(self.folder)
            self._check_bits(config.get("same_bits"))
            for line in self.manifest.jobs.values():
                finished(self.folder / line["folder"])  # raises ConfigError for a damaged file
            self.manifest.begin(command(config), self.extend)
        except (Refused, ConfigError) as refused:
            raise Refusal(str(refused)) from None
        except OSError as error:
            raise Refusal(f"hydra.sweep.dir={self.folder}: cannot be written: {error.strerror}") from error

    def _check_bits(self, wanted: str | None) -> None:
        """Warn, or refuse, if the remaining jobs may get other bits here than where the sweep began."""
        if self.manifest.command is None:
            return
        reason = not_promised(self.manifest.made_with, here())
        if reason and wanted == "required":
            raise Refused(f"same_bits=required: {self.folder} {reason}")
        if reason:
            log.warning("%s %s", self.folder, reason)

    def launch(self, job_overrides: Sequence[Sequence[str]], initial_job_idx: int) -> list[JobReturn]:
        """Return the results of a batch of jobs in its order.

        A failed job has the value None: the sweeper continues, and the command's exit code reports the failure.
        """
        setup_globals()
        configure_log(self.config.hydra.hydra_logging, self.config.hydra.verbose)
        jobs = self._compose(job_overrides, initial_job_idx)
        lines = self._write_down(jobs)
        self._say_left_out(jobs.values())
        results, left = {}, {}
        for number, line in lines.items():
            job, metrics = jobs[number], finished(self.folder / line["folder"])
            if metrics is not None:
                results[number] = self._result(line, metrics)
            elif isinstance(job, ComposedJob):
                left[number] = job
            elif not self.stopped:
                fail(self.folder / line["folder"], job)
                self.stopped = self.on_error == "stop"
        if results:
            log.info("%d of %d jobs are done", len(results), len(jobs))
        if left and not self.stopped:
            batch = Batch(self, jobs, left)
            try:
                results |= batch.run()
            except (KeyboardInterrupt, Interrupted) as end:
                number = getattr(end, "number", signal.SIGINT)
                again = f"go on with the same command and {typed('resume', self.folder)}"
                raise Interrupted(number, f"stopped by {signal.Signals(number).name}; {again}") from None
            except OSError as error:
                if (reason := unwritten(error)) is None:
                    raise
                again = f"make room, then go on with the same command and {typed('resume', self.folder)}"
                log.error("stopped: %s: %s; %s", reason.filename or self.folder, reason.strerror, again)
                raise SystemExit(1) from error
            self.stopped = batch.stopped
        for number in lines.keys() - results.keys():
            results[number] = self._result(lines[number], finished(self.folder / lines[number]["folder"]))
        if self.stopped:
            log.error("stopped: on_error=stop")
        return [results[number] for number in lines]

    def _say_left_out(self, jobs: Iterable[ComposedJob | OmegaConfBaseException]) -> None:
        """Say once for the whole sweep which numbers of a preset its jobs leave out."""
        choices = (job.choices for job in jobs if isinstance(job, ComposedJob))
        for line in left_out(choices, self.config.hydra.runtime.config_sources):
            if line not in self._said:
                self._said.add(line)
                log.info(line)

    def _result(self, line: Mapping[str, Any], metrics: Mapping[str, Any] | None) -> JobReturn:
        result = JobReturn(line["overrides"], status=JobStatus.COMPLETED)
        result.return_value = returned(metrics, (line["config"] or {}).get("optimized_metric"))
        return result

    # --- compose and write down

    def _compose(self, batch: Sequence[Sequence[str]], first: int) -> dict[int, ComposedJob | OmegaConfBaseException]:
        """Return number → job, or the error of a value that cannot be resolved. Raises what Hydra raises."""
        try:
            grows = self.extend or self.manifest.extended
            numbers = self._old_and_new_numbers(batch) if grows else range(first, first + len(batch))
            numbered = dict(zip(numbers, batch, strict=True))
            names = self._names(numbered)
            return {n: self._compose_one(overrides, n, names[n]) for n, overrides in numbered.items()}
        except Exception:
            self._discard()
            raise

    def _compose_one(self, overrides: Sequence[str], number: int, name: str) -> ComposedJob | OmegaConfBaseException:
        try:
            return self.composer.job(self.config, overrides, number, name)
        except OmegaConfBaseException as error:
            return error

    def _old_and_new_numbers(self, batch: Sequence[Sequence[str]]) -> list[int]:
        """Return for each job the number that the manifest gave it, or else the next free one.

        No number is given twice, even to equal jobs.
        """
        old: dict[str, list[int]] = {}
        for n, line in self.manifest.jobs.items():
            old.setdefault(self.manifest.identity(line["overrides"], line["config"]), []).append(n)
        free = count(max(self.manifest.jobs, default=-1) + 1)
        tried = (self._compose_one(overrides, n, str(n)) for n, overrides in enumerate(batch))
        names = (
            self.manifest.identity(without_sweep_keys(job.shown), job.config) if isinstance(job, ComposedJob) else None
            for job in tried
        )
        return [old[name].pop(0) if old.get(name) else next(free) for name in names]

    def _names(self, batch: Mapping[int, Sequence[str]]) -> dict[int, str]:
        """Return number → name of a job, which is its folder unless hydra.sweep.subdir says otherwise.

        Jobs of the manifest keep theirs.
        """
        known = {n: self.manifest.jobs[n]["folder"] for n in batch if n in self.manifest.jobs}
        overrides = {n: _by_key(lines) for n, lines in batch.items()}
        new = {n: values for n, values in overrides.items() if n not in known}
        width = max(2, len(str(max(batch, default=0))))
        return job_names(new, self._swept(overrides.values()), set(self.config.hydra.runtime.choices), width) | known

    def _swept(self, jobs: Iterable[Mapping[str, str]]) -> list[str]:
        """Return the keys that the sweeper varies, and those whose overrides differ between jobs."""
        values: dict[str, set[str | None]] = {}
        jobs = list(jobs)
        for job in jobs:
            for key, value in job.items():
                values.setdefault(key, set()).add(value)
        return [
            key
            for key, texts in values.items()
            if key in self.searched or len(texts) > 1 or not all(key in job for job in jobs)
        ]

    def _write_down(self, jobs: Mapping[int, ComposedJob | OmegaConfBaseException]) -> dict[int, dict[str, Any]]:
        """Return number → the job's line of the manifest."""
        lines = {}
        for n, job in jobs.items():
            is_composed = isinstance(job, ComposedJob)
            folder = os.path.relpath(job.folder, self.folder) if is_composed else str(n)
            folder = self.manifest.jobs.get(n, {}).get("folder", folder)
            overrides = without_sweep_keys(job.shown if is_composed else [])
            lines[n] = {
                "job": n,
                "folder": folder,
                "overrides": overrides,
                "config": job.config if is_composed else None,
            }
        self._check_folders(lines)
        try:
            self.manifest.add(list(lines.values()))
        except Refused as refused:
            raise Refusal(str(refused)) from None
        composed = [job for job in jobs.values() if isinstance(job, ComposedJob)]
        swept = self._swept([_by_key(job.overrides) for job in composed])
        write_columns(self.folder, columns(((job.config, job.choices) for job in composed), swept))
        return lines

    def _check_folders(self, lines: Mapping[int, Mapping[str, Any]]) -> None:
        """Raise Refusal if two jobs would share a folder, or one has a name that no file system takes."""
        of_folder: dict[str, int] = {line["folder"]: n for n, line in self.manifest.jobs.items()}
        for n, line in lines.items():
            folder = line["folder"]
            if of_folder.setdefault(folder, n) != n:
                self._discard()
                first = of_folder[folder]
                raise Refusal(f"hydra.sweep.subdir: jobs {first} and {n} would share the folder {self.folder / folder}")
            if (self.folder / folder).is_file():
                self._discard()
                raise Refusal(f"{self.folder / folder}: the folder of job {n} cannot be made: a file has its name")
            if any(len(part.encode()) > 255 for part in Path(folder).parts):
                self._discard()
                raise Refusal(f"hydra.sweep.subdir: the folder of job {n} has a name of over 255 bytes: {folder[:60]}…")

    def _discard(self) -> None:
        """Remove what this command made in the folder of a sweep that never began."""
        if self.manifest.is_new:
            self.manifest.close()
            for name in (self.manifest.path.name, "multirun.yaml"):
                (self.folder / name).unlink(missing_ok=True)
            if not any(self.folder.iterdir()):
                self.folder.rmdir()


def _by_key(overrides: Sequence[str]) -> dict[str, str]:
    """Return key → value as typed, without the keys of Hydra and those of the sweep as a whole."""
    shown = without_sweep_keys(filter_overrides(overrides))
    return {key.lstrip("+"): value for key, _, value in (override.partition("=") for override in shown)}


def _sweeping(overrides: Sequence[str]) -> list[str]:
    """Return the keys of the overrides that have several values."""
    parsed = OverridesParser.create().parse_overrides(list(overrides))
    return [override.get_key_element().lstrip("+") for override in parsed if override.is_sweep_override()]


def _check_one_value(overrides: Sequence[str]) -> None:
    ours = [override for override in overrides if is_of_sweep(override.partition("=")[0].lstrip("+"))]
    for override in OverridesParser.create().parse_overrides(ours):
        if override.is_sweep_override():
            raise Refusal(f"{override.input_line}: must have one value, which holds for the whole sweep")
