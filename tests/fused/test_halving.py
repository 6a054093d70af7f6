"""Members that fall behind at a rung leave the stack; those that stay train as if nothing had happened."""

import json
from pathlib import Path

import lightning.pytorch as pl
import pytest
import torch

import seedbed.fused.sweep
import seedbed.training.fast_loop
from seedbed.fused.build import build_stack
from seedbed.fused.checkpoints import StackCheckpoints
from seedbed.fused.halving import Halving
from seedbed.fused.stack import Stack
from seedbed.training.build import Parts, build_data, build_trainer
from seedbed.training.progress import RunProgress

HALVING = ["hydra.launcher.halving.factor=3", "hydra.launcher.halving.first=1"]
NINE = ["optim.lr=0.5,0.01,1,0.02,2,0.05,0.1,0.2,4", "trainer.log_every_n_steps=1", "trainer.max_epochs=5"]
STEPS = 49  # of an epoch


def metrics(folder: Path) -> list[dict]:
    return [json.loads((folder / str(n) / "metrics.json").read_text()) for n in range(len(list(folder.glob("[0-9]*"))))]


def curve(folder: Path, job: int, tag: str) -> list[float]:
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    return [event.value for event in EventAccumulator(str(folder / str(job))).Reload().Scalars(tag)]


def assert_equal_checkpoints(folder: Path, reference: Path, job: int, rtol: float) -> None:
    for name in ("last", "best"):
        a, b = (torch.load(f / f"{job}/checkpoints/{name}.ckpt", weights_only=True) for f in (folder, reference))
        assert (a["epoch"], a["global_step"]) == (b["epoch"], b["global_step"])
        for key, p in a["state_dict"].items():
            q = b["state_dict"][key]
            assert (p - q).norm() <= rtol * q.norm() + 1e-12, (job, name, key)


@pytest.mark.parametrize("metric", ["val/accuracy", "val/loss"])
def test_best_third_stays_at_each_rung_and_only_that_is_trained(sweep, monkeypatch, metric):
    full = sweep("fused", *NINE)
    batch_losses, trained = Stack.batch_losses, []

    def count(self, x, y):
        trained.append(self.net.members)
        return batch_losses(self, x, y)

    monkeypatch.setattr(Stack, "batch_losses", count)
    halved = sweep("fused", *NINE, *HALVING, f"optimized_metric={metric}")
    assert trained == [m for m, epochs in ((9, 1), (3, 2), (1, 2)) for _ in range(epochs * STEPS)]

    sign = -1 if metric == "val/loss" else 1
    scores = [[sign * v for v in curve(full, job, metric)[1:]] for job in range(9)]
    expected, left = [5] * 9, list(range(9))
    for epochs, keep in ((1, 3), (3, 1)):
        left.sort(key=lambda job: -scores[job][epochs - 1])  # a stable sort: of equals the earlier job
        for job in left[keep:]:
            expected[job] = epochs
        left = sorted(left[:keep])
    found = metrics(halved)
    assert [m["epochs"] for m in found] == expected and sorted(expected) == [1] * 6 + [3] * 2 + [5]
    assert [m["steps"] for m in found] == [epochs * STEPS for epochs in expected]
    assert [m.get("stopped") for m in found] == ["halving" if epochs < 5 else None for epochs in expected]
    assert {m["status"] for m in found} == {"completed"}
    assert [len(curve(halved, job, "val/loss")) - 1 for job in range(9)] == expected
    assert [len(curve(halved, job, "train/loss")) for job in range(9)] == [STEPS * epochs for epochs in expected]
    assert found[left[0]]["val/accuracy"] == pytest.approx(metrics(full)[left[0]]["val/accuracy"], abs=5e-5)
    shorter = {epochs: sweep("fused", NINE[0], f"trainer.max_epochs={epochs}") for epochs in (1, 3)} | {5: full}
    for job, epochs in enumerate(expected):
        assert_equal_checkpoints(halved, shorter[epochs], job, 1e-5)


PARTS = ["optim.lr=0.0003,0.001,0.003", "optim.betas=[0.9,0.999],[0.8,0.99]", "schedule=constant,exponential"]
PARTS += ["optim=adam", "loss=cross_entropy", "loss.label_smoothing=0,0.1", "trainer.max_epochs=3"]


