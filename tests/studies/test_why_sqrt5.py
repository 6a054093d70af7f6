"""The default init lets the forward variance of the convnet collapse; Kaiming and LSUV hold it."""

import pytest
import torch
from torch import nn

from seedbed.errors import ConfigError
from seedbed.studies.why_sqrt5 import measure, why_sqrt5

OVERRIDES = ["model=convnet", "data=mnist", "data.normalize=standard", "data.batch_size=64", "loss=cross_entropy"]
INITS = ["default", "kaiming_normal", "kaiming_uniform", "normal", "lsuv"]


@pytest.fixture(scope="module")
def findings(make_lab, mnist_root):
    return why_sqrt5(make_lab(), INITS, seeds=20, steps=5, overrides=OVERRIDES)


@pytest.fixture(scope="module")
def layers(findings):
    """(init, when) → a row for each layer."""
    found = {}
    for row in findings.details:
        found.setdefault((row["init"], row["when"]), []).append(row)
    return found


def test_default_lets_the_variance_collapse(layers):
    variances = [row["variance"] for row in layers["default", "before"]]
    assert variances == sorted(variances, reverse=True) and variances[-1] < 0.005


@pytest.mark.parametrize("init", ["kaiming_normal", "kaiming_uniform"])
def test_kaiming_holds_the_variance(layers, init):
    assert 0.3 < layers[init, "before"][-1]["variance"] < 1.5


def test_lsuv_brings_every_layer_to_one(layers):
    assert all(abs(row["std"] - 1) < 0.01 for row in layers["lsuv", "before"])


def test_default_has_the_smallest_gradients(layers):
    first = {init: layers[init, "before"][0]["gradient std"] for init in INITS}
    assert min(first, key=first.get) == "default" and first["default"] < first["kaiming_normal"] / 10


def test_default_is_still_collapsed_after_five_steps(layers):
    assert layers["default", "after"][-1]["std"] < layers["kaiming_normal", "after"][-1]["std"] / 5


def test_measured_are_a_layers_output_and_its_weights_gradient():
    torch.manual_seed(0)
    net, x, y = nn.Sequential(nn.Linear(5, 4), nn.ReLU(), nn.Linear(4, 3)), torch.randn(7, 5), torch.arange(7) % 3
    rows = measure(net, nn.functional.cross_entropy, x, y)
    hidden = net[0](x)
    gradient = torch.autograd.grad(nn.functional.cross_entropy(net[2](hidden.relu()), y), net[0].weight)[0]
    assert len(rows) == 2 and net[0].weight.grad is None
    expected = [hidden.mean(), hidden.std(), hidden.var(), gradient.mean(), gradient.std()]
    assert list(rows[0].values()) == pytest.approx([v.item() for v in expected], rel=1e-5)


@pytest.mark.parametrize("model", ["pixel_similarity", "gan"])
def test_model_without_a_gradient_to_measure_is_refused(make_lab, model):
    overrides = [f"model={model}", "loss=bce", *["module=gan"] * (model == "gan")]
    message = rf"study.overrides=\[model={model},.*\]: no single optimiser trains this model"
    with pytest.raises(ConfigError, match=message):
        why_sqrt5(make_lab(), ["default"], 1, 1, overrides)


def test_what_it_leaves(findings, tmp_path):
    findings.write(tmp_path)
    assert {"table.csv", "details.csv", "why_sqrt5.png"} <= {path.name for path in tmp_path.iterdir()}
    assert len(findings.details) == len(INITS) * 2 * 4 and "kaiming_normal" in findings.text()
