"""Tell mistakes in a config from mistakes in the code of a part.

A part that refuses its arguments, or does not exist, is a mistake in the config: a ConfigError of one line. An error in
the user's own code is raised as it is.
"""

from __future__ import annotations

import dis
import traceback
from contextlib import contextmanager
from pathlib import Path
from typing import NoReturn

import hydra
import lightning.pytorch as pl
from hydra.errors import InstantiationException
from lightning.pytorch.utilities.exceptions import MisconfigurationException
from torch import nn

from seedbed.errors import ConfigError
from seedbed.own_code import own_error
from seedbed.training.contracts import wanted

# errors by which a part refuses its arguments, or says which package it needs
MISTAKES = (OSError, MisconfigurationException, ModuleNotFoundError)
# files whose lines call a part; the last one wraps Lightning's Trainer
CALLERS = (*hydra.__path__, pl.utilities.argparse.__file__)
CALLERS += tuple(str(Path(__file__).with_name(name)) for name in ("build.py", "datamodule.py"))
# bytecode instructions of a `raise` statement
RAISES = (dis.opmap["RAISE_VARARGS"], dis.opmap["RERAISE"])


@contextmanager
def mistakes_of_the_user(place: str):
    """Turn the error of a part, or of Lightning's Trainer, about its arguments into a ConfigError.

    A part that does not exist, or does not take such arguments, ends in a ConfigError too. A mistake in the user's own
    code is raised as it is.
    """
    try:
        yield
    except Exception as error:
        own = own_error(error)
        if own is not None and not isinstance(own, ConfigError):
            _raise_as_it_is(own)
        wrapped = isinstance(error, InstantiationException)
        cause = error.__cause__ if wrapped else error
        if wrapped and (cause is None or str(error).startswith("Error locating")):
            cause = _not_found(error)
        elif _is_of_the_call(cause):
            place = place or "data"
            cause = f"{cause}{wanted(place, cause)}"
        elif not isinstance(cause, MISTAKES) and not _is_refusal(cause):
            raise
        raise ConfigError(f"{place}{': ' if place else ''}{' '.join(str(cause).split())}") from error


def _raise_as_it_is(error: BaseException) -> NoReturn:
    """Raise an error without the one that wraps it as its context."""
    context, suppressed = error.__context__, error.__suppress_context__
    try:
        raise error
    finally:
        error.__context__, error.__suppress_context__ = context, suppressed


def _not_found(error: BaseException) -> str:
    """Return why Hydra makes no such target: "Error locating target 'a.b', set env var …" with the reason instead."""
    text = str(error).partition("\nfull_key:")[0].partition(", set env var")[0]
    reason = error.__cause__.__cause__ if error.__cause__ else None
    return f"{text}: {reason}" if reason else text


def _is_of_the_call(error: BaseException) -> bool:
    """Return whether a part was called with arguments that it does not take: no line of the part itself has run."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    # a module without an __init__ of its own lets torch refuse them
    called = frame.f_code is nn.Module.__init__.__code__ or frame.f_code.co_filename.startswith(CALLERS)
    return isinstance(error, TypeError) and called


def _is_refusal(error: BaseException) -> bool:
    """Return whether a `raise` of a part made a ValueError; one that Python itself raises is a mistake in the part."""
    innermost = error.__traceback__
    while innermost and innermost.tb_next:
        innermost = innermost.tb_next
    return isinstance(error, ValueError) and innermost.tb_frame.f_code.co_code[innermost.tb_lasti] in RAISES
