"""Jobs as tasks of a Slurm array, through submitit."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from seedbed.sweeps.workers import Ended, Task

POLL = 1.0  # seconds between two looks at the jobs


class Slurm:
    """Submits all tasks at once; the sweep's folder must lie on storage that all nodes see.

    cluster: `slurm`, or `local` to run the same on this machine. folder: of submitit's own files. The parameters are
    those of `submitit.AutoExecutor.update_parameters`; one that is None is left to submitit.
    """

    def __init__(self, folder: str, cluster: str = "slurm", **parameters: Any):
        self.folder, self.cluster = folder, cluster
        self.parameters = {name: value for name, value in parameters.items() if value is not None}

    def run(self, call: Callable[[Task], None], tasks: Sequence[Task]) -> Generator[Ended, None, None]:
        import submitit

        executor = submitit.AutoExecutor(self.folder, cluster=self.cluster)
        executor.update_parameters(**self._named_for_cluster())
        jobs = dict(enumerate(executor.map_array(Requeued(call), tasks)))
        try:
            while jobs:
                for place in [place for place, job in jobs.items() if job.done()]:
                    yield place, jobs.pop(place).exception()
                time.sleep(min(POLL, 0.1 * len(jobs)))
        finally:
            for job in jobs.values():
                job.cancel()

    def _named_for_cluster(self) -> dict[str, Any]:
        """Return the parameters; those that not all clusters have get the prefix slurm_, as AutoExecutor wants."""
        shared = {"name", "timeout_min", "mem_gb", "nodes", "cpus_per_task", "gpus_per_node", "tasks_per_node"}
        shared |= {"stderr_to_stdout"}
        named = {f"slurm_{name}": value for name, value in self.parameters.items() if name not in shared}
        return {name: value for name, value in self.parameters.items() if name in shared} | named


class Requeued:
    """A call that Slurm may preempt or time out: submitted again, it goes on from the job's last checkpoint."""

    def __init__(self, call: Callable[[Task], None]):
        self.call = call

    def __call__(self, task: Task) -> None:
        # before torch is imported: more threads than the task has cores wait for each other
        os.environ.setdefault("OMP_NUM_THREADS", os.environ.get("SLURM_CPUS_PER_TASK", "1"))
        self.call(task)

    def checkpoint(self, task: Task) -> Any:
        import submitit

        return submitit.helpers.DelayedSubmission(self, task)
