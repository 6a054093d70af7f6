"""A run goes on from a checkpoint that fits it, with its config's options, or says in one line what does not fit."""

import pickle
from pathlib import Path

import pytest
import torch

from seedbed.errors import ConfigError
from seedbed.training.run import train_parts

SHORT = ["model=linear", "+trainer.limit_train_batches=2", "trainer.accelerator=cpu", "logger=none"]
KINDS = {
    "sgd": [],
    "momentum": ["optim=momentum"],
    "adam": ["optim=adam"],
    "rmsprop": ["optim=rmsprop"],
    "basic": ["optim=basic"],
    "groups": ["optim.groups=[{params:'*bias',weight_decay:0}]"],
    "stopping": ["callbacks=early_stopping"],
}


@pytest.fixture(scope="module")
def train(composed, tmp_path_factory):
    """train("optim=adam", …, ckpt_path=…) → the run's folder."""

    def run(*words: str, ckpt_path: Path | None = None, epochs: int = 2) -> Path:
        folder = tmp_path_factory.mktemp("run")
        config, _ = composed(*SHORT, f"trainer.max_epochs={epochs}", *words)
        train_parts({**config, "ckpt_path": ckpt_path and str(ckpt_path)}, folder, {})
        return folder

    return run


@pytest.fixture(scope="module")
def last(train):
    """Kind → the last.ckpt of a run of one epoch."""
    return {kind: train(*words, epochs=1) / "checkpoints/last.ckpt" for kind, words in KINDS.items()}


class Evil:
    def __reduce__(self):
        import os

        return os.mkdir, ("evil",)


def damaged(kind: str, whole: Path, folder: Path) -> Path:
    """Write a file that is no checkpoint of a run, or a damaged one."""
    path, content = folder / f"{kind}.ckpt", torch.load(whole, weights_only=True)
    match kind:
        case "empty":
            path.write_bytes(b"")
        case "cut":
            path.write_bytes(whole.read_bytes()[:-200])
        case "text":
            path.write_text("epoch 3\n" * 99, encoding="utf-8")
        case "evil":
            torch.save({**content, "extra": Evil()}, path)
        case "pickle":
            path.write_bytes(pickle.dumps(Evil()))
        case "list":
            torch.save([content], path)
        case "weights":
            torch.save({"state_dict": content["state_dict"]}, path)
        case "loops":
            torch.save({**content, "loops": {}}, path)
        case "callbacks":
            torch.save(
                {**content, "callbacks": {"EarlyStopping": 3}, "loops": {**content["loops"], "fit_loop": 0}}, path
            )
        case "optimizers":
            torch.save({**content, "optimizer_states": []}, path)
        case "progress":
            torch.save({**content, "steps": "many"}, path)
        case "losses":
            torch.save({**content, "losses": None}, path)
    return path


FILES = [
    "empty",
    "cut",
    "text",
    "evil",
    "pickle",
    "list",
    "weights",
    "loops",
    "callbacks",
    "optimizers",
    "progress",
    "losses",
]


@pytest.mark.parametrize("kind", FILES)
def test_file_that_is_no_whole_checkpoint_is_refused_in_one_line(train, last, tmp_path, monkeypatch, kind):
    monkeypatch.chdir(tmp_path)
    path = damaged(kind, last["sgd"], tmp_path)
    with pytest.raises(ConfigError) as error:
        train(ckpt_path=path)
    assert str(error.value).startswith(f"ckpt_path={path}: ") and "\n" not in str(error.value)
    assert not (tmp_path / "evil").exists()


OTHERS = {
    "sgd model=mlp": "is of another network: for net.1.weight the run's model has [30, 784], the file has [1, 784]",
    "sgd optim=adam": "is of another optimiser than Adam: only one of them has ",
    "sgd optim=basic": "is of another optimiser than BasicOptim: only one of them has ",
    "basic optim=sgd": "is of another optimiser than SGD",
    "adam optim=sgd": "is of another optimiser than SGD",
    "adam optim=rmsprop": "is of another optimiser than RMSprop",
    "rmsprop optim=adam": "is of another optimiser than Adam",
    "rmsprop optim=rmsprop ++optim.momentum=0.9": "its optimiser kept no momentum_buffer, which RMSprop needs",
    "rmsprop optim=rmsprop +optim.centered=true": "its optimiser kept no grad_avg, which RMSprop needs",
    "adam optim=adam +optim.amsgrad=true": "its optimiser kept no max_exp_avg_sq, which Adam needs",
    "groups optim=sgd": "its optimiser has 2 groups of parameters, the run's 1",
    "sgd trainer.max_epochs=1": "has 1 epochs behind it, nothing is left to train; raise trainer.max_epochs=1",
    "sgd trainer.max_epochs=0": "has 1 epochs behind it, nothing is left to train; raise trainer.max_epochs=0",
    "sgd +trainer.max_steps=1": "has 2 steps behind it, nothing is left to train; raise trainer.max_steps=1",
}


