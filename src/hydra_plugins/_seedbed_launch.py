"""One call of the fused launcher: refuse, partition, train, and hand each job's result back to Hydra."""

from __future__ import annotations

import logging
import shutil
import traceback
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins._seedbed_compose import QuickJob, write_hydra_folder
from hydra_plugins._seedbed_workers import hand_out
from seedbed.allowed_values import check
from seedbed.errors import ConfigError
from seedbed.fused.plan import StackPlan, record, recorded, why_alone
from seedbed.fused.sweep import FusedJob, FusedSweep
from seedbed.sweeps.job import fail, one_line, value
from seedbed.sweeps.manifest import Manifest, Stopped, result
from seedbed.training.hparams import hparams, read_kinds

if TYPE_CHECKING:
    from hydra_plugins.seedbed_fused_launcher import FusedLauncher

log = logging.getLogger("seedbed")


class Launch:
    """The jobs of one batch of a sweep that are not done, by number."""

    def __init__(self, launcher: FusedLauncher, overrides: Sequence[tuple[int, Sequence[str]]]):
        self.launcher = launcher
        self.folder = Path(launcher.config.hydra.sweep.dir)
        self.scratch = self.folder.resolve() / ".stacks"
        self.overrides = dict(overrides)
        self.jobs: dict[int, QuickJob] = {}
        for number, words in overrides:
            # a value that cannot be resolved is Hydra's to explain, when the job runs alone
            with suppress(OmegaConfBaseException):
                self.jobs[number] = launcher.quick.job(launcher.config, launcher.frozen.without(words), number)
        self.results: dict[int, JobReturn] = {}

    def run(self) -> list[JobReturn]:
        sound = {n: job for n, job in self.jobs.items() if self._is_sound(job)}
        kinds = read_kinds(self.folder)
        fused = {
            n: FusedJob(job.config, job.folder, hparams(job.config, job.choices, kinds)) for n, job in sound.items()
        }
        sweep = FusedSweep(fused, self.scratch, self.launcher.max_stack, self.launcher.halving)
        stacks, alone = self._plan(sweep, sound)
        self._say(stacks, alone)
        if self.launcher.workers is None:
            for stack in stacks:
                self._train(sweep, stack)
            for number in self._left():
                self._run_alone(number)
        else:
            self._hand_out(sweep, stacks)
            self._hand_out(sweep, [])  # the jobs of stacks that failed
        shutil.rmtree(self.scratch, ignore_errors=True)
        return [self.results[number] for number in self.overrides]

    def _left(self) -> list[int]:
        return sorted(self.overrides.keys() - self.results.keys())

    def _is_sound(self, job: QuickJob) -> bool:
        try:
            check(job.config)
        except ConfigError as error:
            write_hydra_folder(job)
            (job.folder / "train.log").write_text(f"{error}\n")
            fail(job.folder, error, job.config["seed"])
            self._return(job.num, None)
            if self.launcher.frozen.control["on_error"] == "stop":
                raise Stopped from None
            return False
        return True

    def _return(self, number: int, returned: float | None) -> None:
        self.results[number] = JobReturn(self.launcher.frozen.without(self.overrides[number]))
        self.results[number].status, self.results[number].return_value = JobStatus.COMPLETED, returned

    def _plan(self, sweep: FusedSweep, sound: dict[int, QuickJob]) -> tuple[list[StackPlan], dict[int, str]]:
        """What is left of the stacks of a sweep that was killed, and stacks of the jobs that are in none yet."""
        before, alone_before = recorded(self.scratch)
        before = [stack for stack in before if any(n in sound for n in stack.jobs)]
        members = {n for stack in before for n in stack.jobs}
        if members - sound.keys():  # done, and still members
            manifest = Manifest(self.folder).jobs
            for n in members - sound.keys():
                sweep.jobs[n] = FusedJob(manifest[n]["config"], self.folder.resolve() / manifest[n]["folder"], {})
        alone = {n: "as before" for n in alone_before if n in sound}
        new = {n: job for n, job in sound.items() if n not in members and n not in alone}
        if not new:
            return before, alone
        alone_now = {n: reason for n, job in new.items() if (reason := why_alone(job.config) or sweep.why_alone(n))}
        stacks = sweep.stacks(only=[n for n in new if n not in alone_now])
        alone_now |= {stack.jobs[0]: "nothing else is like it" for stack in stacks if len(stack.jobs) == 1}
        stacks, unfit = sweep.fitting([stack for stack in stacks if len(stack.jobs) > 1])
        record(self.scratch, stacks, [*alone_now, *unfit])
        return before + stacks, alone | alone_now | unfit

    def _say(self, stacks: list[StackPlan], alone: dict[int, str]) -> None:
        sizes = Counter(len(stack.jobs) for stack in stacks)
        parts = [f"{count} × {size} runs as one" for size, count in sorted(sizes.items(), reverse=True)]
        parts += [f"{count} alone ({reason})" for reason, count in Counter(alone.values()).items()]
        log.info("%d jobs: %s", len(self.overrides), ", ".join(parts) or "none to train")

    def _train(self, sweep: FusedSweep, stack: StackPlan) -> None:
        for number in stack.jobs:
            if number in self.jobs:
                write_hydra_folder(self.jobs[number])
        try:
            for number, metrics in sweep.train(stack):
                self._return(number, value(metrics, self.jobs[number].config["optimized_metric"]))
        except Exception as error:
            self._say_failed(error)

    def _say_failed(self, error: BaseException) -> None:
        """Of a stack: one of its members is at fault, which alone fails alone."""
        log.error("a stack failed (stacks.log says more), its jobs run one by one: %s", one_line(error))
        with open(self.folder / "stacks.log", "a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)

    def _hand_out(self, sweep: FusedSweep, stacks: list[StackPlan]) -> None:
        """Stacks, and the jobs that are left, to the launcher's workers, as jobs of theirs."""
        stacked = [n for stack in stacks for n in stack.jobs if n in self.jobs]
        for number in stacked:
            write_hydra_folder(self.jobs[number])
        leading = [(stack, next(self.jobs[n] for n in stack.jobs if n in self.jobs)) for stack in stacks]
        alone = {n: self.overrides[n] for n in self._left() if n not in set(stacked)}
        ended, ran = hand_out(self.launcher.workers, self.launcher.frozen, leading, sweep, alone, self.folder)
        for stack in ended:
            if stack.status != JobStatus.COMPLETED:
                self._say_failed(stack._return_value)
        self.results |= dict(zip(alone, ran, strict=True))
        for number in stacked:
            if (metrics := result(self.jobs[number].folder)) is not None:
                self._return(number, value(metrics, self.jobs[number].config["optimized_metric"]))

    def _run_alone(self, number: int) -> None:
        launcher, words = self.launcher, list(self.overrides[number])
        log.info("#%d : %s", number, " ".join(filter_overrides(words)))
        config = launcher.frozen.load_sweep_config(launcher.config, words)
        with open_dict(config):
            config.hydra.job.id = number
            config.hydra.job.num = number
        self.results[number] = run_job(
            hydra_context=launcher.context,
            task_function=launcher.task_function,
            config=config,
            job_dir_key="hydra.sweep.dir",
            job_subdir_key="hydra.sweep.subdir",
        )
        configure_log(launcher.config.hydra.hydra_logging, launcher.config.hydra.verbose)
