"""Kill commands at random moments, resume them, and compare their files with those of an undisturbed command."""

import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path

from crashing.compare import differences

ROOT = Path(__file__).resolve().parents[2]
STEPS = ["optim=adam", "model.dropout=0.2", "data.batch_size=64", "ckpt.every_n_steps=20", "trainer.accelerator=cpu"]
# a member has the same bits in every stack of the same members
JOBS = ["-m", "hydra.sweep.subdir=${hydra.job.num}", "seed=0,1", *STEPS]
# kind of worker → words of its command
KINDS = {
    "single": [*STEPS, "trainer.max_epochs=12"],
    "stack": [*JOBS, "hydra/launcher=fused", "optim.lr=0.001,-1,0.01", "trainer.max_epochs=10"],
    "processes": [*JOBS, "hydra/launcher=processes", "hydra.launcher.n_jobs=2", "trainer.max_epochs=8"],
    "ddp": [*STEPS, "trainer.devices=2", "trainer.max_epochs=4"],
}


@dataclass
class Outcome:
    """The kills of one kind of worker, and what they lost."""

    kind: str
    seconds: float = 0.0
    # seconds until the first checkpoint
    start: float = 0.0
    rounds: int = 0
    kills: Counter = field(default_factory=Counter)
    after_checkpoint: int = 0
    slowest_stop: float = 0.0
    lost: list[str] = field(default_factory=list)


def crash(kind: str, kills: int, folder: Path, seed: int = 0) -> Outcome:
    """Kill a kind's command `kills` times, in rounds: each round resumes the command until it ends by itself."""
    rng, outcome = random.Random(f"{kind} {seed}"), Outcome(kind)
    code = _undisturbed(kind, folder / "whole", outcome)
    if code not in (0, 1):
        raise RuntimeError(f"{kind}: the undisturbed command ended with code {code}:\n{_log(folder / 'whole')}")
    while outcome.kills.total() < kills:
        name = folder / f"round-{outcome.rounds}"
        outcome.rounds += 1
        ended = _round(kind, name, outcome, kills, rng)
        if ended != code:
            outcome.lost.append(f"{name.name}: ended with code {ended} instead of {code}:\n{_log(name)}")
        outcome.lost += [f"{name.name}: {line}" for line in differences(name, folder / "whole")]
    return outcome


def _undisturbed(kind: str, folder: Path, outcome: Outcome) -> int:
    """Run the command to its end; note when its first checkpoint came, and how long it took."""
    began = time.monotonic()
    whole = _start(kind, folder)
    while (code := whole.poll()) is None:
        if not outcome.start and any(folder.rglob("last.ckpt")):
            outcome.start = time.monotonic() - began
        time.sleep(0.05)
    outcome.seconds = time.monotonic() - began
    return code


def _round(kind: str, folder: Path, outcome: Outcome, kills: int, rng: random.Random) -> int:
    """Start the command, and again after each kill, until it ends by itself; return its exit code."""
    over: dict[str, tuple[int, int]] = {}
    while True:
        process = _start(kind, folder)
        try:
            if outcome.kills.total() >= kills:
                return process.wait()
            early = rng.random() < 0.2
            return process.wait(rng.uniform(0, outcome.start) if early else rng.uniform(outcome.start, outcome.seconds))
        except subprocess.TimeoutExpired:
            outcome.kills[_kill(process, outcome, rng)] += 1
            outcome.after_checkpoint += any(folder.rglob("last.ckpt"))
        finally:
            found = _completed(folder)
            if not over.items() <= found.items():
                outcome.lost.append(f"{folder.name}: a job that was over has run again")
            over = found
        # killed between its last file and its end: there is nothing to go on with
        if over and "-m" not in KINDS[kind]:
            return 0


def _completed(folder: Path) -> dict[str, tuple[int, int]]:
    """Return finished job → (inode, mtime) of its metrics.json, which change if it is written again."""
    files = [path for path in folder.rglob("metrics.json") if "failed" not in path.read_text(encoding="utf-8")]
    stats = {path.parent.name: path.stat() for path in files}
    return {name: (stat.st_ino, stat.st_mtime_ns) for name, stat in stats.items()}


def _kill(process: subprocess.Popen, outcome: Outcome, rng: random.Random) -> str:
    """Send a signal to the command alone, or to all its processes; return its name."""
    number, everyone = rng.choice((signal.SIGKILL, signal.SIGTERM)), rng.random() < 0.5
    began = time.monotonic()
    if everyone:
        os.killpg(process.pid, number)
    else:
        process.send_signal(number)
    code = process.wait()
    if number == signal.SIGTERM:
        outcome.slowest_stop = max(outcome.slowest_stop, time.monotonic() - began)
    # -number: by SIGKILL, or before Python's handler was set; 0, 1: the command was already over
    if code not in (-number, 128 + number, 0, 1):
        outcome.lost.append(f"{signal.Signals(number).name} ended with code {code}")
    return signal.Signals(number).name


def _start(kind: str, folder: Path) -> subprocess.Popen:
    words = [*KINDS[kind], f"hydra.{'sweep' if '-m' in KINDS[kind] else 'run'}.dir={folder}"]
    last = folder / "checkpoints" / "last.ckpt"
    words += [f"ckpt_path={last}"] * last.exists()
    with open(folder.with_suffix(".log"), "ab") as log:
        return subprocess.Popen(
            [sys.executable, str(ROOT / "train.py"), *words], stdout=log, stderr=log, start_new_session=True
        )


def _log(folder: Path) -> str:
    return folder.with_suffix(".log").read_text(encoding="utf-8", errors="replace")[-3000:]
