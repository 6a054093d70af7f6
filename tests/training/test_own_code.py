"""A mistake in the user's own part shows that part's lines and no others; a part of another form is one line."""

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from seedbed.errors import ConfigError
from seedbed.own_code import own_error, shown

ROOT = Path(__file__).resolve().parents[2]
OWN = """
import math, torch
from torch import nn
import lightning.pytorch as pl
from seedbed.losses import Loss
from seedbed.schedules import Schedule


class Net(nn.Module):
    def __init__(self, shape, num_outputs):
        super().__init__()
        self.layer = nn.Linear(math.prod(shape), num_outputs)

    def forward(self, x):
        return self.layer(x.flatten(1))


class Unconvertible(Net):
    def __init__(self, *shapes):
        super().__init__(*shapes)
        self.width = int("x")  # mistake


class Mismatched(Net):
    def forward(self, x):
        return self.layer(x)  # mistake


class Unfinished(Net):
    def __init__(self, *shapes):
        nn.Linear()  # mistake


class TenOutputs(Net):
    def __init__(self, shape, num_outputs):
        super().__init__(shape, 10)


class Flat(Net):
    def forward(self, x):
        return super().forward(x)[:, 0]


class WithoutArguments(nn.Module):
    def __init__(self):
        super().__init__()


class WithoutRate(torch.optim.Optimizer):
    def __init__(self, params, lr, weight_decay):
        super().__init__(params, {})


def nothing(*args, **options):
    return None


class LateLoss(Loss):
    def forward(self, output, target):
        return {}[len(output)] if len(output) > 2 else output.mean()  # mistake


class Divides(Loss):
    def __init__(self):
        super().__init__()
        1 / 0  # mistake


class PlainLoss(nn.Module):
    def forward(self, output, target):
        return output.mean()


class Losses(Loss):
    def forward(self, output, target):
        return output.sum(1)


def init(net, x):
    raise ValueError("an init")  # mistake


def new_net(net, x):
    return net


def source():
    return open("nowhere/file")  # mistake


def schedule():
    return Schedule({"lr": lambda progress, given: given / (progress > 0)})  # mistake


class Callback(pl.Callback):
    def on_train_batch_end(self, *args):
        raise ValueError("a callback")  # mistake


class LastCallback(pl.Callback):
    def on_fit_end(self, *args):
        undefined  # mistake


class Optimizer(torch.optim.SGD):
    def step(self, closure=None):
        raise ValueError("a step")  # mistake
"""
SHORT = ["trainer.max_epochs=1", "+trainer.limit_train_batches=2", "trainer.accelerator=cpu"]


@pytest.fixture(scope="module")
def own(tmp_path_factory):
    """A folder of the user's on the path, with own.py."""
    folder = tmp_path_factory.mktemp("own")
    (folder / "usersown.py").write_text(OWN)
    (folder / "ownimport.py").write_text("import nowhere_at_all  # mistake\n")
    (folder / "ownsyntax.py").write_text("def f(:  # mistake\n")
    sys.path.insert(0, str(folder))
    yield folder
    sys.path.remove(str(folder))


MISTAKES = {
    "model._target_=usersown.Unconvertible": "ValueError: invalid literal for int()",
    "model._target_=usersown.Mismatched": "RuntimeError: ",
    "model._target_=usersown.Unfinished": "TypeError: ",
    "model._target_=ownimport.f": "ModuleNotFoundError: ",
    "model._target_=ownsyntax.f": "SyntaxError: ",
    "loss._target_=usersown.LateLoss": "KeyError: ",
    "loss._target_=usersown.Divides": "ZeroDivisionError: ",
    "init._target_=usersown.init": "ValueError: an init",
    "data.source._target_=usersown.source": "FileNotFoundError: ",
    "schedule._target_=usersown.schedule": "ZeroDivisionError: ",
    "+callbacks.own._target_=usersown.Callback": "ValueError: a callback",
    "+callbacks.own._target_=usersown.LastCallback": "NameError: ",
    "+callbacks.own._target_=ownimport.f": "ModuleNotFoundError: ",
    "optim._target_=usersown.Optimizer": "ValueError: a step",
}


@pytest.mark.parametrize(("override", "error"), MISTAKES.items())
def test_mistake_shows_the_users_lines_and_no_others(fit, own, monkeypatch, override, error):
    monkeypatch.delenv("HYDRA_FULL_ERROR", raising=False)
    with pytest.raises(Exception) as raised:
        fit("model=linear", override, *SHORT)
    lines = shown(raised.value).splitlines()
    assert not isinstance(raised.value, ConfigError) and lines[-1].startswith(error)
    files = [line for line in lines if line.lstrip().startswith("File ")]
    # the test itself calls the parts; a run's traceback begins below it
    assert files and all(str(own) in line or __file__ in line or "conftest.py" in line for line in files)
    assert any("# mistake" in line for line in lines)


