"""A GAN's two networks learn in turns, exactly as in a plain loop, and go on exactly where they stopped."""

import lightning.pytorch as pl
import numpy as np
import pytest
import torch
import torch.nn.functional as F

from seedbed.callbacks.generated import grid
from seedbed.errors import ConfigError
from seedbed.training.build import Parts, build_data
from seedbed.training.gan import frechet_distance, noise

SHORT = ["experiment=gan", "trainer.max_epochs=2", "+trainer.limit_train_batches=3"]


def weights(net):
    return {name: value.clone() for name, value in net.state_dict().items()}


def equal(a, b):
    return all(torch.equal(a[name], b[name]) for name in a)


class Turns(pl.Callback):
    """The weights of both networks before each optimiser's step, and whether the other one has a gradient then."""

    def __init__(self):
        self.seen = []

    def on_before_optimizer_step(self, trainer, module, optimizer):
        nets = {"critic": module.net.critic, "generator": module.net.generator}
        first = optimizer.param_groups[0]["params"][0]
        turn = next(name for name, net in nets.items() if any(p is first for p in net.parameters()))
        (other,) = nets.keys() - {turn}
        idle = all(p.grad is None for p in nets[other].parameters())
        self.seen.append((turn, idle, {name: weights(net) for name, net in nets.items()}))


def parameters(net, state):
    return {name: state[name] for name, _ in net.named_parameters()}


def test_each_network_steps_in_its_turn_and_leaves_the_other_as_it_is(fit):
    turns = Turns()
    run = fit(*SHORT, callbacks=[turns])
    assert [turn for turn, _, _ in turns.seen] == ["critic", "generator"] * 6
    assert all(idle for _, idle, _ in turns.seen)
    for (turn, _, before), (_, _, after) in zip(turns.seen, turns.seen[1:], strict=False):
        for name, net in (("critic", run.module.net.critic), ("generator", run.module.net.generator)):
            same = equal(parameters(net, before[name]), parameters(net, after[name]))
            assert same == (name != turn)
    assert run.metrics["steps"] == 6


def test_steps_equal_those_of_a_plain_loop(fit, composed):
    extra = ["trainer.max_epochs=1", "+trainer.limit_train_batches=4", "schedule=constant"]
    found = fit("experiment=gan", *extra)
    config, _ = composed("experiment=gan", *extra)
    data = build_data(config)
    net, _ = Parts().net(config, data)
    rng = torch.get_rng_state()  # what follows has to draw the same noise
    adams = [torch.optim.Adam(part.parameters(), lr=0.002, betas=(0.5, 0.99)) for part in (net.critic, net.generator)]
    losses = []
    torch.set_rng_state(rng)
    for (real, _), _ in zip(data.train_dataloader(), range(4), strict=False):
        fake = 2 * net.generator(torch.randn(64, 16)) - 1
        told = F.binary_cross_entropy_with_logits(net(real), torch.ones(64, 1))
        told = (told + F.binary_cross_entropy_with_logits(net(fake.detach()), torch.zeros(64, 1))) / 2
        adams[0].zero_grad()
        told.backward()
        adams[0].step()
        taken = F.binary_cross_entropy_with_logits(net(fake), torch.ones(64, 1))
        adams[1].zero_grad()
        taken.backward()
        adams[1].step()
        losses.append((told.item(), taken.item()))
    # Adam's first steps are ±lr whatever the gradient's size: a last bit in a gradient near 0 is seen as 1e-4
    means = np.mean(losses, axis=0)
    assert found.metrics["train/loss"] == pytest.approx(means[0], abs=1e-4)
    assert found.metrics["train/generator_loss"] == pytest.approx(means[1], abs=1e-4)
    for (name, a), b in zip(net.state_dict().items(), found.module.net.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-3, msg=lambda m, name=name: f"{name}: {m}")


class StopAt(pl.Callback):
    """Dies after a number of steps, as a machine does."""

    def __init__(self, step):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step >= self.step:
            raise InterruptedError


@pytest.mark.parametrize("step", [2, 3, 4], ids=lambda step: f"after {step} of 6 steps")
def test_resumed_gan_equals_uninterrupted_one(fit, tmp_path, step):
    whole = fit(*SHORT, folder=tmp_path / "whole")
    with pytest.raises(InterruptedError):
        fit(
            *SHORT, folder=tmp_path / "half", callbacks=[StopAt(step + 1)], every=0
        )  # checkpoints come last: none of that step
    last = tmp_path / "half/checkpoints/last.ckpt"
    assert torch.load(last, weights_only=True)["global_step"] == step
    resumed = fit(*SHORT, f"ckpt_path={last}", folder=tmp_path / "resumed")
    assert equal(weights(whole.module), weights(resumed.module))
    assert {**whole.metrics, "fit_seconds": 0} == {**resumed.metrics, "fit_seconds": 0}


