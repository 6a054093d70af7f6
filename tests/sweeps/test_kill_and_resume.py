"""What is killed at random moments and gone on with ends as if nobody had disturbed it: scripts/crashtest.py in small.

KILLS=20 pytest tests/sweeps/test_kill_and_resume.py -m slow      20 kills for each kind of worker, about 20 minutes
"""

import os
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "scripts"))
from crashing.compare import differences
from crashing.kill import KINDS, crash

KILLS = int(os.environ.get("KILLS", 3))


# the slow test has all kinds
@pytest.mark.parametrize("kind", ["single", "stack"])
def test_killed_once_it_ends_as_the_undisturbed_one(tmp_path, kind):
    outcome = crash(kind, 1, tmp_path)
    assert outcome.kills.total() == 1 and outcome.lost == []


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_killed_many_times_it_ends_as_the_undisturbed_one(tmp_path, kind):
    outcome = crash(kind, KILLS, tmp_path, seed=KILLS)
    assert outcome.kills.total() == KILLS and outcome.lost == []


def test_a_lost_bit_is_seen(fit, tmp_path):
    """The comparison itself: one weight, one row of the history and one point of a curve that differ."""
    import torch

    from seedbed.history import write_history
    from seedbed.training.run import write_metrics

    a, b = (fit("trainer.max_epochs=2", "model=linear", folder=tmp_path / name) for name in ("a", "b"))
    for run in (a, b):
        write_metrics(run.folder, run.metrics)
        write_history(run.folder, run.module.history)
    assert differences(b.folder, a.folder) == []
    path = b.folder / "checkpoints/last.ckpt"
    checkpoint = torch.load(path, weights_only=True)
    next(iter(checkpoint["state_dict"].values())).view(-1)[0].add_(1e-6)
    torch.save(checkpoint, path)
    write_history(b.folder, b.module.history[:1])
    write_metrics(b.folder, b.metrics | {"steps": 1})
    next(b.folder.glob("events.out.tfevents.*")).unlink()
    lost = {line.partition(": ")[2] for line in differences(b.folder, a.folder)}
    assert lost == {"checkpoints/last.ckpt", "history.csv", "metrics.json", "curves"}
