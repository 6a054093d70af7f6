"""A sweep that is begun or gone on with: its manifest, the jobs that are left, and what became of them."""

from __future__ import annotations

import logging
import os
import sys
import traceback
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from hydra.core.plugins import Plugins
from hydra.core.utils import JobReturn, JobStatus, filter_overrides
from hydra.types import HydraContext, TaskFunction
from omegaconf import DictConfig, OmegaConf, open_dict
from omegaconf.errors import OmegaConfBaseException

from hydra_plugins._seedbed_compose import QuickJob, QuickLoader
from hydra_plugins._seedbed_frozen import FrozenLoader
from hydra_plugins._seedbed_preflight import finish
from seedbed.sweeps.job import fail, one_line, value
from seedbed.sweeps.manifest import Manifest, Refused, Stopped, result
from seedbed.training.hparams import hparams, write_kinds

if TYPE_CHECKING:
    from hydra_plugins.seedbed_manifest_launcher import ManifestLauncher

log = logging.getLogger("seedbed")


class Numbers(int):
    """The numbers of the jobs that are left, for launchers that add a job's place to the first one's number."""

    def __new__(cls, numbers: Sequence[int]) -> Numbers:
        self = super().__new__(cls, numbers[0])
        self.numbers = list(numbers)
        return self

    def __add__(self, place: int) -> int:
        return self.numbers[place]


class Sweep:
    """The launcher that was chosen, and the sweep's manifest."""

    def __init__(self, outer: ManifestLauncher, context: HydraContext, task_function: TaskFunction, config: DictConfig):
        self.config, self.folder = config, Path(config.hydra.sweep.dir)
        self.control = OmegaConf.to_container(outer.control)
        self.manifest = Manifest(self.folder)
        try:
            self.manifest.begin(OmegaConf.to_container(outer.command))
        except Refused as refused:
            refuse(refused)
        self.quick = QuickLoader(context.config_loader)
        context.config_loader = self.quick  # the sweeper's, which validates its jobs with it
        self.frozen = FrozenLoader(self.quick, self.control)
        with open_dict(config):
            config.hydra.launcher = outer.chosen
        inner = HydraContext(config_loader=self.frozen, callbacks=context.callbacks)
        self.launcher = Plugins.instance().instantiate_launcher(inner, task_function, config)

    def launch(self, batch: Sequence[Sequence[str]], first: int) -> list[JobReturn]:
        jobs = {n: self._compose(n, words) for n, words in enumerate(batch, first)}
        lines = {n: self._line(n, job, batch[n - first]) for n, job in jobs.items()}
        try:
            self.manifest.add(list(lines.values()))
        except Refused as refused:
            refuse(refused)
        write_kinds(self.folder, (hparams(job.config, job.choices) for job in jobs.values() if job))
        returns, left = {}, {}
        for n, line in lines.items():
            metrics = result(self.folder / line["folder"])
            if metrics is None:
                word = [self.frozen.word(jobs[n], line["folder"])] if jobs[n] else []
                left[n] = [*batch[n - first], *word]
            else:
                returns[n] = JobReturn(line["overrides"], status=JobStatus.COMPLETED)
                returns[n].return_value = value(metrics, line["config"]["optimized_metric"])
        if returns:
            log.info("%d of %d jobs are done", len(returns), len(batch))
        if left:
            returns |= self._run(left, lines)
        return [returns[n] for n in jobs]

    def _compose(self, number: int, words: Sequence[str]) -> QuickJob | None:
        try:
            return self.quick.job(self.config, words, number)
        except OmegaConfBaseException:  # it will fail alone and say why
            return None

    def _line(self, number: int, job: QuickJob | None, words: Sequence[str]) -> dict:
        if job is None:
            return {"job": number, "folder": str(number), "overrides": list(filter_overrides(words)), "config": None}
        folder = os.path.relpath(job.folder, self.folder)
        return {"job": number, "folder": folder, "overrides": job.values["task"], "config": job.config}

    def _run(self, left: dict[int, list[str]], lines: dict[int, dict]) -> dict[int, JobReturn]:
        numbers = list(left)
        try:
            found = self.launcher.launch(list(left.values()), initial_job_idx=Numbers(numbers))
        except Stopped:
            log.error("stopped: on_error=stop")
            finish(self.folder, self.config.optimized_metric)
            sys.exit(1)
        except Exception as error:
            self._end(error)
        except (KeyboardInterrupt, SystemExit):
            log.error("\nstopped; go on with the same command and resume=%s", self.folder)
            raise
        for n, job in zip(numbers, found, strict=True):
            if job.status != JobStatus.COMPLETED:  # it did not get as far as our own code
                folder = self.folder / lines[n]["folder"]
                folder.mkdir(parents=True, exist_ok=True)
                fail(folder, job._return_value, (lines[n]["config"] or {}).get("seed"))
                job.status, job.return_value = JobStatus.COMPLETED, None
        return dict(zip(numbers, found, strict=True))

    def _end(self, error: Exception) -> NoReturn:
        """The launcher raised: it lost a worker, its queue refuses, or it cannot carry Stopped to here."""
        with open(self.folder / "launcher.log", "a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
        failed = finish(self.folder, self.config.optimized_metric)
        if failed and self.control["on_error"] == "stop":
            log.error("stopped: on_error=stop")
        else:
            log.error("the launcher failed (launcher.log says more): %s", one_line(error))
        log.error("go on with the same command and resume=%s", self.folder)
        sys.exit(1)


def refuse(refused: Refused) -> NoReturn:
    print(refused, file=sys.stderr)
    sys.exit(2)