def test_run_has_curves_and_a_grid_of_pictures(fit, tmp_path):
    from matplotlib.image import imread

    run = fit(*SHORT, "callbacks.generated.every=1", folder=tmp_path)
    for tag in ("train/loss", "train/generator_loss", "lr"):
        assert [event.step for event in run.events(tag)] == [1, 2, 3, 4, 5, 6]
    assert [event.step for event in run.events("val/loss")] == [0, 3, 6]
    assert run.metrics["val/accuracy"] is None and run.metrics["status"] == "completed"
    assert imread(tmp_path / "pictures/generated.png").std() > 0.1
    (axes,) = grid(run.module, 2).axes
    (image,) = axes.images
    assert image.get_array().shape == (8 * 28, 8 * 28) and "epoch 2" in axes.get_title()
    assert image.get_array().min() >= 0 and image.get_array().max() <= 1
    with torch.no_grad():  # third row, second column is picture 17
        run.module.eval()
        picture = run.module.generator(noise(64, run.module.latent))[17, 0]
    np.testing.assert_allclose(image.get_array()[56:84, 28:56], picture, atol=1e-6)


@pytest.mark.parametrize("normalize", ["unit", "symmetric", "standard"])
def test_generated_pictures_span_what_real_ones_do(fit, normalize):
    run = fit("model=gan", "trainer.max_epochs=0", f"data.normalize={normalize}")
    real, _ = next(iter(run.data.train_dataloader()))
    black, white = (run.module.as_input(torch.full((1, 1, 28, 28), v)) for v in (0.0, 1.0))
    assert black.min() == pytest.approx(real.min().item(), abs=1e-6) and white.max() == pytest.approx(
        real.max().item(), abs=1e-6
    )


def test_frechet_distance_of_shifted_and_scaled_sets_is_that_of_the_formula():
    x = torch.randn(500, 1, 4, 4, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    variance = x.flatten(1).var(0, correction=0).sum().item()
    mean = x.flatten(1).mean(0).square().sum().item()
    assert frechet_distance(x, x) == pytest.approx(0, abs=1e-9)
    assert frechet_distance(x, x + 0.5) == pytest.approx(16 * 0.25)
    # covariances C and 9 C: tr(C + 9 C − 2 · 3 C)
    assert frechet_distance(x, 3 * x) == pytest.approx(4 * variance + 4 * mean)
    other = torch.randn(400, 16, generator=torch.Generator().manual_seed(1), dtype=torch.float64) @ torch.randn(
        16, 16, generator=torch.Generator().manual_seed(2), dtype=torch.float64
    )
    cx, cy = np.cov(x.flatten(1).T, ddof=0), np.cov(other.T, ddof=0)
    between = np.sqrt(np.linalg.eigvals(cx @ cy).real).sum()  # the product's own eigenvalues
    means = np.square(x.flatten(1).mean(0).numpy() - other.mean(0).numpy()).sum()
    assert frechet_distance(x, other) == pytest.approx(means + np.trace(cx) + np.trace(cy) - 2 * between)


@pytest.mark.parametrize("loss", ["mse", "nll", "cross_entropy", "mnist_loss"])
def test_losses_of_two_classes_judge_real_and_fake(fit, loss):
    run = fit("model=gan", f"loss={loss}", "optim=adam", "trainer.max_epochs=1", "+trainer.limit_train_batches=2")
    assert run.metrics["status"] == "completed"


def test_ten_classes_and_a_test_set(fit, mnist_root):
    limits = ["+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1", "+trainer.limit_test_batches=1"]
    run = fit("experiment=gan", "data=mnist", "trainer.max_epochs=1", *limits)
    assert run.metrics["test/loss"] > 0 and "test/accuracy" not in run.metrics


REFUSED = {
    ("model=mlp", "module=gan"): "module: a GAN needs a generator beside its critic: model=gan",
    (
        "model=gan",
        "trainer.accumulate_grad_batches=2",
    ): "trainer.accumulate_grad_batches=2: a GAN steps after each batch",
}


@pytest.mark.parametrize(("words", "message"), REFUSED.items(), ids=" ".join)
def test_what_makes_no_sense_is_refused_in_one_line(fit, words, message):
    with pytest.raises(ConfigError) as error:
        fit(*words)
    assert str(error.value) == message


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["experiment=gan", "model=mlp"], "callbacks=generated draws what a GAN generates"),
        (["model=gan", "callbacks=pictures"], "callbacks=pictures draws what a classifier sees"),
    ],
    ids=["generated", "pictures"],
)
def test_callback_of_another_kind_of_module_is_refused(fit, words, message):
    with pytest.raises(ConfigError, match=message):
        fit(*words, "trainer.max_epochs=1")


def test_model_alone_chooses_its_module(composed):
    for words, module in {
        ("model=gan",): "seedbed.training.gan.GAN",
        ("experiment=gan",): "seedbed.training.gan.GAN",
        ("experiment=gan", "model=mlp"): "seedbed.training.supervised.Supervised",
    }.items():
        assert composed(*words)[0]["module"]["_target_"] == module


@pytest.mark.slow
def test_experiment_gan_comes_near_real_digits(fit):
    """As many training pictures lie 6 from the validation pictures, threes alone 69, their mean picture 189."""
    run = fit("experiment=gan")
    curve = run.curve("val/loss")
    assert curve[-1] < 35 and curve[-1] < curve[0] / 2
