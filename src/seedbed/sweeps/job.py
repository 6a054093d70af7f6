"""One job of a sweep: goes on where it was killed, and fails without taking the others along."""

from __future__ import annotations

import fcntl
import logging
import math
import os
import traceback
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from seedbed.errors import ConfigError
from seedbed.sweeps.manifest import Stopped, result

log = logging.getLogger("seedbed")

UNKNOWN = ("val/loss", "val/accuracy", "epochs", "steps", "fit_seconds")  # of a run that failed


def run(folder: Path, train: Callable[[], object], seed: int, retries: int, on_error: str) -> dict[str, Any]:
    """The metrics of the job in `folder`, which `train` writes there unless it is done. seed: the job's.

    One that raises is tried again, `retries` times; then its train.log has the traceback, its metrics.json the
    message, the terminal one line. Raises Stopped then under on_error=stop.
    """
    with only_one(folder):
        if (metrics := result(folder)) is not None:
            return metrics
        (folder / "metrics.json").unlink(missing_ok=True)
        for left in reversed(range(retries + 1)):
            try:
                train()
                break
            except Exception as error:
                left = 0 if isinstance(error, ConfigError) else left  # it would be the same again
                fail(folder, error, seed, left)
                if not left:
                    if on_error == "stop":
                        raise Stopped from None
                    break
    return result(folder) or {}


def fail(folder: Path, error: BaseException, seed: int | None = None, left: int = 0) -> None:
    """Say it in one line to all, with the traceback to train.log, and in metrics.json if no try is left."""
    message = one_line(error)
    log.error("job %s failed: %s%s", folder.name, message, f" (tries left: {left})" if left else "")
    if not isinstance(error, ConfigError):
        with open(folder / "train.log", "a", encoding="utf-8") as file:
            traceback.print_exception(error, file=file)
    if not left:
        from seedbed.training.run import write_metrics

        write_metrics(folder, {"status": "failed", "error": message, **dict.fromkeys(UNKNOWN), "seed": seed})


def one_line(error: BaseException) -> str:
    text = next(iter(str(error).splitlines()), "")
    return text if isinstance(error, ConfigError) else f"{type(error).__name__}: {text}"


def value(metrics: Mapping[str, Any], name: str) -> float | None:
    """What a sweeper sees; None for a job that has no such finite number: to Optuna a failed trial."""
    number = metrics.get(name)
    return number if isinstance(number, int | float) and math.isfinite(number) else None


def own_checkpoint(folder: Path) -> str | None:
    """Where a job that was killed goes on, if it got that far; its event files end there then, or are gone."""
    from seedbed.training.event_files import cut

    path = folder / "checkpoints" / "last.ckpt"
    if not path.exists():
        cut(folder, None)
        return None
    import torch

    cut(folder, torch.load(path, weights_only=True, mmap=True)["global_step"])
    return str(path)


@contextmanager
def only_one(folder: Path) -> Iterator[None]:
    """Wait until no other process is at this job: a worker may live on after its sweep was killed."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)