@pytest.mark.parametrize(
    ("words", "rtol"),
    [
        (["optim.lr=0.02,0.1,0.5,1,2,0.05", "seed=0,1", "trainer.max_epochs=4"], 1e-5),
        (["optim.lr=0.2", "seed=range(0,7)", "trainer.max_epochs=4"], 1e-5),
        (["optim=momentum", "optim.lr=0.01,0.03,0.1,0.3", "optim.momentum=0,0.8", "trainer.max_epochs=3"], 1e-4),
        (["callbacks=early_stopping", "optim.lr=0.05,0.2,0.5,1", "trainer.gradient_clip_val=0.1"], 1e-5),
        (PARTS, 2e-3),
    ],
    ids=["groups", "groups of one", "momentum", "early stopping", "all parts"],
)
def test_survivors_take_their_numbers_and_state_along(sweep, words, rtol):
    words = words if "max_epochs" in words[-1] else [*words, "trainer.max_epochs=3"]
    full, halved = sweep("fused", *words), sweep("fused", *words, *HALVING)
    whole, found = metrics(full), metrics(halved)
    survivors = [n for n, m in enumerate(found) if "stopped" not in m]
    assert 0 < len(survivors) <= len(found) / 2
    for n in survivors:
        assert {k: whole[n][k] for k in ("epochs", "steps", "status")} == {
            k: found[n][k] for k in ("epochs", "steps", "status")
        }
        assert_equal_checkpoints(halved, full, n, rtol)


def test_each_group_keeps_its_own_best_and_groups_of_one_the_best_groups():
    halving = Halving(factor=3, first=2, metric="val/accuracy")
    assert [e for e in range(1, 60) if halving.is_rung(e)] == [2, 6, 18, 54]
    nobody = torch.zeros(8, dtype=torch.bool)
    score = torch.tensor([0.1, 0.9, 0.9, 0.9, 0.5, 0.6, 0.8, 0.7])
    rows, groups = halving.survivors(score, nobody, 2)
    assert (rows.tolist(), groups) == ([1, 2, 6, 7], 2)
    rows, groups = halving.survivors(score, nobody, 8)
    assert (rows.tolist(), groups) == ([1, 2, 3], 3)
    rows, groups = Halving(3, 2, "val/loss").survivors(score, nobody, 1)
    assert (rows.tolist(), groups) == ([0, 4, 5], 1)


def test_diverged_and_stopped_members_count_as_worst():
    halving = Halving(factor=2, first=1, metric="val/loss")
    score = torch.tensor([torch.nan, 0.3, -torch.inf, 0.1, 0.2, torch.inf])
    over = torch.tensor([False, False, False, True, False, False])
    assert halving.survivors(score, over, 1)[0].tolist() == [0, 1, 4]


def test_diverging_member_is_dropped_as_diverged(sweep):
    found = metrics(sweep("fused", "loss=mse", "optim.lr=1e6,0.01,1e7,0.02", "trainer.max_epochs=3", *HALVING))
    assert [m["status"] for m in found] == ["diverged", "completed", "diverged", "completed"]
    assert [m["epochs"] for m in found] == [1, 3, 1, 3] and not any("stopped" in m for m in found)


class Kill(pl.Callback):
    """At the first step from `step` on, or, in between two epochs, where that is a whole epoch."""

    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if self.step % STEPS and trainer.global_step >= self.step:
            raise InterruptedError

    def on_train_epoch_start(self, trainer, module):
        if trainer.global_step == self.step:
            raise InterruptedError


KINDS = {"one group": ("optim.lr", (0.001, 0.01, 0.003, 0.1)), "groups of one": ("seed", (0, 1, 2, 3))}


LATER = [pytest.param(n, marks=pytest.mark.slow) for n in (STEPS, 70, 2 * STEPS, 120)]


