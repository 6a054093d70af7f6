"""What a run reports is of the weights that it leaves, and its last checkpoint goes on from the weights it trained."""

import pytest
import torch
from lightning.pytorch.callbacks import WeightAveraging

EMA = ["callbacks=ema", "callbacks.ema.decay=0.9", "optim=momentum"]


class LateAverage(WeightAveraging):
    """Averages at the epochs' ends: after the validation, in which Lightning shows the average before."""

    def should_update(self, step_idx=None, epoch_idx=None):
        return epoch_idx is not None


def evaluated(run) -> tuple[float, float]:
    """(loss, accuracy) of the weights in last.ckpt on the validation set."""
    state = torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    run.module.load_state_dict(state)
    x, y = run.data.splits.valid
    with torch.no_grad():
        output = run.module.eval()(x.float() / 255)
    return run.module.loss(output, y).item(), (run.module.loss.predict(output) == y).float().mean().item()


@pytest.mark.parametrize(
    ("words", "callbacks"),
    [
        (["+trainer.check_val_every_n_epoch=2", "trainer.max_epochs=3"], []),
        (["+trainer.max_steps=60"], []),
        (["+trainer.val_check_interval=20", "trainer.max_epochs=1"], []),
        ([*EMA, "trainer.max_epochs=2"], []),
        ([*EMA, "+trainer.max_steps=60"], []),
        (["trainer.max_epochs=2"], [LateAverage()]),
    ],
    ids=["every second epoch", "max_steps", "val_check_interval", "ema", "ema max_steps", "average at epochs' ends"],
)
def test_metrics_are_of_the_last_weights(fit, words, callbacks):
    run = fit(*words, callbacks=callbacks)
    reported = run.metrics["val/loss"], run.metrics["val/accuracy"]
    assert run.curve("val/accuracy")[-1] == pytest.approx(reported[1])
    loss, accuracy = evaluated(run)
    assert reported == (pytest.approx(loss, abs=1e-6), pytest.approx(accuracy, abs=1e-6))


@pytest.mark.parametrize("stop", ["trainer.max_epochs=2", "+trainer.max_steps=70"])
def test_averaged_run_goes_on_from_its_raw_weights(fit, tmp_path, stop):
    whole = fit(*EMA, "trainer.max_epochs=4")
    fit(*EMA, "trainer.max_epochs=4", stop, folder=tmp_path)
    resumed = fit(*EMA, "trainer.max_epochs=4", f"ckpt_path={tmp_path}/checkpoints/last.ckpt")
    assert {**whole.metrics, "fit_seconds": 0} == {**resumed.metrics, "fit_seconds": 0}
    a, b = (torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True) for run in (whole, resumed))
    for name in ("state_dict", "current_model_state"):
        torch.testing.assert_close(a[name], b[name], rtol=0, atol=0)
