import pytest
import torch
import torch.nn.functional as F

from seedbed.models.lenet import lenet


def test_lenet_is_conv_pool_conv_pool_and_an_mlp():
    torch.manual_seed(0)
    net, x = lenet((1, 28, 28), 10), torch.rand(5, 1, 28, 28)
    w1, b1, w2, b2, w3, b3, w4, b4 = net.parameters()
    a = F.max_pool2d(F.relu(F.conv2d(x, w1, b1)), 2)  # [5, 24, 12, 12]
    a = F.max_pool2d(F.relu(F.conv2d(a, w2, b2)), 2)  # [5, 32, 5, 5]
    expected = F.linear(F.relu(F.linear(a.flatten(1), w3, b3)), w4, b4)
    assert a.shape == (5, 32, 5, 5) and w3.shape == (256, 800)
    torch.testing.assert_close(net(x), expected, rtol=0, atol=1e-6)  # another memory format sums in another order


def test_batch_norm_takes_the_place_of_the_convolutions_bias():
    net = lenet((3, 28, 28), 10, channels=[16, 32], batch_norm=True)
    kinds = [type(m).__name__ for m in net.children()]
    assert kinds[:4] == ["Conv2d", "MaxPool2d", "BatchNorm2d", "ReLU"]
    assert net[0].bias is None and net[0].weight.shape == (16, 3, 5, 5)


@pytest.mark.parametrize(
    ("numbers", "message"),
    [
        ({"channels": [8]}, r"kernel_sizes=\[5,3\]: must be 1"),
        ({"kernel_sizes": [29, 3]}, r"nothing is left of an image of \[28, 28\]"),
    ],
)
def test_value_error_for_what_cannot_be_built(numbers, message):
    with pytest.raises(ValueError, match=message):
        lenet((1, 28, 28), 10, **numbers)
