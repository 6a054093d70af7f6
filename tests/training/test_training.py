"""The Lightning path trains exactly as a plain loop does, the same each time, and goes on exactly where it stopped."""

import json
import math

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

import seedbed.training.fast_loop
from seedbed.data.mnist_sample import mnist_sample
from seedbed.training.run import report, write_metrics


def seven_steps(seed: int, epochs: int, lr: float) -> dict[str, torch.Tensor]:
    """The training loop of the course in plain PyTorch: what everything else has to equal."""
    x, y = mnist_sample().train
    x = x.float() / 255
    # 1. initialise
    torch.manual_seed(seed)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 1))
    for epoch in range(epochs):
        for rows in reference_order(len(y), seed, epoch).split(256):
            # 2. predict
            predictions = net(x[rows]).sigmoid().squeeze(1)
            # 3. loss
            loss = torch.where(y[rows] == 1, 1 - predictions, predictions).mean()
            # 4. gradient
            loss.backward()
            # 5. step
            with torch.no_grad():
                for p in net.parameters():
                    p -= lr * p.grad
                    p.grad = None
        # 6. repeat
    # 7. stop
    return net.state_dict()


def reference_order(n: int, seed: int, epoch: int) -> torch.Tensor:
    import numpy as np

    mixed = int(np.random.SeedSequence((seed, epoch)).generate_state(1)[0])
    return torch.randperm(n, generator=torch.Generator().manual_seed(mixed))


def weights(module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in module.net.state_dict().items()}


def assert_same_bits(a: dict[str, torch.Tensor], b: dict[str, torch.Tensor]) -> None:
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_lightning_path_equals_the_plain_loop(fit):
    expected = seven_steps(seed=3, epochs=2, lr=0.1)
    found = weights(fit("seed=3", "trainer.max_epochs=2").module)
    for (_, a), (_, b) in zip(expected.items(), found.items(), strict=True):
        # 98 steps; the plain loop's p -= lr * grad rounds twice where SGD rounds once: a few units of 6e-8 each
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)


@pytest.mark.parametrize("extra", [[], ["model.dropout=0.5"], ["optim=adam", "schedule=one_cycle"]])
def test_two_runs_of_a_config_have_equal_bits(fit, extra):
    first, second = (fit("trainer.max_epochs=2", *extra) for _ in range(2))
    assert_same_bits(weights(first.module), weights(second.module))
    assert first.metrics["val/loss"] == second.metrics["val/loss"]


def test_seed_varies_weights_and_order_and_data_seed_only_the_order(fit):
    base, seed, order = (
        fit("trainer.max_epochs=0", *extra) for extra in ([], ["seed=1", "data.seed=0"], ["data.seed=1"])
    )
    assert_same_bits(weights(base.module), weights(order.module))
    assert not torch.equal(base.module.net[1].weight, seed.module.net[1].weight)
    rows = [run.data.train_dataloader().sampler.indices() for run in (base, seed, order)]
    assert torch.equal(rows[0], rows[1]) and not torch.equal(rows[0], rows[2])


def test_basic_and_sgd_give_equal_bits_in_a_whole_run(fit):
    assert_same_bits(*(weights(fit("trainer.max_epochs=1", f"optim={o}").module) for o in ("basic", "sgd")))


def test_nll_behind_log_softmax_equals_cross_entropy(fit):
    nll, ce = (fit("trainer.max_epochs=2", f"loss={loss}").metrics for loss in ("nll", "cross_entropy"))
    assert round(nll["val/accuracy"], 4) == round(ce["val/accuracy"], 4)
    assert nll["val/loss"] == pytest.approx(ce["val/loss"], abs=1e-5)


