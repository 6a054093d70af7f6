"""Every file of conf/ composes, builds and trains; every value is checked; a mistake ends with one clear line."""

import json
import re
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest
import torch
from uncovered import uncovered

from seedbed.allowed_values import RULES, check, leaves
from seedbed.errors import ConfigError
from seedbed.training import datamodule

ROOT = Path(__file__).resolve().parents[1]
GROUPS = ("data", "model", "loss", "init", "optim", "schedule", "callbacks")
CHOICES = [f"{p.parent.name}={p.stem}" for g in GROUPS for p in sorted((ROOT / "conf" / g).glob("*.yaml"))]
EXPERIMENTS = sorted(p.stem for p in (ROOT / "conf/experiment").glob("*.yaml"))
# bfloat16 convolutions take minutes on a processor without them
EXPERIMENTS[EXPERIMENTS.index("resnet18_fast")] = pytest.param("resnet18_fast", marks=pytest.mark.slow)
COSINE, EXPONENTIAL, CONSTANT = (f"seedbed.schedules.{name}" for name in ("cosine", "exponential", "constant"))
# what a choice needs to make sense
WITH = {
    "init=fixup": ["model=fixup_resnet18"],
    "model=quadratic": ["data=roller_coaster", "loss=mse", "optim.lr=1e-5", "data.batch_size=10"],
    "model=rectified_lines": ["data=function", "loss=mse"],
    "callbacks=generated": ["model=gan"],
    "callbacks=curve_fit": ["model=rectified_lines", "data=function", "loss=mse"],
}
NEEDS_FILES = {"data=image_folder": "data.root=anywhere"}
SHORT = ["trainer.max_epochs=1", "+trainer.limit_train_batches=2", "+trainer.limit_val_batches=1", "data.batch_size=32"]


@pytest.mark.parametrize("choice", CHOICES)
def test_choice_composes_is_checked_throughout_and_instantiates(composed, choice):
    from hydra.utils import instantiate

    extra = [NEEDS_FILES[choice]] if choice in NEEDS_FILES else []
    config, _ = composed(choice, *extra)
    check(config)
    group = choice.split("=")[0]
    keys = [re.sub(r"phases\.\d+\.", "", f"{group}.{key}") for key, _ in leaves(config[group])]
    assert [key for key in keys if key not in RULES] == []
    parts = config[group].values() if group == "callbacks" else [config[group]]
    assert all(instantiate(part, _partial_=True, _convert_="all") is not None for part in parts)


@pytest.fixture
def few_images(monkeypatch):
    """Make the one validation batch of SHORT small: 2,048 images take a resnet18 several seconds."""
    monkeypatch.setattr(datamodule, "EVAL_BATCH", 128)


@pytest.mark.parametrize("choice", [c for c in CHOICES if not c.startswith("data=")])
def test_choice_trains_two_batches(fit, few_images, choice):
    run = fit(choice, *SHORT, *WITH.get(choice, ()))
    steps = 0 if choice == "model=pixel_similarity" else 2  # nothing is learned by gradient
    assert run.metrics["steps"] == steps and run.metrics["status"] == "completed"


@pytest.mark.parametrize("experiment", EXPERIMENTS)
def test_experiment_trains_two_batches(fit, few_images, mnist_root, experiment):
    if experiment.startswith("search") and find_spec("optuna") is None:
        pytest.skip('needs Optuna: pip install -e ".[optuna]"')
    run = fit(f"experiment={experiment}", *SHORT)
    assert run.metrics["steps"] == min(2, run.trainer.num_training_batches)


def test_losses_work_with_ten_classes(fit, mnist_root):
    for loss in (c for c in CHOICES if c.startswith("loss=")):
        run = fit("data=mnist", loss, *SHORT)
        assert run.module.net(torch.zeros(3, 1, 28, 28)).shape == (3, 10)


