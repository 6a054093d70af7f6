"""Commands that are refused before anything is written, and words that must not change a run in silence."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from seedbed.errors import ConfigError, Refusal
from seedbed.startup.cluster_variables import VARIABLES
from seedbed.startup.occupied import check_free
from seedbed.startup.unknown_keys import check_added_keys

ROOT = Path(__file__).resolve().parents[2]


def train(folder: Path, *words: str, **environment: str) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "train.py"), *words]
    return subprocess.run(
        command, cwd=folder, capture_output=True, text=True, timeout=300, env={**os.environ, **environment}
    )


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def test_folder_that_holds_a_run_is_refused_and_stays_as_it_is(tmp_path):
    assert train(tmp_path, "hydra.run.dir=x", "trainer.max_epochs=1").returncode == 0
    before = contents(tmp_path / "x")
    for words in (["model=linear"], ["trainer.max_epochs=1"], ["optim.lr=-1"]):
        refused = train(tmp_path, "hydra.run.dir=x", *words)
        assert refused.returncode == 2 and len(refused.stderr.splitlines()) == 1
        assert contents(tmp_path / "x") == before
    # a mistake that is found only when the parts are built
    late = ["ckpt_path=x/checkpoints/last.ckpt", "optim=momentum", "optim.nesterov=true", "optim.momentum=0"]
    assert train(tmp_path, "hydra.run.dir=x", *late).returncode == 2
    assert contents(tmp_path / "x") == before
    (tmp_path / "x/metrics.json").unlink()  # as if it had been killed
    assert train(tmp_path, "hydra.run.dir=x", "trainer.max_epochs=1").returncode == 0
    assert len(list((tmp_path / "x").glob("events.out.tfevents.*"))) == 1


@pytest.mark.parametrize("content", [b"x", b"[]", b"{}", b"\xff"])
def test_folder_with_damaged_results_is_refused(tmp_path, content):
    (tmp_path / "metrics.json").write_bytes(content)
    with pytest.raises(ConfigError, match=r"metrics\.json: is damaged; remove it"):
        check_free(tmp_path, {})
    (tmp_path / "metrics.json").unlink()
    (tmp_path / ".hydra").mkdir()
    (tmp_path / ".hydra/config.yaml").write_bytes(content + b": [")
    with pytest.raises(Refusal, match="holds a run with another config"):
        check_free(tmp_path, {})


@pytest.mark.parametrize("words", [["hydra.run.dir=."], ["hydra.job.chdir=true", "hydra.run.dir=there"]])
def test_run_is_complete_wherever_its_folder_is(tmp_path, words):
    done = train(tmp_path, *words, "trainer.max_epochs=1")
    assert done.returncode == 0, done.stderr
    (metrics,) = tmp_path.rglob("metrics.json")
    assert json.loads(metrics.read_text())["status"] == "completed"


def test_one_device_is_rank_0_whatever_a_cluster_says(tmp_path):
    done = train(tmp_path, "hydra.run.dir=x", "trainer.max_epochs=1", **dict.fromkeys(VARIABLES, "1"))
    assert done.returncode == 0, done.stderr
    assert list((tmp_path / "x").glob("events.out.tfevents.*")) and (tmp_path / "x/checkpoints/last.ckpt").exists()


HYDRA = {"runtime": {"choices": {"hydra/launcher": "fused", "hydra/sweeper": "basic"}}, "run": {"dir": "a_${u}"}}
CONFIG = {"optim": {"lr": 0.1}, "model": {"hidden": [30], "dropout": "${w}"}, "seed": 0}


@pytest.mark.parametrize(
    ("override", "meant"), [("+lr=1", "optim.lr"), ("++hiden=1", "model.hidden"), ("+sede=1", "seed"), ("+x=1", "")]
)
def test_key_that_nothing_reads_is_refused_with_the_one_that_was_meant(override, meant):
    with pytest.raises(ConfigError) as error:
        check_added_keys([override], {**CONFIG, override.strip("+").partition("=")[0]: 1}, HYDRA)
    assert str(error.value).endswith(f"did you mean {meant}?" if meant else "the key x")


KEYS = [
    "ckpt.every",
    "hydra.x",
    "hydra.run.x",
    "hydra.job.config.x",
    "hydra.launcher.n_jobs",
    "hydra.launcher.halving.x",
]


@pytest.mark.parametrize("key", KEYS)
def test_key_that_no_part_takes_is_refused(key):
    with pytest.raises(ConfigError, match=f"nothing reads the key {key}"):
        check_added_keys([f"+{key}=1"], CONFIG, HYDRA)


def test_group_of_options_has_its_own_keys_and_those_that_another_package_takes():
    of_ray = {**HYDRA, "runtime": {"choices": {"hydra/launcher": "ray"}}}
    check_added_keys(["+hydra.launcher.ray.remote.num_gpus=1", "+hydra.launcher.ray.init.a.b=1"], CONFIG, of_ray)
    with pytest.raises(ConfigError, match=r"nothing reads the key hydra\.launcher\.ray\.num_gpus"):
        check_added_keys(["+hydra.launcher.ray.num_gpus=1"], CONFIG, of_ray)


def test_key_of_hydra_that_it_reads_is_fine():
    words = ["+hydra.job.env_set.A=1", "+hydra.callbacks.own._target_=a.b", "+hydra.launcher.max_stack=2"]
    check_added_keys(
        [*words, "++hydra.verbose=true", "++hydra.job.name=a", "+hydra.sweeper.params.seed=1,2"], CONFIG, HYDRA
    )


@pytest.mark.parametrize(
    "override", ["~ckpt", "~trainer", "~same_bits", "ckpt=null", "~init._target_", "~schedule._target_"]
)
def test_what_every_run_has_cannot_be_removed(sweep, override, capsys):
    folder = sweep("basic", "seed=0,1", override, code=2)
    assert capsys.readouterr().err.startswith(f"{override}: ") and not any(folder.iterdir())


def test_key_in_a_part_that_is_not_there_is_refused():
    with pytest.raises(ConfigError, match=r"^\+extra\.deep\.lr=1: nothing reads the key extra"):
        check_added_keys(["+extra.deep.lr=1"], {**CONFIG, "extra": {"deep": {"lr": 1}}}, HYDRA)
    check_added_keys(["+extra.deep.lr=1", "seed=${extra.deep.lr}"], {**CONFIG, "extra": {"deep": {"lr": 1}}}, HYDRA)
    check_added_keys(["+callbacks.own._target_=a.b", "+logger.own._target_=a.b"], {**CONFIG, "callbacks": {}}, HYDRA)


def test_key_that_an_interpolation_reads_is_fine():
    words = ["+w=0.5", "+model.own=1", "+v=3", "seed=${v}", "+u=1"]
    check_added_keys(words, {**CONFIG, "w": 0.5, "v": 3, "u": 1}, HYDRA)


def test_jobs_that_would_share_a_folder_are_refused(sweep, capsys):
    by_lr = ["hydra.sweep.subdir=${hydra.job.override_dirname}", "seed=0,1", "optim.lr=0.1,1"]
    folder = sweep("basic", *by_lr, "hydra.job.config.override_dirname.exclude_keys=[seed]", code=2)
    assert "jobs 0 and 2 would share the folder" in capsys.readouterr().err and not folder.exists()


@pytest.mark.parametrize(
    ("words", "visible", "reason"),
    [
        (["hydra.launcher.gpus=2"], "", "needs trainer.accelerator=gpu"),
        (["hydra.launcher.gpus=2", "trainer.accelerator=gpu"], "4", "CUDA_VISIBLE_DEVICES=4 names fewer"),
        (["hydra.launcher.gpus=2", "trainer.accelerator=gpu"], "", "CUDA_VISIBLE_DEVICES= names fewer"),
    ],
)
def test_gpus_that_workers_would_not_use_are_not_shared_out(sweep, capsys, monkeypatch, words, visible, reason):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", visible)
    folder = sweep("fused_processes", "seed=0,1", *words, code=2)
    assert capsys.readouterr().err.strip() == f"hydra.launcher.gpus=2: {reason}" and not any(folder.iterdir())


@pytest.mark.parametrize("number", [0, -1])
def test_number_of_workers_is_positive(sweep, capsys, number):
    folder = sweep("processes", "seed=0,1", f"hydra.launcher.n_jobs={number}", code=2)
    assert capsys.readouterr().err == f"hydra.launcher.n_jobs={number}: must be null or an integer ≥ 1\n"
    assert not any(folder.iterdir())


def test_presets_that_are_sweeps_are_not_swept_over(sweep, capsys):
    sweep("basic", "experiment=lr_sweep,init_sweep", code=2)
    assert "experiment=lr_sweep,init_sweep: lr_sweep is a sweep by itself" in capsys.readouterr().err
