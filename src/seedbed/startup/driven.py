"""Detect whether another program runs this script: a debugger, a profiler, coverage, a notebook."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator
from types import FrameType

DEBUGGERS = {"bdb", "pydevd"}  # pdb, ipdb and IDLE are built on bdb; VS Code and PyCharm use pydevd


def is_driven() -> bool:
    """Return whether the call stack begins outside the script that Python was started with."""
    *_, first = _stack()
    return first.f_globals is not vars(sys.modules["__main__"])


def is_debugged() -> bool:
    """Return whether a debugger runs this script, which has to see the errors that leave it."""
    return any(frame.f_globals.get("__name__") in DEBUGGERS for frame in _stack())


def _stack() -> Iterator[FrameType]:
    frame: FrameType | None = inspect.currentframe()
    while frame is not None:
        yield frame
        frame = frame.f_back