@pytest.mark.parametrize(("line", "message"), OTHERS.items())
def test_checkpoint_of_another_run_is_refused_in_one_line(train, last, line, message):
    kind, *words = line.split()
    with pytest.raises(ConfigError) as error:
        train(*words, ckpt_path=last[kind])
    assert str(error.value).startswith(f"ckpt_path={last[kind]}: {message}") and "\n" not in str(error.value)


# kind, option as given → its value in the optimiser
OPTIONS = {
    "sgd optim=momentum": ("momentum", 0.9),
    "sgd optim.lr=3": ("lr", 3),
    "sgd ++optim.weight_decay=0.5": ("weight_decay", 0.5),
    "sgd +optim.maximize=true": ("maximize", True),
    "momentum optim=momentum optim.momentum=0.5": ("momentum", 0.5),
    "momentum optim=momentum +optim.dampening=0.5": ("dampening", 0.5),
    "momentum optim=momentum optim.nesterov=true": ("nesterov", True),
    "adam optim=adam optim.betas=[0.5,0.6]": ("betas", (0.5, 0.6)),
    "adam optim=adam optim.eps=0.1": ("eps", 0.1),
    "adam optim=adam optim.weight_decay=0.3": ("weight_decay", 0.3),
    "adam optim=adamw": ("decoupled_weight_decay", True),
    "rmsprop optim=rmsprop optim.alpha=0.5": ("alpha", 0.5),
    "groups optim.groups=[{params:'*bias',weight_decay:0.25}]": ("weight_decay", 0.25),
}


@pytest.mark.parametrize(("line", "expected"), OPTIONS.items())
def test_the_configs_options_win_over_the_checkpoints(train, last, line, expected):
    kind, *words = line.split()
    name, value = expected
    folder = train(*words, ckpt_path=last[kind])
    state = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["optimizer_states"][0]
    found = state["param_groups"][-1][name]
    assert (tuple(found) if isinstance(found, list) else found) == value


def test_early_stopping_has_the_configs_patience(train, last):
    folder = train("callbacks=early_stopping", "callbacks.early_stopping.patience=7", ckpt_path=last["stopping"])
    states = torch.load(folder / "checkpoints/last.ckpt", weights_only=True)["callbacks"]
    (stopping,) = (state for name, state in states.items() if name.startswith("EarlyStopping"))
    assert stopping["patience"] == 7


def test_trying_a_step_changes_nothing(train, last):
    """Going on with the same config gives the bits of a run that was never interrupted."""
    whole, resumed = train("optim=adam"), train("optim=adam", ckpt_path=last["adam"])
    a, b = (torch.load(f / "checkpoints/last.ckpt", weights_only=True)["state_dict"] for f in (whole, resumed))
    assert all(torch.equal(a[name], b[name]) for name in a)


RUNS = {
    "callbacks=early_stopping callbacks.early_stopping.monitor=val/accuracy data=function loss=mse": (
        "callbacks.early_stopping.monitor=val/accuracy: this run has no such metric; it has lr, train/loss, val/loss"
    ),
    "+callbacks.own._target_=lightning.pytorch.callbacks.EarlyStopping +callbacks.own.monitor=val_loss": (
        "callbacks.own.monitor=val_loss: this run has no such metric; it has lr, train/loss, val/accuracy, val/loss"
    ),
    "+callbacks.own._target_=lightning.pytorch.callbacks.ModelCheckpoint +callbacks.own.monitor=loss": (
        "callbacks.own.monitor=loss: this run has no such metric"
    ),
    "+trainer.overfit_batches=0.0001": "trainer.overfit_batches=0.0001: leaves none of 49 batches; raise it",
    "+trainer.limit_val_batches=0": "trainer.limit_val_batches=0: leaves none of 1 batches; raise it",
}


@pytest.mark.parametrize(("line", "message"), RUNS.items())
def test_parts_that_do_not_go_together_are_refused_before_training(train, line, message):
    with pytest.raises(ConfigError) as error:
        train(*line.split())
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


class Normed(torch.nn.Sequential):
    def __init__(self, shape, num_outputs):
        from torch import nn

        width = shape[-1] * shape[-2]
        super().__init__(nn.Flatten(), nn.BatchNorm1d(width), nn.Linear(width, num_outputs))


@pytest.mark.parametrize(
    ("words", "refused"),
    [
        (["data.batch_size=1"], True),
        (["data.batch_size=12395"], True),  # of 12,396 samples
        (["data.batch_size=12395", "data.drop_last=true"], False),
        (["data.batch_size=12395", "model=lenet", "model.batch_norm=true"], False),  # one sample has many pixels there
        (["data.batch_size=256"], False),
    ],
)
def test_batch_norm_of_one_sample_is_refused_before_training(composed, words, refused):
    from seedbed.training.build import Parts, build_data

    config, _ = composed("model=linear", *words)
    if config["model"]["_target_"].endswith("linear"):
        config["model"] = {"_target_": f"{__name__}.Normed"}
    data = build_data(config)
    assert len(data.splits.train[1]) == 12396
    if not refused:
        assert Parts().net(config, data)
        return
    with pytest.raises(ConfigError, match="a batch would have one sample, from which batch norm cannot"):
        Parts().net(config, data)
