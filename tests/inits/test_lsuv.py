"""LSUV brings every layer's output on a real batch to std 1 and mean 0, and leaves nothing else changed."""

import pytest
import torch
from torch import nn

from seedbed.data.mnist_sample import mnist_sample
from seedbed.inits import schemes as inits
from seedbed.inits.lsuv import lsuv
from seedbed.models.convnet import convnet, resnet18
from seedbed.models.linear import linear, linear_scratch
from seedbed.models.mlp import mlp

SHAPE = (1, 28, 28)
NETS = {
    "linear": lambda: linear(SHAPE, 1),
    "linear_scratch": lambda: linear_scratch(SHAPE, 10),
    "mlp": lambda: mlp(SHAPE, 10, hidden=(50, 30)),
    "dropout": lambda: mlp(SHAPE, 10, hidden=(50, 30), dropout=0.5),
    "convnet": lambda: convnet(SHAPE, 10),
    "resnet18": lambda: resnet18(SHAPE, 10),
}


@pytest.fixture(scope="module")
def x():
    """256 real digits, standardised."""
    images = mnist_sample().train[0][::48][:256].float()
    return (images - images.mean()) / images.std()


def made(kind, x, seed=0):
    torch.manual_seed(seed)
    net = NETS[kind]()
    lsuv(net, x)
    return net


def outputs(net, x):
    """Layer → its output on x, as BatchNorm and dropout see it in LSUV."""
    seen = {}
    for layer in inits.layers(net):
        layer.register_forward_hook(lambda m, _, out: seen.update({m: out.detach().double()}))
    for module in net.modules():
        module.train(not isinstance(module, nn.Dropout))
    net(x)
    return seen


@pytest.mark.parametrize("kind", NETS)
def test_outputs_have_std_1_and_mean_0_within_a_thousandth(kind, x):
    net = made(kind, x)
    seen = outputs(net, x)
    assert len(seen) == len(list(inits.layers(net)))
    for layer, out in seen.items():
        assert out.std(correction=0).item() == pytest.approx(1, abs=1e-3)
        if layer.bias is not None:
            assert out.mean().item() == pytest.approx(0, abs=1e-3)


@pytest.mark.parametrize("kind", NETS)
def test_weights_stay_orthogonal_up_to_one_factor_a_layer(kind, x):
    net = made(kind, x)
    torch.manual_seed(0)
    reference = NETS[kind]()
    inits.orthogonal(reference)
    for layer, before in zip(inits.layers(net), inits.layers(reference), strict=True):
        factor = layer.weight.norm() / before.weight.norm()
        torch.testing.assert_close(layer.weight, before.weight * factor, rtol=1e-4, atol=1e-6)


def test_running_statistics_modes_and_normalisation_weights_are_as_before(x):
    torch.manual_seed(0)
    net = resnet18(SHAPE, 10)
    net.layer2.eval()
    modes = [m.training for m in net.modules()]
    weights = {id(layer.weight) for layer in inits.layers(net)} | {id(layer.bias) for layer in inits.layers(net)}
    kept = {name: (t, t.clone()) for name, t in [*net.named_parameters(), *net.named_buffers()] if id(t) not in weights}
    lsuv(net, x)
    assert [m.training for m in net.modules()] == modes
    assert "bn1.running_mean" in kept and "bn1.weight" in kept
    assert all(torch.equal(now, before) for now, before in kept.values())
    assert not any(m._forward_hooks for m in net.modules())


class Backwards(nn.Module):
    """Calls its layers in another order than it names them, and one of them twice."""

    def __init__(self):
        super().__init__()
        self.last, self.first = nn.Linear(20, 3), nn.Linear(20, 20)
        self.pixels = nn.Linear(784, 20)

    def forward(self, x):
        return self.last(self.first(self.first(self.pixels(x.flatten(1)).relu()).relu()))


def test_layers_are_mended_in_the_order_in_which_they_are_called(x):
    torch.manual_seed(0)
    net = Backwards()
    lsuv(net, x)
    h = net.pixels(x.flatten(1))
    once = net.first(h.relu())
    for out in (h, once, net.last(net.first(once.relu()))):
        assert out.std(correction=0).item() == pytest.approx(1, abs=1e-3)


def test_constant_outputs_give_no_nan_and_later_layers_stay_finite():
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 1), nn.Linear(1, 1))
    for batch in (torch.zeros(16, 8), torch.ones(16, 8), torch.full((1, 8), 0.3)):
        lsuv(net, batch)
        assert all(p.isfinite().all() and p.abs().max() < 1e3 for p in net.parameters())
        assert net(batch).isfinite().all()


def test_batch_that_is_not_finite_leaves_finite_weights():
    net = nn.Sequential(nn.Linear(8, 4), nn.ReLU(), nn.Linear(4, 2))
    lsuv(net, torch.full((16, 8), torch.inf))
    assert all(p.isfinite().all() for p in net.parameters())


def test_weights_follow_from_the_global_seed(x):
    first, again, other = (made("dropout", x, seed).state_dict() for seed in (0, 0, 1))
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert not torch.equal(first["1.weight"], other["1.weight"])


def test_float64_network_takes_the_float32_batch(x):
    net = convnet(SHAPE, 10).double()
    lsuv(net, x)
    assert all(abs(out.std(correction=0) - 1) < 1e-3 for out in outputs(net, x.double()).values())
