"""Names of the metrics of a run, and which of two numbers is better."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

TRAIN_LOSS = "train/loss"
VAL_LOSS = "val/loss"
VAL_ACCURACY = "val/accuracy"
ACCURACY_BY_CLASS = "val/accuracy_by_class"  # class → accuracy
TEST_LOSS = "test/loss"
TEST_ACCURACY = "test/accuracy"
GENERATOR_LOSS = "train/generator_loss"  # of a GAN, whose train/loss is the critic's
LR = "lr"
OVER_EPOCHS = "epoch/"  # prefix of the tag of a metric's curve over epochs
SHOWN = (VAL_ACCURACY, VAL_LOSS, TRAIN_LOSS, TEST_ACCURACY)  # the order of columns in tables


def smaller_is_better(metric: str) -> bool:
    """Return True for losses and durations; every other metric is better the larger it is."""
    return metric.endswith(("loss", "seconds"))


def merit(number: Any, metric: str) -> Any:
    """Return the number (float, array or tensor), negated where smaller is better: the largest merit is the best."""
    return -number if smaller_is_better(metric) else number


def validation_merit(metrics: Mapping[str, Any]) -> Any:
    """Return the merit of val/accuracy, else of val/loss; None before the first validation."""
    name = VAL_ACCURACY if VAL_ACCURACY in metrics else VAL_LOSS
    return merit(metrics[name], name) if name in metrics else None
