"""Fixup scales as the paper says, and refuses what it is not for."""

import pytest
import torch
from torch import nn

from seedbed.inits.fixup import fixup
from seedbed.inits.schemes import layers
from seedbed.models.convnet import convnet, resnet18
from seedbed.models.fixup_resnet18 import Residual, fixup_resnet18


@pytest.fixture(scope="module")
def net():
    torch.manual_seed(0)
    net = fixup_resnet18((1, 28, 28), 10)
    fixup(net)
    return net


def he(layer):
    """√(2/fan_in)"""
    return (2 / layer.weight[0].numel()) ** 0.5


def test_first_layer_of_a_branch_is_he_normal_times_l_to_the_minus_one_half_and_the_last_is_0(net):
    blocks = [m for m in net if isinstance(m, Residual)]
    assert len(blocks) == 8
    for block in blocks:
        first, last = layers(block.branch)
        # L = 8 branches of m = 2 layers: 8^(−1/2); 36,864 weights or more know their std to 0.4 %
        assert first.weight.std().item() == pytest.approx(8**-0.5 * he(first), rel=0.02)
        assert not last.weight.any()


def test_layers_outside_of_branches_are_he_normal_and_the_classifier_is_0(net):
    outside = [layer for layer in layers(net) if not any(layer in list(m.branch) for m in net if hasattr(m, "branch"))]
    *others, classifier = outside
    assert len(others) == 4 and isinstance(classifier, nn.Linear)
    for layer in others:  # the stem has 3,136 weights: 1.3 %
        assert layer.weight.std().item() == pytest.approx(he(layer), rel=0.05)
    assert not classifier.weight.any() and not classifier.bias.any()


def test_network_begins_at_equal_probabilities_and_blocks_pass_their_shortcut_on(net):
    x = torch.rand(3, 1, 28, 28)
    assert not net(x).any()
    block = next(m for m in net if isinstance(m, Residual))
    positive = torch.rand(2, 64, 7, 7)
    assert torch.equal(block(positive), positive)


def test_branches_of_three_layers_are_scaled_by_l_to_the_minus_one_quarter():
    class Block(nn.Module):
        def __init__(self):
            super().__init__()
            self.branch = nn.Sequential(nn.Linear(300, 300), nn.ReLU(), nn.Linear(300, 300), nn.Linear(300, 300))

        def forward(self, x):
            return x + self.branch(x)

    torch.manual_seed(0)
    net = nn.Sequential(*(Block() for _ in range(16)), nn.Linear(300, 2))
    fixup(net)
    for block in net[:-1]:
        first, second, last = layers(block.branch)
        for layer in (first, second):
            assert layer.weight.std().item() == pytest.approx(0.5 * he(layer), rel=0.02)
        assert not last.weight.any()


@pytest.mark.parametrize(("model", "message"), [(convnet, "needs residual branches"), (resnet18, "BatchNorm2d layers")])
def test_other_networks_are_refused(model, message):
    with pytest.raises(ValueError, match=message):
        fixup(model((1, 28, 28), 2))


@pytest.mark.slow  # two epochs of a resnet18
def test_fixup_trains_resnet18_to_within_a_point_of_the_one_with_batchnorm(fit):
    words = ["loss=cross_entropy", "optim=momentum", "schedule=one_cycle", "trainer.max_epochs=1"]
    accuracies = [
        fit(*model, *words, "data.batch_size=64").metrics["val/accuracy"]
        for model in (["model=fixup_resnet18", "init=fixup", "optim.lr=0.05"], ["model=resnet18", "optim.lr=0.1"])
    ]
    assert accuracies[0] > accuracies[1] - 0.01, accuracies
