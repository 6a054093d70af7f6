"""Set up Hydra for the commands of Seedbed, and for use from Python."""

from __future__ import annotations

import io
import logging
import os
import signal
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.global_hydra import GlobalHydra

from seedbed.errors import Interrupted, Refusal, unwritten
from seedbed.own_code import full_traceback
from seedbed.startup.driven import is_debugged
from seedbed.startup.quick_exit import quick_exit
from seedbed.startup.signals import code_of_signal, raise_once
from seedbed.startup.words import check_words
from seedbed.sweeps.choices import register_choices
from seedbed.sweeps.hydra_versions import VERSION_BASE

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra


def command(config_path: str, config_name: str) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Turn a function of a config into a command. config_path: relative to the function's file."""

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        conf = Path(function.__code__.co_filename).parent / config_path
        main = hydra.main(config_path=config_path, config_name=config_name, **VERSION_BASE)(function)

        @wraps(function)
        def run() -> None:
            register_choices()
            _print_in_any_locale()
            logging.raiseExceptions = full_traceback()  # no traceback for a train.log on a full disk
            threading.excepthook = _thread_failed
            if is_debugged():
                os.environ["HYDRA_FULL_ERROR"] = "1"  # Hydra then lets an error through
            else:
                raise_once()
            try:
                check_words(sys.argv[1:], conf)
                main()
                code = 0
            except KeyboardInterrupt:
                code = 128 + signal.SIGINT
            except SystemExit as end:
                if not isinstance(end.code, int):
                    raise
                code = end.code
                if isinstance(end, Refusal | Interrupted):
                    if full_traceback():
                        traceback.print_exception(end)
                    print(end, file=sys.stderr)
            quick_exit(code_of_signal() or code)

        return run

    return decorate


def _print_in_any_locale() -> None:
    """Print a question mark for characters that the terminal's encoding lacks, here and in worker processes."""
    os.environ.setdefault("PYTHONIOENCODING", ":replace")
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="replace")


def _thread_failed(args: threading.ExceptHookArgs) -> None:
    """Stay silent about a full disk: TensorBoard's thread hands the error to the run, which reports it."""
    if full_traceback() or not unwritten(args.exc_value):
        threading.__excepthook__(args)


@contextmanager
def hydra_with(conf: Path) -> Iterator[Hydra]:
    """Yield Hydra with the configs of a folder and our choices, for use from Python; `hydra.compose` works too."""
    register_choices()
    with hydra.initialize_config_dir(str(conf), job_name="train", **VERSION_BASE):
        yield GlobalHydra.instance().hydra
