"""The points of the one-dimensional data sets are those of their formulas."""

import math

import pytest
import torch

from seedbed.allowed_values import RULES
from seedbed.data.functions import FUNCTIONS, function, roller_coaster
from seedbed.training.build import build_data


def test_roller_coaster_is_a_parabola_with_noise_of_std_3_that_its_seed_fixes():
    splits = roller_coaster()
    (time, speed), valid = splits.train, splits.valid
    assert time[:, 0].tolist() == list(range(20)) and speed.dtype == torch.float32 and splits.classes is None
    assert torch.equal(valid[0], time) and torch.equal(valid[1], speed)
    assert torch.equal(roller_coaster(0).train[1], speed) and not torch.equal(roller_coaster(1).train[1], speed)
    parabola = torch.tensor([0.75 * (t - 9.5) ** 2 + 1 for t in range(20)])
    noise = torch.stack([roller_coaster(seed).train[1] for seed in range(500)]) - parabola
    assert noise.std().item() == pytest.approx(3, rel=0.03) and abs(noise.mean().item()) < 0.15  # 5 standard errors


def test_roller_coaster_does_not_depend_on_the_runs_seed(composed):
    sets = [build_data(composed("data=roller_coaster", "loss=mse", f"seed={seed}")[0]) for seed in (0, 1)]
    assert torch.equal(sets[0].splits.train[1], sets[1].splits.train[1])


FORMULAS = {
    "sin": lambda x: math.sin(math.pi * x),
    "wave": lambda x: math.sin(2 * math.pi * x),
    "square": lambda x: x * x,
    "step": lambda x: 1.0 if x > 0 else 0.0,
    "triangle": lambda x: 1 - 2 * abs(x),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_function_is_its_formula_and_validates_between_its_points(name):
    splits = function(name)
    for x, y in (splits.train, splits.valid):
        expected = torch.tensor([FORMULAS[name](v) for v in x[:, 0].tolist()])
        torch.testing.assert_close(y, expected, rtol=0, atol=1e-6)
    x, middles = splits.train[0], splits.valid[0]
    assert (len(x), len(middles), x[0].item(), x[-1].item()) == (256, 255, -1, 1)
    assert ((middles > x[:-1]) & (middles < x[1:])).all()


def test_rule_allows_exactly_the_functions():
    assert RULES["data.name"].allowed == "one of " + ", ".join(FUNCTIONS)


def test_numbers_reach_the_model_as_they_are(composed):
    data = build_data(composed("data=roller_coaster")[0])
    ((x, y),) = data.train_dataloader()
    assert torch.equal(x, data.splits.train[0]) and torch.equal(y, data.splits.train[1])
    assert data.num_classes is None
