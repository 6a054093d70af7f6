"""Sweeps as their jobs leave them: overrides, metrics and event files."""

import json
from itertools import product

import pytest
from tensorboard.compat.proto.event_pb2 import Event
from tensorboard.compat.proto.summary_pb2 import Summary
from tensorboard.summary.writer.record_writer import RecordWriter

CONFIG = "optim:\n  lr: 0.1\ndata:\n  seed: ${seed}\nseed: 0\noptimized_metric: val/accuracy\n"
CHOICES = "hydra:\n  runtime:\n    choices:\n      init: default\n      model: mlp\n"


@pytest.fixture(scope="session")
def write_curves():
    """write_curves(folder, {tag: values by epoch}): an event file, 49 steps an epoch."""
    return _write_curves


def _write_curves(folder, curves, name="events.out.tfevents.1.host"):
    folder.mkdir(exist_ok=True)
    with open(folder / name, "wb") as file:
        writer = RecordWriter(file)
        writer.write(Event(file_version="brain.Event:2").SerializeToString())
        for epoch in range(max(map(len, curves.values()), default=0)):
            values = [Summary.Value(tag=tag, simple_value=v[epoch]) for tag, v in curves.items() if epoch < len(v)]
            writer.write(Event(step=49 * (epoch + 1), summary=Summary(value=values)).SerializeToString())


@pytest.fixture
def leave():
    """A job's folder as Hydra and a run leave it."""

    def write(folder, overrides, metrics=None, curves=None):
        (folder / ".hydra").mkdir(parents=True)
        (folder / ".hydra" / "overrides.yaml").write_text("".join(f"- {word}\n" for word in overrides))
        (folder / ".hydra" / "config.yaml").write_text(CONFIG)
        (folder / ".hydra" / "hydra.yaml").write_text(CHOICES)
        if metrics is not None:
            (folder / "metrics.json").write_text(json.dumps(metrics))
        if curves:
            _write_curves(folder, curves)

    return write


@pytest.fixture
def sweep(tmp_path, leave):
    """2 models × 3 learning rates × 4 seeds, two epochs; at lr 10 the linear models diverge, two jobs never ended."""
    folder = tmp_path / "sweep"
    for n, (model, lr, seed) in enumerate(product(("linear", "mlp"), (0.1, 1, 10), range(4))):
        accuracy = 0.9 + 0.02 * (model == "mlp") + 0.01 * (lr == 1) + 0.001 * seed + 0.0003 * (seed * n % 5)
        metrics = {"status": "completed", "val/accuracy": accuracy, "val/loss": 1 - accuracy, "train/loss": 0.1}
        metrics |= {"epochs": 2, "steps": 98, "seed": seed, "git": "abc"}
        if (model, lr) == ("linear", 10):
            metrics |= {"status": "diverged", "val/accuracy": None, "val/loss": None}
        curves = {"val/accuracy": [accuracy - 0.1, accuracy], "train/loss": [0.5, 0.1]}
        overrides = [f"model={model}", f"optim.lr={lr}", f"seed={seed}", "trainer.max_epochs=2"]
        leave(folder / str(n), overrides, None if n in (5, 14) else metrics, curves)
    return folder
