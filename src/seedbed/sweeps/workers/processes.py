"""Jobs in processes of this machine, each with one thread."""

from __future__ import annotations

import os
import signal
import sys
from collections import deque
from collections.abc import Callable, Generator, Sequence
from concurrent.futures import FIRST_COMPLETED, ProcessPoolExecutor, wait
from itertools import cycle
from multiprocessing import active_children, get_context
from multiprocessing.queues import SimpleQueue

import cloudpickle

from seedbed.sweeps.workers import Ended, Task


class Processes:
    """Runs `n_jobs` tasks at once; by default one for each of the `gpus`, or one for each core if `gpus` is None.

    gpus: number of GPUs to share out; each worker sees one of them.
    """

    def __init__(self, n_jobs: int | None = None, gpus: int | None = None):
        self.n_jobs = n_jobs or gpus or len(os.sched_getaffinity(0))
        visible = os.environ.get("CUDA_VISIBLE_DEVICES")
        self.gpus = ([*map(str, range(gpus))] if visible is None else visible.split(","))[:gpus] if gpus else []

    def run(self, call: Callable[[Task], None], tasks: Sequence[Task]) -> Generator[Ended, None, None]:
        # spawn: a forked child would inherit the threads' locks of torch. cloudpickle: `call` holds a function of
        # __main__, whose decorated form hides it from pickle
        pickled = cloudpickle.dumps(call)
        spawn, workers = get_context("spawn"), min(self.n_jobs, len(tasks))
        gpu_queue = spawn.SimpleQueue()
        for _, gpu in zip(range(workers), cycle(self.gpus), strict=False):
            gpu_queue.put(gpu)
        pool = ProcessPoolExecutor(workers, spawn, prepare, (gpu_queue if self.gpus else None,))
        waiting, running = deque(enumerate(tasks)), {}
        try:
            while waiting or running:
                # no more than can run: the pool would begin what it has been given, even after an error
                while waiting and len(running) < self.n_jobs:
                    place, task = waiting.popleft()
                    running[pool.submit(call_pickled, pickled, task)] = place
                for future in wait(running, return_when=FIRST_COMPLETED).done:
                    yield running.pop(future), future.exception()
        except (KeyboardInterrupt, SystemExit):
            for worker in active_children():
                worker.terminate()  # SIGTERM: a run that trains writes its checkpoint
            raise
        finally:
            pool.shutdown(cancel_futures=True)


def prepare(gpus: SimpleQueue | None = None) -> None:
    """Prepare a worker, which takes one of the GPUs; called before torch is imported."""
    # threads of small operations wait for each other longer than they work
    os.environ.setdefault("OMP_NUM_THREADS", "1")
    # A worker that waits for a task holds the lock of their queue. An exception gives it back; a worker that a signal
    # ends without one keeps it, and the others wait for ever.
    signal.signal(signal.SIGTERM, lambda number, frame: sys.exit(128 + number))
    if gpus:
        os.environ["CUDA_VISIBLE_DEVICES"] = gpus.get()


def call_pickled(call: bytes, task: Task) -> None:
    cloudpickle.loads(call)(task)
