"""fixup_resnet18 is resnet18 with scalars in the place of its normalisation layers."""

import pytest
import torch
from torch import nn

from seedbed.inits.schemes import layers
from seedbed.models.convnet import resnet18
from seedbed.models.fixup_resnet18 import RATE, Bias, Multiplier, Residual, fixup_resnet18


@pytest.mark.parametrize(("channels", "outputs"), [(1, 2), (3, 10)])
def test_layers_are_resnet18s_and_everything_else_is_a_scalar(channels, outputs):
    net, normal = fixup_resnet18((channels, 28, 28), outputs), resnet18((channels, 28, 28), outputs)
    shapes = [sorted(tuple(layer.weight.shape) for layer in layers(n)) for n in (net, normal)]
    assert shapes[0] == shapes[1] and len(shapes[0]) == 21
    scalars = [p for p in net.parameters() if p.numel() == 1]
    assert len(scalars) == 1 + 8 * 5 + 3 + 1  # stem; four biases and a multiplier a branch; shortcuts; classifier
    assert sum(p.numel() for p in net.parameters()) == sum(p.numel() for n in layers(net) for p in n.parameters()) + 45
    assert not any(isinstance(m, nn.BatchNorm2d | nn.GroupNorm) for m in net.modules())


@pytest.mark.parametrize("stride", [1, 2])
def test_block_is_the_papers_formula(stride):
    torch.manual_seed(0)
    block = Residual(4, 4 * stride, stride)
    scalars = [p for p in block.parameters() if p.numel() == 1]
    for p in scalars:
        nn.init.normal_(p)
    _, conv1, _, _, _, conv2, _, _ = block.branch
    b1, b2, b3, b4 = (RATE * m.bias for m in block.branch if isinstance(m, Bias))
    (scale,) = (1 + RATE * m.scale for m in block.branch if isinstance(m, Multiplier))
    x = torch.randn(2, 4, 6, 6)
    branch = conv2(torch.relu(conv1(x + b1) + b2) + b3) * scale + b4
    shortcut = x if stride == 1 else block.shortcut[1](x + RATE * block.shortcut[0].bias)
    torch.testing.assert_close(block(x), torch.relu(branch + shortcut))
    assert len(scalars) == 5 + (stride == 2)


def test_scalars_begin_as_the_identity_and_move_at_a_tenth_of_the_learning_rate():
    for module, before, gradient in ((Bias(), 0.0, 1.0), (Multiplier(), 1.0, 2.0)):
        x = torch.tensor([2.0])
        assert module(x).item() == 2
        module(x).sum().backward()
        torch.optim.SGD(module.parameters(), lr=0.5).step()
        after = module(x).item() - 2 if before == 0 else module(x).item() / 2
        assert after == pytest.approx(before - 0.1 * 0.5 * gradient, rel=1e-5)


def test_activations_have_resnet18s_sizes():
    net, normal = fixup_resnet18((1, 28, 28), 10), resnet18((1, 28, 28), 10)
    found = [[], []]
    for kept, n in zip(found, (net, normal), strict=True):
        for layer in layers(n):
            layer.register_forward_hook(lambda module, inputs, output, kept=kept: kept.append(tuple(output.shape)))
        n(torch.rand(2, 1, 28, 28))
    assert sorted(found[0]) == sorted(found[1])
