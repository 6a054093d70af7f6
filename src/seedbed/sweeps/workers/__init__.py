"""Workers run the jobs and stacks of a sweep somewhere: in other processes, as Slurm jobs, as Ray tasks.

Workers are a class with

    run(call, tasks) -> Generator[(place, error or None)]

`tasks` are plain data, `call(task)` runs one of them; `run` yields each task's place in `tasks` as it ends, with the
exception that `call` raised or the loss of the worker. Whoever closes the generator stops what has not begun. Results
are read from the files that the tasks leave. A new kind of workers is tested by tests/sweeps/test_workers.py.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Sequence
from typing import Any, Protocol

Task = dict[str, Any]
Ended = tuple[int, BaseException | None]


class Workers(Protocol):
    def run(self, call: Callable[[Task], None], tasks: Sequence[Task]) -> Generator[Ended, None, None]: ...
