"""What a schedule drives has, at each step, the number that the schedule says; a run does as the plain loop does."""

import io

import pytest
import torch
from torch import nn

from seedbed.errors import ConfigError
from seedbed.losses import MnistLoss
from seedbed.models.mlp import mlp
from seedbed.optim.basic import BasicOptim
from seedbed.optim.driven import check_driven, drive, drive_dropout, restore
from seedbed.optim.groups import grouped
from seedbed.schedules import cosine, linear, one_cycle, values

NET = mlp((4,), 2, hidden=[3], dropout=0.4)


def of(kind, **options):
    return kind(NET.parameters(), **{"lr": 0.1, **options})


OPTIMISERS = {
    "basic": of(BasicOptim),
    "sgd": of(torch.optim.SGD, momentum=0.9, weight_decay=0.01),
    "adamw": of(torch.optim.AdamW, betas=(0.9, 0.99)),
    "rmsprop": of(torch.optim.RMSprop, momentum=0.8),
}


@pytest.mark.parametrize("name", OPTIMISERS)
def test_numbers_are_driven_from_those_given_and_nothing_else_changes(name):
    optimizer = OPTIMISERS[name]
    before = dict(optimizer.param_groups[0])
    for progress in (0.2, 0.7):
        drive(optimizer, one_cycle(), progress)
        drive(optimizer, linear(1.0, 0.0, drives="weight_decay"), progress)
    expected = before | {"lr": 0.1 * one_cycle()(0.7)}
    if "betas" in before:
        expected["betas"] = (one_cycle()(0.7, "momentum", 0.9), 0.99)
    elif "momentum" in before:
        expected["momentum"] = one_cycle()(0.7, "momentum", before["momentum"])
    if "weight_decay" in before:
        expected["weight_decay"] = before["weight_decay"] * linear(1.0, 0.0)(0.7)
    assert optimizer.param_groups[0] == expected
    restore(optimizer)
    assert optimizer.param_groups[0] == before


def test_dropout_is_driven_from_the_models():
    for progress in (0.5, 1.0, 0.5):
        drive_dropout(NET, linear(1.0, 0.5, drives="dropout"), progress)
    assert [m.p for m in NET if isinstance(m, nn.Dropout)] == [0.4 * 0.75]
    drive_dropout(NET, values(dropout=[0.0, 0.2]), 1.0)
    assert [m.p for m in NET if isinstance(m, nn.Dropout)] == [0.2]


@pytest.mark.parametrize(
    ("schedule", "optimizer", "message"),
    [
        (cosine(drives="weight_decay"), "basic", "it drives weight_decay, and BasicOptim has none"),
        (values(dropout=[0, 0.5]), "sgd", "it drives dropout, and the network has no dropout layers"),
    ],
)
def test_number_that_is_not_there_is_refused(schedule, optimizer, message):
    with pytest.raises(ValueError, match=message):
        check_driven(schedule, OPTIMISERS[optimizer], nn.Linear(1, 1))
    check_driven(one_cycle(), OPTIMISERS["basic"], nn.Linear(1, 1))  # its momentum may be absent


def test_group_keeps_its_ratio_to_the_others():
    names = {p: name for name, p in NET.named_parameters()}
    groups = [{"params": "*bias", "lr": 0.01, "weight_decay": 0.0}, {"params": "1.weight", "lr_scale": 3}]
    optimizer = grouped(names, lambda params: torch.optim.AdamW(params, lr=0.1, weight_decay=0.2), groups, names)
    drive(optimizer, values(lr=[0.5, 1.0], weight_decay=[0.0, 0.4]), 1.0)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([1.0, 0.1, 3.0])
    assert [group["weight_decay"] for group in optimizer.param_groups] == [0.4, 0.0, 0.4]
    restore(optimizer)
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 0.01, 0.3])


def test_config_wins_over_a_loaded_state():
    made = torch.optim.AdamW(NET.parameters(), lr=0.3, betas=(0.5, 0.6), eps=1e-3, weight_decay=0.7)
    file = io.BytesIO()
    torch.save(made.state_dict(), file)
    file.seek(0)
    optimizer = of(torch.optim.AdamW)
    before = {k: v for k, v in optimizer.param_groups[0].items() if k != "params"}
    optimizer.load_state_dict(torch.load(file, weights_only=True))
    restore(optimizer)
    assert {k: v for k, v in optimizer.param_groups[0].items() if k != "params"} == before


