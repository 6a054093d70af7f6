"""One process at a time trains in a folder: a lock, with its owner's pid, host and start beside it.

The lock is one of the operating system: a process that dies loses it, and the next one takes the folder over.
"""

from __future__ import annotations

import json
import os
import platform
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from seedbed.errors import ConfigError
from seedbed.files import write_whole

if TYPE_CHECKING:
    from filelock import BaseFileLock

LOCK, OWNER = ".lock", ".owner.json"


def take(folder: Path) -> BaseFileLock:
    """Take a folder for this process, until it ends or gives it up. Raises ConfigError that names the owner."""
    from filelock import FileLock, Timeout

    lock = FileLock(folder / LOCK, timeout=0, thread_local=False)
    try:
        lock.acquire()
    except Timeout:
        raise ConfigError(f"{folder} is being run by another process{_owner(folder)}") from None
    write_whole(folder / OWNER, json.dumps({"pid": os.getpid(), "host": platform.node(), "since": time.time()}) + "\n")
    return lock


def give_up(folder: Path, lock: BaseFileLock) -> None:
    for name in (OWNER, LOCK):
        (folder / name).unlink(missing_ok=True)
    lock.release()


@contextmanager
def owned(folder: Path) -> Iterator[None]:
    """Own a folder while the block runs. Raises ConfigError that names the owner."""
    lock = take(folder)
    try:
        yield
    finally:
        give_up(folder, lock)


def _owner(folder: Path) -> str:
    """Return `: pid 123 on host, for 5 min`; nothing where the owner has not said so yet."""
    try:
        owner = json.loads((folder / OWNER).read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return ""
    seconds = max(0, int(time.time() - owner["since"]))
    age = f"{seconds} s" if seconds < 120 else f"{seconds // 60} min" if seconds < 7200 else f"{seconds // 3600} h"
    return f": pid {owner['pid']} on {owner['host']}, for {age}"
