"""The lab of the studies, in process."""

import pytest


@pytest.fixture(scope="session")
def make_lab(tmp_path_factory):
    """Return a function that makes a lab with a folder of its own."""
    from seedbed.studies.lab import Lab, compose

    return lambda: Lab(
        lambda overrides: compose([*overrides, "trainer.accelerator=cpu"]), tmp_path_factory.mktemp("study")
    )