# --- runs


def plain_loop(data, drop_rate, optimizer_of, numbers):
    """784-30-1 for one epoch; `numbers(progress)` → (a dict for each group of the optimiser, dropout)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Flatten(), nn.Linear(784, 30), nn.ReLU(), nn.Dropout(drop_rate), nn.Linear(30, 1))
    optimizer, loss = optimizer_of(net), MnistLoss()
    for i, (x, y) in enumerate(data):
        now, net[3].p = numbers(i / len(data))
        for group, changes in zip(optimizer.param_groups, now, strict=True):
            group.update(changes)
        loss(net(x), y).backward()
        optimizer.step()
        optimizer.zero_grad()
    return net.state_dict()


def test_run_with_values_is_the_plain_loop(fit):
    """lr .03 → .06 → .02 in place of optim.lr, a decay that grows, a dropout that goes, biases without decay."""
    words = ["schedule=values", "schedule.lr=[.03,.06,.02]", "schedule.fractions=[.3,.7]", "optim=adamw"]
    words += ["schedule.shape=linear", "+schedule.momentum=null", "model.dropout=0.5", "trainer.max_epochs=1"]
    run = fit(*words, "optim.groups=[{params:'*bias',weight_decay:0,lr_scale:0.5}]")

    def optimizer_of(net):
        weights, biases = ([p for p in net.parameters() if (p.dim() > 1) == wide] for wide in (True, False))
        return torch.optim.AdamW([{"params": weights}, {"params": biases, "weight_decay": 0.0}], weight_decay=0.01)

    def numbers(progress):
        lr = 0.03 + progress / 0.3 * 0.03 if progress < 0.3 else 0.06 + (progress - 0.3) / 0.7 * (0.02 - 0.06)
        return [{"lr": lr}, {"lr": lr * 0.5}], 0.5

    expected = plain_loop(run.data.train_dataloader(), 0.5, optimizer_of, numbers)
    for a, b in zip(expected.values(), run.module.net.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)
    assert run.trainer.optimizers[0].param_groups[1]["weight_decay"] == 0


@pytest.mark.parametrize("loop", ["plain", "fast"])
def test_run_drives_decay_and_dropout_as_the_plain_loop(fit, loop):
    words = [
        f"trainer.loop={loop}",
        "optim=momentum",
        "optim.weight_decay=0.01",
        "model.dropout=0.5",
        "trainer.max_epochs=1",
    ]
    part = "{{_target_:seedbed.schedules.linear,start:1,end:{},drives:{}}}"
    phases = f"[{part.format(0.5, 'dropout')},{part.format(3, 'weight_decay')}]"
    run = fit(*words, "schedule=combined", "schedule.fractions=[0.5,0.5]", f"schedule.phases={phases}")

    def numbers(progress):
        half = progress * 2 % 1
        drop, decay = (1 - half / 2, 1.0) if progress < 0.5 else (1.0, 1 + 2 * half)
        return [{"weight_decay": 0.01 * decay}], 0.5 * drop

    data = run.data.train_dataloader()
    expected = plain_loop(data, 0.5, lambda net: torch.optim.SGD(net.parameters(), 0.1, 0.9), numbers)
    for a, b in zip(expected.values(), run.module.net.state_dict().values(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["optim.groups=[{params:'*.beta',lr:1}]"], "optim: groups: params=*.beta: no parameter has such a name"),
        (["schedule=values", "+schedule.dropout=[0,0.5]"], "schedule: it drives dropout, and the network has no"),
    ],
)
def test_mistake_of_a_run_is_one_line(fit, words, message):
    with pytest.raises(ConfigError) as error:
        fit(*words, "trainer.max_epochs=1")
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_what_a_stack_does_not_drive_runs_alone_and_says_so(sweep, capsys):
    words = ["trainer.max_epochs=1", "+trainer.limit_train_batches=2", "model.dropout=0.5", "seed=0,1"]
    for extra, reason in [
        (["schedule=values", "+schedule.dropout=[0,0.5]"], "a stack of SGD has no schedule of dropout"),
        (["optim.groups=[{params:'*bias',lr_scale:0.1}]"], "a stack has one group of parameters"),
    ]:
        sweep("fused", *words, *extra)
        assert f"2 jobs: 2 alone ({reason})" in capsys.readouterr().out