@pytest.mark.parametrize("step", [30, *LATER])
@pytest.mark.parametrize("kind", KINDS)
def test_stack_resumes_to_the_same_bits(composed, tmp_path, monkeypatch, kind, step):
    monkeypatch.setattr(seedbed.training.fast_loop, "CALL", 0.0)
    key, values = KINDS[kind]
    configs = [composed("optim=adam", f"{key}={value}", "trainer.max_epochs=3")[0] for value in values]

    def train(folder, ckpt_path=None, callbacks=()):
        data = build_data(configs[0])
        data.seed = [0] if key == "optim.lr" else list(values)
        stack = build_stack(Parts(), configs, len(data.seed), data, Halving(2, 1, "val/accuracy"))
        checkpoints = StackCheckpoints(folder)
        checkpoints.every = 0
        trainer = build_trainer(configs[0], False, [checkpoints, RunProgress(), *callbacks])
        trainer.fit(stack, data, ckpt_path=ckpt_path)
        return stack

    whole = train(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(tmp_path / "half", callbacks=[Kill(step)])
    left = torch.load(tmp_path / "half/last.ckpt", weights_only=True)
    assert len(left["rows"]) == {0: 4, 1: 2, 2: 1}[step // STEPS] == len(left["state_dict"]["net.stacked.0"])
    resumed = train(tmp_path / "on", str(tmp_path / "half/last.ckpt"))
    for name in ("best", "final"):
        a, b = getattr(whole, name), getattr(resumed, name)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    for name in ("rows", "ended_at", "dropped", "best_epoch", "best_score"):
        assert torch.equal(getattr(whole, name), getattr(resumed, name))
    assert whole.epochs_trained == resumed.epochs_trained == 4 + 2 + 1


def test_halved_sweep_that_was_killed_ends_as_the_undisturbed_one(sweep, killed_sweep):
    words = ["optim.lr=0.1,1,2,0.2", "trainer.max_epochs=2", *HALVING]
    undisturbed = sweep("fused", *words)
    folder = killed_sweep("fused", *words)
    sweep("fused", *words, folder=folder)
    assert (folder / "summary.csv").read_bytes() == (undisturbed / "summary.csv").read_bytes()
    a, b = ([{k: v for k, v in m.items() if k != "fit_seconds"} for m in metrics(f)] for f in (folder, undisturbed))
    assert a == b


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["hydra.launcher.halving.factor=1"], "hydra.launcher.halving.factor=1: must be null or an integer ≥ 2"),
        (["hydra.launcher.halving.first=0"], "hydra.launcher.halving.first=0: must be an integer ≥ 1"),
        (
            [*HALVING, "data=mnist", "optimized_metric=test/accuracy"],
            "optimized_metric=test/accuracy: halving decides during training, by val/… or train/loss",
        ),
    ],
)
def test_mistake_ends_with_one_line(sweep, capsys, words, message):
    sweep("fused", "optim.lr=1,2", *words, code=2)
    assert capsys.readouterr().err.splitlines() == [message]


def test_sweep_that_is_gone_on_with_must_halve_alike(sweep, capsys):
    words = ["optim.lr=0.1,1,2", "trainer.max_epochs=2"]
    folder = sweep("fused", *words, *HALVING)
    (folder / "1/metrics.json").unlink()
    sweep("fused", *words, folder=folder, code=2)
    assert f"  was: {HALVING[0]}" in capsys.readouterr().err.splitlines()


def test_members_that_are_over_are_not_trained_on(sweep, monkeypatch):
    """Six lrs of which four diverge, for two seeds."""
    batch_losses, trained = Stack.batch_losses, []

    def count(self, x, y):
        trained.append(self.net.members)
        return batch_losses(self, x, y)

    words = ["loss=mse", "trainer.max_epochs=3", "seed=0,1"]
    alone = sweep("fused", *words, "optim.lr=0.01,0.02")
    monkeypatch.setattr(Stack, "batch_losses", count)
    mixed = sweep("fused", *words, "optim.lr=1e6,0.01,1e7,0.02,1e5,1e8")
    assert trained == [12] * STEPS + [4] * 2 * STEPS
    found = metrics(mixed)
    assert [m["epochs"] for m in found] == [1, 3, 1, 3, 1, 1] * 2
    for job, same in ((1, 0), (3, 1), (7, 2), (9, 3)):
        a, b = (torch.load(f / f"{n}/checkpoints/last.ckpt") for f, n in ((mixed, job), (alone, same)))
        assert all((p - b["state_dict"][k]).norm() <= 1e-5 * p.norm() for k, p in a["state_dict"].items())