OUTPUT = (
    "model: must return an output [B, 1], as the loss and the data need: for 2 inputs a tensor [2, 1]; it returns a "
)
CONTRACTS = {
    "model._target_=usersown.TenOutputs": OUTPUT + "tensor [2, 10]",
    "model._target_=usersown.Flat": OUTPUT + "tensor [2] of torch.float32",
    "model._target_=usersown.WithoutArguments": "model: WithoutArguments.__init__() takes 1 positional argument but",
    "model._target_=usersown.nothing": "model: a model is f(in_shape, num_outputs, …) → nn.Module; this one gives",
    "model._target_=usersown.Nowhere": "model: Error locating target 'usersown.Nowhere': No module named",
    "~init._target_": "init: 'dict' object is not callable",
    "model._target_=os.system": "model: Target 'os.system' is blocklisted because it allows config data to control",
    "loss._target_=usersown.PlainLoss": "loss: PlainLoss has no num_outputs(…); a loss is a seedbed.losses.Loss",
    "loss._target_=usersown.Losses": "loss: must be a scalar tensor, the mean over the batch; it is a tensor [2]",
    "loss._target_=usersown.nothing": "loss: a loss is a seedbed.losses.Loss",
    "init._target_=usersown.new_net": "init: an init is f(net, x, …) → None, which changes the weights in place",
    "init._target_=usersown.source": "init: source() takes 0 positional arguments but 2 were given; an init is f(",
    "data.source._target_=usersown.nothing": "data.source is f(…) → seedbed.data.splits.Splits; this one gives",
    "schedule._target_=usersown.nothing": "schedule: a schedule is f(…) → seedbed.schedules.Schedule; this one gives",
    "optim._target_=usersown.nothing": "optim: an optimiser is f(params, lr, …) → torch.optim.Optimizer; this one",
    "optim._target_=usersown.WithoutRate": "optim: WithoutRate has no lr, which every optimiser must have",
    "+callbacks.own._target_=usersown.nothing": "callbacks: a callback is a lightning.pytorch.Callback; this one",
    "+logger.own._target_=usersown.nothing": "logger: a logger is a lightning.pytorch.loggers.Logger; this one gives",
    "+logger.own=1": "logger: a logger is a lightning.pytorch.loggers.Logger; this one gives",
}


@pytest.mark.parametrize(("override", "message"), CONTRACTS.items())
def test_part_of_another_form_is_refused_in_one_line(fit, own, override, message):
    with pytest.raises(ConfigError) as error:
        fit("model=linear", override, *SHORT)
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_own_part_that_keeps_the_contract_trains_as_if_it_had_not_been_tried(fit, own, monkeypatch):
    words = ["model=linear", "model._target_=usersown.Net", *SHORT]
    tried = fit(*words)
    monkeypatch.setattr("seedbed.training.build.check_network", lambda *args: None)
    assert tried.metrics["val/loss"] == fit(*words).metrics["val/loss"]


def test_error_of_seedbeds_own_is_none_of_the_users():
    with pytest.raises(OSError) as error:
        Path("nowhere").read_text(encoding="utf-8")
    error.value.__traceback__ = error.value.__traceback__.tb_next  # without this file
    assert own_error(error.value) is None
    with pytest.raises(ValueError, match="Seed must be") as error:
        np.random.seed(2**32)  # compiled code names its file by a relative path
    error.value.__traceback__ = error.value.__traceback__.tb_next
    assert own_error(error.value) is None


@pytest.mark.parametrize("launcher", ["basic", "fused"])
def test_sweep_shows_a_mistake_once_and_keeps_it_in_each_log(sweep, own, capfd, launcher):
    folder = sweep(launcher, "model=linear", "model._target_=usersown.Mismatched", "seed=0,1", *SHORT[:2], code=1)
    assert capfd.readouterr().err.count("self.layer(x)  # mistake") <= 1
    for job in "01":
        assert (folder / job / "train.log").read_text(encoding="utf-8").count("self.layer(x)  # mistake") == 1


def command(own: Path, *words: str, prefix: tuple[str, ...] = (), **env: str) -> subprocess.CompletedProcess:
    line = [sys.executable, *prefix, str(ROOT / "train.py"), "model=linear", *SHORT, f"hydra.run.dir={own}/run", *words]
    untraced = {name: value for name, value in os.environ.items() if not name.startswith(("COVERAGE", "HYDRA_FULL"))}
    env = {**untraced, "PYTHONPATH": str(own), **env}
    return subprocess.run(line, env=env, cwd=own, capture_output=True, text=True, timeout=300)


def test_command_ends_with_the_users_line_in_the_terminal_and_the_log(own):
    done = command(own, "model._target_=usersown.Unconvertible")
    assert done.returncode == 1
    lines = [line for line in done.stdout.splitlines() if set(line) - set(" ^~")]  # without the marks below a line
    assert "usersown.py" in lines[-3] and "# mistake" in lines[-2] and lines[-1].startswith("ValueError: ")
    log = (own / "run/train.log").read_text(encoding="utf-8")
    assert log.endswith(done.stdout.partition("Traceback")[2]) and "site-packages" not in done.stdout + log


@pytest.mark.slow
def test_debugger_profiler_and_full_errors_see_everything(own):
    full = command(own, "model._target_=usersown.Unconvertible", HYDRA_FULL_ERROR="1")
    assert full.returncode == 1 and "training/build.py" in full.stdout and "# mistake" in full.stdout
    words = ["model._target_=usersown.Unconvertible"]
    debugged = command(own, *words, prefix=("-m", "pdb", "-c", "continue", "-c", "p self.__class__", "-c", "quit"))
    assert "post mortem" in debugged.stdout and "<class 'usersown.Unconvertible'>" in debugged.stdout
    profiled = command(own, "model._target_=usersown.Net", prefix=("-m", "cProfile"))
    assert profiled.returncode == 0 and "function calls" in profiled.stdout
