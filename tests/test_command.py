"""`python train.py` end to end: what it prints, what it leaves, what survives a kill."""

import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[1]


def command(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), *words]


def test_one_command_trains_and_leaves_a_complete_run(tmp_path):
    done = subprocess.run(command("trainer.max_epochs=3"), cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr
    (folder,) = tmp_path.glob("outputs/runs/*/*")
    assert re.fullmatch(r"\d\d-\d\d-\d\d-0", folder.name)
    assert {path.name for path in folder.iterdir()} - {"checkpoints"} == {
        ".hydra",
        "history.csv",
        "metrics.json",
        "train.log",
        next(folder.glob("events.out.tfevents.*")).name,
    }
    assert {path.name for path in (folder / ".hydra").iterdir()} == {"config.yaml", "hydra.yaml", "overrides.yaml"}
    metrics = json.loads((folder / "metrics.json").read_text())
    assert metrics.keys() >= {"status", "val/loss", "val/accuracy", "epochs", "steps", "seed", "fit_seconds"}
    assert metrics.keys() >= {"versions", "git"} and metrics["status"] == "completed"
    assert (metrics["epochs"], metrics["steps"]) == (3, 147) and metrics["val/accuracy"] > 0.96
    rows = [line.split() for line in done.stdout.splitlines()]
    assert rows[0] == ["epoch", "train", "loss", "val", "loss", "accuracy", "time"]
    # the untrained network and three epochs, each once, and nothing of a progress bar
    assert [row[0] for row in rows[1:5]] == ["0", "1", "2", "3"] and "training" not in done.stdout + done.stderr
    assert rows[1][1] == "–" and rows[4][3] == f"{metrics['val/accuracy']:.4f}" and rows[5][0] == "completed:"
    by_class = metrics["val/accuracy_by_class"]
    assert rows[6] == ["classes:", *f"7 {by_class['7']:.4f} 3 {by_class['3']:.4f} mean".split(), rows[6][-1]]
    for text in (f"val/accuracy {metrics['val/accuracy']:.4f}", str(folder.relative_to(tmp_path)), "tensorboard"):
        assert text in done.stdout
    for name in ("last", "best"):
        checkpoint = torch.load(folder / f"checkpoints/{name}.ckpt", weights_only=True)
        assert checkpoint["state_dict"]["net.1.weight"].shape == (30, 784)
    assert "completed" in (folder / "train.log").read_text()


def test_runs_of_one_second_get_folders_of_their_own(tmp_path):
    words = ["trainer.max_epochs=0", f"hydra.run.dir=${{run_folder:{tmp_path},same}}"]
    both = [subprocess.Popen(command(*words), stdout=subprocess.DEVNULL) for _ in range(2)]
    assert [run.wait(300) for run in both] == [0, 0]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["same-0", "same-1"]
    assert len(list(tmp_path.glob("same-*/metrics.json"))) == 2


def test_sweep_leaves_a_run_a_job_in_one_folder(tmp_path):
    words = ["-m", "optim.lr=0.1,1", "trainer.max_epochs=0"]
    assert subprocess.run(command(*words), cwd=tmp_path, capture_output=True, timeout=300).returncode == 0
    (sweep,) = tmp_path.glob("outputs/sweeps/*/*")
    assert re.fullmatch(r"\d\d-\d\d-\d\d", sweep.name)
    assert sorted(path.parent.name for path in sweep.glob("*/metrics.json")) == ["00-lr0.1", "01-lr1"]


def test_failure_in_training_leaves_its_traceback_and_status(tmp_path):
    bomb = tmp_path / "bomb.py"
    bomb.write_text(
        "from torch import nn\ndef net(shape, k):\n    return nn.Sequential(nn.Flatten(), nn.Linear(3, k))\n"
    )
    words = ["model=linear", "model._target_=bomb.net", f"hydra.run.dir={tmp_path}/run"]
    env = {**os.environ, "PYTHONPATH": str(tmp_path)}
    done = subprocess.run(command(*words), env=env, capture_output=True, text=True, timeout=300)
    assert done.returncode == 1
    assert "Traceback" in (tmp_path / "run/train.log").read_text()
    assert json.loads((tmp_path / "run/metrics.json").read_text())["status"] == "failed"


@pytest.mark.slow
def test_killed_run_resumes_to_the_same_weights(tmp_path):
    words = ["data.batch_size=16", "trainer.max_epochs=30", "model.dropout=0.1"]  # about ten seconds of training
    env = {**os.environ, "OMP_NUM_THREADS": "1"}  # a second thread does not help 16 rows
    whole = subprocess.run(command(*words, f"hydra.run.dir={tmp_path}/whole"), env=env, capture_output=True)
    assert whole.returncode == 0
    run = subprocess.Popen(command(*words, f"hydra.run.dir={tmp_path}/half"), env=env, stderr=subprocess.DEVNULL)
    last = tmp_path / "half/checkpoints/last.ckpt"
    deadline = time.monotonic() + 120
    while not last.exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    run.send_signal(signal.SIGKILL)
    run.wait()
    if (tmp_path / "half/metrics.json").exists():
        pytest.skip("the run was over before its first checkpoint was due")
    stopped = torch.load(last, weights_only=True)
    assert 0 < stopped["global_step"] < 30 * 775
    resumed = subprocess.run(
        command(*words, f"ckpt_path={last}", f"hydra.run.dir={tmp_path}/half"), env=env, capture_output=True
    )
    assert resumed.returncode == 0
    a, b = (torch.load(tmp_path / f / "checkpoints/last.ckpt", weights_only=True) for f in ("whole", "half"))
    assert a["global_step"] == b["global_step"] == 30 * 775
    assert all(torch.equal(a["state_dict"][k], b["state_dict"][k]) for k in a["state_dict"])
