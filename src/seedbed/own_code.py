"""Recognise mistakes in the user's own code, and show their traceback.

A line of code is the user's own unless its file belongs to Seedbed, to an installed package or to the standard library.
"""

from __future__ import annotations

import os
import sysconfig
import traceback
from pathlib import Path

_SRC = Path(__file__).resolve().parents[1]
_PACKAGES = {"site-packages", "dist-packages"}
_SEEDBED = tuple(f"{path}{os.sep}" for path in (*_SRC.glob("seedbed"), *_SRC.glob("hydra_plugins")))
_SEEDBED += (str(_SRC.parent / "train.py"), f"{_SRC.parent / 'scripts'}{os.sep}")
_LIBRARY = tuple({sysconfig.get_path(name) + os.sep for name in ("stdlib", "platstdlib")})


class OtherProcess(RuntimeError):
    """A mistake in the user's own code that happened in another process. traceback: as `shown` gave it there."""

    def __init__(self, message: str, traceback: str):
        super().__init__(message, traceback)
        self.traceback = traceback

    def __str__(self) -> str:
        return self.args[0]


def is_own(path: str) -> bool:
    """Return whether a traceback's file is the user's own."""
    # not absolute: a name in angle brackets, or a compiled module's path relative to where it was compiled
    if not os.path.isabs(path) or path.startswith(_LIBRARY) or _PACKAGES & set(Path(path).parts):
        return False
    return not os.path.realpath(path).startswith(_SEEDBED)


def own_error(error: BaseException | None) -> BaseException | None:
    """Return the error, or the first of its causes, that went through a line of the user's own; None if none did."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, OtherProcess):
            return error
        frames = traceback.walk_tb(error.__traceback__)
        if any(is_own(frame.f_code.co_filename) for frame, _ in frames):
            return error
        if isinstance(error, SyntaxError) and is_own(error.filename or "<unknown>"):
            return error
        error = error.__cause__ or (None if error.__suppress_context__ else error.__context__)
    return None


def full_traceback() -> bool:
    """Return whether the user wants every traceback whole: HYDRA_FULL_ERROR=1."""
    return os.environ.get("HYDRA_FULL_ERROR") == "1"


def shown(error: BaseException) -> str:
    """Return an error's traceback; for a mistake in the user's own code, only the lines of that code."""
    if isinstance(error, OtherProcess):
        return error.traceback
    own = None if full_traceback() else own_error(error)
    if own is None:
        return "".join(traceback.format_exception(error))
    shown = traceback.TracebackException.from_exception(own)
    left, seen = [shown], set()
    while left:
        part = left.pop()
        if part is not None and id(part) not in seen:
            seen.add(id(part))
            part.stack = traceback.StackSummary.from_list([f for f in part.stack if is_own(f.filename)])
            left += [part.__cause__, part.__context__]
    return "".join(shown.format())
