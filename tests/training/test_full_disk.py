"""A disk that is full ends a run with one line and no half-written file; with room again, the run goes on."""

import errno
import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from uncovered import uncovered

import seedbed
from seedbed.errors import unwritten
from seedbed.training.checkpoints import save

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["trainer.max_epochs=2", "+trainer.limit_train_batches=2", "trainer.accelerator=cpu"]
LIMIT = 60_000  # bytes of a file; a checkpoint of the MLP has 105,000


@pytest.fixture
def small_files():
    """Let no file grow beyond LIMIT, as if the disk were full."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, before[1]))
    yield
    resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_checkpoint_that_does_not_fit_leaves_the_one_before(tmp_path, small_files):
    path = tmp_path / "last.ckpt"
    save({"weights": torch.zeros(10)}, path)
    with pytest.raises(OSError) as error:
        save({"weights": torch.zeros(LIMIT)}, path)
    assert unwritten(error.value).errno == errno.EFBIG and error.value.filename == str(path)
    assert os.listdir(tmp_path) == ["last.ckpt"]
    assert torch.load(path, weights_only=True)["weights"].shape == (10,)


def test_command_ends_with_one_line_and_the_run_goes_on_with_room(tmp_path):
    folder = tmp_path / "run"
    done = subprocess.run(
        [sys.executable, str(ROOT / "train.py"), *WORDS, f"hydra.run.dir={folder}"],
        env=uncovered(),
        capture_output=True,
        text=True,
        timeout=300,
        preexec_fn=lambda: resource.setrlimit(resource.RLIMIT_FSIZE, (LIMIT, LIMIT)),
    )
    (line,) = [line for line in done.stdout.splitlines() if line.startswith("failed")]
    assert done.returncode == 1 and done.stderr == "" and "Traceback" not in (folder / "train.log").read_text("utf-8")
    assert line.startswith(f"failed: {folder}/checkpoints/") and ".ckpt: File too large; make room, then go on" in line
    assert not list(folder.rglob("*.tmp")) and not list((folder / "checkpoints").iterdir())
    run = seedbed.train(*WORDS, f"hydra.run.dir={folder}")
    assert run.metrics["status"] == "completed" and run.metrics["epochs"] == 2
    assert len(list(folder.glob("events.out.tfevents.*"))) == 1


@pytest.mark.slow
def test_tiny_disk_ends_a_sweep_with_a_line_a_job(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    if os.geteuid() or subprocess.run(["mount", "-t", "tmpfs", "-o", "size=200k", "tmpfs", str(disk)]).returncode:
        pytest.skip("may not mount a disk")
    try:
        words = ["-m", *WORDS, "seed=0,1", f"hydra.sweep.dir={disk}/sweep"]
        command = [sys.executable, str(ROOT / "train.py"), *words]
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        output = done.stdout + done.stderr
        assert done.returncode == 1 and "Traceback" not in output and "No space left on device" in output
        subprocess.run(["mount", "-o", "remount,size=4m", str(disk)], check=True)
        again = subprocess.run([*command, f"resume={disk}/sweep"], capture_output=True, text=True, timeout=300)
        assert again.returncode == 0 and len(list(disk.glob("sweep/*/metrics.json"))) == 2
    finally:
        subprocess.run(["umount", str(disk)], check=True)
