"""Every picture is there, shows what it says, and its numbers are those of the run."""

import numpy as np
import pytest
import torch
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator
from torch import nn
from torchmetrics.functional import confusion_matrix

from seedbed.callbacks.pictures import Pictures, evaluated
from seedbed.models.linear import linear
from seedbed.pictures.confusion import confusion, count_pairs
from seedbed.pictures.curves import curves
from seedbed.pictures.digits import class_means, grid, samples, worst_mistakes
from seedbed.pictures.schedule import schedule
from seedbed.pictures.weights import first_weights
from seedbed.schedules import constant, one_cycle

NAMES = {"samples", "class_means", "first_weights", "curves", "schedule", "confusion", "worst_mistakes"}


def pixels(path):
    return np.asarray(Image.open(path).convert("RGB")).astype(float)


def texts(figure):
    return [text.get_text() for ax in figure.axes for text in ax.texts]


def canvas(figure):
    """The image that the first axes show."""
    return np.ma.filled(figure.axes[0].images[0].get_array().astype(float), np.nan)


@pytest.mark.parametrize(
    "extra",
    [[], ["data=mnist", "loss=cross_entropy", "model=convnet"], ["loss=nll"], ["loss=l1", "data=mnist"]],
    ids=" ".join,
)
def test_run_leaves_every_picture_as_file_and_in_tensorboard(fit, mnist_root, extra):
    run = fit("trainer.max_epochs=2", "+trainer.limit_train_batches=5", "callbacks=pictures", *extra)
    assert {path.stem for path in (run.folder / "pictures").iterdir()} == NAMES
    logged = EventAccumulator(str(run.folder)).Reload()
    for name in NAMES:
        shown = pixels(run.folder / "pictures" / f"{name}.png")
        assert shown.std() > 5
        image = logged.Images(f"pictures/{name}")[-1]
        assert (image.height, image.width) == shown.shape[:2]
        assert image.encoded_image_string == (run.folder / "pictures" / f"{name}.png").read_bytes()


def test_coloured_pictures_of_any_size_are_drawn(fit, tmp_path):
    for i in range(40):
        folder = tmp_path / ("train" if i < 30 else "valid") / ("even", "odd name of a class")[i % 2]
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(np.random.default_rng(i).integers(0, 256, (20, 24, 3), dtype=np.uint8)).save(
            folder / f"{i}.png"
        )
    overrides = ("data=image_folder", f"data.root={tmp_path}", "model=convnet", "trainer.max_epochs=1")
    run = fit(*overrides, "callbacks=[pictures,activation_stats]", "loss=cross_entropy")
    assert NAMES | {"activations"} == {path.stem for path in (run.folder / "pictures").iterdir()}
    assert len(list((run.folder / "pictures/activations").iterdir())) == 7


def test_run_with_nothing_left_to_train_has_its_pictures_but_no_schedule_and_no_curves(fit):
    run = fit("trainer.max_epochs=0", "callbacks=[pictures,activation_stats]")
    assert {path.stem for path in (run.folder / "pictures").iterdir()} == NAMES - {"schedule", "curves"}


def lines(figure):
    """Panel → [(label, x, y)]."""
    return {
        ax.get_title(): [(line.get_label(), line.get_xdata().tolist(), line.get_ydata().tolist()) for line in ax.lines]
        for ax in figure.axes
    }


def test_curves_are_what_a_run_and_its_resumption_logged(fit, tmp_path, monkeypatch):
    drawn = []
    monkeypatch.setattr(
        "seedbed.callbacks.pictures.publish", lambda trainer, name, figure, shared=False: drawn.append((name, figure))
    )
    overrides = ("model=linear", "+trainer.limit_train_batches=5", "callbacks=pictures")
    fit(*overrides, "trainer.max_epochs=2", folder=tmp_path)
    last = f"ckpt_path={tmp_path}/checkpoints/last.ckpt"
    run = fit(*overrides, "trainer.max_epochs=3", last, folder=tmp_path)
    panels = lines([figure for name, figure in drawn if name == "curves"][-1])
    train, valid = list(range(1, 16)), [0, 5, 10, 15]
    for title, tag, at in (
        ("loss", "train/loss", train),
        ("accuracy", "val/accuracy", valid),
        ("learning rate", "lr", train),
    ):
        _, steps, values = panels[title][0]
        assert dict(zip(steps, values, strict=True)) == {event.step: event.value for event in run.events(tag)}
        assert list(steps) == at


