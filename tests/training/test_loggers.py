"""Another logger than TensorBoard's, or none, changes what is written and nothing else."""

import csv

import pytest

from seedbed.errors import ConfigError
from seedbed.training.build import build_loggers

DRAW = ["callbacks=[pictures,activation_stats]", "callbacks.activation_stats.every=20"]


@pytest.fixture(scope="module")
def files():
    """files(folder) → names of the pictures, and of the event files."""
    return lambda folder: (
        {str(path.relative_to(folder)) for path in folder.glob("pictures/**/*.png")},
        list(folder.glob("events.out.tfevents.*")),
    )


def test_csv_and_none_leave_the_same_run(fit, files):
    plain = fit("trainer.max_epochs=2", *DRAW)
    of_csv, silent = fit("trainer.max_epochs=2", "logger=csv"), fit("trainer.max_epochs=2", "logger=none", *DRAW)
    pictures, events = files(plain.folder)
    assert pictures and len(events) == 1
    assert files(silent.folder) == (pictures, []) and files(of_csv.folder)[1] == []
    for run in (of_csv, silent):
        times = {"fit_seconds": 0}
        assert run.metrics | times == plain.metrics | times
        assert (run.folder / "checkpoints/last.ckpt").exists()
    with open(of_csv.folder / "csv/version_0/metrics.csv", newline="") as file:
        rows = [float(row["val/loss"]) for row in csv.DictReader(file) if row["val/loss"]]
    assert rows == pytest.approx(plain.curve("val/loss"), rel=1e-6)
    assert "optim.lr: 0.1" in (of_csv.folder / "csv/version_0/hparams.yaml").read_text()


def test_loggers_by_target_write_into_the_runs_folder_unless_told_otherwise(composed, tmp_path):
    target = "_target_=lightning.pytorch.loggers.CSVLogger"
    config, _ = composed(
        "logger=[tensorboard,csv]", f"+logger.{target}", f"+logger.a.{target}", "+logger.a.save_dir=there"
    )
    folders = [logger.save_dir for logger in build_loggers(config, tmp_path)]
    assert folders == [str(tmp_path), str(tmp_path), "there", str(tmp_path)]
    for words, message in (
        ([f"+logger.{target}r"], "logger: Error locating target 'lightning.pytorch.loggers.CSVLoggerr'.*"),
        (
            ["logger=csv", "+logger.csv.nme=1"],
            r"logger: CSVLogger.__init__\(\) got an unexpected keyword argument 'nme'",
        ),
    ):
        with pytest.raises(ConfigError, match=f"^{message}$"):
            build_loggers(composed(*words)[0], tmp_path)


def test_logger_whose_package_is_absent_is_refused_in_one_line(composed, tmp_path, monkeypatch):
    monkeypatch.setattr("lightning.pytorch.loggers.wandb._WANDB_AVAILABLE", False)
    with pytest.raises(ConfigError, match=r"^logger: [^\n]*$"):
        build_loggers(composed("+logger._target_=lightning.pytorch.loggers.WandbLogger")[0], tmp_path)


def test_stack_without_a_logger_writes_no_events(sweep, files):
    folder = sweep("fused", "logger=none,tensorboard,csv", "seed=0,1", "trainer.max_epochs=1")
    assert [len(files(folder / str(n))[1]) for n in range(6)] == [0, 0, 1, 1, 0, 0]
    assert [(folder / f"{n}/csv/version_0/metrics.csv").exists() for n in range(6)] == [False] * 4 + [True] * 2
