"""A run in bfloat16 says so where the processor is slow at it."""

import logging

import pytest

import seedbed.training.precision
from seedbed.training.build import build_trainer


@pytest.mark.parametrize(
    ("precision", "slow", "warns"),
    [("bf16-mixed", 0.0, True), ("bf16-mixed", 1e9, False), ("32-true", 0.0, False)],
)
def test_slow_bfloat16_is_told(composed, monkeypatch, caplog, precision, slow, warns):
    monkeypatch.setattr(seedbed.training.precision, "SLOW", slow)
    config, _ = composed(f"trainer.precision={precision}")
    with caplog.at_level(logging.WARNING, "seedbed.training.precision"):
        build_trainer(config, False, [])
    assert [f"trainer.precision={precision}: on this processor" in line for line in caplog.messages] == [True] * warns
