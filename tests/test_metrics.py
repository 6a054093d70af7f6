"""The better of two numbers has the larger merit; the names of metrics stand in one file."""

import re
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.metrics import merit, validation_merit


@pytest.mark.parametrize(
    ("metric", "better", "worse"),
    [("val/accuracy", 0.9, 0.8), ("train/loss", 0.1, 0.2), ("train/generator_loss", 1, 2), ("fit_seconds", 1, 2)],
)
def test_merit_orders_numbers_arrays_and_tensors(metric, better, worse):
    assert merit(better, metric) > merit(worse, metric)
    assert merit(np.array([worse, better]), metric).argmax() == 1
    assert merit(torch.tensor([worse, better]), metric).argmax() == 1


def test_run_is_judged_by_its_accuracy_else_by_its_loss():
    assert validation_merit({"val/accuracy": 0.9, "val/loss": 0.3}) == 0.9
    assert validation_merit({"val/loss": 0.3}) == -0.3
    assert validation_merit({"train/loss": 0.3}) is None


def test_names_of_metrics_stand_in_one_file():
    source = Path(__file__).resolve().parents[1] / "src/seedbed"
    files = [path for path in source.rglob("*.py") if path.name != "metrics.py"]
    assert len(files) > 100
    assert [path for path in files if re.search(r"\"(train|val|test)/[a-z_]+\"", path.read_text("utf-8"))] == []
