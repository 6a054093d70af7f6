"""End a process in which torch was imported without the third of a second that Python takes to take it apart."""

from __future__ import annotations

import atexit
import os
import sys
import threading
from typing import NoReturn


def quick_exit() -> NoReturn:
    """What Python does first when it exits, and then the end: threads joined, exit functions called, output flushed.

    Exit status 0. Nothing is destroyed, which also spares what may go wrong then: a thread of torch's that lets go of a
    tensor while the interpreter shuts down aborts the process (gloo's do; pytorch issue 190489).
    """
    threading._shutdown()
    atexit._run_exitfuncs()
    sys.stdout.flush()
    sys.stderr.flush()
    os._exit(0)
