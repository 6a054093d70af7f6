"""A run that skips its images' zeros computes what the dense one does, in both loops and after a resume."""

import pytest
import torch
from lightning.pytorch.callbacks import Callback
from torch import nn
from torch.nn.utils.parametrizations import weight_norm

from seedbed.data import rows
from seedbed.models.first_linear import first_linear, leaves
from seedbed.training.build import Parts, build_data
from seedbed.training.row_choice import images_read, reader_for

SHORT = ["trainer.max_epochs=2", "+trainer.limit_train_batches=20"]


@pytest.fixture
def pays(monkeypatch):
    """pays(whether): skip zeros in runs that are too short for it to pay, or in none."""
    return lambda whether: monkeypatch.setattr(rows, "LEAST_IMAGES", 0 if whether else float("inf"))


def weights(run) -> dict[str, torch.Tensor]:
    return run.module.net.state_dict()


@pytest.mark.parametrize(
    "words",
    [
        ["model=linear", "optim.lr=1"],
        ["model=linear_scratch", "init=normal"],
        ["model.dropout=0.3", "optim=adam", "schedule=one_cycle", "data.normalize=standard"],
        ["model.hidden=[40,20]", "loss=cross_entropy", "trainer.gradient_clip_val=0.1"],
        ["optim=momentum", "trainer.accumulate_grad_batches=3", "data.normalize=symmetric"],
    ],
    ids=lambda words: " ".join(words[:2]),
)
def test_a_run_without_zeros_is_the_dense_one(fit, pays, words):
    pays(False)
    dense = fit(*SHORT, *words)
    assert "first_layer" not in dense.metrics
    pays(True)
    plain, fast = (fit(*SHORT, *words, f"trainer.loop={loop}") for loop in ("plain", "fast"))
    assert fast.metrics["first_layer"] == plain.metrics["first_layer"] == "skips zeros"
    for name, value in weights(dense).items():
        assert torch.equal(weights(plain)[name], weights(fast)[name])
        # float32's rounding, carried through some twenty steps
        assert (weights(fast)[name] - value).norm() <= 1e-4 * value.norm(), name
        assert weights(fast)[name].is_contiguous()
    assert plain.metrics["val/loss"] == fast.metrics["val/loss"]
    assert fast.metrics["val/loss"] == pytest.approx(dense.metrics["val/loss"], rel=1e-4)


@pytest.mark.parametrize("before", [True, False])
def test_a_resumed_run_computes_as_before(fit, pays, tmp_path, caplog, before):
    """A resumed run keeps its checkpoint's first layer, even if its new number of epochs would choose another."""
    words = ["optim=momentum", "data.normalize=standard"]
    pays(before)
    whole = fit(*words, "trainer.max_epochs=3")
    fit(*words, "trainer.max_epochs=2", folder=tmp_path)
    pays(not before)
    on = fit(*words, "trainer.max_epochs=3", f"ckpt_path={tmp_path}/checkpoints/last.ckpt")
    assert ("first_layer" in on.metrics) == before
    (said,) = [record.getMessage() for record in caplog.records if "equal bits" in record.getMessage()]
    assert "first_layer" in said
    assert all(torch.equal(value, weights(on)[name]) for name, value in weights(whole).items())
    assert whole.module.history[-1]["train/loss"] == on.module.history[-1]["train/loss"]


class Looks(Callback):
    """A user's own callback."""

    def on_train_batch_end(self, trainer, module, outputs, batch, batch_idx) -> None:
        assert batch[0].shape[1:] == (1, 28, 28)


@pytest.mark.parametrize(
    "words",
    [
        ["model=convnet"],
        ["callbacks=activation_stats"],
        [f"+callbacks.own._target_={Looks.__module__}.Looks"],
        ["trainer.precision=64-true"],
        ["data=function", "model=rectified_lines", "loss=mse"],
        ["data.batch_size=16"],
        ["trainer.max_epochs=1"],
    ],
    ids=lambda words: words[0],
)
def test_dense_product_where_batches_are_seen_or_it_would_not_pay(composed, words):
    config, _ = composed("trainer.max_epochs=100", *words)
    module = Parts().module(config, build_data(config))
    assert not module.takes_rows


class Residual(nn.Sequential):
    def forward(self, x):
        return super().forward(x) + x


def test_only_plain_layers_are_taken_apart():
    relu, head = nn.ReLU(), [nn.Flatten(), nn.Linear(4, 4)]
    assert first_linear(nn.Sequential(*head, relu)) == "1"
    assert first_linear(nn.Sequential(nn.Sequential(*head), relu)) == "0.1"
    # called twice, but named once
    assert first_linear(nn.Sequential(*head, relu, nn.Linear(4, 4), relu)) is None
    assert first_linear(nn.Sequential(nn.Flatten(), Residual(nn.Linear(4, 4)))) is None
    assert first_linear(nn.Sequential(nn.Flatten(2), nn.Linear(4, 4))) is None
    assert first_linear(nn.Sequential(nn.Flatten(), weight_norm(nn.Linear(4, 4)))) is None
    assert [name for name, _ in leaves(nn.Sequential(*head, Residual(relu)))] == ["0", "1", "2"]


def test_layers_with_hooks_are_called(composed, pays):
    pays(True)
    config, _ = composed()
    data = build_data(config)
    net, _ = Parts().net(config, data)
    assert reader_for(net, config, data)
    net[1].register_forward_hook(lambda *_: None)
    assert not reader_for(net, config, data)


@pytest.mark.parametrize(
    ("words", "images"),
    [
        ([], 40 * 12_396),
        (["+trainer.max_steps=10", "trainer.max_epochs=2"], 2 * 12_396),
        (["+trainer.max_steps=10", "trainer.max_epochs=-1"], 10 * 256),
        (["+trainer.max_time={hours: 1}"], 0),
    ],
    ids=str,
)
def test_images_that_a_run_reads(composed, words, images):
    config, _ = composed(*words)
    assert images_read(config, build_data(config)) == images