def test_curves_without_tensorboard_are_those_of_the_epochs(fit, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "seedbed.callbacks.pictures.publish", lambda trainer, name, figure, shared=False: drawn.update({name: figure})
    )
    run = fit("model=linear", "trainer.max_epochs=2", "callbacks=pictures", "logger=none")
    (_, epochs, accuracies), *_ = lines(drawn["curves"])["accuracy"]
    assert epochs[-2:] == [1, 2] and accuracies[-1] == run.metrics["val/accuracy"]


def test_untrained_network_does_not_flatten_the_accuracies_and_a_constant_lr_begins_at_0():
    accuracy, rate = curves({"val/accuracy": {0: 0.46, 49: 0.96, 98: 0.97}, "lr": {0: 0.1, 98: 0.1}}).axes
    bottom, top = accuracy.get_ylim()
    assert 0.94 < bottom < 0.96 and 0.97 < top < 1 and rate.get_ylim()[0] == 0
    falls, _ = curves({"val/accuracy": {0: 0.6, 49: 0.5, 98: 0.7}, "lr": {0: 0.1}}).axes
    assert falls.get_ylim()[0] < 0.5


def test_curves_without_accuracy_have_two_panels_and_say_the_last_and_the_best_value():
    figure = curves({"train/loss": {10: 0.5, 20: 0.01}, "val/loss": {10: 0.2, 20: 0.3}, "lr": {20: 0.1}})
    panels = lines(figure)
    assert list(panels) == ["loss", "learning rate"] and figure.axes[0].get_yscale() == "log"
    assert [label for label, *_ in panels["loss"]] == ["training: 0.0100", "validation: 0.3000 (best 0.2000)"]
    assert curves({}) is None


def test_weights_are_drawn_at_the_start_after_every_n_epochs_and_at_the_end(fit):
    run = fit("trainer.max_epochs=5", "+trainer.limit_train_batches=5", callbacks=[Pictures(every=2)])
    logged = EventAccumulator(str(run.folder), size_guidance={"images": 0}).Reload()
    assert [image.step for image in logged.Images("pictures/first_weights")] == [0, 10, 20, 25]


def test_training_gives_the_bits_of_a_run_without(fit):
    overrides = ("trainer.max_epochs=2", "model.dropout=0.3")
    a, b = (fit(*overrides, callbacks=c).module.state_dict() for c in ([Pictures(every=1)], []))
    assert all(torch.equal(a[name], b[name]) for name in a)


@pytest.mark.parametrize("loss", ["mnist_loss", "bce", "mse", "rmse", "l1", "cross_entropy", "nll"])
@pytest.mark.parametrize("data", ["mnist_sample", "mnist"])
def test_evaluation_agrees_with_the_runs_own(fit, mnist_root, data, loss):
    run = fit(f"data={data}", f"loss={loss}", "trainer.max_epochs=1", "+trainer.limit_train_batches=20")
    target = run.data.splits.valid[1]
    answers = evaluated(run.trainer, run.module)
    probabilities, predicted = answers.probabilities, answers.predicted
    assert answers.loss == run.metrics["val/loss"]
    assert (predicted == target).double().mean().item() == run.metrics["val/accuracy"]
    if loss != "rmse":  # whose mean over a batch is no mean of its samples'
        assert answers.losses.double().mean().item() == pytest.approx(run.metrics["val/loss"], rel=1e-5)
    assert probabilities.shape == (len(target), run.data.num_classes)
    assert probabilities.min() >= 0 and probabilities.max() <= 1
    said = probabilities.gather(1, predicted[:, None])[:, 0]
    assert (said >= probabilities.amax(1) - 1e-6).all()


