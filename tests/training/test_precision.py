"""A run in bfloat16 says so where the processor is slow at it; float32 is float32."""

import logging

import pytest
import torch

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


@pytest.mark.parametrize(("rows", "inputs", "outputs"), [(256, 784, 30), (256, 784, 3072), (64, 128, 64)])
def test_products_are_float32_in_measured_error(rows, inputs, outputs):
    """Products on this machine and their gradients are as exact as float32; with inputs in bfloat16 they would not be.

    The error of a sum of n products is below √n · 2⁻²⁴ of the sum of their sizes, times a small constant.
    """
    x, weight = torch.randn(rows, inputs), torch.randn(outputs, inputs, requires_grad=True)
    out = torch.nn.functional.linear(x, weight)
    (gradient,) = torch.autograd.grad(out.sum(), weight)
    exact, exact_gradient = x.double() @ weight.double().T, x.double().sum(0).expand(outputs, inputs)
    sizes = x.abs().double() @ weight.abs().double().T, x.abs().double().sum(0).expand(outputs, inputs)
    for found, wanted, size, n in zip((out, gradient), (exact, exact_gradient), sizes, (inputs, rows), strict=True):
        assert ((found.double() - wanted).abs() / size).max() < 4 * n**0.5 * 2**-24
    rounded = torch.nn.functional.linear(x.bfloat16().float(), weight.bfloat16().float())
    assert ((rounded.double() - exact).abs() / sizes[0]).max() > 4 * inputs**0.5 * 2**-24
