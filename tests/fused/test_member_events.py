"""Members' event files grow while their stack trains, and hold every point once, also after a kill."""

import math
from pathlib import Path

import pytest
from tensorboard.compat.proto.event_pb2 import Event

import seedbed.training.fast_loop
from seedbed import event_files
from seedbed.fused.build import build_stack
from seedbed.fused.checkpoints import StackCheckpoints
from seedbed.fused.member_events import MemberEvents
from seedbed.training.build import Parts, build_data, build_trainer
from seedbed.training.progress import RunProgress

EPOCH = 49
# the first one diverges at once, the second one stops early
LRS = (1e8, 0.0, 0.001)


class Kill(RunProgress):
    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step >= EPOCH + 20:
            raise InterruptedError


def points(folder: Path) -> list[tuple[str, int, float]]:
    """Return (tag, step, value) of all scalars in a folder's event files, sorted."""
    events = [Event.FromString(record) for path in event_files.paths(folder) for record in event_files.records(path)]
    values = [(value.tag, event.step, value.simple_value) for event in events for value in event.summary.value]
    return sorted(map(repr, (v for v in values if v[0] != "custom_scalars__config__")))


@pytest.mark.parametrize("orders", [1, 3])
def test_files_grow_and_end_the_same_after_a_kill(composed, tmp_path, monkeypatch, orders):
    monkeypatch.setattr(seedbed.training.fast_loop, "CALL", 0.0)
    words = ["loss=mse", "trainer.max_epochs=3", "callbacks=early_stopping", "callbacks.early_stopping.patience=1"]
    configs = [composed("model=linear", f"optim.lr={lr}", *words)[0] for lr in LRS]

    def train(folder, every, *callbacks):
        data = build_data(configs[0])
        data.seed = list(range(orders))
        stack = build_stack(Parts(), configs, orders, data)
        events = MemberEvents(stack, {i: folder / str(i) for i in range(len(LRS))}, every)
        checkpoints = StackCheckpoints(folder, events)
        checkpoints.every = 0
        last = folder / "last.ckpt"
        trainer = build_trainer(configs[0], False, [checkpoints, *callbacks])
        trainer.fit(stack, data, ckpt_path=last if last.exists() else None)
        for i, rest in enumerate(events.rest(checkpoints.steps())):
            events.append(i, rest)

    train(tmp_path / "whole", math.inf)
    with pytest.raises(InterruptedError):
        train(tmp_path / "half", 0.0, Kill())
    steps = [range(1, 11), range(1, EPOCH + 1), range(1, EPOCH + 1)]
    for i, seen in enumerate(steps):
        found = [eval(point, {"nan": math.nan, "inf": math.inf})[:2] for point in points(tmp_path / "half" / str(i))]
        validated = [(f"val/{name}", step) for name in ("accuracy", "loss") for step in (0, EPOCH)]
        assert sorted(found) == sorted([(tag, step) for tag in ("lr", "train/loss") for step in seen] + validated)
    train(tmp_path / "half", 0.0)
    for i in range(len(LRS)):
        found, expected = (points(tmp_path / name / str(i)) for name in ("half", "whole"))
        assert found == expected and len(event_files.paths(tmp_path / "half" / str(i))) == 1
        assert len({eval(point, {"nan": 0, "inf": 0})[:2] for point in found}) == len(found)
