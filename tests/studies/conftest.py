"""The lab of the studies, in process."""

import runpy
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]


@pytest.fixture(scope="session")
def make_lab(tmp_path_factory):
    """A lab with a folder of its own; configs are composed as the command composes them."""
    from seedbed.startup.command import hydra_with
    from seedbed.studies.lab import Lab

    run_config = runpy.run_path(str(ROOT / "scripts" / "study.py"))["run_config"]

    def compose(overrides):
        with hydra_with(ROOT / "conf"):
            return run_config((*overrides, "trainer.accelerator=cpu"))

    return lambda: Lab(compose, ROOT / "train.py", tmp_path_factory.mktemp("study"))
