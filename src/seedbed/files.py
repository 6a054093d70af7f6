"""Write files whole: a reader finds the old content or the new, never a part of it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path


@contextmanager
def replacing(path: str | Path) -> Iterator[str]:
    """Yield a temporary path in the same folder; it takes the place of `path` when the block ends without an error.

    Several processes may replace one file at once: the last to finish wins.
    """
    temporary = f"{path}.{os.urandom(4).hex()}.tmp"
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException:
        with suppress(FileNotFoundError):
            os.unlink(temporary)
        raise


def write_whole(path: str | Path, content: str | bytes) -> None:
    """Write text (UTF-8, its line ends kept) or bytes to `path`, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
