"""A run whose loss left all bounds stops within ten steps and names the step, the same one in both loops."""

import json

import pytest
import torch

from seedbed.training.run import train_parts

WORDS = ["loss=mse", "optim.lr=1e6", "trainer.max_epochs=3", "data.batch_size=64"]


@pytest.mark.parametrize("extra", [[], ["optim=momentum", "trainer.accumulate_grad_batches=2"]], ids=" ".join)
def test_diverging_run_stops_at_the_same_step_in_both_loops(fit, extra):
    plain, fast = (fit(*WORDS, *extra, f"trainer.loop={loop}") for loop in ("plain", "fast"))
    assert plain.metrics["status"] == "diverged" and plain.metrics["epochs"] == 1
    at, steps = plain.metrics["diverged_at"], plain.metrics["steps"]
    assert 1 < at <= steps <= at + 9 and steps % 10 == 0
    assert (fast.metrics["diverged_at"], fast.metrics["steps"]) == (at, steps)
    for a, b in zip(plain.module.parameters(), fast.module.parameters(), strict=True):
        assert torch.equal(a.nan_to_num(7), b.nan_to_num(7))


def test_step_named_is_the_first_whose_loss_left_all_bounds(fit):
    import lightning.pytorch as pl

    losses = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            losses.append(outputs["loss"].item())

    run = fit(*WORDS, callbacks=[Watch()])
    assert run.metrics["diverged_at"] == next(n for n, loss in enumerate(losses, 1) if not loss <= 1e6)


def test_loss_that_is_finite_until_the_validation_diverges_at_the_epochs_last_step(fit):
    # one step from huge weights to larger ones: only the validation sees them
    run = fit("loss=mse", "model=linear", "optim.lr=1e38", "trainer.max_epochs=3", "+trainer.limit_train_batches=1")
    assert run.metrics["status"] == "diverged" and (run.metrics["diverged_at"], run.metrics["steps"]) == (1, 1)


def test_member_of_a_stack_ends_where_its_solo_run_does(sweep):
    words = [*WORDS, "optim.lr=1e6,0.01,1e5", "trainer.max_epochs=2"]
    basic, fused = (sweep(launcher, *words) for launcher in ("basic", "fused"))
    for job in range(3):
        a, b = (json.loads((folder / f"{job}/metrics.json").read_text()) for folder in (basic, fused))
        same = ("status", "epochs", "steps", "diverged_at")
        assert {k: a.get(k) for k in same} == {k: b.get(k) for k in same}
    assert a["status"] == "diverged" and a["steps"] < 194


class Wide(torch.nn.Module):
    """Leaves float32 in a layer of its own at the tenth training batch."""

    def __init__(self):
        super().__init__()
        self.batches = 0

    def forward(self, x):
        self.batches += self.training
        return x * (torch.inf if self.training and self.batches == 10 else 1.0)


def wide(in_shape, num_outputs):
    return torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(784, 30), Wide(), torch.nn.Linear(30, num_outputs))


def test_run_names_step_lr_and_the_layer_that_left_the_range_first(composed, tmp_path):
    words = ["trainer.max_epochs=2", "schedule=linear", "optim.lr=0.1"]
    config = composed(*words)[0]
    config["model"] = {"_target_": f"{__name__}.wide"}
    metrics = train_parts(config, tmp_path, {})
    assert (metrics["status"], metrics["diverged_at"], metrics["diverged_layer"]) == ("diverged", 10, "2 (Wide)")
    assert metrics["diverged_lr"] == pytest.approx(0.1 * (1 - 9 / 98))


def test_the_last_good_checkpoint_stays(composed, tmp_path):
    """The lr grows: the checkpoints of before the divergence are of finite weights, and seven steps old at most."""
    words = ["loss=mse", "optim=momentum", "trainer.max_epochs=8", "schedule=exponential", "schedule.start=1e-6"]
    words += ["schedule.end=1e8", "optim.lr=1", "ckpt.every_n_steps=7"]
    metrics = train_parts(composed(*words)[0], tmp_path, {})
    assert metrics["status"] == "diverged" and metrics["diverged_at"] > 60 and metrics["diverged_layer"]
    good, last, best = (
        torch.load(tmp_path / f"checkpoints/{name}.ckpt", weights_only=True) for name in ("last_good", "last", "best")
    )
    assert metrics["diverged_at"] - 7 <= good["steps"] < metrics["diverged_at"] and last["steps"] == metrics["steps"]
    for checkpoint in (good, best):
        assert all(value.isfinite().all() for value in checkpoint["state_dict"].values())
    assert last["run"]["diverged"]


def test_members_of_a_stack_name_the_layer_of_their_solo_runs(sweep):
    words = [*WORDS, "optim.lr=1e6,0.01", "trainer.max_epochs=2"]
    basic, fused = (json.loads((sweep(how, *words) / "0/metrics.json").read_text()) for how in ("basic", "fused"))
    assert basic["diverged_layer"] and basic["diverged_lr"] == 1e6
    assert {k: v for k, v in basic.items() if "diverged" in k} == {k: v for k, v in fused.items() if "diverged" in k}
