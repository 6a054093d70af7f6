"""The lab of the studies, in process."""

from pathlib import Path

import pytest

TRAIN = Path(__file__).resolve().parents[2] / "train.py"


@pytest.fixture(scope="session")
def make_lab(composed, tmp_path_factory):
    """A lab with a folder of its own."""
    from seedbed.studies.lab import Lab

    return lambda: Lab(lambda words: composed(*words)[0], TRAIN, tmp_path_factory.mktemp("study"))
