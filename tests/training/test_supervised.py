"""What happens between two steps, against plain PyTorch: schedules, clipping, accumulation, callbacks."""

import lightning.pytorch as pl
import pytest
import torch
from torch import nn

from seedbed.data.mnist_sample import mnist_sample
from seedbed.losses import MnistLoss
from seedbed.schedules import one_cycle
from seedbed.training.supervised import Supervised


def plain_loop(data, epochs: int, clip: float | None, accumulate: int) -> tuple[dict[str, torch.Tensor], int]:
    """784-30-1 with momentum 0.95 and one-cycle at 0.1; returns weights and steps."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 1))
    optimizer = torch.optim.SGD(net.parameters(), lr=0.1, momentum=0.95)
    schedule, loss, steps = one_cycle(), MnistLoss(), 0
    batches = len(data)
    total = epochs * -(-batches // accumulate)
    for epoch in range(epochs):
        data.sampler.set_epoch(epoch)
        for i, (x, y) in enumerate(data, 1):
            window = min(accumulate, batches - (i - 1) // accumulate * accumulate)
            (loss(net(x), y) * (accumulate / window) / accumulate).backward()
            if i % accumulate and i < batches:
                continue
            if clip:
                nn.utils.clip_grad_norm_(net.parameters(), clip)
            optimizer.param_groups[0] |= {
                "lr": 0.1 * schedule(steps / total),
                "momentum": 0.95 * schedule(steps / total, "momentum"),
            }
            optimizer.step()
            optimizer.zero_grad()
            steps += 1
    return net.state_dict(), steps


@pytest.mark.parametrize(("clip", "accumulate"), [(None, 1), (0.02, 1), (None, 3), (0.02, 4)])
def test_steps_are_those_of_the_plain_loop(fit, clip, accumulate):
    words = ["optim=momentum", "optim.momentum=0.95", "schedule=one_cycle", "trainer.max_epochs=2"]
    words.append(f"trainer.accumulate_grad_batches={accumulate}")
    run = fit(*words, *([f"trainer.gradient_clip_val={clip}"] if clip else []))
    expected, steps = plain_loop(run.data.train_dataloader(), 2, clip, accumulate)
    assert run.metrics["steps"] == steps
    for a, b in zip(expected.values(), run.module.net.state_dict().values(), strict=True):
        assert torch.equal(a, b)  # the same operations in the same order


def test_momentum_goes_down_and_up_as_the_lr_goes_up_and_down(fit):
    seen = []

    class Watch(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            seen.append(trainer.optimizers[0].param_groups[0]["momentum"])

    fit("optim=momentum", "optim.momentum=0.95", "schedule=one_cycle", "trainer.max_epochs=1", callbacks=[Watch()])
    assert len(seen) == 49  # a callback that looks at batches sees every step
    assert seen[0] == 0.95 and min(seen) == pytest.approx(0.85, abs=1e-3) and seen[-1] == pytest.approx(0.95, abs=1e-3)


def test_resumed_in_the_middle_of_an_epoch_of_accumulated_batches(fit, tmp_path):
    class StopAt(pl.Callback):
        def on_train_batch_end(self, trainer, *_):
            if trainer.global_step >= 20:  # of 17 an epoch
                raise InterruptedError

    words = ["trainer.accumulate_grad_batches=3", "optim=momentum", "schedule=one_cycle", "trainer.max_epochs=2"]
    whole = fit(*words)
    with pytest.raises(InterruptedError):
        fit(*words, folder=tmp_path / "half", callbacks=[StopAt()], every=0)
    resumed = fit(*words, f"ckpt_path={tmp_path}/half/checkpoints/last.ckpt")
    assert resumed.metrics["steps"] == whole.metrics["steps"] == 34
    assert resumed.metrics["val/loss"] == whole.metrics["val/loss"]


def test_early_stopping_ends_the_run_where_the_loss_no_longer_falls(fit):
    run = fit("callbacks=early_stopping", "callbacks.early_stopping.min_delta=0.01", "trainer.max_epochs=30")
    losses = run.curve("val/loss")[1:]
    assert run.metrics["epochs"] == len(losses) < 30
    best = losses[0]
    waits = [best := min(best, loss) if loss < best - 0.01 else best for loss in losses]
    assert waits[-4:] == [waits[-1]] * 4  # three epochs without one better by 0.01


def test_weights_of_ema_are_the_moving_average(fit):
    mine = {}

    class Average(pl.Callback):
        def on_train_batch_end(self, trainer, module, *_):
            for name, p in module.net.named_parameters():
                now = p.detach().clone()
                mine[name] = now if name not in mine else mine[name] * 0.9 + now * 0.1

    run = fit("callbacks=ema", "callbacks.ema.decay=0.9", "trainer.max_epochs=2", callbacks=[Average()])
    for name, p in run.module.net.named_parameters():
        torch.testing.assert_close(p.detach(), mine[name], rtol=1e-5, atol=1e-6)  # lerp rounds otherwise
    saved = torch.load(run.folder / "checkpoints/last.ckpt", weights_only=True)["state_dict"]
    assert torch.equal(saved["net.1.weight"], run.module.net[1].weight)


def test_training_set_sample_is_what_the_net_sees(fit):
    run = fit("data.normalize=symmetric", "trainer.max_epochs=0")
    x = run.data.sample
    assert x.shape == (256, 1, 28, 28) and x.min() == -1 and x.max() == 1
    assert torch.equal(x[1], mnist_sample().train[0][12396 // 256].float() / 127.5 - 1)


class Penalised(Supervised):
    """Adds ½ · 0.01 · |weights|² to the loss, halves the lr from the middle on, and logs the norm of the weights."""

    def batch_losses(self, x, y):
        loss, recorded = super().batch_losses(x, y)
        return loss + 0.005 * sum(p.square().sum() for p in self.net.parameters()), recorded

    def set_rates(self, optimizer, progress):
        super().set_rates(optimizer, progress if progress < 0.5 else 1.0)

    def evaluation_metrics(self):
        return super().evaluation_metrics() | {"norm": sum(p.square().sum() for p in self.net.parameters()).sqrt()}


def test_module_that_overrides_the_hooks_trains_as_its_arithmetic_says(fit):
    words = ["trainer.max_epochs=2", "data.shuffle=false"]
    run = fit(*words, "schedule=linear", "schedule.end=0.5", f"module._target_={__name__}.Penalised")
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Linear(30, 1))
    optimizer, data, step = torch.optim.SGD(net.parameters(), 0.1, weight_decay=0.01), run.data.train_dataloader(), 0
    for _ in range(2):
        for x, y in data:
            optimizer.param_groups[0]["lr"] = 0.1 * (1 - 0.5 * step / 98 if step < 49 else 0.5)
            optimizer.zero_grad()
            MnistLoss()(net(x), y).backward()
            optimizer.step()
            step += 1
    # weight decay is added to the gradient in another order than a penalty's: some units of the last place a step
    for a, b in zip(net.state_dict().values(), run.module.net.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=0, atol=1e-6)
    norm = sum(p.square().sum() for p in net.parameters()).sqrt().item()
    assert run.metrics["val/norm"] == pytest.approx(norm, abs=1e-5) == run.curve("val/norm")[-1]
