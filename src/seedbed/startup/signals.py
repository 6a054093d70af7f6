"""SIGTERM and Ctrl-C outside the training: at most one line and exit code 143 or 130, at any moment of a command.

During the imports of train.py a signal ends the process. From `raise_once` on it raises an exception, so that workers
are told and folders are released. While a run trains, training/interruption.py handles it. From `end_at_once` on, at
the exit, a signal ends the process directly.
"""

from __future__ import annotations

import logging
import os
import signal
from collections.abc import Callable
from types import FrameType
from typing import NoReturn

from seedbed.errors import Interrupted

# the first signal that `raise_once` has handled
_came: list[int] = []


def raise_once() -> None:
    """Have the first signal raise Interrupted or KeyboardInterrupt, and a second one end the process."""
    _came.clear()
    _handle(_raise)


def end_at_once() -> None:
    """Have a signal end the process."""
    _handle(_end)


def _handle(handler: Callable[[int, FrameType | None], NoReturn]) -> None:
    for number in (signal.SIGINT, signal.SIGTERM):
        # a shell has commands in the background ignore Ctrl-C
        if signal.getsignal(number) is not signal.SIG_IGN:
            signal.signal(number, handler)


def code_of_signal() -> int | None:
    """Return the exit code of the signal that came; None without one.

    A library may have swallowed the exception, or raised another in its place.
    """
    return 128 + _came[0] if _came else None


def _end(number: int, frame: FrameType | None) -> NoReturn:
    os._exit(128 + number)


def _raise(number: int, frame: FrameType | None) -> NoReturn:
    _came.append(number)
    end_at_once()
    # a half-imported torch logs at the exit; errors that the signal caused are not worth a line
    logging.disable()
    if number == signal.SIGINT:
        raise KeyboardInterrupt
    raise Interrupted(number, "stopped by SIGTERM")
