"""Seedbed from Python: the words of the command line, the files of the command line, twice in a row."""

import logging
from importlib.util import find_spec
from pathlib import Path

import pytest

import seedbed
from seedbed.errors import ConfigError

WORDS = ["model=linear", "trainer.max_epochs=1", "trainer.accelerator=cpu"]


@pytest.fixture(autouse=True)
def in_a_folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)


def test_train_gives_a_run_with_the_files_of_the_command_twice_in_a_row(tmp_path):
    handlers = logging.getLogger().handlers[:]
    runs = [seedbed.train(*WORDS, "optim.lr=1") for _ in range(2)]
    assert runs[0].folder != runs[1].folder and runs[0].folder.is_relative_to(tmp_path / "outputs/runs")
    assert runs[0].metrics["val/accuracy"] == runs[1].metrics["val/accuracy"] > 0.96
    assert {path.name for path in runs[0].folder.iterdir()} >= {".hydra", "checkpoints", "metrics.json", "train.log"}
    assert "completed" in (runs[0].folder / "train.log").read_text()
    assert logging.getLogger().handlers == handlers
    again = seedbed.load(runs[0].folder)
    assert again.metrics == runs[0].metrics and again.config["optim"]["lr"] == 1
    if find_spec("pandas"):
        assert again.history["epoch"].tolist() == [0, 1]
        assert again.history["val/accuracy"].iloc[1] == again.metrics["val/accuracy"]
    weights, own = again.net.state_dict(), seedbed.load(runs[1].folder, which="last").net.state_dict()
    assert weights.keys() == own.keys() and all(weights[name].shape == own[name].shape for name in own)


def test_sweep_gives_a_table_with_a_row_a_job(tmp_path):
    pandas = pytest.importorskip("pandas")
    sweep = seedbed.sweep("hydra/launcher=fused", *WORDS, "optim.lr=0.1,1,-1", "seed=range(0,2)")
    assert sweep.folder.is_relative_to(tmp_path / "outputs/sweeps")
    assert isinstance(sweep.table, pandas.DataFrame) and len(sweep.table) == 6
    assert sweep.table["optim.lr"].tolist() == [0.1, 0.1, 1, 1, -1, -1]
    assert sweep.table["status"].tolist() == ["completed"] * 4 + ["failed"] * 2
    assert (sweep.table["val/accuracy"][:4] > 0.96).all()
    assert [run.metrics["seed"] for run in seedbed.load_sweep(sweep.folder).runs] == [0, 1] * 3
    one = seedbed.train(*WORDS)
    table = seedbed.runs("outputs/**")
    assert len(table) == 7 and Path(table["folder"].iloc[-1]).resolve() == one.folder
    assert all(Path(folder, "metrics.json").exists() for folder in table["folder"])


def test_mistakes_are_errors_with_one_line(tmp_path):
    with pytest.raises(ConfigError, match=r"^optim\.lr=-1: must be a number > 0$"):
        seedbed.train("optim.lr=-1")
    for words, said in (
        (["model=mpl"], "Could not find 'model/mpl'"),
        (["optim.lrr=1"], "lrr"),
        (["optim.lr=[1"], "no viable alternative"),
        (["study=1"], "^study=1: must be one of accuracy_gradient, "),
        (["=1"], "^=1: must name a key$"),
        (["model=linear,null"], "^model=linear,null: must be one of convnet, "),
        (["callbacks=null"], "^callbacks=null: must be one of .*, or a list of them$"),
        (["experiment=[gan,linear]"], "^experiment=.*: must be one of approximate, "),
        (["~optim"], "^~optim: a run needs one of adam, "),
        (["trainer=1"], "^trainer=1: must be a group of keys$"),
        (["~ckpt"], "^~ckpt: a run needs this key$"),
        (["~model._target_"], "^~model._target_: a run needs this key$"),
        ([["model=linear"]], "must be text"),
    ):
        for call in (seedbed.train, seedbed.sweep):
            with pytest.raises(ConfigError, match=said):
                call(*words)
    with pytest.raises(ConfigError, match="this is a sweep"):
        seedbed.train("experiment=lr_sweep")
    with pytest.raises(ConfigError, match="retries=-1: must be an integer ≥ 0"):
        seedbed.sweep("retries=-1", *WORDS)
    with pytest.raises(ConfigError, match="not the folder of a finished run"):
        seedbed.load(tmp_path)
    with pytest.raises(ConfigError, match="not the folder of a sweep"):
        seedbed.load_sweep(tmp_path)


PARTS = """
from torch import nn
from seedbed.losses import MSE
def three(in_shape, num_outputs):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, 3))
class Rows(MSE):
    def forward(self, output, target):
        return output
"""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["model=linear", "model._target_=parts.three"], "model: must return an output"),
        (["loss=mse", "~loss.half", "loss._target_=parts.Rows"], "loss: must be a scalar tensor"),
        (["data=function", "loss=cross_entropy"], "loss: CrossEntropy needs classes"),
        (["callbacks=generated"], "callbacks=generated draws"),
        (["model=linear", "trainer.accelerator=gpu"], "trainer: No supported gpu"),
        (["trainer.loop=fast", "+trainer.profiler=simple"], "trainer.loop=fast: trainer.profiler works"),
        (["optim.lr=-1"], "optim.lr=-1: must be"),
        (["retries=3"], "retries=3: works only in a sweep"),
        (
            ["model.dropout=0.5", "schedule=linear", "schedule.drives=dropout", "schedule.start=3"],
            "schedule: it drives dropout to 1.5: a dropout must be ≤ 1",
        ),
    ],
)
def test_refused_run_prints_nothing_and_leaves_nothing(words, said, monkeypatch, tmp_path, capfd):
    (tmp_path / "parts.py").write_text(PARTS)
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(ConfigError, match=rf"^{said}[^\n]*$"):
        seedbed.train("trainer.accelerator=cpu", *words)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.glob("outputs/runs/*/*"))


@pytest.mark.parametrize(
    "words",
    [["resume=nowhere"], ["retries=-1"], ["hydra/sweeper=optuna"], ["+lr=1,2"], ["optim.lr=null,1", "extend=2"]],
)
def test_refused_sweep_prints_nothing_and_leaves_nothing(words, tmp_path, capfd):
    with pytest.raises(ConfigError, match=r"^[^\n]*$"):
        seedbed.sweep("trainer.accelerator=cpu", *words)
    assert capfd.readouterr() == ("", "")
    assert not list(tmp_path.glob("outputs/sweeps/*/*"))


def test_error_of_the_users_own_code_is_the_users(monkeypatch, tmp_path, capfd):
    (tmp_path / "own_parts.py").write_text("def net(shape, k):\n    return {}['own key']\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(Exception, match="own key"):
        seedbed.train(*WORDS, "model._target_=own_parts.net")
    assert capfd.readouterr() == ("", "")
