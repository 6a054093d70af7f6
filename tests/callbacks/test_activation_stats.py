"""What activation_stats records is what the layers gave, at the steps it says, and training does not notice it."""

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from seedbed.callbacks import activation_stats
from seedbed.callbacks.activation_stats import ActivationStats
from seedbed.drawing.layers import rebinned
from seedbed.layer_stats import BINS, LayerStats, summary, watched
from seedbed.models.convnet import resnet18

LAYERS = ("1.Linear", "2.ReLU", "3.Linear")


def events(run):
    return EventAccumulator(str(run.folder), size_guidance={"scalars": 0, "histograms": 0, "images": 0}).Reload()


def numbers(run):
    """tag → [(step, value)] of all that the callback logged as scalars."""
    found = events(run)
    tags = [tag for tag in found.Tags()["scalars"] if tag.split("_")[0] in ("activation", "gradient")]
    return {tag: [(e.step, e.value) for e in found.Scalars(tag)] for tag in tags}


def test_first_step_equals_a_forward_and_backward_by_hand(fit):
    run = fit("trainer.max_epochs=1", callbacks=[ActivationStats(every=20)])
    fresh = fit("trainer.max_epochs=0")
    x, y = next(iter(fresh.data.train_dataloader()))
    outputs = {}
    h = x
    for layer, name in zip(fresh.module.net, ("0.Flatten", *LAYERS), strict=True):
        outputs[name] = h = layer(h)
        h.retain_grad() if h.requires_grad else None
    fresh.module.loss(h, y).backward()
    logged = numbers(run)
    histograms = events(run)
    for name in LAYERS:
        out, grad = outputs[name].detach().double().numpy(), outputs[name].grad.double().numpy()
        expected = {
            "activation_mean": out.mean(),
            "activation_std": out.std(),
            "activation_near_zero": (np.abs(out) < 0.05).mean(),
            "gradient_mean": grad.mean(),
            "gradient_std": grad.std(),
        }
        for tag, value in expected.items():
            assert logged[f"{tag}/{name}"][0] == (0, pytest.approx(value, rel=1e-4, abs=1e-8)), (tag, name)
        histogram = histograms.Histograms(f"activations/{name}")[0].histogram_value
        assert histogram.num == sum(histogram.bucket) == out.size
        reference = np.histogram(out.astype(np.float32), BINS)[0]  # a value on an edge may fall to either side
        assert np.abs(reference - np.array(histogram.bucket)[-BINS:]).sum() <= 0.01 * out.size


@pytest.mark.parametrize("every", [1, 20, 33])
def test_steps_are_those_divisible_by_every_from_the_runs_first(fit, every):
    run = fit("trainer.max_epochs=2", callbacks=[ActivationStats(every=every)])
    for rows in numbers(run).values():
        assert [step for step, _ in rows] == list(range(0, 98, every))


def test_weights_and_metrics_have_the_bits_of_a_run_without(fit):
    overrides = ("trainer.max_epochs=2", "model.dropout=0.3", "optim=adam")
    watched_run, free = fit(*overrides, callbacks=[ActivationStats(every=3)]), fit(*overrides)
    a, b = (run.module.state_dict() for run in (watched_run, free))
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert watched_run.metrics["val/loss"] == free.metrics["val/loss"]
    assert not any(m._forward_hooks or m._forward_pre_hooks for m in watched_run.module.net.modules())


def test_two_runs_log_the_same_numbers_however_often_they_write(fit, monkeypatch):
    first = fit("trainer.max_epochs=2", callbacks=[ActivationStats()])
    monkeypatch.setattr(activation_stats, "WRITE_EVERY", 0.0)
    assert numbers(first) == numbers(fit("trainer.max_epochs=2", callbacks=[ActivationStats()]))


def test_resumed_run_records_the_same_steps_and_numbers(fit, tmp_path):
    whole = fit("trainer.max_epochs=3", callbacks=[ActivationStats(every=20)])
    fit("trainer.max_epochs=2", folder=tmp_path / "short")
    resumed = fit(
        "trainer.max_epochs=3",
        f"ckpt_path={tmp_path}/short/checkpoints/last.ckpt",
        folder=tmp_path / "resumed",
        callbacks=[ActivationStats(every=20)],
    )
    expected = numbers(whole)
    for tag, rows in numbers(resumed).items():
        assert rows == [row for row in expected[tag] if row[0] >= 98] and rows[0][0] == 100


def test_run_leaves_a_picture_of_each_layer_and_one_of_all(fit):
    run = fit("trainer.max_epochs=2", "callbacks=activation_stats")
    tags = events(run).Tags()["images"]
    for name in ("activations", *(f"activations/{layer}" for layer in LAYERS)):
        pixels = np.asarray(Image.open(run.folder / "pictures" / f"{name}.png").convert("RGB"))
        assert pixels.std() > 10 and f"pictures/{name}" in tags


def test_diverging_run_is_recorded_to_its_end(fit):
    run = fit("loss=mse", "optim.lr=1e6", "trainer.max_epochs=2", callbacks=[ActivationStats(every=5)])
    assert run.metrics["status"] == "diverged"
    assert (run.folder / "pictures/activations/3.Linear.png").exists()
    assert not all(np.isfinite(value) for _, value in numbers(run)["activation_mean/3.Linear"])


def test_accumulated_batches_are_counted_as_batches(fit):
    run = fit("trainer.max_epochs=1", "trainer.accumulate_grad_batches=4", callbacks=[ActivationStats(every=10)])
    assert [step for step, _ in numbers(run)["activation_mean/2.ReLU"]] == [0, 10, 20, 30, 40]


def test_resnet18_is_watched_at_convolutions_relus_and_the_last_layer():
    kinds = [type(m).__name__.removeprefix("Tight") for m in watched(resnet18((1, 28, 28), 10)).values()]
    assert (kinds.count("Conv2d"), kinds.count("ReLU"), kinds.count("Linear")) == (20, 17, 1) and len(kinds) == 38


def test_layers_are_recorded_in_training_only():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU())
    stats = LayerStats(net, every=1)
    with torch.no_grad():
        net(torch.ones(2, 4))
    net.eval()(torch.ones(2, 4))
    net.train()(torch.ones(2, 4)).sum().backward()
    assert stats.step == 1 and [list(s.steps) for s in stats.series().values()] == [[0], [0]]


@pytest.mark.parametrize("x", [torch.zeros(5), torch.full((5,), 3.0), torch.tensor([1.0, torch.nan, 2.0])])
def test_constants_and_nans_are_summed_up_without_complaint(x):
    row = summary(x)
    assert row[5:].sum() == (0 if x.isnan().any() else 5)
    assert row[0].isnan() == x.isnan().any()


def test_rebinning_keeps_the_mass_and_the_mean():
    torch.manual_seed(0)
    stats = LayerStats(net := nn.Sequential(nn.Linear(50, 400)), every=1)
    for _ in range(3):
        net(torch.randn(300, 50))
        with torch.no_grad():
            net[0].weight.mul_(2)  # each step's values span another range
    (series,) = stats.series().values()
    counts, edges = rebinned(series)
    centres = (edges[1:] + edges[:-1]) / 2
    # the axis leaves out 0.1 % of all values, most of them of the widest step
    assert (counts.sum(1) > 0.99 * 120_000).all()
    spread = np.sqrt((counts * centres**2).sum(1) / counts.sum(1))
    np.testing.assert_allclose(spread, series.std, rtol=0.05)
