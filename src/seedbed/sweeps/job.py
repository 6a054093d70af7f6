"""One job of a sweep, in whichever process it runs."""

from __future__ import annotations

import json
import logging
import sys
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hydra._internal.callbacks import Callbacks
from hydra.core.utils import JobReturn, JobStatus, run_job
from hydra.types import HydraContext, TaskFunction

from seedbed.errors import ConfigError, summary
from seedbed.files import write_whole
from seedbed.formats import FORMAT
from seedbed.own_code import own_error, shown
from seedbed.sweeps.compose import hydra_config
from seedbed.sweeps.hydra_versions import set_version_base
from seedbed.sweeps.states import finished, in_flight

log = logging.getLogger("seedbed")
_shown: set[str] = set()  # tracebacks


@dataclass
class Job:
    """All that a worker has to know of a job, as plain data.

    folder: relative to `sweep`. config: as composed, interpolations kept. hydra: the config's hydra node.
    """

    number: int
    sweep: str
    folder: str
    config: dict[str, Any]
    hydra: dict[str, Any]
    retries: int = 0

    @property
    def path(self) -> Path:
        return Path(self.sweep, self.folder)


def run(task: TaskFunction, job: Job, context: HydraContext | None = None) -> JobReturn:
    """Run `task` on the job's config unless the job is finished; try again after an error, `job.retries` times.

    An error goes to the job's train.log with its traceback, to its metrics.json and to one line on the terminal; the
    JobReturn then has the status FAILED and the error. context: the sweep's; another process makes its own, with the
    callbacks of the job's config.
    """
    if context is None:
        set_version_base()
    with in_flight(job.path):
        if finished(job.path) is not None:
            return JobReturn(status=JobStatus.COMPLETED)
        for tries_left in reversed(range(job.retries + 1)):
            (job.path / "metrics.json").unlink(missing_ok=True)
            config = hydra_config(job.config, job.hydra)
            config.hydra.sweep.dir, config.hydra.sweep.subdir = job.sweep, job.folder
            own = context or HydraContext(config_loader=None, callbacks=Callbacks(config))
            ended = run_job(task, config, "hydra.sweep.dir", "hydra.sweep.subdir", own)
            if ended.status == JobStatus.COMPLETED:
                return ended
            error = ended._return_value
            if isinstance(error, ConfigError):  # another try would end the same way
                tries_left = 0
            fail(job.path, error, tries_left)
            if not tries_left:
                return ended


def fail(folder: Path, error: BaseException, tries_left: int = 0) -> None:
    """Say in one line that a job failed, and keep the error in its train.log and metrics.json.

    The traceback of a mistake in the user's own code is printed too, but only once for all jobs of this process.
    """
    message = summary(error)
    log.error("job %s failed: %s%s", folder.name, message, f" (tries left: {tries_left})" if tries_left else "")
    text = "" if isinstance(error, ConfigError) else shown(error)
    if own_error(error) and text and text not in _shown:
        _shown.add(text)
        print(text, end="", file=sys.stderr, flush=True)
    with suppress(OSError):  # a disk that is full
        folder.mkdir(parents=True, exist_ok=True)
        if text:
            with open(folder / "train.log", "a", encoding="utf-8") as file:
                file.write(text)
        if not tries_left and not (folder / "metrics.json").exists():  # the task may have written its own
            metrics = {"status": "failed", "error": message, "format": FORMAT}
            write_whole(folder / "metrics.json", json.dumps(metrics) + "\n")
