from copy import deepcopy

import pytest
import torch
from torch import nn

from seedbed.models.convnet import TightConv2d, resnet18


@pytest.mark.parametrize("size", [1, 2, 3, 4])
@pytest.mark.parametrize(
    ("kernel", "stride", "padding"), [(3, 1, 1), (3, 2, 1), (1, 1, 0), (1, 2, 0), (3, 3, 0), (7, 2, 3)]
)
def test_tight_convolution_is_the_convolution_with_its_gradients(size, kernel, stride, padding):
    if size + 2 * padding < kernel:
        pytest.skip("the kernel is larger than the padded image")
    torch.manual_seed(0)
    plain = nn.Conv2d(4, 5, kernel, stride=stride, padding=padding, dtype=torch.float64)
    tight = deepcopy(plain)
    tight.__class__ = TightConv2d
    x = torch.randn(3, 4, size, size, dtype=torch.float64)
    expected, found = plain(x), tight(x)
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-14)
    for output in (expected, found):
        output.square().sum().backward()
    for p, q in zip(plain.parameters(), tight.parameters(), strict=True):
        torch.testing.assert_close(q.grad, p.grad, rtol=1e-13, atol=1e-13)


def test_resnet18_is_timms():
    from timm import create_model

    torch.manual_seed(0)
    net = resnet18((1, 28, 28), 10).double().eval()
    reference = create_model("resnet18", in_chans=1, num_classes=10).double().eval()
    reference.load_state_dict(net.state_dict())
    x = torch.rand(2, 1, 28, 28, dtype=torch.float64)
    torch.testing.assert_close(net(x), reference(x), rtol=0, atol=1e-12)
