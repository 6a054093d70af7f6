"""Every argument of Lightning's Trainer is obeyed, whichever loop runs, or refused in one line."""

import inspect

import lightning.pytorch as pl
import pytest
import torch

from seedbed.allowed_values import RULES, check
from seedbed.errors import ConfigError
from seedbed.training.fast_loop import KNOWN

ARGUMENTS = inspect.signature(pl.Trainer).parameters
SHORT = ["model=linear", "trainer.max_epochs=1", "+trainer.limit_train_batches=4"]


def steps(run) -> tuple[int, int]:
    return run.metrics["epochs"], run.metrics["steps"]


def validated_at(run) -> list[int]:
    return [event.step for event in run.events("val/loss")]


def has_files(run) -> bool:
    return bool(list(run.folder.glob("events.*"))) and (run.folder / "checkpoints/last.ckpt").exists()


# argument → (overrides, what holds of the run)
OBEYED = {
    "accelerator": (["trainer.accelerator=cpu"], lambda run: run.module.device.type == "cpu"),
    "strategy": (["trainer.strategy=auto"], has_files),
    "devices": (["trainer.devices=1"], has_files),
    "precision": (["trainer.precision=64-true"], lambda run: run.module.net[1].weight.dtype == torch.float64),
    "logger": (["+trainer.logger=false"], lambda run: not list(run.folder.glob("events.*"))),
    "fast_dev_run": (
        ["+trainer.fast_dev_run=3"],
        lambda run: steps(run) == (1, 3) and not list(run.folder.rglob("*.*")),
    ),
    "max_epochs": (["trainer.max_epochs=3"], lambda run: steps(run) == (3, 12)),
    "max_steps": (["trainer.max_epochs=3", "+trainer.max_steps=6"], lambda run: run.metrics["steps"] == 6),
    "max_time": (
        ["trainer.max_epochs=100000", "+trainer.max_time={seconds: 0.3}"],
        lambda run: steps(run)[0] < 100_000,
    ),
    "limit_train_batches": (["trainer.limit_train_batches=0.1"], lambda run: steps(run) == (1, 4)),
    # a share of a validation set of a single batch is that batch
    "limit_val_batches": (["+trainer.limit_val_batches=0.1"], lambda run: validated_at(run) == [0, 4]),
    "limit_test_batches": (["+trainer.limit_test_batches=0.5"], has_files),
    "val_check_interval": (["+trainer.val_check_interval=2"], lambda run: validated_at(run) == [0, 2, 4]),
    "check_val_every_n_epoch": (
        ["trainer.max_epochs=5", "+trainer.check_val_every_n_epoch=2"],
        lambda run: validated_at(run) == [0, 8, 16, 20],
    ),
    "num_sanity_val_steps": (["+trainer.num_sanity_val_steps=0"], lambda run: validated_at(run) == [4]),
    "log_every_n_steps": (
        ["trainer.log_every_n_steps=2"],
        lambda run: [event.step for event in run.events("train/loss")] == [2, 4],
    ),
    "enable_checkpointing": (["+trainer.enable_checkpointing=false"], lambda run: not list(run.folder.rglob("*.ckpt"))),
    "enable_progress_bar": (["+trainer.enable_progress_bar=false"], lambda run: not run.trainer.progress_bar_callback),
    "accumulate_grad_batches": (["trainer.accumulate_grad_batches=3"], lambda run: steps(run) == (1, 2)),
    "deterministic": (["+trainer.deterministic=warn"], lambda run: torch.are_deterministic_algorithms_enabled()),
    "benchmark": (["+trainer.benchmark=true"], lambda run: torch.backends.cudnn.benchmark),
    "inference_mode": (["+trainer.inference_mode=false"], has_files),
    "plugins": (
        ["trainer.precision=null", "+trainer.plugins=[{_target_: lightning.pytorch.plugins.DoublePrecision}]"],
        lambda run: run.module.net[1].weight.dtype == torch.float64,
    ),
    "sync_batchnorm": (["+trainer.sync_batchnorm=true"], has_files),
    "reload_dataloaders_every_n_epochs": (
        ["trainer.max_epochs=2", "+trainer.reload_dataloaders_every_n_epochs=1"],
        lambda run: steps(run) == (2, 8),
    ),
    "enable_autolog_hparams": (["+trainer.enable_autolog_hparams=false"], has_files),
}
REFUSED = {
    "num_nodes": "+trainer.num_nodes=2",
    "callbacks": "+trainer.callbacks=mine",
    "limit_predict_batches": "+trainer.limit_predict_batches=2",
    "use_distributed_sampler": "+trainer.use_distributed_sampler=false",
    "barebones": "+trainer.barebones=true",
    "model_registry": "+trainer.model_registry=mine",
}
# arguments with a test of their own below
BELOW = {"min_epochs", "min_steps", "overfit_batches", "gradient_clip_val", "gradient_clip_algorithm"}
BELOW |= {"profiler", "enable_model_summary", "detect_anomaly", "default_root_dir"}


