"""Runs and sweeps of every version of the files (see formats.py) load, report and go on: tests/samples/format-N."""

import csv
import json
import shutil
from pathlib import Path

import pytest
import torch

import seedbed
from seedbed.data.mnist_sample import mnist_sample
from seedbed.formats import FORMAT
from seedbed.history import read_history
from seedbed.report.write import write_report
from seedbed.sweeps.records import read
from seedbed.training.load import load

SAMPLES = Path(__file__).parent / "samples"
WORDS = ["model=linear", "optim.lr=0.1,1", "trainer.max_epochs=1", "trainer.accelerator=cpu"]
pytestmark = pytest.mark.parametrize(
    "sample", [SAMPLES / f"format-{n}" for n in range(1, FORMAT + 1)], ids=lambda p: p.name
)


def test_run_loads_and_has_the_accuracy_that_it_says(sample):
    loaded = load(sample / "run")
    metrics = json.loads((sample / "run/metrics.json").read_text())
    x, y = mnist_sample().valid
    predicted = loaded.probabilities(x).argmax(1)
    assert (predicted == y).double().mean().item() == pytest.approx(metrics["val/accuracy"], abs=1e-3)
    assert list(read_history(sample / "run", ["val/accuracy"])["val/accuracy"].values())[-1] == pytest.approx(
        metrics["val/accuracy"]
    )


def test_sweep_is_read_and_reported(sample, tmp_path):
    jobs = read(sample / "sweep")
    assert [(job.status, job.values["optim.lr"]) for job in jobs] == [("completed", 0.1), ("completed", 1)]
    page = write_report([sample / "sweep"], tmp_path, None, False, lambda text: None)
    assert "optim.lr" in Path(page).read_text(encoding="utf-8")


def test_run_goes_on_from_its_checkpoint(sample, fit):
    words = ["model=linear", "trainer.max_epochs=2"]
    gone_on, whole = fit(*words, f"ckpt_path={sample}/run/checkpoints/last.ckpt"), fit(*words)
    assert gone_on.metrics["steps"] == whole.metrics["steps"]
    for a, b in zip(gone_on.module.parameters(), whole.module.parameters(), strict=True):
        # made on another machine, perhaps
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_sweep_goes_on_and_grows(sample, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    shutil.copytree(sample / "sweep", "sweep")
    first, second = (job.folder for job in read(Path("sweep")))
    kept = (Path("sweep") / first / "metrics.json").stat()
    (Path("sweep") / second / "metrics.json").unlink()
    shutil.rmtree(Path("sweep") / second / "checkpoints")
    seedbed.sweep("hydra/launcher=fused", *WORDS, "resume=sweep")
    assert [job.status for job in read(Path("sweep"))] == ["completed"] * 2
    seedbed.sweep("hydra/launcher=fused", WORDS[0], "optim.lr=0.1,1,2", *WORDS[2:], "resume=sweep", "extend=true")
    jobs = read(Path("sweep"))
    assert [job.values["optim.lr"] for job in jobs] == [0.1, 1, 2] and [job.number for job in jobs] == [0, 1, 2]
    assert [job.folder for job in jobs[:2]] == [first, second]
    assert (Path("sweep") / first / "metrics.json").stat() == kept
    with open("sweep/summary.csv", encoding="utf-8") as file:
        assert [row["status"] for row in csv.DictReader(file)] == ["completed"] * 3
