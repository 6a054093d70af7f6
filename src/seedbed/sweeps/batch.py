"""Run the unfinished jobs of a batch: stacks first, then the jobs that are in none."""

from __future__ import annotations

import logging
import shutil
import traceback
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from hydra.core.utils import JobReturn, JobStatus, configure_log
from hydra.types import TaskFunction
from hydra.utils import instantiate

from seedbed.config_values import typed
from seedbed.errors import summary
from seedbed.sweeps.columns import NAME as COLUMNS
from seedbed.sweeps.compose import ComposedJob, write_hydra_folder
from seedbed.sweeps.job import Job, run
from seedbed.sweeps.states import finished, in_flight, read_metrics, returned
from seedbed.sweeps.workers import Task, Workers

if TYPE_CHECKING:
    from seedbed.sweeps.launcher import SweepLauncher

log = logging.getLogger("seedbed")

Stack = dict[str, Any]  # plain data; under "jobs" the numbers of its jobs
StackJob = tuple[dict[str, Any], Path, dict[str, Any]]  # config, folder, choices of groups


class Stacks(Protocol):
    """Trains several jobs of a sweep as one. Made with (jobs: number → StackJob, sweep: its folder); a node of the
    launcher's config names its class with `_partial_: true`.

    `plan` partitions the jobs that are `left`: into stacks, those to run alone with the reason, and those whose config
    is refused. `train` yields (number, metrics) of each job of a stack when its folder is complete.
    """

    def plan(self, left: set[int]) -> tuple[list[Stack], dict[int, str], list[int]]: ...

    def train(self, stack: Stack) -> Iterator[tuple[int, dict[str, Any]]]: ...


