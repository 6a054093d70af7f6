"""quadratic and rectified_lines are their formulas, and gradient descent fits them."""

from itertools import pairwise

import pytest
import torch

from seedbed.models.curves import Quadratic, rectified_lines


def test_quadratic_is_its_formula_and_begins_with_standard_normal_numbers():
    torch.manual_seed(0)
    net = Quadratic((1,), 1)
    torch.manual_seed(0)
    assert torch.equal(net.coefficients, torch.randn(3))
    t, (a, b, c) = torch.arange(5.0), net.coefficients.tolist()
    torch.testing.assert_close(net(t[:, None])[:, 0], a * t * t + b * t + c)


def test_quadratic_trains_as_the_courses_loop_does_and_its_loss_falls_every_step(fit):
    run = fit("experiment=quadratic", "callbacks=none", "trainer.max_epochs=40")
    time, speed = run.data.splits.train
    torch.manual_seed(0)
    params = torch.randn(3).requires_grad_()
    losses = []
    for _ in range(40):
        a, b, c = params
        t = time[:, 0]
        loss = ((a * t**2 + b * t + c - speed) ** 2).mean()
        loss.backward()
        losses.append(loss.item())
        params.data -= 1e-5 * params.grad.data
        params.grad = None
    assert run.curve("train/loss") == pytest.approx(losses, rel=1e-4)
    torch.testing.assert_close(run.module.net.coefficients, params, rtol=1e-4, atol=1e-5)
    assert all(later < earlier for earlier, later in pairwise(losses))
    assert run.metrics["steps"] == 40


def test_rectified_lines_is_a_sum_of_rectified_lines():
    net = rectified_lines((1,), 1, lines=3)
    x = torch.linspace(-2, 2, 50)
    first, _, last = net
    expected = last.bias + sum(
        h * (m * x + b).clamp_min(0) for h, m, b in zip(last.weight[0], first.weight[:, 0], first.bias, strict=True)
    )
    torch.testing.assert_close(net(x[:, None])[:, 0], expected)
    torch.testing.assert_close(-first.bias / first.weight[:, 0], torch.tensor([-2 / 3, 0, 2 / 3]))


def test_error_falls_as_lines_are_added(fit):
    errors = []
    for lines in (1, 2, 4, 8, 16, 32):
        run = fit("experiment=approximate", "callbacks=none", f"model.lines={lines}")
        errors.append(run.metrics["val/loss"])
    assert all(later < earlier for earlier, later in pairwise(errors)), errors
    assert errors[-1] < 1e-3 * errors[0]


@pytest.mark.parametrize("model", [Quadratic, rectified_lines])
def test_images_and_classes_are_refused(model):
    for shape, outputs in (((1, 28, 28), 1), ((1,), 10)):
        with pytest.raises(ValueError, match="fits a function of one number"):
            model(shape, outputs)