BAD_VALUES = {
    "optim.lr=fast": "optim.lr=fast: must be a number > 0",
    "optim.lr=-1": "optim.lr=-1: must be a number > 0",
    "optim.lr=nan": "optim.lr=nan: must be a number > 0",
    "optim.lr=true": "optim.lr=true: must be a number > 0",
    "optim.lr=null": "optim.lr=null: must be a number > 0",
    "optim.lr='0.1'": "optim.lr='0.1': must be a number > 0",
    "optim.lr=[1,2]": "optim.lr=[1,2]: must be a number > 0",
    "optim.lr={a:1}": "optim.lr: is a mapping: must be a number > 0",
    "model.hidden=[{a:1}]": "model.hidden: is a mapping: must be a list, each an integer ≥ 1",
    "optim=adam optim.betas=[a,true]": "optim.betas=[a,true]: must be two numbers ≥ 0 and < 1",
    "+trainer.barebones=true": "trainer.barebones=true: must be false: a run leaves",
    "+trainer.val_check_interval=0": "trainer.val_check_interval=0: must be null or a number of batches, a share",
    "+trainer.max_time={hour:1}": "trainer.max_time: is a mapping: must be null or a time as 00:01:30:00 or {hours: 2}",
    "+trainer.max_time={hours:-1}": "trainer.max_time.hours=-1: must be a number ≥ 0",
    "model.hidden=[30,null]": "model.hidden=[30,null]: must be a list, each an integer ≥ 1",
    "trainer.devices=[0,{a:1}]": "trainer.devices=[0,{a:1}]: must be an integer ≥ 1 or auto",
    "data.batch_size=2.5": "data.batch_size=2.5: must be an integer ≥ 1",
    "data.batch_size=0": "data.batch_size=0: must be an integer ≥ 1",
    "data.shuffle=maybe": "data.shuffle=maybe: must be true or false",
    "data.normalize=big": "data.normalize=big: must be one of unit, symmetric, standard",
    "seed=x": "seed=x: must be an integer ≥ 0",
    "seed=-1": "seed=-1: must be an integer ≥ 0",
    "trainer.max_epochs=-5": "trainer.max_epochs=-5: must be an integer ≥ 0",
    "trainer.devices=0": "trainer.devices=0: must be an integer ≥ 1 or auto",
    "model.hidden=[0]": "model.hidden=[0]: must be a list, each an integer ≥ 1",
    "model.hidden=30": "model.hidden=30: must be a list, each an integer ≥ 1",
    "model.activation=rolu": "model.activation=rolu: must be one of relu",
    "model.dropout=1": "model.dropout=1: must be a number ≥ 0 and < 1",
    "ckpt_path=nowhere.ckpt": "ckpt_path=nowhere.ckpt: must be null or a file that exists",
    "schedule=combined schedule.phases.0.start=-3": "schedule.phases.0.start=-3: must be a number ≥ 0",
    "schedule=combined +schedule.phases.1.drives=wd": "schedule.phases.1.drives=wd: must be one of lr, momentum",
    "schedule=combined schedule.phases=[]": "schedule.phases=[]: must be a list of schedules",
    "schedule=combined schedule.phases=3": "schedule.phases=3: must be a list of schedules",
    "schedule=exponential schedule.end=0": "schedule.end=0: must be > 0 for an exponential",
    "schedule=exponential schedule.start=0": "schedule.start=0: must be > 0 for an exponential",
    "schedule=values schedule.shape=exponential schedule.lr=[0,1]": "schedule.lr=0: must be > 0 for an exponential",
    "schedule=values schedule.lr=[1]": "schedule.lr=[1]: must be null or a list of two or more numbers ≥ 0",
    "schedule=values schedule.shape=square": "schedule.shape=square: must be one of linear, cosine, exponential",
    "optim.groups=3": "optim.groups=3: must be a list of groups, each {params: '*bias', lr_scale: 0.1}",
    "optim.groups=[{params:'*',lr:-1}]": "optim.groups.0.lr=-1: must be a number > 0",
    "optim.groups=[{params:3}]": "optim.groups.0.params=3: must be a pattern of parameters' names, or a list",
    "model=timm model.pretrained=yes_please": "model.pretrained=yes_please: must be true or false",
    "model=timm +model.drop_rate=1": "model.drop_rate=1: must be a number ≥ 0 and < 1",
    f"schedule=combined schedule.phases.1._target_={EXPONENTIAL} schedule.phases.1.end=0": (
        "schedule.phases.1.end=0: must be > 0 for an exponential"
    ),
}
# nothing to drive, or driven to where a momentum diverges
BAD_MOMENTA = {
    "schedule=linear schedule.drives=momentum": "schedule.drives=momentum: the optimiser has none",
    "schedule=linear schedule.drives=momentum optim=basic": "schedule.drives=momentum: the optimiser has none",
    "schedule=linear schedule.drives=momentum optim=rmsprop": "schedule.drives=momentum: the optimiser has none",
    "schedule=linear schedule.drives=momentum optim=momentum optim.momentum=0": (
        "schedule.drives=momentum: the optimiser has none: optim.momentum or optim.betas must be > 0"
    ),
    f"schedule=combined +schedule.phases.0.drives=momentum schedule.phases.1={{_target_: {CONSTANT}}}": (
        "schedule.phases.0.drives=momentum: the optimiser has none"
    ),
    "schedule=values +schedule.momentum=[0.8,0.9]": "schedule.momentum=[0.8,0.9]: the optimiser has none",
    "optim=adam schedule=values +schedule.momentum=[0.8,1]": "schedule.momentum=1: a momentum must be < 1",
    "optim=adam schedule=values +schedule.momentum=[0,0.9]": "schedule.momentum=0: a momentum must be > 0",
    "schedule=linear schedule.drives=weight_decay": (
        "schedule.drives=weight_decay: the optimiser has none: optim.weight_decay must be > 0"
    ),
    "optim=basic schedule=values +schedule.weight_decay=[0,1]": "schedule.weight_decay=[0,1]: the optimiser has none",
    "optim=momentum schedule=linear schedule.drives=momentum schedule.end=1.5": (
        "schedule.end=1.5: times optim.momentum=0.9 it is 1.35, and a momentum must be < 1"
    ),
    "optim=adam schedule=one_cycle schedule.momentum_low=2": (
        "schedule.momentum_low=2: times optim.betas[0]=0.9 it is 1.8"
    ),
    "optim=adam schedule=combined +schedule.phases.0.drives=momentum schedule.phases.0.start=1.2": (
        "schedule.phases.0.start=1.2: times optim.betas[0]=0.9 it is 1.08"
    ),
}


