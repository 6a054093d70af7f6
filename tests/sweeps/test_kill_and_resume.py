"""A sweep that is killed at random moments and gone on with ends as the one that nobody disturbed.

KILLS=20 pytest tests/test_kill_and_resume.py -m slow      the full test: 20 kills for each launcher, about 15 minutes
"""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]
KILLS = int(os.environ.get("KILLS", 3))
# four jobs of some seconds, so that some have a checkpoint when they die, and two that fail; two stacks of two
WORDS = ["optim.lr=0.05,-1,0.1", "model.hidden=[30],[20]", "data.batch_size=16", "trainer.max_epochs=12"]


def command(launcher: str, folder: Path) -> list[str]:
    words = [
        "-m",
        f"hydra/launcher={launcher}",
        f"hydra.sweep.dir={folder}",
        "hydra.sweep.subdir=${hydra.job.num}",
        *WORDS,
    ]
    words += ["hydra.launcher.n_jobs=2"] * (launcher == "processes")
    return [sys.executable, str(ROOT / "train.py"), *words]


def start(launcher: str, folder: Path, log: Path) -> subprocess.Popen:
    with open(log, "ab") as file:
        return subprocess.Popen(command(launcher, folder), stdout=file, stderr=file, start_new_session=True)


def completed(folder: Path) -> dict[str, tuple[int, int]]:
    """The files of jobs that are over, by what changes when one is written again."""
    found = {}
    for path in folder.glob("*/metrics.json"):
        if '"status": "failed"' not in path.read_text():
            found[path.parent.name] = (path.stat().st_ino, path.stat().st_mtime_ns)
    return found


def assert_logged_once(job: Path) -> None:
    """Every curve has each step once, the HParams are one record."""
    from tensorboard.backend.event_processing.event_file_loader import LegacyEventFileLoader

    points, records = Counter(), 0
    for file in job.glob("events.out.tfevents.*"):
        for event in LegacyEventFileLoader(str(file)).Load():
            for value in event.summary.value:
                if value.HasField("simple_value") and not value.tag.startswith("_hparams_"):
                    points[value.tag, event.step] += 1
                records += value.tag == "_hparams_/session_start_info"
    assert records == 1
    epochs = Counter(tag for tag, _ in points)
    assert {tag: epochs[tag] for tag in ("train/loss", "val/loss", "val/accuracy", "lr")} == dict.fromkeys(epochs, 12)


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["basic", "processes", "fused"])
def test_sweep_killed_at_random_moments_ends_as_the_undisturbed_one(tmp_path, launcher):
    rng, log = random.Random(f"{launcher} {KILLS}"), tmp_path / "log"
    began = time.monotonic()
    assert start(launcher, tmp_path / "whole", log).wait(600) == 1  # two jobs fail
    seconds = time.monotonic() - began
    expected = (tmp_path / "whole/summary.csv").read_bytes()
    assert Counter(line.split(b",")[2] for line in expected.splitlines()[1:]) == {b"completed": 4, b"failed": 2}

    kills, rounds, resumed = 0, 0, 0
    while kills < KILLS:
        folder, before = tmp_path / f"round-{rounds}", {}
        rounds += 1
        while True:
            process = start(launcher, folder, log)
            rest = seconds * (1 - len(before) / 5)  # of four jobs, and the start
            code = None
            try:
                code = process.wait(rng.uniform(0, rest) if kills < KILLS else 600)
            except subprocess.TimeoutExpired:
                os.killpg(process.pid, signal.SIGKILL)
                process.wait()
                kills += 1
                resumed += any(any(folder.glob(f"{where}/last.ckpt")) for where in ("*/checkpoints", ".stacks/*"))
            found = completed(folder)
            assert before.items() <= found.items(), "a job that was over has run again"
            before = found
            if code is not None:
                break
        assert code == 1, log.read_text()[-3000:]
        assert (folder / "summary.csv").read_bytes() == expected, f"kill {kills}"
        for job in before:
            assert_logged_once(folder / job)
    print(f"\n{launcher}: {kills} kills in {rounds} sweeps of {seconds:.0f} s, {resumed} of them after a checkpoint")
