"""Every module and every callback of ours trains in every precision of the weights."""

import math

import pytest

SHORT = ["trainer.max_epochs=2", "+trainer.limit_train_batches=3"]
CURVES = ["data=function", "model=rectified_lines", "loss=mse", "callbacks=curve_fit"]
RUNS = {
    "gan": ["experiment=gan", "callbacks.generated.every=1"],
    "gan of standardised data": ["experiment=gan", "data.normalize=standard"],
    "curve fit": CURVES,
    "ema": ["callbacks=ema"],
    "pictures": [
        "callbacks=[pictures,activation_stats]",
        "callbacks.activation_stats.every=1",
        "callbacks.pictures.every=1",
    ],
    "early stopping": ["callbacks=early_stopping", "data.normalize=standard"],
}


@pytest.mark.parametrize("precision", ["64-true", "bf16-true", "bf16-mixed"])
@pytest.mark.parametrize("name", RUNS)
def test_run_trains_in_this_precision(fit, name, precision):
    run = fit(*RUNS[name], *SHORT, f"trainer.precision={precision}")
    assert run.metrics["status"] == "completed" and math.isfinite(run.metrics["val/loss"])
    assert run.metrics["steps"] == 6


@pytest.mark.parametrize("name", ["gan", "curve fit"])
def test_double_precision_agrees_with_single(fit, name):
    single, double = (fit(*RUNS[name], *SHORT, f"trainer.precision={p}-true") for p in (32, 64))
    # a GAN's noise is drawn in the weights' precision, and is another one
    tolerance = {"gan": 0.1, "curve fit": 1e-5}[name]
    assert single.metrics["train/loss"] == pytest.approx(double.metrics["train/loss"], rel=tolerance)
