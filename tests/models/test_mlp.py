"""The MLP is the layers that one would write by hand, and its dropout fits its activation."""

import pytest
import torch
from torch import nn

from seedbed.inits.schemes import lecun_normal
from seedbed.models.mlp import ACTIVATIONS, mlp


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_layers_are_those_written_by_hand(activation):
    drop = nn.AlphaDropout if activation == "selu" else nn.Dropout
    net = mlp((1, 4, 4), 3, hidden=[8, 5], activation=activation, dropout=0.25)
    act = ACTIVATIONS[activation]
    by_hand = [nn.Flatten(), nn.Linear(16, 8), act(), drop(0.25), nn.Linear(8, 5), act(), drop(0.25), nn.Linear(5, 3)]
    assert [repr(m) for m in net] == [repr(m) for m in by_hand]


def test_selus_dropout_keeps_mean_0_and_std_1_where_the_plain_one_does_not():
    """In the fourth hidden layer, within 0.1; with plain dropout of this rate the std grows beyond 1.2."""
    torch.manual_seed(0)
    net = mlp((256,), 1, hidden=[256] * 4, activation="selu", dropout=0.2)
    lecun_normal(net)
    plain = nn.Sequential(*(nn.Dropout(m.p) if isinstance(m, nn.AlphaDropout) else m for m in net))
    x = torch.randn(512, 256)
    std, mean = torch.std_mean(net[:-1](x))
    assert (mean.item(), std.item()) == pytest.approx((0, 1), abs=0.1)
    assert plain[:-1](x).std() > 1.2
