"""BasicOptim is torch.optim.SGD, bit for bit."""

from copy import deepcopy
from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seedbed.optim.basic import BasicOptim


def small_mlp():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(20, 16), nn.ReLU(), nn.Linear(16, 5))


def batches(steps):
    generator = torch.Generator().manual_seed(1)
    for _ in range(steps):
        yield torch.randn(32, 20, generator=generator), torch.randint(5, (32,), generator=generator)


def train(net, opt, data):
    """Parameters after each step, [steps][tensors]."""
    history = []
    for x, y in data:
        F.cross_entropy(net(x), y).backward()
        opt.step()
        opt.zero_grad()
        history.append([p.detach().clone() for p in net.parameters()])
    return history


@pytest.mark.parametrize("lr", [1e-5, 0.1, 1.0])
def test_basic_optim_is_bit_equal_to_sgd_after_every_one_of_200_steps(lr):
    net = small_mlp()
    twin = deepcopy(net)
    ours = train(net, BasicOptim(net.parameters(), lr=lr), batches(200))
    theirs = train(twin, torch.optim.SGD(twin.parameters(), lr=lr), batches(200))
    for step, (p, q) in enumerate(zip(ours, theirs, strict=True)):
        assert all(map(torch.equal, p, q)), f"differs after step {step}"
    assert not torch.equal(ours[0][0], ours[-1][0])


def test_basic_optim_uses_each_groups_lr_and_sees_it_change():
    def with_groups(optimiser, net):
        opt = optimiser([{"params": net[0].parameters(), "lr": 0.5}, {"params": net[2].parameters()}], lr=0.1)
        first = train(net, opt, batches(20))
        for group in opt.param_groups:
            group["lr"] *= 0.3  # as a schedule does
        return first + train(net, opt, batches(20))

    ours, theirs = with_groups(BasicOptim, small_mlp()), with_groups(torch.optim.SGD, small_mlp())
    assert all(torch.equal(p, q) for a, b in zip(ours, theirs, strict=True) for p, q in zip(a, b, strict=True))


def test_step_returns_the_loss_of_its_closure_and_steps_on_its_gradient():
    net, [(x, y)] = small_mlp(), batches(1)
    opt = BasicOptim(net.parameters(), lr=0.1)

    def closure():
        opt.zero_grad()
        loss = F.cross_entropy(net(x), y)
        loss.backward()
        return loss

    losses = [opt.step(closure).item() for _ in range(5)]
    assert all(later < earlier for earlier, later in pairwise(losses))


def test_step_without_closure_returns_none():
    assert BasicOptim(small_mlp().parameters(), lr=0.1).step() is None


def test_parameters_without_gradient_are_skipped():
    net = small_mlp()
    before = deepcopy(net.state_dict())
    opt = BasicOptim(net.parameters(), lr=0.1)
    net[2](torch.randn(4, 16)).sum().backward()  # the first layer takes no part
    opt.step()
    changed = {name for name, p in net.state_dict().items() if not torch.equal(p, before[name])}
    assert changed == {"2.weight", "2.bias"}


def test_zero_grad_sets_gradients_to_none():
    net, [(x, y)] = small_mlp(), batches(1)
    F.cross_entropy(net(x), y).backward()
    BasicOptim(net.parameters(), lr=0.1).zero_grad()
    assert all(p.grad is None for p in net.parameters())
