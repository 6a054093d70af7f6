"""A stack is a LightningModule like any other: it resumes from its own checkpoint to the same bits."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

import seedbed.training.fast_loop
from seedbed.fused.build import build_stack
from seedbed.fused.checkpoints import StackCheckpoints
from seedbed.fused.net import StackedNet
from seedbed.fused.plan import plan
from seedbed.training.build import Parts, build_data, build_trainer
from seedbed.training.progress import RunProgress


class Stop(pl.Callback):
    def __init__(self, step: int):
        self.step = step

    def on_train_batch_end(self, trainer, *_):
        if trainer.global_step >= self.step:
            raise InterruptedError


@pytest.mark.parametrize(("step", "orders"), [(10, 1), (49, 1), (70, 1), (70, 9)])
def test_resumed_stack_equals_uninterrupted_stack(composed, tmp_path, monkeypatch, step, orders):
    monkeypatch.setattr(seedbed.training.fast_loop, "CALL", 0.0)
    lrs = ("0.001", "0.01", "0.1") * 3
    configs = [composed("optim=adam", f"optim.lr={lr}", "trainer.max_epochs=2")[0] for lr in lrs]

    def train(folder, ckpt_path=None, callbacks=()):
        data = build_data(configs[0])
        data.seed = list(range(orders))
        stack = build_stack(Parts(), configs, orders, data)
        checkpoints = StackCheckpoints(folder)
        checkpoints.every = 0
        trainer = build_trainer(configs[0], False, [checkpoints, RunProgress()])
        trainer.callbacks.extend(callbacks)
        trainer.fit(stack, data, ckpt_path=ckpt_path)
        return stack, checkpoints

    whole, progress = train(tmp_path / "whole")
    with pytest.raises(InterruptedError):
        train(tmp_path / "half", callbacks=[Stop(step)])
    resumed, progress_resumed = train(tmp_path / "on", str(tmp_path / "half" / "last.ckpt"))
    for name in ("best", "final"):
        a, b = getattr(whole, name), getattr(resumed, name)
        assert a.keys() == b.keys() and all(torch.equal(a[k], b[k]) for k in a)
    assert torch.equal(whole.best_epoch, resumed.best_epoch) and len(resumed.history) == 2
    assert progress.progress.keys() == progress_resumed.progress.keys()


@pytest.mark.parametrize("groups", [1, 3])
def test_stacked_net_puts_out_what_its_members_do(groups):
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Flatten(), nn.Linear(12, 5), nn.ReLU(), nn.Linear(5, 2)) for _ in range(6)]
    x = torch.randn(groups, 4, 3, 2, 2)
    stack = StackedNet(nets, groups)
    expected = torch.stack([net(x[i * groups // 6]) for i, net in enumerate(nets)])
    torch.testing.assert_close(stack.train()(x), expected)
    torch.testing.assert_close(stack.eval()(x[0]), torch.stack([net(x[0]) for net in nets]))


def test_batchnorm_statistics_are_each_members_own():
    torch.manual_seed(0)
    nets = [nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Flatten()) for _ in range(3)]
    stack = StackedNet(nets, 1)  # copies
    for _ in range(3):
        x = torch.randn(8, 1, 6, 6)
        torch.testing.assert_close(stack.train()(x[None]), torch.stack([net.train()(x) for net in nets]))
    for name, value in stack.stacked_state().items():
        torch.testing.assert_close(value, torch.stack([net.state_dict()[name] for net in nets]))
    torch.testing.assert_close(stack.eval()(x), torch.stack([net.eval()(x) for net in nets]))


def test_plan_keeps_groups_equal_and_stacks_below_the_cap(composed):
    words = [("model=linear", "seed=0"), ("model=linear", "seed=1"), ("model=mlp", "seed=0")]
    kinds = [composed(*w)[0] for w in words]
    configs = {3 * i + k: kinds[k] for i in range(4) for k in range(3)}
    stacks = plan(configs, max_members=100)
    assert sorted((len(s.jobs), s.groups) for s in stacks) == [(4, 1), (8, 2)]
    assert sorted(n for s in stacks for n in s.jobs) == list(range(12))
    for most in (1, 2, 3, 5):
        capped = plan(configs, most)
        assert max(len(s.jobs) for s in capped) <= most and all(len(s.jobs) % s.groups == 0 for s in capped)
        assert sorted(n for s in capped for n in s.jobs) == list(range(12))
