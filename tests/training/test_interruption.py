"""SIGTERM and Ctrl-C: a checkpoint, a line on how to go on, and the signal's exit code, within seconds."""

import re
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["data.batch_size=16", "trainer.max_epochs=6", "trainer.accelerator=cpu"]


def start(folder: Path, *words: str) -> subprocess.Popen:
    command = [sys.executable, str(ROOT / "train.py"), *words, *WORDS]
    return subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def wait_for(pattern: str, folder: Path, process: subprocess.Popen) -> None:
    end = time.monotonic() + 120
    while not list(folder.glob(pattern)):
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.02)
    time.sleep(0.5)


def weights(folder: Path) -> dict:
    return torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]


def slow(value):
    return pytest.param(value, marks=pytest.mark.slow)


@pytest.mark.parametrize("number", [signal.SIGTERM, slow(signal.SIGINT)])
def test_run_stops_with_a_checkpoint_and_goes_on_to_the_same_weights(tmp_path, number):
    whole = start(tmp_path, "hydra.run.dir=whole")
    assert whole.wait(300) == 0, whole.stderr.read()
    run = start(tmp_path, "hydra.run.dir=half")
    wait_for("half/events.out.tfevents.*", tmp_path, run)
    run.send_signal(number)
    table, said = run.communicate(timeout=60)
    # no row for an epoch that is not over
    assert re.search(r"^ +0 ", table, re.M) and not re.search(r"^ +[1-9].* – ", table, re.M)
    assert run.returncode == 128 + number and not (tmp_path / "half/metrics.json").exists()
    again = re.search(r"go on with the same command and (.*)", said)
    resumed = start(tmp_path, *shlex.split(again[1]))
    assert resumed.wait(300) == 0, resumed.stderr.read()
    whole, half = weights(tmp_path / "whole"), weights(tmp_path / "half")
    assert all(torch.equal(whole[name], half[name]) for name in whole)


@pytest.mark.parametrize("number", [slow(signal.SIGTERM), signal.SIGINT])
def test_signal_at_any_moment_ends_with_its_code_and_one_line(tmp_path, number):
    began = time.monotonic()
    assert start(tmp_path, "model=linear").wait(300) == 0
    seconds = time.monotonic() - began
    parts = 8 if number == signal.SIGTERM else 4
    for part in range(parts):
        folder = tmp_path / str(part)
        run = start(tmp_path, "model=linear", f"hydra.run.dir={folder}")
        # until Python has begun to execute train.py, a signal is handled by Python itself
        while not handles(signal.SIGTERM, run.pid):
            assert run.poll() is None
        time.sleep(part / (parts - 1) * seconds)
        run.send_signal(number)
        _, said = run.communicate(timeout=60)
        # 0: the run was over when the signal came
        over = (folder / "metrics.json").exists() and run.returncode == 0
        assert over or run.returncode == 128 + number, (part, said)
        assert said.count("\n") <= 1 and "Traceback" not in said, (part, said)


def handles(number: int, pid: int) -> bool:
    """Return whether a process has a handler of its own for a signal."""
    caught = re.search(r"SigCgt:\s*(\w+)", Path(f"/proc/{pid}/status").read_text())
    return bool(caught and int(caught[1], 16) >> (number - 1) & 1)


@pytest.mark.parametrize("launcher", [slow("basic"), "fused", slow("processes")])
def test_sweep_stops_and_goes_on_to_the_same_summary(tmp_path, launcher):
    words = ["-m", f"hydra/launcher={launcher}", "seed=0,1", "ckpt.every_n_steps=200"]
    whole = start(tmp_path, *words, "hydra.sweep.dir=whole")
    assert whole.wait(300) == 0, whole.stderr.read()
    sweep = start(tmp_path, *words, "hydra.sweep.dir=half")
    wait_for("half/**/last.ckpt", tmp_path, sweep)
    sweep.send_signal(signal.SIGTERM)
    _, said = sweep.communicate(timeout=60)
    assert sweep.returncode == 143 and "stopped by SIGTERM; go on with the same command and resume=half" in said
    resumed = start(tmp_path, *words, "resume=half")
    assert resumed.wait(300) == 0, resumed.stderr.read()
    assert (tmp_path / "whole/summary.csv").read_bytes() == (tmp_path / "half/summary.csv").read_bytes()
