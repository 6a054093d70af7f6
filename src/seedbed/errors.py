"""Errors that a user sees as one line."""

from __future__ import annotations

import errno

# numbers of errors on a disk that is full or cannot be written
UNWRITTEN = {getattr(errno, name) for name in ("ENOSPC", "EDQUOT", "EFBIG", "EROFS", "EACCES", "EPERM", "EIO")}


class ConfigError(ValueError):
    """A mistake in a config. The message names the key, the value and what is allowed."""


class Refusal(SystemExit):
    """A command that is refused before anything is written: one line for the user, exit code 2.

    It is a SystemExit, because Hydra and OmegaConf pass that on unchanged.
    """

    def __init__(self, message: str):
        super().__init__(2)
        self.message = message

    def __str__(self) -> str:
        return self.message


class Interrupted(SystemExit):
    """A run or a sweep that a signal has stopped: exit code 128 + the signal's number, and a line on how to go on."""

    def __init__(self, number: int, message: str):
        super().__init__(128 + number)
        self.number, self.message = number, message
        # pickle calls this class with these arguments: the exception may come from another process
        self.args = (number, message)

    def __str__(self) -> str:
        return self.message


def summary(error: BaseException) -> str:
    """Return the first line of an error's message, with its type unless it is the user's mistake."""
    text = next(iter(str(error).splitlines()), "")
    if isinstance(error, ConfigError):
        return text
    return f"{type(error).__name__}: {text}" if text else type(error).__name__


def unwritten(error: BaseException | None) -> OSError | None:
    """Return the first of an error and its causes that a full or read-only disk has raised; None if there is none."""
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        if isinstance(error, OSError) and error.errno in UNWRITTEN:
            return error
        seen.add(id(error))
        error = error.__cause__ or error.__context__
    return None
