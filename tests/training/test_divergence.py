"""A run whose loss left all bounds stops within ten steps and names the step, the same one in both loops."""

import json

import pytest
import torch

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
