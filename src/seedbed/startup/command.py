"""Hydra for the commands of Seedbed, and from Python."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any

import hydra
from hydra.core.global_hydra import GlobalHydra

from seedbed.errors import Refusal
from seedbed.sweeps.choices import register_choices
from seedbed.sweeps.hydra_versions import VERSION_BASE

if TYPE_CHECKING:
    from hydra._internal.hydra import Hydra


def command(config_path: str, config_name: str) -> Callable[[Callable[[Any], Any]], Callable[[], None]]:
    """Make a command of a function of a config. config_path: relative to the function's file."""

    def decorate(function: Callable[[Any], Any]) -> Callable[[], None]:
        main = hydra.main(config_path=config_path, config_name=config_name, **VERSION_BASE)(function)

        @wraps(function)
        def run() -> None:
            register_choices()
            try:
                main()
            except Refusal as refusal:
                print(refusal, file=sys.stderr)
                sys.exit(refusal.code)

        return run

    return decorate


@contextmanager
def hydra_with(conf: Path) -> Iterator[Hydra]:
    """Give Hydra with the configs of a folder and our choices, for use from Python; `hydra.compose` works too."""
    register_choices()
    with hydra.initialize_config_dir(str(conf), job_name="train", **VERSION_BASE):
        yield GlobalHydra.instance().hydra
