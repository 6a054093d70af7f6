"""A stack that a signal stops inside an epoch goes on there, also where members have ended before."""

import signal

import pytest
import torch

from seedbed.errors import Interrupted
from seedbed.fused.build import build_stack
from seedbed.fused.checkpoints import StackCheckpoints
from seedbed.training.build import Parts, build_data, build_trainer
from seedbed.training.interruption import StopOnSignal
from seedbed.training.progress import RunProgress

EPOCH = 49
WORDS = ["loss=mse", "optim=momentum", "trainer.max_epochs=3"]


def train(configs, folder, kill_at=None):
    data = build_data(configs[0])
    data.seed = [0]
    stack = build_stack(Parts(), configs, 1, data)
    stop, checkpoints = StopOnSignal(folder), StackCheckpoints(folder)
    # a checkpoint at every occasion
    checkpoints.every = 0.0
    trainer = build_trainer(configs[0], False, [stop, checkpoints, RunProgress()])

    set_rates = stack.set_rates

    def kill(*given):
        if stack.steps == kill_at:
            signal.raise_signal(signal.SIGTERM)
        set_rates(*given)

    stack.set_rates = kill
    last = folder / "last.ckpt"
    trainer.fit(stack, data, ckpt_path=last if last.exists() else None)
    stop.check()
    return stack


# in the first epoch, in the last batch of one, in the last epoch and in the last batch of all
@pytest.mark.parametrize("step", [20, 2 * EPOCH - 1, 2 * EPOCH + 20, 3 * EPOCH - 1])
@pytest.mark.parametrize("lrs", [(0.01, 0.02, 0.03), (0.01, 1e6, 0.02)], ids=["all train", "one diverges"])
def test_stack_stopped_by_a_signal_goes_on_to_the_same_bits(composed, tmp_path, lrs, step):
    configs = [composed(*WORDS, f"optim.lr={lr}")[0] for lr in lrs]
    whole = train(configs, tmp_path / "whole")
    with pytest.raises(Interrupted):
        train(configs, tmp_path / "half", kill_at=step)
    left = torch.load(tmp_path / "half/last.ckpt", weights_only=True)
    # `FastLoop` looks at signals after its call, which may end later than the step
    assert step < left["steps"] <= 3 * EPOCH
    resumed = train(configs, tmp_path / "half")
    assert resumed.steps == whole.steps == 3 * EPOCH
    # the training before the resume counts
    assert resumed.seconds_before == left["seconds"] > 0
    for name in ("best", "final"):
        a, b = getattr(whole, name), getattr(resumed, name)
        assert a.keys() == b.keys() and all(torch.equal(a[k].nan_to_num(7), b[k].nan_to_num(7)) for k in a)
    assert len(whole.history) == len(resumed.history) == 3
    for a, b in zip(whole.history, resumed.history, strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=0, equal_nan=True)
