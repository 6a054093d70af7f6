"""The facts on which the bits of a run depend besides its config: versions of libraries, type of machine, threads."""

from __future__ import annotations

import os
import platform
from collections.abc import Mapping
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

LIBRARIES = ("torch", "torchvision", "lightning", "timm", "numpy", "llvmlite", "pillow")
Facts = Mapping[str, str | int]


@cache
def here() -> dict[str, str | int]:
    """Return the facts that are known without torch; threads: OMP_NUM_THREADS, else the number of cores."""
    threads = os.environ.get("OMP_NUM_THREADS", "")
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    machine = f"{platform.machine()} {processor()}".strip()
    return {**_versions(), "machine": machine, "threads": int(threads) if threads.isdecimal() else cores}


def _versions() -> dict[str, str]:
    found = {}
    for name in LIBRARIES:
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "none"
    return found


def processor() -> str:
    """Return the processor's name, as Linux knows it, else as Python does; it may be empty."""
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    except OSError:
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor())


def not_promised(before: Facts | None, now: Facts) -> str | None:
    """Return the end of a sentence that says why bits may differ from those made with `before`; None if they cannot.

    before: None if an earlier version wrote no facts down.
    """
    if before is None:
        return "does not say with what it was made: equal bits are not promised"
    # facts that only one version of Seedbed writes down are not compared
    pairs = ((name, old, now[name]) for name, old in before.items() if name in now)
    changes = [f"{name} {old}, here {new}" for name, old, new in pairs if old != new]
    return f"was made with {'; '.join(changes)}: equal bits are not promised" if changes else None