@pytest.mark.parametrize(("overrides", "message"), (BAD_VALUES | BAD_MOMENTA).items())
def test_bad_value_is_refused_in_the_users_words(composed, overrides, message):
    with pytest.raises(ConfigError) as error:
        check(composed(*words(overrides))[0])
    assert str(error.value).startswith(message)


def words(line: str) -> list[str]:
    return re.split(r" (?=\S*=)", line)


@pytest.mark.parametrize(
    "line",
    [
        "schedule=one_cycle",  # it drives the lr too
        "schedule=combined +schedule.phases.0.drives=momentum optim=momentum",
        "schedule=linear schedule.drives=momentum optim=momentum schedule.end=1.1",
        "schedule=values +schedule.weight_decay=[0,0.1]",
        "schedule=values +schedule.momentum=[0.8,0.95] schedule.lr=null optim=adam",
        "schedule=linear schedule.drives=weight_decay optim=adamw",
        "schedule=linear schedule.drives=momentum optim=adam",
        "schedule=linear schedule.end=1.5 optim=momentum",
    ],
)
def test_what_is_there_may_be_driven_and_a_momentum_below_1(composed, line):
    check(composed(*words(line))[0])


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (
            f"schedule=combined schedule.phases.0._target_={COSINE[:-1]}",
            f"schedule: Error locating target '{COSINE[:-1]}'",
        ),
        ("schedule=combined schedule.phases.0._target_=seedbed.schedules", "schedule: Expected a callable target"),
        ("schedule=combined +schedule.phases.0.strt=1", "schedule: cosine() got an unexpected keyword argument 'strt'"),
        ("schedule=combined schedule.phases=[{start:1}]", "schedule: phases: each must be a schedule"),
        ("schedule=combined schedule.phases=[1,2]", "schedule: phases: each must be a schedule"),
        ("+schedule.strt=1", "schedule: constant() got an unexpected keyword argument 'strt'"),
        ("schedule._target_=seedbed.schedule.constant", "schedule: Error locating target 'seedbed.schedule.constant'"),
        ("optim._target_=torch.optim.SDG", "optim: Error locating target 'torch.optim.SDG'"),
        ("+optim.lrr=1", "optim: SGD.__init__() got an unexpected keyword argument 'lrr'"),
        ("optim=momentum optim.nesterov=true optim.momentum=0", "optim: Nesterov momentum requires a momentum"),
        ("+loss.foo=1", "loss: MnistLoss.__init__() got an unexpected keyword argument 'foo'"),
        ("+data.foo=1", "data: mnist_sample() got an unexpected keyword argument 'foo'"),
        ("+model.hiden=[1]", "model: mlp() got an unexpected keyword argument 'hiden'"),
        ("+trainer.max_epoch=1", "trainer: Trainer.__init__() got an unexpected keyword argument 'max_epoch'"),
    ],
)
def test_part_or_argument_that_is_not_there_is_said_in_one_line(fit, line, message):
    with pytest.raises(ConfigError) as error:
        fit(*words(line), "trainer.max_epochs=1", "+trainer.limit_train_batches=1")
    assert str(error.value).startswith(message) and "\n" not in str(error.value)


