"""pixel_similarity has one right answer: numpy's, in float64, from the pixels themselves."""

import json

import numpy as np
import pytest
import torch

from seedbed import losses
from seedbed.data import idx
from seedbed.data.mnist_sample import mnist_sample
from seedbed.models.pixel_similarity import PixelSimilarity

LOSSES = ["mnist_loss", "bce", "mse", "rmse", "l1", "cross_entropy", "nll"]


def reference(train, images, distance, classes):
    """float64 [N, C]: distances of images to the class means, pixels 0–1; one class after another."""
    x, y = (part.numpy() for part in train)
    found = []
    for k in range(classes):
        mean = x[y == k].astype(np.float64).mean(0) / 255
        difference = images.numpy() / 255 - mean
        power = np.abs(difference) if distance == "l1" else difference**2
        found.append(power.reshape(len(images), -1).mean(1))
    return np.stack(found, 1) ** (1 if distance == "l1" else 0.5)


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_accuracy_on_mnist_sample_is_numpys_under_every_kind_of_loss(fit, distance):
    splits = mnist_sample()
    nearest = reference(splits.train, splits.valid[0], distance, 2).argmin(1)
    expected = (nearest == splits.valid[1].numpy()).mean()
    for loss in LOSSES:
        run = fit("model=pixel_similarity", f"model.distance={distance}", f"loss={loss}")
        assert run.metrics["val/accuracy"] == pytest.approx(expected, abs=1e-12), loss
        assert (run.metrics["status"], run.metrics["steps"], run.metrics["epochs"]) == ("completed", 0, 0)
    assert round(expected, 4) == {"l1": 0.9514, "l2": 0.9661}[distance]


@pytest.mark.parametrize(("distance", "accuracies"), [("l1", (0.6724, 0.6671)), ("l2", (0.8307, 0.8200))])
def test_accuracy_on_ten_digits_is_numpys(fit, mnist_root, distance, accuracies):
    run = fit("data=mnist", "model=pixel_similarity", f"model.distance={distance}", "loss=cross_entropy")
    splits = idx.mnist(str(mnist_root))
    for split, name, figure in zip((splits.valid, splits.test), ("val", "test"), accuracies, strict=True):
        nearest = reference(splits.train, split[0], distance, 10).argmin(1)
        assert run.metrics[f"{name}/accuracy"] == pytest.approx((nearest == split[1].numpy()).mean(), abs=1e-12)
        assert round(run.metrics[f"{name}/accuracy"], 4) == figure


@pytest.mark.parametrize("distance", ["l1", "l2"])
def test_outputs_are_distances_and_means_are_the_classes(distance):
    splits = mnist_sample()
    images, targets = splits.train
    net = PixelSimilarity(splits.shape, 2, distance)
    net.fit((x.float() / 255, y) for x, y in zip(images.split(1000), targets.split(1000), strict=True))
    for k in range(2):
        mean = images[targets == k].numpy().astype(np.float64).mean(0) / 255
        np.testing.assert_allclose(net.means[k].numpy(), mean, atol=1e-7)
    expected = reference(splits.train, splits.valid[0], distance, 2)
    output = net(splits.valid[0].float() / 255)
    np.testing.assert_allclose(-output.numpy(), expected, atol=1e-7)
    single = PixelSimilarity(splits.shape, 1, distance)
    single.load_state_dict(net.state_dict())
    difference = expected[:, 0] - expected[:, 1]
    np.testing.assert_allclose(
        single(splits.valid[0].float() / 255)[:, 0].numpy(), difference + (difference > 0), atol=1e-7
    )
    for loss in (losses.MnistLoss(), losses.MSE()):
        assert (loss.predict(single(splits.valid[0].float() / 255)).numpy() == expected.argmin(1)).all()


def test_run_leaves_what_any_run_leaves(fit):
    run = fit("model=pixel_similarity", "init=orthogonal", "optim=adam", "schedule=one_cycle")
    for name in ("last", "best"):
        state = torch.load(run.folder / f"checkpoints/{name}.ckpt", weights_only=True)["state_dict"]
        assert torch.equal(state["net.means"], run.module.net.means)
    assert run.curve("val/accuracy") == pytest.approx([run.metrics["val/accuracy"]])
    assert json.dumps(run.metrics)


def test_class_without_images_is_no_nan():
    net = PixelSimilarity((1, 2, 2), 3)
    net.fit([(torch.ones(4, 1, 2, 2), torch.tensor([0, 0, 1, 1]))])
    assert net.means.flatten(1).tolist() == [[1] * 4, [1] * 4, [0] * 4]


def test_accuracy_by_class_is_the_courses(fit):
    metrics = fit("model=pixel_similarity").metrics
    shares = metrics["val/accuracy_by_class"]
    assert {name: round(share, 4) for name, share in shares.items()} == {"3": 0.9168, "7": 0.9854}
    assert (round(sum(shares.values()) / 2, 4), round(metrics["val/accuracy"], 4)) == (0.9511, 0.9514)
