"""End a process without waiting for Python to destroy torch's objects."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn

from seedbed.startup import PLAIN
from seedbed.startup.driven import is_driven
from seedbed.startup.signals import end_at_once


def quick_exit(code: int = 0) -> None:
    """End the process with this exit code.

    With SEEDBED_PLAIN=1, or if another program (a debugger, a notebook) runs the script, Python ends the process as
    usual: call `sys.exit(code)`, or return if the code is 0.
    """
    if not PLAIN and not is_driven():
        exit_without_destruction(code)
    if code:
        sys.exit(code)


def exit_without_destruction(code: int = 0) -> NoReturn:
    """Join the threads, call the exit functions and flush the output as Python does, then end with this exit code.

    No object is destroyed. A gloo thread that frees a tensor while the interpreter shuts down aborts the process
    (pytorch issue 190489); here it cannot.
    """
    end_at_once()  # the work is complete: from here a signal may end the process
    sys.stdout.flush()
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(code)
