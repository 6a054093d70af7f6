"""Shared parts of the commands that use a trained network: the run as an argument, one line for a mistake."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from seedbed.errors import ConfigError
from seedbed.startup.quick_import import import_torch

if TYPE_CHECKING:
    from seedbed.training.load import Loaded

USAGE_ERROR, INTERRUPTED = 2, 130


def arguments_of(doc: str) -> argparse.ArgumentParser:
    """Return a parser with the arguments that say which network is meant."""
    parser = argparse.ArgumentParser(description=doc, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, metavar="RUN", help="folder of a run, or a checkpoint in it")
    parser.add_argument("--which", choices=("best", "last"), default="best", help="weights of a folder (default: best)")
    parser.add_argument(
        "--allow",
        action="append",
        default=[],
        metavar="PACKAGE",
        help="a package of yours that the run's config may name; without it only parts of Seedbed, torch and Lightning",
    )
    return parser


def run_command(parser: argparse.ArgumentParser, use: Callable[[Loaded, argparse.Namespace], int]) -> int:
    """Load the network and use it; a mistake of the user ends with its one line and exit code 2."""
    arguments = parser.parse_args()
    # parts of one's own may lie beside train.py
    sys.path.append(str(Path(__file__).resolve().parents[3]))
    import_torch()
    from seedbed.training.load import load

    try:
        return use(load(arguments.run, arguments.which, arguments.allow), arguments)
    except (ConfigError, OSError) as error:
        print(error, file=sys.stderr)
        return USAGE_ERROR
    except KeyboardInterrupt:
        return INTERRUPTED


def shown(path: Path) -> Path:
    """Return a path as one would type it here."""
    return path.relative_to(Path.cwd()) if path.is_relative_to(Path.cwd()) else path