def test_mistake_inside_a_part_keeps_its_traceback(composed, monkeypatch):
    from seedbed import schedules
    from seedbed.training.build import Parts

    config, _ = composed("schedule=cosine")
    monkeypatch.setattr(schedules, "Schedule", lambda: None)  # cosine calls it with what it does not take
    with pytest.raises(Exception, match="takes 0 positional arguments but 1 was given") as error:
        Parts().schedule(config)
    assert not isinstance(error.value, ConfigError)


def test_rules_allow_exactly_the_names_that_the_code_knows():
    from seedbed.models.mlp import ACTIVATIONS
    from seedbed.training.datamodule import NORMALIZE

    for rule, names in ((RULES["data.normalize"], NORMALIZE), (RULES["model.activation"], ACTIVATIONS)):
        assert rule.allowed == "one of " + ", ".join(names)


def train(*words: str, cwd: Path = ROOT, **env: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env={**uncovered(), **env}, timeout=300)


@pytest.mark.parametrize(
    ("words", "shown"),
    [
        (["model=mpl"], ["Could not find 'model/mpl'", "linear", "mlp"]),
        (["optim.lrr=1"], ["optim.lrr"]),
        (["optim.lr=fast"], ["optim.lr=fast: must be a number > 0"]),
        (["data.batch_size=0"], ["data.batch_size=0: must be an integer ≥ 1"]),
        (["data=image_folder"], ["data.root: must be given"]),
        (["data=image_folder", "data.root=nowhere"], ["data.root=nowhere: there is no such folder"]),
        (["data=image_folder", "data.root=empty"], ["data.root=empty: no picture found"]),
        (["data=mnist", "data.root=damaged"], ["train-images-idx3-ubyte is damaged (md5", "delete it"]),
        (["trainer.accelerator=gpu"], ["trainer: "]),
    ],
    ids=lambda value: " ".join(value) if value[0].count("=") else "",
)
def test_mistake_ends_the_command_with_its_message_and_leaves_nothing(tmp_path, words, shown):
    if words == ["trainer.accelerator=gpu"] and torch.cuda.is_available():
        pytest.skip("this machine has a GPU")
    (tmp_path / "empty").mkdir()
    (tmp_path / "damaged").mkdir()
    for name in ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1"):
        (tmp_path / "damaged" / f"{name}-ubyte").write_bytes(b"\0\0\x08\x01\0\0\0\x02ab")
    done = train(*words, f"hydra.run.dir={tmp_path}/run", cwd=tmp_path)
    output = done.stdout + done.stderr
    assert done.returncode != 0 and "Traceback" not in output
    assert all(text in output for text in shown), output
    assert not (tmp_path / "run").exists() and not (tmp_path / "outputs").exists()


def test_bad_job_of_a_sweep_fails_with_its_message_and_the_others_complete(tmp_path):
    done = train(
        "-m",
        "optim.lr=0.1,-1",
        "trainer.max_epochs=1",
        f"hydra.sweep.dir={tmp_path}",
        "hydra.sweep.subdir=${hydra.job.num}",
    )
    assert done.returncode != 0 and "Traceback" not in done.stderr
    assert "optim.lr=-1: must be a number > 0" in (tmp_path / "1/train.log").read_text()
    statuses = [json.loads((tmp_path / job / "metrics.json").read_text())["status"] for job in "01"]
    assert statuses == ["completed", "failed"]


@pytest.mark.parametrize("words", [["--help"], ["--cfg", "job"], ["--shell-completion", "query=bash"]], ids=str)
def test_questions_are_answered_without_torch(words):
    command = [sys.executable, "-X", "importtime", str(ROOT / "train.py"), *words]
    env = {"COMP_LINE": "python train.py model=", "COMP_POINT": "22", "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, env=env, timeout=60)
    assert done.returncode == 0 and "mlp" in done.stdout
    imported = {line.split("|")[-1].strip() for line in done.stderr.splitlines()}
    assert not imported & {"torch", "lightning", "torchvision", "numpy"}