class Batch:
    """The jobs of one call of the launcher; those in `left` are to run. stopped: whether on_error=stop ended it."""

    def __init__(self, launcher: SweepLauncher, jobs: Mapping[int, Any], left: Mapping[int, ComposedJob]):
        self.launcher, self.left = launcher, left
        self.jobs = {n: job for n, job in jobs.items() if isinstance(job, ComposedJob)}
        self.sweep = launcher.folder.absolute()
        self.scratch = self.sweep / ".stacks"
        self.results: dict[int, JobReturn] = {}
        self.stopped = False

    def run(self) -> dict[int, JobReturn]:
        """Return number → result of the jobs that ran in this process or trained in a stack."""
        workers = instantiate(self.launcher.workers, _convert_="all") if self.launcher.workers else None
        if self.launcher.stacks is None:
            self._run([], list(self.left), workers)
            return self.results
        stacks = instantiate(self.launcher.stacks)(self._stack_jobs(), self.sweep)
        planned, alone, refused = stacks.plan(set(self.left))
        _say(planned, alone, refused, len(self.left))
        self._run([], refused, None)  # they fail at once
        if workers is None:
            for stack in [] if self.stopped else planned:
                self._train_here(stacks, stack)
            self._run([], self._unfinished(), None)
        else:
            self._run(planned, [n for n in alone if n not in self.results], workers)
            self._run([], self._unfinished(), workers)  # the jobs of stacks that failed
        if not self._unfinished():
            shutil.rmtree(self.scratch, ignore_errors=True)
        return self.results

    def _unfinished(self) -> list[int]:
        return [n for n, job in self.left.items() if n not in self.results and read_metrics(self._folder(job)) is None]

    def _folder(self, job: ComposedJob) -> Path:
        return self.sweep / self._relative(job)

    def _relative(self, job: ComposedJob) -> str:
        return self.launcher.manifest.jobs[job.num]["folder"]

    # --- jobs

    def _job(self, job: ComposedJob) -> Job:
        return Job(
            job.num,
            str(self.sweep),
            self._relative(job),
            job.unresolved(),
            job.hydra_node(),
            self.launcher.retries,
        )

    def _run(self, stacks: list[Stack], numbers: list[int], workers: Workers | None) -> None:
        if self.stopped or not (stacks or numbers):
            return
        if workers is None:
            for number in numbers:
                self._run_here(self._job(self.left[number]))
                if self.stopped:
                    return
            return
        columns = (self.sweep / COLUMNS).read_text(encoding="utf-8")
        tasks = [self._stack_task(stack) for stack in stacks]
        tasks += [{"name": str(n), "job": asdict(self._job(self.left[n]))} for n in numbers]
        tasks = [{**task, "sweep": str(self.sweep), "columns": columns} for task in tasks]
        self._hand_out(tasks, workers)

    def _run_here(self, job: Job) -> None:
        launcher = self.launcher
        log.info("#%d: %s", job.number, " ".join(self.left[job.number].shown))
        ended = run(launcher.task, job, launcher.context)
        configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
        if ended.status == JobStatus.COMPLETED:
            self.results[job.number] = ended
        else:
            self.stopped = launcher.on_error == "stop"

    def _hand_out(self, tasks: list[Task], workers: Workers) -> None:
        """Have workers run the tasks; with on_error=stop, the first failure stops those that have not begun."""
        lost = []
        running = workers.run(RunTask(self.launcher.task, self.launcher.stacks), tasks)
        try:
            for place, error in running:
                if error is not None and "stack" in tasks[place]:
                    self._say_stack_failed(error)
                elif error is not None:
                    lost.append(error)
                if self.launcher.on_error == "stop" and any(map(_has_failed, self._folders(tasks[place]))):
                    self.stopped = True
                    return
        except Exception as error:  # no worker could be had
            lost.append(error)
        finally:
            running.close()
        if lost:
            self._end(lost[0])

    def _folders(self, task: Task) -> list[Path]:
        """Return the folders of a task's jobs."""
        numbers = task["stack"]["jobs"] if "stack" in task else [task["job"]["number"]]
        return [self._folder(self.jobs[n]) for n in numbers]

    def _end(self, error: BaseException) -> None:
        """End the command: workers were lost, and with them jobs that are neither finished nor failed."""
        with open(self.sweep / "launcher.log", "a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
        log.error("the workers failed (launcher.log has more): %s", summary(error))
        log.error("go on with the same command and %s", typed("resume", self.launcher.folder))
        raise SystemExit(1)

    # --- stacks

    def _stack_jobs(self) -> dict[int, StackJob]:
        return {n: (job.config, self._folder(job), job.choices) for n, job in self.jobs.items()}

    def _stack_task(self, stack: Stack) -> Task:
        for number in stack["jobs"]:
            if number in self.left:
                write_hydra_folder(self.left[number])
        jobs = {n: (job.config, self._relative(job), job.choices) for n, job in self.jobs.items() if n in stack["jobs"]}
        return {"name": f"stack-{stack['jobs'][0]}-{len(stack['jobs'])}", "stack": stack, "jobs": jobs}

    def _train_here(self, stacks: Stacks, stack: Stack) -> None:
        for number in stack["jobs"]:
            if number in self.left:
                write_hydra_folder(self.left[number])
        try:
            for number, metrics in stacks.train(stack):
                self._add(number, metrics)
        except Exception as error:
            self._say_stack_failed(error)

    def _add(self, number: int, metrics: Mapping[str, Any]) -> None:
        job = self.left[number]
        self.results[number] = JobReturn(job.shown, status=JobStatus.COMPLETED)
        self.results[number].return_value = returned(metrics, job.config.get("optimized_metric"))

    def _say_stack_failed(self, error: BaseException) -> None:
        """Log that a stack failed: one of its jobs is at fault and, run alone, will fail alone."""
        log.error("a stack failed (stacks.log has more), its jobs run one by one: %s", summary(error))
        with suppress(OSError), open(self.sweep / "stacks.log", "a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)


class RunTask:
    """Runs a task in a worker: trains its stack, or runs its job."""

    def __init__(self, run_job: TaskFunction, stacks: Mapping[str, Any] | None):
        self.run_job, self.stacks = run_job, stacks

    def __call__(self, task: Task) -> None:
        sweep = Path(task["sweep"])
        if "job" in task:
            run(self.run_job, Job(**{**task["job"], "sweep": task["sweep"]}))
            return
        jobs = {n: (config, sweep / folder, choices) for n, (config, folder, choices) in task["jobs"].items()}
        with in_flight(sweep / ".stacks" / task["name"]):
            if any(finished(folder) is None for _, folder, _ in jobs.values()):
                stacks = instantiate(self.stacks)(jobs, sweep)
                for _ in stacks.train(task["stack"]):
                    pass


def _has_failed(folder: Path) -> bool:
    metrics = read_metrics(folder)
    return metrics is not None and metrics["status"] == "failed"


def _say(stacks: list[Stack], alone: Mapping[int, str], refused: list[int], count: int) -> None:
    sizes = Counter(len(stack["jobs"]) for stack in stacks)
    parts = [f"{number} × {size} runs as one" for size, number in sorted(sizes.items(), reverse=True)]
    parts += [f"{number} alone ({reason})" for reason, number in Counter(alone.values()).items()]
    parts += [f"{len(refused)} with a value that is not allowed"] * bool(refused)
    log.info("%d jobs: %s", count, ", ".join(parts) or "none to train")
