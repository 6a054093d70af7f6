"""model=timm is timm's network of that name, with the data's channels and the loss's outputs."""

import pytest
import torch
import torch.nn.functional as F

from seedbed.models.timm import timm


@pytest.mark.parametrize(("channels", "outputs", "name"), [(1, 10, "resnet10t"), (3, 1, "mobilenetv3_small_050")])
def test_network_is_timms(channels, outputs, name):
    from timm import create_model

    torch.manual_seed(0)
    net = timm((channels, 28, 28), outputs, name)
    torch.manual_seed(0)
    expected = create_model(name, in_chans=channels, num_classes=outputs)
    assert net.training
    assert all(
        torch.equal(a, b) for a, b in zip(net.state_dict().values(), expected.state_dict().values(), strict=True)
    )
    x = torch.rand(2, channels, 28, 28)
    torch.testing.assert_close(net.eval()(x), expected.eval()(x))


def test_other_arguments_are_timms():
    net = timm((1, 28, 28), 10, "resnet10t", drop_rate=0.25, drop_path_rate=0.5, global_pool="max")
    assert net.drop_rate == 0.25 and net.global_pool.pool_type == "max"
    assert max(getattr(m, "drop_prob", 0.0) for m in net.modules()) == 0.5


def test_pretrained_weights_are_loaded_and_fitted_to_grey_images_and_to_the_outputs(tmp_path):
    from timm import create_model

    weights = create_model("resnet10t").state_dict()
    torch.save(weights, tmp_path / "weights.pth")
    overlay = {"file": str(tmp_path / "weights.pth")}
    net = timm((1, 28, 28), 2, "resnet10t", pretrained=True, pretrained_cfg_overlay=overlay)
    found = net.state_dict()
    assert torch.equal(found["layer1.0.conv1.weight"], weights["layer1.0.conv1.weight"])
    torch.testing.assert_close(found["conv1.0.weight"], weights["conv1.0.weight"].sum(1, keepdim=True))
    assert found["fc.weight"].shape == (2, 512)


def test_pretrained_says_what_it_needs(tmp_path, monkeypatch, caplog):
    from huggingface_hub import constants

    # a port at which nobody listens
    monkeypatch.setattr(constants, "ENDPOINT", "http://127.0.0.1:9")
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(ValueError, match=r"resnet10t need a connection to huggingface.co, or the file in") as error:
        timm((1, 28, 28), 10, "resnet10t", pretrained=True)
    assert "\n" not in str(error.value)
    # nothing was tried again, nothing else is said, and the next network may ask anew
    assert caplog.records == []
    assert not constants.HF_HUB_OFFLINE
    with pytest.raises(ValueError, match="timm has no weights of botnet50ts_256"):
        timm((1, 28, 28), 10, "botnet50ts_256", pretrained=True)


@pytest.mark.parametrize("size", [14, 64])
def test_images_are_resized_inside_the_network(size):
    net = timm((1, 28, 28), 10, "resnet10t", image_size=size).eval()
    x = torch.rand(2, 1, 28, 28)
    resized = F.interpolate(x, size=(size, size), mode="bilinear", antialias=True)
    torch.testing.assert_close(net(x), net[1](resized), rtol=1e-4, atol=1e-5)
    assert net[0](x).shape == (2, 1, size, size)


def test_vision_transformer_works_with_its_image_size(fit):
    run = fit(
        "model=timm",
        "model.name=test_vit",
        "model.image_size=160",
        "data.batch_size=4",
        "trainer.max_epochs=1",
        "+trainer.limit_train_batches=2",
        "+trainer.limit_val_batches=1",
    )
    assert run.metrics["steps"] == 2


@pytest.mark.parametrize(
    ("name", "shape", "message"),
    [
        ("resnet10x", (1, 28, 28), "timm has no model resnet10x; near it: resnet10t, "),
        ("qqqqqqqqqqqq", (1, 28, 28), "timm has no model qqqqqqqqqqqq$"),
        (
            "test_vit",
            (1, 28, 28),
            r"timm's test_vit does not take images of 28×28 pixels \(usual: model.image_size=160\)",
        ),
        ("resnet10t", (1,), r"timm takes images, and an input of this data has the shape \(1,\)"),
    ],
)
def test_refusal_is_one_clear_line(name, shape, message):
    with pytest.raises(ValueError, match=message) as error:
        timm(shape, 1, name)
    assert "\n" not in str(error.value)


def test_unknown_argument_is_named():
    with pytest.raises(ValueError, match=r"timm does not build resnet10t .* unexpected keyword argument 'drop_rat'"):
        timm((1, 28, 28), 1, "resnet10t", drop_rat=0.1)
