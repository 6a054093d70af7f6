"""Every loss equals its formula and PyTorch's function, and reads its predictions as it says."""

from functools import partial

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from seedbed.losses import BCE, L1, MSE, NLL, RMSE, STACKS, CrossEntropy, CrossEntropyScratch, MnistLoss


def numbers(target, K):
    """The target [B] as the numbers [B, K] that a regression sees."""
    return target[:, None].double() if K == 1 else torch.eye(K, dtype=torch.double)[target]


def bce(o, t):
    p = 1 / (1 + (-o).exp())
    return -(t * p.log() + (1 - t) * (1 - p).log()).mean()


def mnist_loss(o, t):
    p = 1 / (1 + (-o).exp())
    return torch.where(t == 1, 1 - p, p).mean()


# loss, formula of (output, numbers), PyTorch's function of the same
NUMERIC = [
    (MnistLoss, mnist_loss, None),
    (BCE, bce, F.binary_cross_entropy_with_logits),
    (MSE, lambda o, t: ((o - t) ** 2).mean(), F.mse_loss),
    (partial(MSE, half=True), lambda o, t: ((o - t) ** 2 / 2).mean(), None),
    (RMSE, lambda o, t: ((o - t) ** 2).mean().sqrt(), None),
    (L1, lambda o, t: (o - t).abs().mean(), F.l1_loss),
]


def batch(K, B=64):
    """Logits float64 [B, K] and targets int64 [B], of two classes where K = 1."""
    generator = torch.Generator().manual_seed(K)
    output = 3 * torch.randn(B, K, generator=generator, dtype=torch.double)
    return output, torch.randint(max(K, 2), (B,), generator=generator)


@pytest.mark.parametrize("K", [1, 10])
@pytest.mark.parametrize(("loss", "formula", "torchs"), NUMERIC, ids=["mnist_loss", "bce", "mse", "half", "rmse", "l1"])
def test_numeric_loss_equals_its_formula_and_pytorchs_function(loss, formula, torchs, K):
    output, target = batch(K)
    found = loss()(output, target)
    assert found.shape == ()
    torch.testing.assert_close(found, formula(output, numbers(target, K)))
    if torchs:
        torch.testing.assert_close(found, torchs(output, numbers(target, K)))


def test_mnist_loss_of_the_courses_example_is_0_4333():
    predictions = torch.tensor([0.9, 0.4, 0.2])
    loss = MnistLoss()(predictions.logit()[:, None], torch.tensor([1, 0, 1]))
    assert round(loss.item(), 4) == 0.4333


@pytest.mark.parametrize("loss", [MSE(), RMSE(), L1()], ids=lambda loss: type(loss).__name__)
def test_losses_of_errors_compare_numbers_where_there_are_no_classes(loss):
    output, target = torch.tensor([[1.0], [5.0]]), torch.tensor([2.5, 1.0])  # errors 1.5 and 4
    expected = {"MSE": 9.125, "RMSE": 9.125**0.5, "L1": 2.75}[type(loss).__name__]
    assert loss.num_outputs(None) == 1 and loss(output, target).item() == pytest.approx(expected)


@pytest.mark.parametrize("loss", [MnistLoss, MSE, L1, RMSE, BCE])
def test_output_without_a_dimension_for_outputs_is_refused(loss):
    with pytest.raises(ValueError, match=r"must be \[B, K\]: got \[4\]"):
        loss()(torch.zeros(4), torch.zeros(4, dtype=torch.long))


@pytest.mark.parametrize("loss", [MnistLoss(), BCE(), CrossEntropy(), CrossEntropyScratch(), NLL()])
def test_losses_of_classes_refuse_numbers(loss):
    with pytest.raises(ValueError, match=f"{type(loss).__name__} needs classes"):
        loss.num_outputs(None)


@pytest.mark.parametrize("K", [2, 10])
@pytest.mark.parametrize("loss", [CrossEntropy(), CrossEntropyScratch()], ids=["torch", "scratch"])
def test_cross_entropy_is_the_mean_negative_log_probability_of_the_target(loss, K):
    output, target = batch(K)
    p = output.exp() / output.exp().sum(1, keepdim=True)
    expected = -torch.stack([p[i, k].log() for i, k in enumerate(target)]).mean()
    torch.testing.assert_close(loss(output, target), expected)
    torch.testing.assert_close(loss(output, target), F.cross_entropy(output, target))


def test_label_smoothing_gives_its_share_to_all_classes_alike():
    output, target = batch(10)
    log_p = output.log_softmax(1)
    expected = 0.9 * F.nll_loss(log_p, target) - 0.1 * log_p.mean()
    torch.testing.assert_close(CrossEntropy(label_smoothing=0.1)(output, target), expected)


@pytest.mark.parametrize("scale", [1.0, 100.0, 1e4])
def test_cross_entropy_scratch_equals_pytorchs_in_value_and_gradient_and_is_finite(scale):
    signs = torch.randn(64, 10, generator=torch.Generator().manual_seed(0))
    logits = signs if scale == 1 else signs.sign() * scale  # float32, ±scale
    target = torch.arange(64) % 10
    found, gradient = value_and_gradient(CrossEntropyScratch(), logits, target)
    expected, expected_gradient = value_and_gradient(F.cross_entropy, logits, target)
    assert found.isfinite() and gradient.isfinite().all()
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient, expected_gradient)


