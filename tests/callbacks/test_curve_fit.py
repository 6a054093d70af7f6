"""The fit is drawn after each step, in TensorBoard and as PNG files."""

import pytest
import torch
from lightning.pytorch.callbacks import EarlyStopping

from seedbed.callbacks.curve_fit import CurveFit
from seedbed.errors import ConfigError
from seedbed.pictures.curve_fit import curve_fit


def pictures(run):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return EventAccumulator(str(run.folder), size_guidance={"images": 0}).Reload().Images("pictures/curve_fit")


def test_quadratic_is_drawn_after_each_step(fit):
    run = fit("experiment=quadratic", "trainer.max_epochs=4")
    assert [event.step for event in pictures(run)] == [0, 1, 2, 3, 4]
    for name in ("curve_fit", "curve_fit_steps"):
        assert (run.folder / f"pictures/{name}.png").read_bytes().startswith(b"\x89PNG")
    (callback,) = (c for c in run.trainer.callbacks if isinstance(c, CurveFit))
    assert [f.step for f in callback.fits] == [0, 1, 2, 3, 4]
    # before each step the loss is that which the step went back from
    assert [f.loss for f in callback.fits[:-1]] == pytest.approx(run.curve("train/loss"), rel=1e-5)
    assert callback.fits[-1].loss == pytest.approx(run.metrics["val/loss"], rel=1e-5)
    a, b, c = run.module.net.coefficients.detach()
    t = torch.linspace(0, 19, 400)
    torch.testing.assert_close(callback.fits[-1].curve, a * t**2 + b * t + c)


def test_pictures_of_many_epochs_are_evenly_spread(fit):
    run = fit("experiment=approximate", "trainer.max_epochs=6", "callbacks.curve_fit.pictures=3")
    assert [event.step for event in pictures(run)] == [0, 16, 32, 48]


@pytest.mark.parametrize(
    ("words", "steps"),
    [
        (["trainer.max_epochs=7"], [0, 3, 6, 7]),  # every third epoch is not the last
        (["trainer.max_epochs=6"], [0, 2, 4, 6]),
        (["trainer.max_epochs=9", "+trainer.max_steps=5"], [0, 3, 5]),
    ],
)
def test_last_fit_is_drawn_once_wherever_training_ends(fit, words, steps):
    run = fit("experiment=quadratic", "callbacks.curve_fit.pictures=3", *words)
    assert [event.step for event in pictures(run)] == steps
    (callback,) = (c for c in run.trainer.callbacks if isinstance(c, CurveFit))
    assert [f.step for f in callback.fits] == steps


def test_last_fit_of_a_run_that_stops_early_is_drawn(fit):
    stop = EarlyStopping("val/loss", min_delta=1e9, patience=1)  # after the second epoch
    run = fit("experiment=quadratic", "callbacks.curve_fit.pictures=2", callbacks=[stop])
    assert run.metrics["epochs"] == 2 and [event.step for event in pictures(run)] == [0, 2]


def test_figure_has_a_panel_a_fit_with_its_step_and_loss(fit):
    run = fit("experiment=quadratic", "trainer.max_epochs=5")
    (callback,) = (c for c in run.trainer.callbacks if isinstance(c, CurveFit))
    figure = curve_fit(callback.points, callback.axes, callback.x, callback.fits)
    drawn = [ax for ax in figure.axes if ax.axison]
    assert [ax.get_title().split(":")[0] for ax in drawn] == [f"after step {i}" for i in range(6)]
    points, line = drawn[2].get_lines()
    assert list(points.get_ydata()) == pytest.approx(run.data.splits.train[1].tolist())
    assert list(line.get_ydata()) == pytest.approx(callback.fits[2].curve.tolist())


def test_images_are_refused(fit):
    with pytest.raises(ConfigError, match="functions of one number"):
        fit("callbacks=curve_fit", "trainer.max_epochs=1")
