"""End a process without waiting for Python to destroy torch's objects."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn

from seedbed.startup import PLAIN
from seedbed.startup.driven import is_driven


def quick_exit() -> None:
    """End the process with status 0.

    With SEEDBED_PLAIN=1, or if another program runs the script and may go on after it, return and let Python end it.
    """
    if not PLAIN and not is_driven():
        exit_without_destruction()


def exit_without_destruction() -> NoReturn:
    """Join the threads, call the exit functions and flush the output as Python does, then end with status 0.

    No object is destroyed. A gloo thread that frees a tensor while the interpreter shuts down aborts the process
    (pytorch issue 190489); here it cannot.
    """
    threading._shutdown()  # type: ignore[attr-defined]
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
