"""Runs on a GPU: recorded steps against the usual ones, no waiting in the loop of steps, and a resumed run.

Results on a GPU differ in the last bits from one kernel to another, and 40 steps multiply that: weights are compared
to 1e-3 of their size (or 1e-4).
"""

import lightning.pytorch as pl
import pytest
import torch

import seedbed
from seedbed.training import loss_record
from seedbed.training.build import Parts, build_data, build_trainer

pytestmark = [pytest.mark.gpu, pytest.mark.skipif(not torch.cuda.is_available(), reason="needs an NVIDIA GPU")]
BOUND = {"rtol": 1e-3, "atol": 1e-4}
ON_GPU = {"accelerator": "gpu", "enable_progress_bar": False, "enable_checkpointing": False}
# of 13 batches the last is smaller: the recording of each size begins with its fourth batch
SHORT = ["trainer.max_epochs=6", "data.batch_size=1000"]
ROWS = [
    ["model=linear", "optim=sgd"],
    ["model=mlp", "optim=momentum", "schedule=one_cycle", "trainer.gradient_clip_val=0.05"],
    ["model=mlp", "optim=adam", "schedule=one_cycle", "trainer.precision=bf16-mixed"],
    ["model=mlp", "optim=adam", "+optim.fused=true"],
    ["model=convnet", "optim=adamw", "schedule=cosine", "loss=cross_entropy"],
    ["model=linear_scratch", "optim=basic", "schedule=linear"],
    ["model=resnet18", "+model.width=8", "optim=momentum", "optim.lr=0.01", "schedule=one_cycle", "loss=cross_entropy"],
]


class Keep(pl.Callback):
    """Keeps the loop's recorded steps, and the losses of two replays from the same weights."""

    __module__ = "seedbed.tests"  # of a known package

    def on_train_end(self, trainer, module) -> None:
        self.captured = trainer.fit_loop.epoch_loop._captured
        recordings = self.captured._recordings.values() if self.captured else ()
        self.replays = [recording.replay for recording in recordings]
        self.losses = []
        state = {name: value.clone() for name, value in module.net.state_dict().items()}
        for recording in [recording for recording in recordings if recording.replay][:1] * 2:
            recording.replay()
            self.losses.append(recording.losses.item())
            module.net.load_state_dict(state)


def train(config, capture: str):
    """Train in memory; return the module and what `Keep` kept."""
    config = {**config, "trainer": {**config["trainer"], **ON_GPU, "capture": capture, "loop": "fast"}}
    data = build_data(config)
    module, keep = Parts().module(config, data), Keep()
    build_trainer(config, False, [keep]).fit(module, data)
    return module, keep


@pytest.mark.parametrize("words", ROWS, ids=" ".join)
def test_captured_run_equals_the_usual_one(composed, words):
    config = composed(*SHORT, *words)[0]
    (plain, off), (recorded, kept) = train(config, "off"), train(config, "auto")
    assert off.captured is None and not kept.captured.has_failed
    assert len(kept.replays) == 2 and all(kept.replays)
    torch.testing.assert_close(recorded.net.cpu().state_dict(), plain.net.cpu().state_dict(), **BOUND)
    assert recorded.metrics["train/loss"] == pytest.approx(plain.metrics["train/loss"], rel=1e-3)
    assert recorded.metrics["val/accuracy"] == pytest.approx(plain.metrics["val/accuracy"], abs=2e-3)


def test_captured_dropout_draws_anew_in_every_step(composed):
    module, kept = train(composed("model.dropout=0.5", "trainer.max_epochs=5")[0], "auto")
    assert not kept.captured.has_failed and module.metrics["val/accuracy"] > 0.95
    first, second = kept.losses
    assert first != second


@pytest.mark.parametrize("capture", ["auto", "off"])
@pytest.mark.parametrize("words", [["optim=adam"], ["model=convnet", "optim=momentum", "schedule=one_cycle"]])
def test_host_waits_for_nothing_inside_the_loop_of_steps(composed, monkeypatch, capture, words):
    monkeypatch.setattr(loss_record, "CHECK_EVERY", 10**6)
    config = composed(*words, "trainer.max_epochs=1", "trainer.gradient_clip_val=1.0")[0]
    config["trainer"] |= {**ON_GPU, "capture": capture, "loop": "fast"}
    data = build_data(config)
    module = Parts().module(config, data)
    end_step = module.end_step

    def watched() -> None:
        end_step()
        # of 49 steps: not while the first are recorded, not at the epoch's end
        torch.cuda.set_sync_debug_mode("error" if 8 <= module.steps < 47 else "default")

    module.end_step = watched
    try:
        build_trainer(config, False, []).fit(module, data)
    finally:
        torch.cuda.set_sync_debug_mode("default")
    assert module.steps == 49


def test_run_goes_on_from_its_checkpoint(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    words = ["trainer.accelerator=gpu", "optim=adam", "trainer.max_epochs=3"]
    whole = seedbed.train(*words)
    half = seedbed.train(*words, "+trainer.max_steps=70", "hydra.run.dir=half")
    resumed = seedbed.train(*words, f"ckpt_path={half.folder}/checkpoints/last.ckpt", "hydra.run.dir=resumed")
    assert resumed.metrics["steps"] == whole.metrics["steps"] == 147
    last = [torch.load(run.folder / "checkpoints/last.ckpt", map_location="cpu") for run in (whole, resumed)]
    torch.testing.assert_close(*(checkpoint["state_dict"] for checkpoint in last), **BOUND)


def test_every_kind_of_run_trains(tmp_path, monkeypatch):
    """With accumulation, callbacks, ten classes, numbers as targets, a GAN, and a run that diverges."""
    monkeypatch.chdir(tmp_path)
    short = ["trainer.accelerator=gpu", "trainer.max_epochs=1", "+trainer.limit_train_batches=8"]
    for words in (
        ["trainer.accumulate_grad_batches=3"],
        ["callbacks=activation_stats"],
        ["callbacks=pictures", "trainer.loop=plain"],
        ["callbacks=ema"],
        ["loss=cross_entropy", "model=lenet", "optim.groups=[{params: '*bias', lr_scale: 2}]"],
        ["data=function", "model=rectified_lines", "loss=mse"],
        ["experiment=gan"],
    ):
        assert seedbed.train(*short, *words).metrics["status"] == "completed", words
    assert seedbed.train("trainer.accelerator=gpu", "optim.lr=1e9", "loss=mse").metrics["status"] == "diverged"
