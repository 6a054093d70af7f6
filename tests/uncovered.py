"""The environment for a command that is to run without coverage."""

import os


def uncovered() -> dict[str, str]:
    """Return this process's environment without coverage's variables.

    Hydra takes coverage's tracer for a debugger's, and shows tracebacks under it; and where a disk is to be full,
    coverage's own file would not fit.
    """
    return {name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")}