def value_and_gradient(loss, logits, target):
    logits = logits.clone().requires_grad_()
    value = loss(logits, target)
    return value.detach(), torch.autograd.grad(value, logits)[0]


@pytest.mark.parametrize("K", [2, 10])
def test_nll_of_the_finished_network_equals_cross_entropy_of_the_raw_one(K):
    net = nn.Linear(5, K)
    x, target = torch.randn(32, 5), torch.arange(32) % K
    torch.testing.assert_close(NLL()(NLL().finish(net)(x), target), CrossEntropy()(net(x), target))


@pytest.mark.parametrize("loss", [MnistLoss, BCE, MSE, RMSE, L1, CrossEntropy, CrossEntropyScratch])
def test_other_losses_leave_the_network_as_it_is(loss):
    net = nn.Linear(5, 2)
    assert loss().finish(net) is net


@pytest.mark.parametrize(
    ("losses", "num_classes", "K"),
    [
        ([MnistLoss, BCE, MSE, RMSE, L1], 2, 1),
        ([MnistLoss, BCE, MSE, RMSE, L1], 10, 10),
        ([CrossEntropy, CrossEntropyScratch, NLL], 2, 2),
        ([CrossEntropy, CrossEntropyScratch, NLL], 10, 10),
    ],
)
def test_two_classes_need_one_output_of_a_numeric_loss_and_two_of_a_softmax(losses, num_classes, K):
    assert {loss: loss().num_outputs(num_classes) for loss in losses} == dict.fromkeys(losses, K)


@pytest.mark.parametrize(
    ("losses", "threshold"),
    [([MnistLoss, BCE], 0.0), ([MSE, RMSE, L1], 0.5)],
    ids=["logits", "numbers"],
)
def test_one_output_predicts_class_1_above_the_threshold(losses, threshold):
    output = threshold + torch.tensor([[-1.0], [-0.01], [0.0], [0.01], [1.0]])
    for loss in losses:
        assert loss().predict(output).tolist() == [0, 0, 0, 1, 1]


@pytest.mark.parametrize("K", [2, 10])
@pytest.mark.parametrize("loss", [MnistLoss, BCE, MSE, RMSE, L1, CrossEntropy, CrossEntropyScratch, NLL])
def test_several_outputs_predict_the_largest(loss, K):
    output, _ = batch(K)
    assert loss().predict(output).tolist() == [max(range(K), key=row.__getitem__) for row in output.tolist()]


@pytest.mark.parametrize("K", [1, 10])
@pytest.mark.parametrize("loss", [MnistLoss, BCE, MSE, RMSE, L1])
def test_gradient_is_finite_where_the_output_is_the_target_itself(loss, K):
    target = torch.arange(8) % max(K, 2)
    _, gradient = value_and_gradient(loss(), numbers(target, K).float(), target)
    assert gradient.isfinite().all()


@pytest.mark.parametrize("loss", [MnistLoss, BCE, MSE, RMSE, L1])
def test_probability_of_one_output_is_class_1s_and_agrees_with_the_prediction(loss):
    output = torch.tensor([[-3.0], [-0.1], [0.2], [0.7], [4.0]])
    p = loss().probabilities(output)
    raw = loss in (MSE, RMSE, L1)  # these compare the output itself with 0 and 1
    torch.testing.assert_close(p[:, 1], output[:, 0].clamp(0, 1) if raw else torch.sigmoid(output[:, 0]))
    torch.testing.assert_close(p.sum(1), torch.ones(5))
    assert torch.equal(p.argmax(1), loss().predict(output))


@pytest.mark.parametrize("loss", [CrossEntropy, CrossEntropyScratch, NLL])
def test_probabilities_of_a_softmax_loss_are_the_softmax(loss):
    logits = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    output = loss().finish(nn.Identity())(logits)
    torch.testing.assert_close(loss().probabilities(output), F.softmax(logits, 1))


@pytest.mark.parametrize("loss", [MnistLoss, BCE])
def test_probabilities_of_several_outputs_are_their_sigmoids(loss):
    output = torch.randn(6, 10, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(loss().probabilities(output), torch.sigmoid(output))


@pytest.mark.parametrize("loss", STACKS)
@pytest.mark.parametrize("K", [1, 10])
@pytest.mark.parametrize("shared", [False, True])
def test_loss_that_stacks_gives_the_bits_of_vmap(loss, K, shared):
    loss, output = loss(), torch.randn(5, 37, K, requires_grad=True)
    target = torch.randint(max(K, 2), (37,) if shared else (5, 37))
    losses, wanted = loss(output, target), torch.vmap(loss, (0, None if shared else 0))(output, target)
    gradient, wanted_gradient = (torch.autograd.grad(each.sum(), output)[0] for each in (losses, wanted))
    assert torch.equal(losses, wanted) and torch.equal(gradient, wanted_gradient)
