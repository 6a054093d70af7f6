"""Each piece of the chain from scratch equals its twin in torch, and the whole chain the preset linear_scratch."""

import pytest
import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import RandomSampler, SequentialSampler, TensorDataset

from seedbed import from_scratch as scratch
from seedbed import schedules
from seedbed.losses import MnistLoss


@pytest.fixture
def batch():
    torch.manual_seed(0)
    return torch.randn(32, 784), torch.randint(2, (32,))


def test_parameters_have_their_size_and_spread_and_get_gradients():
    torch.manual_seed(0)
    p = scratch.init_params(784, 20, std=3.0)
    assert p.shape == (784, 20) and p.is_leaf and p.requires_grad
    assert p.std().item() == pytest.approx(3, rel=0.02) and p.mean().item() == pytest.approx(0, abs=0.1)


def test_linear1_is_the_linear_layer_with_its_gradients(batch):
    x, _ = batch
    weights, bias, layer = scratch.init_params(784, 3), scratch.init_params(3), nn.Linear(784, 3)
    layer.load_state_dict({"weight": weights.detach().T, "bias": bias.detach()})
    output, expected = scratch.linear1(x, weights, bias), layer(x)
    torch.testing.assert_close(output, expected, rtol=0, atol=1e-4)
    for result in (output, expected):
        result.square().sum().backward()
    torch.testing.assert_close(weights.grad.T, layer.weight.grad, rtol=1e-5, atol=1e-2)
    torch.testing.assert_close(bias.grad, layer.bias.grad, rtol=1e-5, atol=1e-2)


def test_mnist_loss_is_the_distance_of_the_sigmoid(batch):
    prediction, target = torch.randn(32), batch[1]
    loss = scratch.mnist_loss(prediction, target)
    torch.testing.assert_close(loss, F.l1_loss(prediction.sigmoid(), target.float()))
    torch.testing.assert_close(loss, MnistLoss()(prediction[:, None], target))


def test_log_softmax_and_nll_make_the_cross_entropy():
    torch.manual_seed(0)
    # exp(1000) is inf
    x, target = (torch.randn(32, 10) * 5 + 1000).requires_grad_(), torch.arange(32) % 10
    log_p = scratch.log_softmax(x)
    torch.testing.assert_close(log_p, F.log_softmax(x, 1))
    torch.testing.assert_close(scratch.nll(log_p, target), F.nll_loss(log_p, target))
    losses = scratch.nll(log_p, target), F.cross_entropy(x, target)
    torch.testing.assert_close(*losses)
    torch.testing.assert_close(*(torch.autograd.grad(loss, x)[0] for loss in losses))


def test_batch_accuracy_counts():
    assert scratch.batch_accuracy(torch.tensor([-1.0, 2.0, 3.0, -4.0]), torch.tensor([0, 1, 0, 1])) == 0.5


def test_basic_optim_is_sgd(batch):
    params = [scratch.init_params(784, 1), scratch.init_params(1)]
    twins = [p.detach().clone().requires_grad_() for p in params]
    for (weights, bias), optimizer in (
        (params, scratch.BasicOptim(params, 0.1)),
        (twins, torch.optim.SGD(twins, 0.1)),
    ):
        for _ in range(20):
            scratch.mnist_loss(scratch.linear1(batch[0], weights, bias)[:, 0], batch[1]).backward()
            optimizer.step()
            optimizer.zero_grad()
            assert weights.grad is None
    for p, twin in zip(params, twins, strict=True):
        torch.testing.assert_close(p, twin)


@pytest.mark.parametrize("clear", [True, False])
def test_gradients_that_are_not_cleared_add_up(batch, clear):
    used, p = [], scratch.init_params(784)

    class Watch(scratch.BasicOptim):
        def step(self):
            used.append(p.grad.clone())

    def loss(prediction, target):
        return scratch.mnist_loss(prediction, target)

    batches = [(batch[0][:16], batch[1][:16]), (batch[0][16:], batch[1][16:])]
    gradients = [torch.autograd.grad(loss(xb @ p, yb), p)[0] for xb, yb in batches]
    scratch.train_epoch(lambda xb: xb @ p, loss, Watch([p], 0.1), batches, clear)
    torch.testing.assert_close(used[0], gradients[0])
    torch.testing.assert_close(used[1], gradients[1] if clear else gradients[0] + gradients[1])


@pytest.mark.parametrize("shuffle", [True, False])
def test_sampler_and_loader_are_torchs(batch, shuffle):
    data, generators = TensorDataset(*batch), [torch.Generator(), torch.Generator()]
    theirs = RandomSampler(data, generator=generators[0]) if shuffle else SequentialSampler(data)
    ours = scratch.Sampler(32, shuffle, generators[1])
    loaders = scratch.DataLoader(*batch, 5, ours), torch.utils.data.DataLoader(data, 5, sampler=theirs)
    for seed in range(2):
        # RandomSampler draws once more after each pass
        for generator in generators:
            generator.manual_seed(seed)
        batches = [list(loader) for loader in loaders]
        assert [len(y) for _, y in batches[0]] == [5] * 6 + [2]
        for mine, twin in zip(*batches, strict=True):
            assert torch.equal(mine[0], twin[0]) and torch.equal(mine[1], twin[1])


def test_annealed_schedules_are_torchs_and_ours():
    steps = 100
    optimizer = torch.optim.SGD([torch.zeros(1)], 0.3)
    theirs = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, steps, eta_min=0.1)
    ours = scratch.cosine(0.3, 0.1)
    for step in range(steps):
        assert ours(step / steps) == pytest.approx(theirs.get_last_lr()[0], abs=1e-9)
        optimizer.step()
        theirs.step()
    up_and_down = scratch.combined([0.3, 0.7], [scratch.cosine(0.3, 0.6), scratch.cosine(0.6, 0.2)])
    product = schedules.values([0.3, 0.7], lr=[0.3, 0.6, 0.2])
    for done in (0, 0.1, 0.3, 0.5, 0.99, 1):
        assert up_and_down(done) == pytest.approx(product(done), abs=1e-12)


def test_the_chain_trains_as_the_preset_does(fit):
    run = fit("experiment=linear_scratch", "trainer.max_epochs=5")
    start = fit("experiment=linear_scratch", "trainer.max_epochs=0").module.net[1]
    weights = start.weight.detach().T.clone().requires_grad_()
    bias = start.bias.detach().clone().requires_grad_()
    (x, y), (valid_x, valid_y) = ((x.flatten(1) / 255, y) for x, y in (run.data.splits.train, run.data.splits.valid))

    def model(xb):
        return scratch.linear1(xb, weights, bias)[:, 0]

    batches = scratch.DataLoader(x, y, 256, scratch.Sampler(len(x), shuffle=False))
    for _ in range(5):
        scratch.train_epoch(model, scratch.mnist_loss, scratch.BasicOptim([weights, bias], 1.0), batches)
    torch.testing.assert_close(weights.T, run.module.net[1].weight, rtol=1e-3, atol=1e-4)
    assert scratch.validate_epoch(model, [(valid_x, valid_y)]) == pytest.approx(run.metrics["val/accuracy"], abs=0.002)
