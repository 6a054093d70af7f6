"""Stacks on a GPU: recorded steps against the usual ones, a sweep against its solo runs, a resumed stack."""

import lightning.pytorch as pl
import pytest
import torch

import seedbed
from seedbed.fused.build import build_stack
from seedbed.fused.checkpoints import StackCheckpoints
from seedbed.training.build import Parts, build_data, build_trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
# see tests/training/test_on_gpu.py
BOUND = {"rtol": 1e-3, "atol": 1e-4}


class Stop(pl.Callback):
    """Ends the run as a kill would."""

    def on_train_epoch_end(self, trainer, module) -> None:
        if trainer.current_epoch == 2:
            raise InterruptedError


class Keep(pl.Callback):
    """Keeps the loop's recorded steps."""

    __module__ = "seedbed.tests"  # of a known package

    def on_train_end(self, trainer, module) -> None:
        self.captured = trainer.fit_loop.epoch_loop._captured
        self.replays = [r.replay for r in self.captured._recordings.values() if r.replay] if self.captured else []


def train(configs, folder, capture="auto", groups=2, ckpt_path=None, callbacks=()):
    data = build_data(configs[0])
    data.seed = list(range(groups))
    stack = build_stack(Parts(), configs, groups, data)
    options = {**configs[0]["trainer"], "accelerator": "gpu", "capture": capture, "loop": "fast"}
    checkpoints = StackCheckpoints(folder)
    checkpoints.every = 0
    trainer = build_trainer({**configs[0], "trainer": options}, False, [checkpoints])
    keep = Keep()
    trainer.callbacks.extend([keep, *callbacks])
    trainer.fit(stack, data, ckpt_path=ckpt_path)
    return stack, keep


def on_cpu(tensors):
    return {name: value.cpu() for name, value in tensors.items()}


@pytest.mark.parametrize(
    ("words", "change"),
    [
        (["optim=adam"], "seed=1"),
        (["optim=momentum", "schedule=one_cycle", "trainer.gradient_clip_val=0.1"], "optim.lr=0.03"),
        (["model=convnet", "optim=adamw", "loss=cross_entropy"], "loss.label_smoothing=0.1"),
        (["optim=rmsprop", "optim.momentum=0.5", "schedule=cosine"], "optim.lr=0.0003"),
    ],
)
def test_captured_stack_equals_the_usual_one(composed, tmp_path, words, change):
    short = ["trainer.max_epochs=5", "data.batch_size=1000", "+trainer.enable_progress_bar=false"]
    configs = [composed(*short, *words)[0], composed(*short, *words, change)[0]]
    plain, off = train(configs, tmp_path / "plain", "off")
    recorded, kept = train(configs, tmp_path / "recorded")
    assert off.captured is None and not kept.captured.has_failed and kept.replays
    torch.testing.assert_close(on_cpu(recorded.final), on_cpu(plain.final), **BOUND)


def test_stack_goes_on_from_its_checkpoint(composed, tmp_path):
    configs = [
        composed("optim=adam", "trainer.max_epochs=4", "+trainer.enable_progress_bar=false", f"optim.lr={lr}")[0]
        for lr in (0.001, 0.003)
    ]
    whole, _ = train(configs, tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(configs, tmp_path / "half", callbacks=[Stop()])
    resumed, _ = train(configs, tmp_path / "on", ckpt_path=str(tmp_path / "half/last.ckpt"))
    torch.testing.assert_close(on_cpu(resumed.final), on_cpu(whole.final), **BOUND)
    assert len(resumed.history) == 4


def test_jobs_of_a_sweep_equal_their_solo_runs(tmp_path, monkeypatch):
    """With an early stop, a member that diverges and an order of data for each seed."""
    monkeypatch.chdir(tmp_path)
    words = ["trainer.accelerator=gpu", "trainer.max_epochs=6", "callbacks=early_stopping"]
    seedbed.sweep("hydra/launcher=fused", *words, "optim.lr=0.1,1,1e9", "loss=mse", "seed=0,1", "hydra.sweep.dir=sweep")
    jobs = seedbed.load_sweep("sweep").table
    assert list(jobs["status"]) == ["completed"] * 4 + ["diverged"] * 2
    for job, (lr, seed) in zip(jobs.to_dict("records"), [(0.1, 0), (0.1, 1), (1, 0), (1, 1)], strict=False):
        solo = seedbed.train(*words, f"optim.lr={lr}", "loss=mse", f"seed={seed}").metrics
        assert job["val/accuracy"] == pytest.approx(solo["val/accuracy"], abs=3e-3)
        assert job["val/loss"] == pytest.approx(solo["val/loss"], rel=2e-2)