def test_double_precision_is_evaluated(fit):
    run = fit("trainer.max_epochs=1", "trainer.precision=64-true", "callbacks=pictures")
    assert (run.folder / "pictures/confusion.png").exists()


def test_confusion_equals_torchmetrics():
    generator = torch.Generator().manual_seed(0)
    target, predicted = torch.randint(7, (2, 500), generator=generator)
    counts = confusion_matrix(predicted, target, task="multiclass", num_classes=7).numpy()
    assert np.array_equal(count_pairs(target, predicted, 7), counts)
    figure = confusion(target, predicted, list("abcdefg"))
    assert texts(figure) == [str(n or "·") for n in counts.flatten()]
    assert f"{(target != predicted).sum()} wrong" in figure.axes[0].get_title()


def test_worst_mistakes_are_in_order_of_loss_with_their_predictions():
    images = torch.arange(5, dtype=torch.uint8)[:, None, None, None].expand(5, 1, 28, 28) * 50
    target, predicted = torch.tensor([0, 1, 1, 0, 1]), torch.tensor([0, 0, 1, 1, 0])
    losses = torch.tensor([9.0, 0.5, 9.0, 2.0, 1.0])
    p = torch.tensor([[1, 0], [0.6, 0.4], [0, 1], [0.1, 0.9], [0.7, 0.3]])
    figure = worst_mistakes(images, target, losses, p, predicted, ["7", "3"])
    assert texts(figure) == [
        "true 7, pred. 3\np = 0.9000\nloss 2.0000",
        "true 3, pred. 7\np = 0.7000\nloss 1.0000",
        "true 3, pred. 7\np = 0.6000\nloss 0.5000",
    ]
    shown = canvas(figure)
    assert [v for v in dict.fromkeys(shown[-14]) if not np.isnan(v)] == [150, 200, 50]  # pictures 3, 4 and 1


def test_a_set_without_mistakes_has_its_picture():
    images, target = torch.zeros(3, 1, 28, 28, dtype=torch.uint8), torch.tensor([0, 1, 0])
    figure = worst_mistakes(images, target, torch.zeros(3), torch.zeros(3, 2), target, ["7", "3"])
    assert "No mistakes" in figure.get_suptitle()


def test_class_means_are_the_means_and_leave_out_empty_classes():
    images = torch.randint(256, (30, 1, 8, 8), generator=torch.Generator().manual_seed(0)).byte()
    target = torch.tensor([0, 2] * 15)
    figure = class_means(images, target, ["a", "b", "c"])
    assert texts(figure) == ["a\n(n = 15)", "c\n(n = 15)"]
    expected = images[target == 0, 0].double().mean(0).numpy()
    np.testing.assert_allclose(canvas(figure)[-8:, :8], expected, rtol=1e-6)


def test_samples_have_the_labels_of_their_pictures():
    images = (torch.arange(100) % 10 * 20).byte()[:, None, None, None].expand(100, 1, 28, 28)
    figure = samples(images, torch.arange(100) % 10, [str(k) for k in range(10)])
    shown = canvas(figure)
    row = [v for v in shown[20][~np.isnan(shown[20])]][::28]
    assert texts(figure)[:10] == [f"{v / 20:.0f}" for v in row]


def test_weights_picture_holds_the_weights_themselves():
    net = linear((1, 28, 28), 2)
    shown = canvas(first_weights(net, (1, 28, 28), "now"))
    np.testing.assert_array_equal(shown[-28:, :28], net[1].weight[0].detach().view(28, 28).numpy())