class StopAt(pl.Callback):
    """Dies after a number of optimiser steps, as a machine does: no further hook runs."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step >= self.step:
            raise InterruptedError


@pytest.mark.parametrize("step", [20, 49, 60, 98, 120], ids=lambda s: f"after {s} of 147 steps")
@pytest.mark.parametrize("extra", [["model.dropout=0.2", "optim=adam", "schedule=one_cycle"], ["data.shuffle=false"]])
def test_resumed_run_equals_uninterrupted_run(fit, monkeypatch, tmp_path, step, extra):
    monkeypatch.setattr(seedbed.training.fast_loop, "CALL", 0.0)  # a call a step: every step is a place to stop
    overrides = ["trainer.max_epochs=3", *extra]
    whole = fit(*overrides, folder=tmp_path / "whole")
    with pytest.raises(InterruptedError):
        fit(*overrides, folder=tmp_path / "half", callbacks=[StopAt(step)], every=0)
    resumed = fit(*overrides, f"ckpt_path={tmp_path}/half/checkpoints/last.ckpt", folder=tmp_path / "resumed")
    assert_same_bits(weights(whole.module), weights(resumed.module))
    assert {k: v for k, v in resumed.metrics.items() if k != "fit_seconds"} == {
        k: v for k, v in whole.metrics.items() if k != "fit_seconds"
    }
    best = [torch.load(tmp_path / f / "checkpoints/best.ckpt", weights_only=True) for f in ("whole", "resumed")]
    assert best[0]["epoch"] == best[1]["epoch"]
    assert_same_bits(*(b["state_dict"] for b in best))


def test_finished_run_goes_on_for_more_epochs(fit, tmp_path):
    longer = fit("trainer.max_epochs=3", folder=tmp_path / "longer")
    fit("trainer.max_epochs=2", folder=tmp_path / "short")
    gone_on = fit("trainer.max_epochs=3", f"ckpt_path={tmp_path}/short/checkpoints/last.ckpt", folder=tmp_path / "on")
    assert_same_bits(weights(longer.module), weights(gone_on.module))
    assert gone_on.metrics["steps"] == 147 and gone_on.metrics["epochs"] == 3


def test_run_with_nothing_left_to_train_is_evaluated(fit, tmp_path):
    done = fit("trainer.max_epochs=1", folder=tmp_path / "done")
    again = fit("trainer.max_epochs=1", f"ckpt_path={tmp_path}/done/checkpoints/last.ckpt", folder=tmp_path / "again")
    assert again.metrics["val/accuracy"] == done.metrics["val/accuracy"]
    # the training before a resume counts
    assert again.metrics["fit_seconds"] >= done.module.history[-1]["seconds"] > 0
    assert (tmp_path / "again/checkpoints/best.ckpt").exists()


def test_best_checkpoint_is_the_epoch_of_the_highest_accuracy(fit, tmp_path):
    run = fit("trainer.max_epochs=6", "data.shuffle=false", "optim.lr=1", folder=tmp_path)
    curve = run.curve("val/accuracy")[1:]
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == curve.index(max(curve))
    run.module.load_state_dict(best["state_dict"])
    x, y = run.data.splits.valid
    with torch.no_grad():
        accuracy = (run.module.loss.predict(run.module(x.float() / 255)) == y).float().mean().item()
    assert accuracy == pytest.approx(max(curve))


def test_best_checkpoint_without_classes_is_the_epoch_of_the_lowest_loss_and_accuracy_is_null(fit, tmp_path):
    # so large a rate that the loss goes up and down
    words = ["data=function", "model=rectified_lines", "loss=mse", "optim=adam", "optim.lr=0.5"]
    run = fit(*words, "trainer.max_epochs=8", folder=tmp_path)
    curve = run.curve("val/loss")[1:]
    best = torch.load(tmp_path / "checkpoints/best.ckpt", weights_only=True)
    assert best["epoch"] == curve.index(min(curve)) < 7
    assert run.metrics["val/accuracy"] is None and "val/accuracy" not in run.hparams()["metrics"]
    line = report(run.metrics, tmp_path, tmp_path, alone=False)
    assert f"val/loss {curve[-1]:.4f}" in line and "accuracy" not in line


def test_accuracy_and_losses_are_exact_over_all_samples(fit):
    run = fit("trainer.max_epochs=1", "optim.lr=1e-30", "data.batch_size=1000")  # weights stay what they were
    for name, (x, y) in {"train": run.data.splits.train, "val": run.data.splits.valid}.items():
        with torch.no_grad():
            output = run.module(x.float() / 255)
        # means of up to 12,396 float32 numbers in another order: 1e-6
        assert run.metrics[f"{name}/loss"] == pytest.approx(run.module.loss(output, y).item(), abs=1e-6)
    assert run.metrics["val/accuracy"] == (run.module.loss.predict(output) == y).sum().item() / 2038


def test_lightning_counts_true_steps_whatever_the_slices(fit, monkeypatch):
    whole = fit("trainer.max_epochs=2")
    monkeypatch.setattr(seedbed.training.fast_loop, "CALL", 0.0)
    single = fit("trainer.max_epochs=2")
    assert whole.trainer.global_step == single.trainer.global_step == 98
    assert [e.step for e in whole.events("val/loss")] == [e.step for e in single.events("val/loss")] == [0, 49, 98]
    assert_same_bits(weights(whole.module), weights(single.module))


class Watcher(pl.Callback):
    """Asks for Lightning's own backward and step by listening to them."""

    seen = 0

    def on_before_optimizer_step(self, trainer, module, optimizer):
        assert all(p.grad is not None for p in module.net.parameters())
        self.seen += 1


def test_watched_steps_equal_unwatched_ones(fit):
    watcher = Watcher()
    watched, free = fit("trainer.max_epochs=1", callbacks=[watcher]), fit("trainer.max_epochs=1")
    assert watcher.seen == watched.trainer.global_step == free.trainer.global_step == 49
    assert_same_bits(weights(watched.module), weights(free.module))


@pytest.mark.parametrize("precision", ["bf16-mixed", "64-true", "bf16-true"])
def test_precisions_train(fit, precision):
    assert fit("trainer.max_epochs=3", f"trainer.precision={precision}").metrics["val/accuracy"] > 0.95


def test_limits_of_the_trainer_are_kept(fit):
    assert fit("trainer.max_epochs=2", "+trainer.limit_train_batches=3").metrics["steps"] == 6
    assert fit("trainer.max_epochs=2", "+trainer.max_steps=60").metrics["steps"] == 60


def test_diverging_run_stops_and_says_so(fit, tmp_path):
    run = fit("loss=mse", "optim.lr=1e6", "trainer.max_epochs=5")
    assert run.metrics["status"] == "diverged" and run.metrics["epochs"] < 5
    write_metrics(tmp_path, run.metrics)
    assert json.loads((tmp_path / "metrics.json").read_text())["train/loss"] is None
    assert math.isnan(run.metrics["train/loss"])


def test_event_file_holds_the_curves_and_one_hparams_record_with_real_metrics(fit, tmp_path):
    run = fit("trainer.max_epochs=3", folder=tmp_path)
    assert len(list(tmp_path.glob("events.out.tfevents.*"))) == 1
    assert run.curve("val/accuracy")[-1] == pytest.approx(run.metrics["val/accuracy"])
    steps = {tag: [e.step for e in run.events(tag)] for tag in ("train/loss", "lr", "val/loss", "val/accuracy")}
    assert steps["val/loss"] == steps["val/accuracy"] == [0, 49, 98, 147]
    assert steps["train/loss"] == steps["lr"] == list(range(1, 148))
    record = run.hparams()
    assert record["hparams"]["optim.lr"] == 0.1 and record["hparams"]["model"] == "mlp"
    assert "val/accuracy" in record["metrics"] and "hp_metric" not in record["metrics"]
