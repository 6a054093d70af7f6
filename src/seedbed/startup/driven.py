"""Detect whether another program runs this script: a debugger, a profiler, coverage, a notebook."""

from __future__ import annotations

import inspect
import sys
import traceback

DEBUGGERS = {"bdb", "pydevd"}  # pdb, ipdb and IDLE are built on bdb; VS Code and PyCharm use pydevd


def is_driven() -> bool:
    """Return whether the call stack begins outside the script that Python was started with."""
    *_, (first, _) = traceback.walk_stack(inspect.currentframe())
    return first.f_globals is not vars(sys.modules["__main__"])


def is_debugged() -> bool:
    """Return whether a debugger runs this script, which has to see the errors that leave it."""
    return any(
        frame.f_globals.get("__name__") in DEBUGGERS for frame, _ in traceback.walk_stack(inspect.currentframe())
    )