@pytest.mark.parametrize(
    ("net", "shape", "drawn"),
    [
        (nn.Conv2d(1, 8, 5), (1, 28, 28), True),
        (nn.Conv2d(3, 100, 5), (3, 28, 28), True),
        (nn.Linear(3 * 64, 4), (3, 8, 8), True),
        (nn.Conv2d(2, 8, 5), (2, 28, 28), False),
        (nn.Linear(1, 8), (1,), False),
        (nn.Flatten(), (1, 28, 28), False),
    ],
    ids=str,
)
def test_weights_are_drawn_where_they_are_pictures(net, shape, drawn):
    figure = first_weights(net, shape, "now")
    assert (figure is not None) == drawn
    if drawn:
        assert np.nanstd(canvas(figure)) > 0


def test_pictures_of_three_channels_are_drawn_in_colour():
    images = torch.randint(256, (20, 3, 10, 12), generator=torch.Generator().manual_seed(0)).byte()
    shown = canvas(samples(images, torch.zeros(20).long(), ["a"]))
    assert shown.shape[2] == 3 and shown.min() >= 0 and shown.max() <= 1
    np.testing.assert_allclose(shown[-10:, :12], images[10].permute(1, 2, 0).numpy() / 255)


def test_schedule_shows_what_the_steps_get():
    cycle = one_cycle()
    figure = schedule(cycle, 200, {"lr": 0.5, "momentum": 0.95, "weight_decay": 0.1})
    (lr,), (momentum,) = (ax.lines for ax in figure.axes)  # weight decay stays as it is
    assert list(lr.get_xdata()) == list(range(200))
    np.testing.assert_allclose(lr.get_ydata(), [cycle(i / 200, "lr", 0.5) for i in range(200)])
    np.testing.assert_allclose(momentum.get_ydata(), [cycle(i / 200, "momentum", 0.95) for i in range(200)])
    assert len(schedule(constant(), 10**6, {"lr": 0.5, "momentum": 0.9}).axes) == 1


def test_schedule_of_a_run_has_a_panel_for_each_number_that_it_drives(fit, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        "seedbed.callbacks.pictures.publish", lambda trainer, name, figure, shared=False: drawn.update({name: figure})
    )
    overrides = (
        "schedule=values",
        "+schedule.weight_decay=[0,0.1]",
        "+schedule.dropout=[0.4,0.2]",
        "model.dropout=0.4",
    )
    fit("trainer.max_epochs=1", "optim=adam", "callbacks=pictures", *overrides)
    panels = {ax.get_ylabel(): ax.lines[0].get_ydata() for ax in drawn["schedule"].axes}
    assert panels.keys() == {"learning rate", "weight_decay", "dropout"}
    assert panels["dropout"][0] == 0.4 and 0.2 < panels["dropout"][-1] < 0.21


def test_grid_refuses_a_caption_too_few():
    with pytest.raises(ValueError, match="shorter"):
        grid(np.zeros((2, 4, 4)), ["one"], "title", 2)


def test_jobs_of_a_sweep_share_the_pictures_that_are_the_same(sweep):
    words = ["callbacks=pictures", "model=linear", "seed=0,1", "trainer.max_epochs=1", "+trainer.limit_train_batches=2"]
    folder = sweep("basic", *words)
    shared, own = {"samples", "class_means", "schedule"}, NAMES - {"samples", "class_means", "schedule"}

    def tags(job):
        found = EventAccumulator(str(folder / job), size_guidance={"images": 0}).Reload().Tags()["images"]
        return {tag.removeprefix("pictures/") for tag in found}

    assert (tags("0"), tags("1")) == (NAMES, own)
    assert {path.stem.rpartition("-")[0] for path in folder.glob("pictures/*.png")} == shared
    assert all({path.stem for path in folder.glob(f"{job}/pictures/*.png")} == own for job in "01")
    # the job that has them writes them again when it is run again
    (folder / "0/metrics.json").unlink()
    (folder / "0/checkpoints/last.ckpt").unlink()
    sweep("basic", *words, folder=folder)
    assert (tags("0"), tags("1")) == (NAMES, own)
