"""One call of the fused launcher: refuse, partition, train, and hand each job's result back to Hydra."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from hydra.core.utils import JobReturn, JobStatus, configure_log, filter_overrides, run_job
from hydra.errors import CompactHydraException
from omegaconf import open_dict
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins._seedbed_compose import QuickJob, write_hydra_folder
from hydra_plugins._seedbed_preflight import summarise
from seedbed.build import hparams
from seedbed.check import ConfigError, check
from seedbed.fused.plan import StackPlan, why_alone
from seedbed.fused.sweep import FusedJob, FusedSweep, NotWorthIt

if TYPE_CHECKING:
    from hydra_plugins.seedbed_fused_launcher import FusedLauncher

log = logging.getLogger("seedbed")


class Launch:
    """The jobs of one batch of a sweep, by number."""

    def __init__(self, launcher: FusedLauncher, overrides: Sequence[tuple[int, Sequence[str]]]):
        self.launcher = launcher
        self.folder = Path(launcher.config.hydra.sweep.dir)
        self.overrides = dict(overrides)
        self.jobs: dict[int, QuickJob] = {}
        for number, words in overrides:
            # a value that cannot be resolved is Hydra's to explain, when the job runs alone
            with suppress(OmegaConfBaseException):
                self.jobs[number] = launcher.quick.job(launcher.config, words, number)
        self.results: dict[int, JobReturn] = {}

    def run(self) -> list[JobReturn]:
        sound = {n: job for n, job in self.jobs.items() if self._is_sound(job)}
        fused = {n: FusedJob(job.config, job.folder, hparams(job.config, job.choices)) for n, job in sound.items()}
        sweep = FusedSweep(fused, self.folder.resolve() / ".stacks", self.launcher.max_stack)
        alone = {n: reason for n, job in sound.items() if (reason := why_alone(job.config) or sweep.why_alone(n))}
        stacks = sweep.stacks(only=[n for n in sound if n not in alone])
        alone |= {stack.jobs[0]: "nothing else is like it" for stack in stacks if len(stack.jobs) == 1}
        stacks = [stack for stack in stacks if len(stack.jobs) > 1]
        self._say(stacks, alone)
        for stack in stacks:
            self._train(sweep, stack)
        for number in sorted(self.overrides.keys() - self.results.keys()):
            self._run_alone(number)
        summarise(self.folder)
        return [self.results[number] for number in self.overrides]

    def _is_sound(self, job: QuickJob) -> bool:
        try:
            check(job.config)
        except ConfigError as error:
            write_hydra_folder(job)
            (job.folder / "train.log").write_text(f"{error}\n")
            log.error("job %d: %s", job.num, error)
            self.results[job.num] = JobReturn(job.overrides, status=JobStatus.FAILED)
            self.results[job.num].return_value = CompactHydraException(str(error))
            return False
        return True

    def _say(self, stacks: list[StackPlan], alone: dict[int, str]) -> None:
        sizes = Counter(len(stack.jobs) for stack in stacks)
        parts = [f"{count} × {size} runs as one" for size, count in sorted(sizes.items(), reverse=True)]
        parts += [f"{count} alone ({reason})" for reason, count in Counter(alone.values()).items()]
        log.info("%d jobs: %s", len(self.overrides), ", ".join(parts) or "none to train")

    def _train(self, sweep: FusedSweep, stack: StackPlan) -> None:
        try:
            for number, metrics in sweep.train(stack):
                job = self.jobs[number]
                write_hydra_folder(job)
                (job.folder / "train.log").write_text(
                    f"{metrics['status']}: one of {len(stack.jobs)} runs of a stack\n"
                )
                self.results[number] = JobReturn(job.overrides, status=JobStatus.COMPLETED)
                self.results[number].return_value = metrics.get(job.config["optimized_metric"])
        except NotWorthIt as reason:
            log.info("%d runs one by one: %s", len(stack.jobs), reason)
        except Exception:  # one of them is at fault: alone, it fails alone
            log.exception("a stack failed: its jobs run one by one")

    def _run_alone(self, number: int) -> None:
        launcher, words = self.launcher, list(self.overrides[number])
        log.info("#%d : %s", number, " ".join(filter_overrides(words)))
        config = launcher.loader.load_sweep_config(launcher.config, words)
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
