"""A GPU's host waits at points only: when an epoch begins or ends, and where the losses are looked at."""

import pytest
from pretended_gpu import pretended_gpu, trainer_on

from seedbed.fused.build import build_stack
from seedbed.training.build import Parts, build_data
from seedbed.training.captured import CapturedSteps
from seedbed.training.fast_loop import FastLoop

# 58 steps, of which every tenth is followed by a look
STEPS = {"max_epochs": 2, "limit_train_batches": 29}


class Calls:
    """Makes recorded calls again: what a CUDA graph does."""

    def run(self, call):
        return call()

    def record(self, call):
        return call


class Steps(CapturedSteps):
    def check(self) -> None:
        """Do nothing: tensors without values have no addresses."""


class Loop(FastLoop):
    """Keeps what the host waited for inside the loop of steps. captured: make the steps through `CapturedSteps`."""

    captured = False

    def on_run_start(self, data_fetcher) -> None:
        super().on_run_start(data_fetcher)
        if self.captured and self._captured is None:
            self._captured = Steps(self.trainer, Calls())

    def _steps(self, *args):
        before = len(self.waits.calls)
        result = super()._steps(*args)
        self.waited += self.waits.calls[before:]
        return result


def train(composed, words, changes, captured=False, **options):
    """Train one run, or a stack of as many as there are changes; return its loop."""
    configs = [composed(*words, *change)[0] for change in changes]
    data = build_data(configs[0])
    data.seed = [0] if len(configs) > 1 else 0
    build = build_stack(Parts(), configs, 1, data, may_skip=False) if len(configs) > 1 else None
    module = build or Parts().module(configs[0], data)
    # a run on the CPU may read images by reference, which a GPU cannot
    module.reader, module.takes_rows = None, False
    with pretended_gpu() as (device, waits):
        trainer = trainer_on(device, **STEPS, **options)
        loop = trainer.fit_loop.epoch_loop = Loop(trainer, {}, required=True)
        loop.waits, loop.waited, loop.captured = waits, [], captured
        trainer.fit(module, data)
    return loop


MOMENTUM, ADAM = ["optim=momentum", "schedule=one_cycle"], ["optim=adam", "loss=cross_entropy", "model=convnet"]
RUN, STACK = [[]], [["seed=0"], ["seed=1"]]
LRS, LOSSES = [["optim.lr=0.1"], ["optim.lr=1"]], [["loss.label_smoothing=0.0"], ["loss.label_smoothing=0.1"]]


@pytest.mark.parametrize("captured", [False, True], ids=["usual", "captured"])
@pytest.mark.parametrize(
    ("words", "changes", "options"),
    [
        (MOMENTUM, RUN, {}),
        (MOMENTUM, STACK, {"gradient_clip_val": 1.0}),
        pytest.param(MOMENTUM, LRS, {}, marks=pytest.mark.slow),
        (ADAM, RUN, {"gradient_clip_val": 1.0}),
        pytest.param(ADAM, LOSSES, {}, marks=pytest.mark.slow),
        (["optim=rmsprop", "loss=bce", "model.dropout=0.2"], LRS, {}),
        (["optim=basic", "loss=rmse", "schedule=linear"], RUN, {}),
    ],
)
def test_host_waits_where_the_losses_are_looked_at(composed, words, changes, options, captured):
    loop = train(composed, words, changes, captured, **options)
    # the order of an epoch's data moves to the device once
    assert [wait for wait in loop.waited if wait[1] != "diverges_at"] == [("to the device", "__iter__")] * 2
    # ten steps' losses are read at once
    assert loop.waited.count(("to the host", "diverges_at")) == 5


def test_accumulated_batches_wait_for_nothing_either(composed):
    loop = train(composed, MOMENTUM, RUN, accumulate_grad_batches=3)
    assert [wait for wait in loop.waited if wait[1] != "diverges_at"] == [("to the device", "__iter__")] * 2
    # 20 steps of three batches, of which the last is not full
    assert loop.waited.count(("to the host", "diverges_at")) == 2
