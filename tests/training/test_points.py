"""train/loss and lr by steps: means since the last point, whatever loop runs and whatever interrupts it."""

import lightning.pytorch as pl
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.plugins.custom_scalar.layout_pb2 import Layout

from seedbed.event_files import paths, records
from seedbed.training import logger, supervised

SHORT = ["model=linear", "optim.lr=0.5", "schedule=linear"]


class Watch(pl.Callback):
    """Notes loss, samples and lr of every step: Lightning's own loop runs."""

    def __init__(self, stop: int | None = None):
        self.stop, self.losses, self.samples, self.lrs = stop, [], [], []

    def on_train_batch_end(self, trainer, module, outputs, batch, index):
        self.losses.append(outputs["loss"].item())
        self.samples.append(len(batch[1]))
        self.lrs.append(trainer.optimizers[0].param_groups[0]["lr"])
        if self.stop == len(self.losses):
            raise InterruptedError

    def mean(self, first: int, last: int) -> float:
        """The mean loss of the samples of the steps after `first` and up to `last`."""
        losses, samples = self.losses[first:last], self.samples[first:last]
        return sum(a * b for a, b in zip(losses, samples, strict=True)) / sum(samples)


def points(run, tag="train/loss"):
    return {event.step: event.value for event in run.events(tag)}


@pytest.mark.parametrize("every", [1, 5])
def test_points_are_the_means_of_the_steps_since_the_last_one(fit, every):
    words = [*SHORT, f"trainer.log_every_n_steps={every}", "trainer.max_epochs=2"]
    watch = Watch()
    watched, fast = fit(*words, callbacks=[watch]), fit(*words)
    ends = [*range(every, 98, every), 98]
    expected = {end: watch.mean(before, end) for before, end in zip([0, *ends], ends, strict=False)}
    assert points(watched) == pytest.approx(expected, rel=1e-5) and points(fast) == points(watched)
    assert points(fast, "lr") == pytest.approx({end: watch.lrs[end - 1] for end in ends}, rel=1e-6)
    # the epoch's mean, which history.csv and early stopping have, is that of all samples
    assert fast.metrics["train/loss"] == pytest.approx(watch.mean(49, 98), rel=1e-5)
    assert fast.trainer.callback_metrics["train/loss"].item() == pytest.approx(fast.metrics["train/loss"])


def test_auto_gives_a_short_run_a_point_a_step_and_a_long_one_few(fit, monkeypatch):
    words = [*SHORT, "trainer.max_epochs=2"]
    assert list(points(fit(*words))) == list(range(1, 99))
    monkeypatch.setattr(supervised, "MAX_POINTS", 10)
    assert list(points(fit(*words))) == [*range(10, 98, 10), 98]
    assert list(points(fit(*words, "trainer.accumulate_grad_batches=3"))) == [*range(4, 34, 4), 34]


def test_curve_of_a_resumed_run_is_that_of_the_uninterrupted_one(fit, tmp_path):
    words = [*SHORT, "trainer.log_every_n_steps=4", "trainer.max_epochs=2"]
    whole = fit(*words)
    with pytest.raises(InterruptedError):
        fit(*words, folder=tmp_path / "half", callbacks=[Watch(stop=30)], every=0)
    resumed = fit(*words, f"ckpt_path={tmp_path}/half/checkpoints/last.ckpt")
    after = {step: value for step, value in points(whole).items() if step > 29}
    assert points(resumed) == after and min(after) == 32


def test_untrained_network_is_the_first_point_and_the_first_row(fit):
    run = fit(*SHORT, "trainer.max_epochs=1", "+trainer.check_val_every_n_epoch=2")
    untrained = fit(*SHORT, "trainer.max_epochs=0")
    assert [row["epoch"] for row in run.module.history] == [0, 1]
    for name in ("val/loss", "val/accuracy"):
        assert run.module.history[0][name] == untrained.metrics[name] == untrained.module.history[0][name]
        assert points(run, name)[0] == pytest.approx(untrained.metrics[name], rel=1e-6)
    # no validation in this epoch: that of epoch 0 is not repeated
    assert "val/loss" not in run.module.history[1]


def test_both_losses_are_in_one_chart(fit, sweep):
    run, folder = fit(*SHORT, "trainer.max_epochs=1"), sweep("fused", *SHORT, "seed=0,1", "trainer.max_epochs=1")
    for place in (run.folder, folder / "1"):
        found = EventAccumulator(str(place)).Reload()
        (tag,) = found.PluginTagToContent("custom_scalars")
        (event,) = found.Tensors(tag)
        layout = Layout.FromString(event.tensor_proto.string_val[0])
        assert {
            (part.title, chart.title): list(chart.multiline.tag) for part in layout.category for chart in part.chart
        } == {
            ("run", "loss"): ["train/loss", "val/loss"],
            ("run", "accuracy"): ["val/accuracy"],
            ("epochs", "loss"): ["epoch/train/loss", "epoch/val/loss"],
            ("epochs", "accuracy"): ["epoch/val/accuracy"],
        }


def test_curves_over_epochs_are_the_rows_of_history_also_after_a_resume(fit, tmp_path, monkeypatch):
    for epochs, more in ((2, []), (5, [f"ckpt_path={tmp_path}/checkpoints/last.ckpt"])):
        run = fit(*SHORT, f"trainer.max_epochs={epochs}", *more, folder=tmp_path)
        rows = run.module.history
        assert len(rows) == epochs + 1
        for name in ("train/loss", "val/loss", "val/accuracy"):
            expected = {row["epoch"]: row[name] for row in rows if name in row}
            assert points(run, f"epoch/{name}") == pytest.approx(expected, rel=1e-6)
            # also in the file, and not only as TensorBoard reads it, each is there once
            assert read_tags(tmp_path).count(f"epoch/{name}") == len(expected)
    monkeypatch.setattr(logger, "MAX_EPOCHS", 3)
    assert list(points(fit(*SHORT, "trainer.max_epochs=5"), "epoch/val/loss")) == [1, 3, 5]


def read_tags(folder):
    files = (records(path) for path in paths(folder))
    return [value.tag for file in files for record in file for value in Event.FromString(record).summary.value]
