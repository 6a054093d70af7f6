"""What activation_stats records is what the layers gave, at the steps it says, and training does not notice it."""

from io import BytesIO
from itertools import product

import numpy as np
import pytest
import torch
from matplotlib.backends.backend_agg import FigureCanvasAgg
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn

from seedbed.callbacks import activation_stats
from seedbed.callbacks.activation_stats import ActivationStats
from seedbed.callbacks.layer_stats import (
    BIN,
    BINS,
    COLUMNS,
    SAMPLE,
    LayerStats,
    gradient_summary,
    octave_edges,
    sample,
    summary,
    to_values,
    watched,
)
from seedbed.models.convnet import resnet18
from seedbed.pictures.layers import histogram_over_time, overview, rebinned

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
            "gradient_near_zero": (np.abs(grad) <= np.abs(grad).max() / 1000).mean(),
        }
        for tag, value in expected.items():
            assert logged[f"{tag}/{name}"][0] == (0, pytest.approx(value, rel=1e-4, abs=1e-8)), (tag, name)
        recorded = {"activations": out, "gradients": grad}
        if name.endswith("Linear"):
            weight = fresh.module.net[int(name[0])].weight
            recorded |= {"weights": weight.detach().numpy(), "weight_gradients": weight.grad.numpy()}
        for kind, values in recorded.items():
            histogram = histograms.Histograms(f"{kind}/{name}")[0].histogram_value
            assert histogram.num == sum(histogram.bucket) == values.size
            assert (histogram.min, histogram.max) == pytest.approx((values.min(), values.max()), rel=1e-6)
        histogram = histograms.Histograms(f"activations/{name}")[0].histogram_value
        reference = np.histogram(out.astype(np.float32), BINS // 4)[0]  # a value on an edge may fall to either side
        assert np.abs(reference - np.array(histogram.bucket)[-BINS // 4 :]).sum() <= 0.01 * out.size


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
    assert not any(p._backward_hooks for p in watched_run.module.net.parameters())


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
    run = fit("loss=mse", "optim.lr=1e6", "trainer.max_epochs=2", callbacks=[ActivationStats(every=1)])
    assert run.metrics["status"] == "diverged"
    assert (run.folder / "pictures/activations/3.Linear.png").exists()
    for tag in ("activation_mean/3.Linear", "gradient_mean/3.Linear"):
        assert not all(np.isfinite(value) for _, value in numbers(run)[tag])


def test_accumulated_batches_are_counted_as_batches_and_their_gradients_are_of_the_loss(fit):
    accumulated = ("trainer.max_epochs=1", "trainer.accumulate_grad_batches=3")
    run = fit(*accumulated, callbacks=[ActivationStats(every=10)])
    found, alone = numbers(run), numbers(fit("trainer.max_epochs=1", callbacks=[ActivationStats(every=10)]))
    assert [step for step, _ in found["activation_mean/2.ReLU"]] == [0, 10, 20, 30, 40]
    for tag in (f"gradient_{what}/{name}" for what in ("mean", "std", "near_zero") for name in LAYERS):
        assert found[tag][0][1] == pytest.approx(alone[tag][0][1], rel=1e-5, abs=1e-9)  # the first step's


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


GRADIENTS = {
    "normal": torch.randn(5000, generator=torch.Generator().manual_seed(0)),
    "ten decades": torch.randn(5000, generator=torch.Generator().manual_seed(0)) * torch.logspace(-12, -2, 5000),
    "half off": torch.randn(5000, generator=torch.Generator().manual_seed(0)) * (torch.arange(5000) % 2) * -1e-6,
    "one sign": torch.logspace(-3, 0, 5000),
    "float16": torch.randn(5000, generator=torch.Generator().manual_seed(0)).half(),
    "dead": torch.zeros(5000),
    "tiny": torch.full((5000,), -1e-42),
}


@pytest.mark.parametrize("layout", [torch.contiguous_format, torch.channels_last])
def test_sample_of_a_large_layer_is_spread_over_images_channels_and_pixels(layout):
    x = torch.empty(64, 16, 28, 28).to(memory_format=layout)
    x.copy_(torch.arange(x.numel()).view(x.shape))
    seen = sample(x).long()
    assert 0.9 * SAMPLE < len(seen) <= 2 * SAMPLE and len(seen.unique()) == len(seen)
    for block, count in ((16 * 28 * 28, 64), (28 * 28, 16), (28, 28), (1, 28)):  # images, channels, rows, columns
        share = (seen // block % count).bincount(minlength=count) / len(seen) * count
        assert (share - 1).abs().max() < 0.02
    assert sample(x[:2]).numel() == x[:2].numel()


@pytest.mark.parametrize("x", GRADIENTS.values(), ids=GRADIENTS)
def test_gradient_histogram_is_numpys_between_the_same_edges(x):
    values = to_values(gradient_summary(x)[None], octave_edges)
    x, largest = x.float().numpy(), np.abs(x.float().numpy()).max()
    edges = values.edges[0]
    assert (np.diff(edges) > 0).all() and edges[BINS // 2] == 0
    assert max(edges[-1], -edges[0]) == pytest.approx(max(largest, 1e-30), rel=1e-6)
    if largest > 1e-30:
        np.testing.assert_allclose(edges[-1:-7:-2] / edges[-3::-2][:3], 2, rtol=1e-6)  # two bins an octave
    least = (np.float32(max(largest, 1e-30)).view(np.int32) - BINS // 2 * BIN).view(np.float32)
    seen = np.where(np.abs(x) < least, 0, x)  # what is smaller counts as zero
    assert np.abs(np.histogram(seen, edges)[0] - values.counts[0]).sum() <= 2 and values.counts.sum() == len(x)
    assert values.near_zero[0] == pytest.approx((np.abs(x) <= largest / 1000).mean(), abs=1e-3)


@pytest.mark.parametrize("bad", [torch.nan, torch.inf, -torch.inf])
def test_gradients_that_are_not_finite_have_no_share_near_zero_and_no_edges(bad):
    values = to_values(gradient_summary(torch.tensor([1.0, bad, 2.0]))[None], octave_edges)
    assert np.isnan(values.near_zero).all() and np.isnan(values.edges).all() and not np.isfinite(values.mean).any()


def test_recorded_gradients_are_those_of_autograd_at_every_step():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv2d(1, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(144, 3))
    stats, expected, by_weight = LayerStats(net, every=1), [], []
    for step in range(3):
        x = torch.randn(16, 1, 8, 8)
        net.zero_grad()
        (net(x).exp().mean() * 10**-step).backward()
        by_weight.append([net[i].weight.grad.double().numpy() for i in (0, 3)])
        h, outputs = x, []
        for layer in net:
            h = layer(h)
            h.retain_grad()
            outputs.append(h)
        (h.exp().mean() * 10**-step).backward()
        expected.append([outputs[i].grad.double().numpy() for i in (0, 1, 3)])
    for i, (name, series) in enumerate(stats.series().items()):
        kinds = [(series.gradients, [grads[i] for grads in expected])]
        if series.weights is not None:
            kinds.append((series.weight_gradients, [grads[i // 2] for grads in by_weight]))
        for (g, grads), step in product(kinds, range(3)):
            grad = grads[step]
            found = [getattr(g, column)[step] for column in COLUMNS]
            near_zero = (np.abs(grad) <= np.abs(grad).max() / 1000).mean()
            wanted = [grad.mean(), grad.std(), near_zero, grad.min(), grad.max()]
            assert found == pytest.approx(wanted, rel=1e-4, abs=1e-9), (name, step)
            assert np.abs(np.histogram(grad, g.edges[step])[0] - g.counts[step]).sum() <= 2  # of 48 to 2304


def test_layer_without_gradients_and_one_whose_gradients_are_not_finite_are_drawn():
    net = nn.Sequential(nn.Linear(4, 3), nn.ReLU(), nn.Linear(3, 2))
    net[0].requires_grad_(False)
    stats = LayerStats(net, every=1)
    for factor in (1.0, torch.inf, 0.0):
        (net(torch.ones(2, 4)).square().sum() * factor).backward()
    found = stats.series()
    assert np.isnan(found["0.Linear"].gradients.counts).all()
    assert np.isfinite(found["2.Linear"].gradients.edges).all(1).tolist() == [True, False, True]
    for figure in (*(histogram_over_time(name, s) for name, s in found.items()), overview(found)):
        figure.savefig(BytesIO())


@pytest.mark.parametrize(("layers", "bars"), [(1, 0), (40, 0), (41, 1), (150, 1)])
def test_overview_has_a_colour_bar_in_place_of_a_legend_that_would_not_fit(layers, bars):
    net = nn.Sequential(*[nn.Linear(2, 2) for _ in range(layers)])
    stats = LayerStats(net, every=1)
    net(torch.ones(1, 2)).sum().backward()
    figure = overview(stats.series())
    legends = [ax.get_legend() for ax in figure.axes if ax.get_legend()]
    inside = [child for ax in figure.axes for child in ax.child_axes]
    assert (len(legends), len(inside)) == (1 - bars, bars)
    for shown in legends:
        box, room = shown.get_window_extent(FigureCanvasAgg(figure).get_renderer()), figure.axes[3].get_window_extent()
        assert box.height <= room.height


def test_rebinning_keeps_the_mass_and_the_mean():
    torch.manual_seed(0)
    stats = LayerStats(net := nn.Sequential(nn.Linear(50, 400)), every=1)
    for _ in range(3):
        net(torch.randn(300, 50))
        with torch.no_grad():
            net[0].weight.mul_(2)  # each step's values span another range
    (series,) = stats.series().values()
    assert (series.weights.std[1:] / series.weights.std[:-1]).tolist() == pytest.approx([2, 2], rel=1e-6)
    counts, edges = rebinned(series.activations.counts, series.activations.edges)
    centres = (edges[1:] + edges[:-1]) / 2
    # the axis leaves out 0.1 % of all values, most of them of the widest step
    assert (counts.sum(1) > 0.99 * 120_000).all()
    spread = np.sqrt((counts * centres**2).sum(1) / counts.sum(1))
    np.testing.assert_allclose(spread, series.activations.std, rtol=0.05)
