"""A callback of the user's stops, skips and changes what Lightning's documentation says it can."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from seedbed.losses import MnistLoss

EPOCH = 49
BATCH_HOOKS = ["on_train_batch_start", "on_before_backward", "on_after_backward", "on_before_optimizer_step"]


def callback(hook: str, act) -> pl.Callback:
    """Calls act(callback, trainer, module) at each call of the hook, which it counts from 1."""

    class Acts(pl.Callback):
        calls = 0

    def run(self, trainer, module, *args):
        self.calls += 1
        act(self, trainer, module)

    setattr(Acts, hook, run)
    return Acts()


def plain_steps(data, steps_with, epochs: int = 1) -> dict[str, torch.Tensor]:
    """The weights after momentum SGD with the batches for which steps_with(epoch, index from 0) holds."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 1))
    optimizer = torch.optim.SGD(net.parameters(), 0.1, 0.9)
    for epoch in range(epochs):
        data.sampler.set_epoch(epoch)
        for i, (x, y) in enumerate(data):
            if steps_with(epoch, i):
                optimizer.zero_grad()
                MnistLoss()(net(x), y).backward()
                optimizer.step()
    return net.state_dict()


def assert_weights(run, expected: dict[str, torch.Tensor]) -> None:
    assert all(map(torch.equal, expected.values(), run.module.net.state_dict().values()))


@pytest.mark.parametrize("hook", [*BATCH_HOOKS, "on_before_zero_grad", "on_train_batch_end"])
def test_should_stop_in_any_hook_stops_after_that_batch(fit, hook):
    def stop(self, trainer, module):
        trainer.should_stop |= self.calls == 7

    assert fit("trainer.max_epochs=2", callbacks=[callback(hook, stop)]).metrics["steps"] == 7


def test_should_stop_out_of_a_networks_hook_stops_the_fast_loop(fit):
    class Stop(pl.Callback):
        def on_train_start(self, trainer, module):
            def stop(*args):
                trainer.should_stop |= module.steps == 6

            module.net.register_forward_hook(stop)

    assert fit("trainer.max_epochs=2", "trainer.loop=fast", callbacks=[Stop()]).metrics["steps"] == 7


@pytest.mark.parametrize("hook", BATCH_HOOKS)
def test_skipped_batch_is_no_step_and_counts_in_no_loss(fit, hook):
    def skip(self, trainer, module):
        if self.calls % 3 == 0:
            module.skip_batch()

    run = fit("optim=momentum", "trainer.max_epochs=2", callbacks=[callback(hook, skip)])
    assert run.metrics["steps"] == run.trainer.global_step == 98 - 98 // 3 and run.metrics["epochs"] == 2
    assert_weights(run, plain_steps(run.data.train_dataloader(), lambda epoch, i: (EPOCH * epoch + i + 1) % 3, 2))


def test_skipping_batches_whose_loss_is_not_finite_saves_the_run(fit):
    class Skip(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            if index in (3, 20):
                batch[0].fill_(torch.nan)

        def on_before_backward(self, trainer, module, loss):
            if not torch.isfinite(loss):
                module.skip_batch()

    run = fit("optim=momentum", "trainer.max_epochs=1", callbacks=[Skip()])
    assert run.metrics["status"] == "completed" and run.metrics["steps"] == 47 and run.metrics["train/loss"] < 1
    assert_weights(run, plain_steps(run.data.train_dataloader(), lambda epoch, i: i not in (3, 20)))


def test_skipped_batch_takes_its_step_along_where_batches_accumulate(fit):
    def skip(self, trainer, module):
        if self.calls == 5:  # the second of the second step's three
            module.skip_batch()

    words = ["trainer.max_epochs=1", "trainer.accumulate_grad_batches=3", "+trainer.limit_train_batches=9"]
    run = fit(*words, callbacks=[callback("on_after_backward", skip)])
    assert run.metrics["steps"] == run.trainer.global_step == 2


@pytest.mark.parametrize("loop", ["auto", "plain"])
def test_batch_skipped_before_its_epoch_begins_is_no_step(fit, loop):
    def skip(self, trainer, module):
        module.skip_batch()

    run = fit("trainer.max_epochs=2", f"trainer.loop={loop}", callbacks=[callback("on_train_epoch_start", skip)])
    assert run.metrics["steps"] == run.trainer.global_step == 2 * (EPOCH - 1)


@pytest.mark.parametrize("hook", BATCH_HOOKS)
def test_skipped_epoch_ends_before_that_batch(fit, hook):
    def skip(self, trainer, module):
        if trainer.current_epoch == 0 and module.steps == 5:
            module.skip_epoch()

    run = fit("optim=momentum", "trainer.max_epochs=2", callbacks=[callback(hook, skip)])
    assert run.metrics["steps"] == run.trainer.global_step == 5 + EPOCH and run.metrics["epochs"] == 2
    assert_weights(run, plain_steps(run.data.train_dataloader(), lambda epoch, i: epoch or i < 5, 2))


def test_batch_start_gets_the_batch_and_may_change_it(fit):
    class Double(pl.Callback):
        def on_train_batch_start(self, trainer, module, batch, index):
            assert batch[0].shape[1:] == (1, 28, 28) and index == module.steps
            batch[0].mul_(2)

    run = fit("optim=momentum", "trainer.max_epochs=1", callbacks=[Double()])
    data = run.data.train_dataloader()

    class Doubled:
        sampler = data.sampler

        def __iter__(self):
            yield from ((2 * x, y) for x, y in data)

    assert_weights(run, plain_steps(Doubled(), lambda epoch, i: True))


@pytest.mark.parametrize("words", [[], ["experiment=gan", "+trainer.limit_train_batches=4"]], ids=" ".join)
def test_batch_end_gets_the_loss(fit, words):
    losses = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, module, outputs, batch, index):
            losses.append((outputs["loss"].item(), len(batch[1])))

    run = fit(*words, "trainer.max_epochs=1", callbacks=[Watch()])
    mean = sum(loss * rows for loss, rows in losses) / sum(rows for _, rows in losses)
    assert run.metrics["train/loss"] == pytest.approx(mean, rel=1e-12)
