"""optim.groups gives parameters, chosen by their names, options of their own."""

import pytest
import torch

from seedbed.models.mlp import mlp
from seedbed.optim.groups import grouped

NET = mlp((4,), 2, hidden=[3])  # 1.weight, 1.bias, 3.weight, 3.bias
NAMES = {p: name for name, p in NET.named_parameters()}


def adamw(params):
    return torch.optim.AdamW(params, lr=0.1, weight_decay=0.01)


def members(optimizer):
    return [[NAMES[p] for p in group["params"]] for group in optimizer.param_groups]


def test_first_pattern_that_matches_wins_and_the_others_come_first():
    groups = [{"params": "1.*", "lr_scale": 0.5}, {"params": ["*bias", "nothing*", "*"][:1], "weight_decay": 0.0}]
    optimizer = grouped(NAMES, adamw, groups, NAMES)
    assert members(optimizer) == [["3.weight"], ["1.weight", "1.bias"], ["3.bias"]]
    assert [group["lr"] for group in optimizer.param_groups] == [0.1, 0.05, 0.1]
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.01, 0.01, 0.0]


def test_groups_may_take_all_parameters():
    groups = [{"params": ["*weight", "*.bias"], "betas": [0.5, 0.9]}]
    optimizer = grouped(NAMES, adamw, groups, NAMES)
    assert members(optimizer) == [["1.weight", "1.bias", "3.weight", "3.bias"]]
    assert optimizer.param_groups[0]["betas"] == [0.5, 0.9]


@pytest.mark.parametrize(
    ("group", "message"),
    [
        ({"params": "*.beta"}, r"groups: params=\*\.beta: no parameter has such a name; there are 1.weight, 1.bias"),
        ({"lr": 0.1}, "groups: params=: no parameter has such a name"),
        ({"params": "*", "decay": 0.1}, "groups: the optimiser has no decay; it has .*weight_decay, lr_scale"),
    ],
)
def test_mistake_is_named(group, message):
    with pytest.raises(ValueError, match=message):
        grouped(NAMES, adamw, [group], NAMES)