@pytest.fixture(autouse=True)
def torch_as_before():
    yield
    torch.use_deterministic_algorithms(False)
    torch.backends.cudnn.benchmark = False


def test_table_has_every_argument():
    assert {f"trainer.{name}" for name in ARGUMENTS} <= RULES.keys() and ARGUMENTS.keys() >= KNOWN
    assert OBEYED.keys() | REFUSED.keys() | BELOW == ARGUMENTS.keys()


@pytest.mark.parametrize("argument", OBEYED)
def test_argument_is_obeyed(composed, fit, argument):
    overrides, holds = OBEYED[argument]
    check(composed(*SHORT, *overrides)[0])
    assert holds(fit(*SHORT, *overrides))


@pytest.mark.parametrize("argument", REFUSED)
def test_argument_is_refused_in_one_line(composed, argument):
    with pytest.raises(ConfigError, match=rf"^trainer.{argument}=\S+: must be \S+: .+$"):
        check(composed(REFUSED[argument])[0])


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("+trainer.limit_val_batches=0", "trainer.limit_val_batches=0: leaves none of 1 batches"),
        ("+trainer.overfit_batches=0.01", "trainer.overfit_batches=0.01: leaves none of 49 batches"),
        ("+trainer.val_check_interval=100", "trainer: `val_check_interval` (100) must be less than or equal to"),
        ("+trainer.callbacks=[{_target_: lightning.pytorch.Callback}]", "trainer.callbacks: must be null: callbacks=…"),
        ("+trainer.max_tim=3", "trainer: "),
    ],
)
def test_value_that_lightning_refuses_ends_in_one_line(fit, override, message):
    with pytest.raises(ConfigError) as error:
        fit(*SHORT, override)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


class StopAtOnce(pl.Callback):
    def on_train_start(self, trainer, module):
        trainer.should_stop = True


@pytest.mark.parametrize("loop", ["fast", "plain"])
def test_run_that_is_stopped_trains_the_least_of_epochs_and_steps(fit, loop):
    words = [*SHORT, "trainer.max_epochs=5", f"trainer.loop={loop}"]
    assert steps(fit(*words, "+trainer.min_epochs=2", callbacks=[StopAtOnce()])) == (2, 8)
    assert fit(*words, "+trainer.min_steps=6", callbacks=[StopAtOnce()]).metrics["steps"] == 6


@pytest.mark.parametrize("loop", ["fast", "plain"])
@pytest.mark.parametrize("algorithm", ["norm", "value"])
def test_gradients_are_clipped_by_norm_or_value(fit, loop, algorithm):
    words = [*SHORT, "trainer.gradient_clip_val=0.001", f"+trainer.gradient_clip_algorithm={algorithm}"]
    run = fit(*words, "trainer.limit_train_batches=1", "optim.lr=1", f"trainer.loop={loop}")
    start = fit(*SHORT, "trainer.max_epochs=0")
    changes = [(a - b).detach() for a, b in zip(start.module.parameters(), run.module.parameters(), strict=True)]
    if algorithm == "value":
        assert max(c.abs().max() for c in changes) == pytest.approx(1e-3, rel=1e-3)
    else:
        assert torch.cat([c.flatten() for c in changes]).norm() == pytest.approx(1e-3, rel=1e-3)


@pytest.mark.parametrize(("batches_of_49", "steps_of_three_epochs"), [("1", 3), ("0.1", 12)])
def test_overfitted_batches_are_the_same_in_each_epoch(fit, batches_of_49, steps_of_three_epochs):
    batches = []

    class Watch(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            batches.append(batch[0].clone())

    fit(*SHORT, f"+trainer.overfit_batches={batches_of_49}", "trainer.max_epochs=3", callbacks=[Watch()])
    assert len(batches) == steps_of_three_epochs
    first, second, third = (batches[i * len(batches) // 3] for i in range(3))
    assert torch.equal(first, second) and torch.equal(first, third)


@pytest.mark.parametrize(
    ("override", "text"),
    [("+trainer.profiler=simple", "run_training_batch"), ("+trainer.enable_model_summary=true", "Total params")],
)
def test_report_that_was_asked_for_is_printed(fit, caplog, capsys, override, text):
    fit(*SHORT, override)
    assert text in caplog.text + capsys.readouterr().out


def test_profiler_of_absent_package_is_refused(composed):
    with pytest.raises(ConfigError, match=r"^trainer\.profiler=xla: must be null or one of simple, advanced, pytorch"):
        check(composed("+trainer.profiler=xla")[0])


def test_anomaly_is_detected(fit):
    with pytest.raises(RuntimeError, match="returned nan values"):
        fit(*SHORT, "+trainer.detect_anomaly=true", "loss=rmse", "init=normal", "init.std=1e38")


def test_pictures_go_to_the_root_that_was_given(fit, tmp_path):
    fit(*SHORT, f"+trainer.default_root_dir={tmp_path}/elsewhere", "callbacks=pictures")
    assert (tmp_path / "elsewhere/pictures/samples.png").exists()
