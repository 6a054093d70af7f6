"""A run that stopped inside an epoch goes on inside it, whatever stopped it, and ends with the bits of a whole run."""

import signal
import time

import lightning.pytorch as pl
import pytest
import torch

from seedbed.errors import Interrupted
from seedbed.training.interruption import PATIENCE, StopOnSignal

WORDS = ["trainer.max_epochs=4", "optim=adam", "model.dropout=0.2"]
EPOCH = 49


def stopper(hook: str, step: int) -> pl.Callback:
    """Sets should_stop in one hook once a number of steps has been made."""

    def stop(self, trainer, module, *args):
        trainer.should_stop |= module.steps >= step

    return type("Stop", (pl.Callback,), {hook: stop})()


def assert_ends_alike(whole, resumed) -> None:
    """Weights, metrics, and the states of optimiser and callbacks in the last checkpoint."""
    a, b = (torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True) for run in (whole, resumed))
    torch.testing.assert_close(a["state_dict"], b["state_dict"], rtol=0, atol=0)
    torch.testing.assert_close(a["optimizer_states"], b["optimizer_states"], rtol=0, atol=0)
    assert str(a["callbacks"]) == str(b["callbacks"])
    assert {**whole.metrics, "fit_seconds": 0} == {**resumed.metrics, "fit_seconds": 0}


@pytest.mark.parametrize(
    ("words", "callbacks", "steps"),
    [
        (["+trainer.max_steps=60"], [], 60),
        (["+trainer.max_steps=60", "trainer.loop=plain"], [], 60),
        ([], [("on_train_batch_end", 60)], 60),
        ([], [("on_before_backward", 59)], 60),
        ([], [("on_train_epoch_start", 98)], 98),
        ([], [("on_validation_end", 98)], 98),
    ],
    ids=["max_steps", "max_steps plain", "batch end", "before backward", "epoch start", "validation end"],
)
def test_run_goes_on_where_it_stopped(fit, tmp_path, words, callbacks, steps):
    whole = fit(*WORDS, "callbacks=early_stopping")
    part = fit(*WORDS, *words, "callbacks=early_stopping", folder=tmp_path, callbacks=[stopper(*c) for c in callbacks])
    assert part.metrics["steps"] == steps
    resumed = fit(*WORDS, "callbacks=early_stopping", f"ckpt_path={tmp_path}/checkpoints/last.ckpt")
    assert resumed.metrics["steps"] == 4 * EPOCH
    assert_ends_alike(whole, resumed)


def test_run_goes_on_inside_the_batches_of_a_step(fit, tmp_path):
    """Stopped after the second of three batches: the checkpoint holds their gradients."""
    words = [*WORDS, "trainer.accumulate_grad_batches=3"]

    class StopBetween(pl.Callback):
        batches = 0

        def on_train_batch_end(self, trainer, module, *args):
            self.batches += 1
            trainer.should_stop |= self.batches == 20

    fit(*words, folder=tmp_path, callbacks=[StopBetween()])
    saved = torch.load(tmp_path / "checkpoints/last.ckpt", weights_only=True)
    assert saved["steps"] == 6 and len(saved["window"]["gradients"]) == 4
    for loop in ("plain", "fast"):
        resumed = fit(*words, f"ckpt_path={tmp_path}/checkpoints/last.ckpt", f"trainer.loop={loop}")
        assert_ends_alike(fit(*words), resumed)


class Signal(pl.Callback):
    """Sends SIGTERM to this process in a hook, or in a forward pass, once a number of steps has been made."""

    per_call = True

    def __init__(self, hook: str, step: int):
        def send(trainer, module, *args):
            if module.steps >= step and self.sent == 0:
                self.sent = 1
                signal.raise_signal(signal.SIGTERM)
                time.sleep(1.1 * PATIENCE if hook == "on_validation_batch_end" else 0)

        def watch_forward(trainer, module):
            module.net.register_forward_hook(lambda net, *_: send(trainer, module) if net.training else None)

        self.sent = 0
        setattr(self, *(("on_train_start", watch_forward) if hook == "forward" else (hook, send)))


SIGNALLED = [*WORDS, "+trainer.min_epochs=4", "trainer.log_every_n_steps=10", "ckpt.every_n_steps=40"]


@pytest.fixture(scope="module")
def undisturbed(fit):
    return fit(*SIGNALLED)


# steps 49, 98, 147 end an epoch and 196 the run
@pytest.mark.parametrize(
    ("hook", "step", "loop"),
    [
        ("forward", 60, "plain"),
        ("forward", 97, "plain"),
        ("forward", 60, "auto"),
        ("forward", 195, "plain"),
        ("on_train_epoch_start", 98, "auto"),
        ("on_validation_batch_end", 98, "auto"),
        ("on_validation_end", 98, "auto"),
        ("on_train_epoch_end", 49, "plain"),
        ("on_validation_start", 196, "auto"),
        ("on_train_end", 196, "plain"),
    ],
)
def test_run_stopped_by_a_signal_goes_on_in_its_own_folder(fit, tmp_path, undisturbed, hook, step, loop):
    words = [*SIGNALLED, f"trainer.loop={loop}"]
    with pytest.raises(Interrupted):
        fit(*words, folder=tmp_path, callbacks=[Signal(hook, step), StopOnSignal(tmp_path)])
    last = tmp_path / "checkpoints/last.ckpt"
    # a long validation that comes soon after a checkpoint is broken off
    assert torch.load(last, weights_only=True)["steps"] >= (80 if hook == "on_validation_batch_end" else step)
    resumed = fit(*words, f"ckpt_path={last}", folder=tmp_path)
    assert_ends_alike(undisturbed, resumed)
    rows = ([{**row, "seconds": 0} for row in run.module.history] for run in (undisturbed, resumed))
    assert next(rows) == next(rows)
    # each point once; the epoch in which the signal came is validated when it is over
    for tag in ("train/loss", "lr", "val/loss", "val/accuracy"):
        a, b = ([(event.step, event.value) for event in run.events(tag)] for run in (undisturbed, resumed))
        assert a == b and len(a) >= 4


def test_run_stopped_by_max_time_goes_on(fit, tmp_path):
    part = fit(*WORDS, "+trainer.max_time={seconds: 0.2}", "trainer.max_epochs=1000", folder=tmp_path)
    assert 0 < part.metrics["steps"] < 49_000
    epochs = part.metrics["steps"] // EPOCH + 2
    words = [*WORDS, f"trainer.max_epochs={epochs}"]
    resumed = fit(*words, f"ckpt_path={tmp_path}/checkpoints/last.ckpt")
    assert resumed.metrics["steps"] == epochs * EPOCH
    assert_ends_alike(fit(*words), resumed)


def test_run_stopped_by_a_validation_inside_an_epoch_goes_on(fit, tmp_path):
    words = [*WORDS, "+trainer.val_check_interval=10"]
    part = fit(*words, folder=tmp_path, callbacks=[stopper("on_validation_end", 69)])
    assert part.metrics["steps"] == 69
    assert_ends_alike(fit(*words), fit(*words, f"ckpt_path={tmp_path}/checkpoints/last.ckpt"))
