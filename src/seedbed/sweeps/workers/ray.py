"""Jobs as tasks of a Ray cluster, with or without storage that all nodes share."""

from __future__ import annotations

import hashlib
import os
import shutil
from collections.abc import Callable, Generator, Iterator, Sequence
from pathlib import Path
from typing import Any

from seedbed.files import write_whole
from seedbed.sweeps.columns import NAME as COLUMNS
from seedbed.sweeps.workers import Ended, Task


class Ray:
    """Hands each task to the cluster that `ray.init` names.

    ray: {init: options of `ray.init`, remote: options of `ray.remote`}. scratch: None where all nodes see the sweep's
    folder; else a folder of each node, from which the files of each finished job are sent to the sweep's folder. The
    sweep must be started on a node of the cluster then.
    """

    def __init__(self, ray: dict[str, dict[str, Any]], scratch: str | None = None):
        self.init = {name: value for name, value in ray["init"].items() if value is not None}
        self.remote, self.scratch = ray["remote"], scratch

    def run(self, call: Callable[[Task], None], tasks: Sequence[Task]) -> Generator[Ended, None, None]:
        import ray

        if not ray.is_initialized():
            ray.init(**self.init)
        if self.scratch is not None:
            call = InScratch(call, self.scratch, ray.get_runtime_context().get_node_id())
        remote = ray.remote(**self.remote)(call_with_threads)
        threads = str(self.remote["num_cpus"])
        places = {remote.remote(call, task, threads): place for place, task in enumerate(tasks)}
        try:
            while places:
                for ended in ray.wait(list(places))[0]:
                    yield places.pop(ended), _error(ended)
        finally:
            for task in places:
                ray.cancel(task)


def _error(ended: Any) -> BaseException | None:
    import ray

    try:
        ray.get(ended)
    except Exception as error:
        return error
    return None


def call_with_threads(call: Callable[[Task], None], task: Task, threads: str) -> None:
    os.environ.setdefault("OMP_NUM_THREADS", threads)
    call(task)


class InScratch:
    """Runs a task as if its sweep lay in `scratch`, then sends its jobs' folders to the sweep's folder on `node`."""

    def __init__(self, call: Callable[[Task], None], scratch: str, node: str):
        self.call, self.scratch, self.node = call, scratch, node

    def __call__(self, task: Task) -> None:
        home = Path(task["sweep"])
        digest = hashlib.sha256(f"{home}/{task['name']}".encode()).hexdigest()[:16]
        there = Path(os.path.abspath(self.scratch), f"{home.name}-{digest}")
        there.mkdir(parents=True, exist_ok=True)
        if "columns" in task:
            write_whole(there / COLUMNS, task["columns"])
        try:
            self.call({**task, "sweep": str(there)})
        finally:
            for metrics in sorted(there.rglob("metrics.json")):
                self._send(metrics.parent, home / metrics.parent.relative_to(there))
            shutil.rmtree(there, ignore_errors=True)

    def _send(self, folder: Path, target: Path) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        here = NodeAffinitySchedulingStrategy(self.node, soft=False)
        send = ray.remote(receive).options(num_cpus=0, scheduling_strategy=here)
        ray.get(send.remote(target, list(contents(folder))))


def contents(folder: Path) -> Iterator[tuple[str, bytes]]:
    """Yield (path in the folder, content) of each file; last metrics.json, which ends the job."""
    paths = [path for path in folder.rglob("*") if path.is_file()]
    for path in sorted(paths, key=lambda path: path.name == "metrics.json"):
        yield str(path.relative_to(folder)), path.read_bytes()


def receive(folder: Path, files: Sequence[tuple[str, bytes]]) -> None:
    """Write a job's files; first remove the event files of an earlier try that failed."""
    for events in folder.glob("events.out.tfevents.*"):
        events.unlink()
    for name, content in files:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        write_whole(folder / name, content)
