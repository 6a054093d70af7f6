"""A sweep goes on where it stopped, keeps the configs it began with, and fails job by job."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import seedbed.fused.sweep
from seedbed.errors import ConfigError
from seedbed.sweeps.manifest import Manifest, Refused

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["optim.lr=0.1,1", "seed=0,1", "trainer.max_epochs=2"]


def stats(folder: Path) -> dict[str, tuple[int, int]]:
    found = {path.parent.name: path.stat() for path in folder.glob("*/metrics.json")}
    return {job: (stat.st_ino, stat.st_mtime_ns) for job, stat in found.items()}


def metrics(folder: Path) -> dict:
    return {k: v for k, v in json.loads((folder / "metrics.json").read_text()).items() if k != "fit_seconds"}


@pytest.mark.parametrize("launcher", ["basic", "fused"])
def test_sweep_runs_only_what_is_not_done(sweep, launcher):
    folder = sweep(launcher, *WORDS)
    summary, manifest = ((folder / name).read_bytes() for name in ("summary.csv", "manifest.jsonl"))
    sweep(launcher, *WORDS, folder=folder)
    before = stats(folder)
    shutil.rmtree(folder / "1")
    shutil.rmtree(folder / "2")
    sweep("basic", *WORDS, folder=folder)
    after = stats(folder)
    assert after.keys() == before.keys() and {job for job in after if after[job] == before[job]} == {"0", "3"}
    assert (folder / "manifest.jsonl").read_bytes() == manifest
    if launcher == "basic":  # which is also what it was gone on with
        assert (folder / "summary.csv").read_bytes() == summary
    hydra = [(folder / job / ".hydra/hydra.yaml").read_text() for job in "12"]
    assert "num: 1\n" in hydra[0] and "num: 2\n" in hydra[1]


def test_stack_killed_while_it_wrote_its_members_writes_the_others(sweep, killed_sweep):
    undisturbed = sweep("fused", *WORDS)
    folder = killed_sweep("fused", *WORDS)
    before = stats(folder)
    assert len(before) == 2 and (folder / ".stacks").exists()
    sweep("fused", *WORDS, folder=folder)
    assert before.items() <= stats(folder).items() and len(stats(folder)) == 4
    assert (folder / "summary.csv").read_bytes() == (undisturbed / "summary.csv").read_bytes()
    assert not (folder / ".stacks").exists()
    assert all(len(list(job.glob("events.*"))) == 1 for job in folder.glob("[0-3]"))


def test_capped_stacks_keep_their_partition(sweep, monkeypatch):
    words = ["optim.lr=0.1,0.2,0.3,0.4,0.5", "seed=0,1,2", "trainer.max_epochs=1", "hydra.launcher.max_stack=4"]
    undisturbed = sweep("fused", *words)
    train, trained = seedbed.fused.sweep.FusedSweep.train, []

    def die(self, piece):
        if len(trained) == 2:
            raise KeyboardInterrupt
        trained.append(piece)
        return train(self, piece)

    monkeypatch.setattr(seedbed.fused.sweep.FusedSweep, "train", die)
    sweep("fused", *words, folder=undisturbed.with_name("capped"), code=130)
    monkeypatch.undo()
    # memory, say, would now allow more
    folder = sweep("fused", *words[:3], "hydra.launcher.max_stack=15", folder=undisturbed.with_name("capped"))
    assert (folder / "summary.csv").read_bytes() == (undisturbed / "summary.csv").read_bytes()


def test_another_command_or_config_is_refused_with_the_difference(sweep, capsys):
    folder = sweep("basic", *WORDS)
    before = stats(folder)
    sweep("basic", "optim.lr=0.1,2", *WORDS[1:], folder=folder, code=2)
    assert capsys.readouterr().err.splitlines()[-2:] == ["  was: optim.lr=0.1,1", "  now: optim.lr=0.1,2"]
    lines = (folder / "manifest.jsonl").read_text().splitlines()
    changed = json.loads(lines[3])
    changed["config"]["data"]["batch_size"] = 128  # as if conf/ had been another then
    changed["hash"] = "of that"
    (folder / "manifest.jsonl").write_text("\n".join([*lines[:3], json.dumps(changed), *lines[4:], ""]))
    sweep("basic", *WORDS, folder=folder, code=2)
    assert capsys.readouterr().err.splitlines() == [
        f"{folder} was begun with another config of job 2:",
        "  data.batch_size was 128, is now 256",
    ]
    assert stats(folder) == before


def test_resume_latest_finds_the_newest_sweep_of_the_command(sweep, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    made = ["trainer.max_epochs=0", "hydra.sweep.dir='${sweep_folder:sweeps,${now:%Y}/a}'"]
    for words in (["seed=0,1"], ["seed=0,1"], ["seed=2,3"]):
        sweep("basic", *made, *words)
    assert sorted(path.name for path in tmp_path.glob("sweeps/*/*")) == ["a", "a-1", "a-2"]
    (newest,) = tmp_path.glob("sweeps/*/a-1")
    shutil.rmtree(newest / "1")
    before = stats(newest.with_name("a"))
    sweep("basic", *made, "seed=0,1", "resume=latest")
    assert stats(newest).keys() == {"0", "1"} and stats(newest.with_name("a")) == before
    capsys.readouterr()
    sweep("basic", *made, "seed=0,5", "resume=latest", code=2)
    assert capsys.readouterr().err == "resume=latest: sweeps has 3 sweeps, none of this command\n"
    sweep("basic", *made, "resume=nowhere", code=2)
    assert "resume=nowhere: must be latest or the folder of a sweep" in capsys.readouterr().err
    sweep("basic", "retries=0,1", code=2)
    assert capsys.readouterr().err == "retries=0,1: must have one value, which holds for the whole sweep\n"


PARTS = """
import os
from pathlib import Path
from torch import nn

HERE = Path(__file__).parent

def sound(shape, k):
    return nn.Sequential(nn.Flatten(), nn.Linear(784, k))

def editor(shape, k):
    text = (HERE / "conf/optim/sgd.yaml").read_text()
    (HERE / "conf/optim/sgd.yaml").write_text(text.replace("lr: 0.1", "lr: 7"))
    return sound(shape, k)

def bomb(shape, k):
    raise RuntimeError("the bomb\\nhas two lines")

def once(shape, k):
    if not (HERE / "exploded").exists():
        (HERE / "exploded").touch()
        raise RuntimeError("the first time")
    return sound(shape, k)
"""


@pytest.fixture
def project(tmp_path):
    """project("seed=0,1", …) → the finished command, of a copy of train.py and conf/ in tmp_path."""
    shutil.copytree(ROOT / "conf", tmp_path / "conf")
    shutil.copy(ROOT / "train.py", tmp_path)
    (tmp_path / "parts.py").write_text(PARTS)
    path = os.pathsep.join([str(tmp_path), *filter(None, [os.environ.get("PYTHONPATH")])])

    def run(*words: str) -> subprocess.CompletedProcess:
        always = ["-m", "trainer.max_epochs=1", "hydra.sweep.dir=sweep", "hydra.sweep.subdir=${hydra.job.num}"]
        return subprocess.run(
            [sys.executable, "train.py", *always, *words],
            cwd=tmp_path,
            env={**os.environ, "PYTHONPATH": path},
            capture_output=True,
            text=True,
            timeout=300,
        )

    return run


ONE_BAD = ["model=linear", "model._target_=parts.bomb,parts.sound"]


@pytest.mark.parametrize("launcher", ["basic", "processes", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_editing_conf_changes_no_job_of_a_sweep_that_runs(project, tmp_path, launcher):
    if launcher == "submitit_local":
        pytest.importorskip("submitit")
    one = ["hydra.launcher.n_jobs=1"] * (launcher == "processes")
    words = [f"hydra/launcher={launcher}", *one, "model=linear", "model._target_=parts.editor,parts.sound"]
    done = project(*words)
    assert done.returncode == 0, done.stderr
    assert "lr: 7" in (tmp_path / "conf/optim/sgd.yaml").read_text()
    configs = [(tmp_path / f"sweep/{job}/.hydra/config.yaml").read_text() for job in "01"]
    assert configs[0] == configs[1].replace("parts.sound", "parts.editor") and "lr: 0.1" in configs[1]
    again = project(*words)
    assert again.returncode == 2 and "optim.lr was 0.1, is now 7" in again.stderr


def test_failure_is_told_at_once_and_in_the_end_and_the_rest_go_on(project, tmp_path):
    done = project(*ONE_BAD)
    # the lines of the user's own code, once
    assert done.returncode == 1 and (done.stdout + done.stderr).count("Traceback") == 1 and "in bomb" in done.stderr
    lines = done.stdout.splitlines()
    assert lines.count("job 0 failed: RuntimeError: the bomb") == 1
    assert any(line.endswith("  RuntimeError: the bomb") for line in lines)
    log = (tmp_path / "sweep/0/train.log").read_text()
    assert "Traceback" in log and "in bomb" in log and "has two lines" in log
    assert metrics(tmp_path / "sweep/0")["error"] == "RuntimeError: the bomb"
    assert [metrics(tmp_path / "sweep" / job)["status"] for job in "01"] == ["failed", "completed"]
    assert ",failed," in (tmp_path / "sweep/summary.csv").read_text()


@pytest.mark.parametrize("launcher", ["basic", "processes", "fused"])
def test_on_error_stop_stops_at_the_first(project, tmp_path, launcher):
    one = ["hydra.launcher.n_jobs=1"] * (launcher == "processes")
    done = project(f"hydra/launcher={launcher}", *one, *ONE_BAD, "on_error=stop")
    assert done.returncode == 1 and "stopped: on_error=stop" in done.stdout
    assert not (tmp_path / "sweep/1").exists()
    assert ",pending," in (tmp_path / "sweep/summary.csv").read_text()


def test_retries_try_again(project, tmp_path):
    words = ["model=linear", "model._target_=parts.once,parts.sound"]
    assert project(*words, "retries=1").returncode == 0
    assert metrics(tmp_path / "sweep/0")["status"] == "completed"
    assert "the first time (tries left: 1)" in (tmp_path / "sweep/0/train.log").read_text()


ENDS = {
    "after its last epoch": [],
    "diverged": ["loss=mse", "optim.lr=1e6"],
    "stopped early": ["callbacks=early_stopping", "callbacks.early_stopping.min_delta=0.5"],
}


@pytest.mark.parametrize("words", ENDS.values(), ids=ENDS.keys())
def test_run_killed_before_its_metrics_were_written_gives_the_same(fit, tmp_path, words):
    words = [*words, "trainer.max_epochs=8"]
    whole = fit(*words, folder=tmp_path)
    again = fit(*words, f"ckpt_path={tmp_path}/checkpoints/last.ckpt", folder=tmp_path)
    told = [sorted((k, v) for k, v in run.metrics.items() if k != "fit_seconds") for run in (whole, again)]
    assert repr(told[0]) == repr(told[1])  # nan is nan


@pytest.mark.parametrize("launcher", ["basic", "fused"])
def test_hparams_have_equal_keys_and_kinds_across_a_sweep(sweep, launcher, left_in):
    # devices is a number and a word; the keys of mlp alone are constants there
    words = [
        "model=mlp,linear",
        "trainer.gradient_clip_val=null,1.0",
        "trainer.devices=1,auto",
        "seed=0,1",
        "trainer.max_epochs=1",
    ]
    folder = sweep(launcher, *words)
    records = [left_in(folder / str(job)).hparams() for job in range(16)]
    kinds = [{key: type(value) for key, value in record["hparams"].items()} for record in records]
    assert all(found == kinds[0] for found in kinds) and kinds[0]["seed"] is float and "optim.lr" not in kinds[0]
    assert kinds[0].keys() == {"model", "trainer.devices", "trainer.gradient_clip_val", "seed"}
    assert kinds[0]["trainer.devices"] is kinds[0]["model"] is kinds[0]["trainer.gradient_clip_val"] is str
    for job, record in enumerate(records):
        told = metrics(folder / str(job))
        assert record["metrics"] == ["val/accuracy", "val/loss", "train/loss"]
        _, point = left_in(folder / str(job)).curve("val/accuracy")
        assert point == pytest.approx(told["val/accuracy"], abs=1e-6)


@pytest.mark.parametrize("launcher", ["basic", "fused"])
def test_words_that_refer_to_others_are_resolved_job_by_job(sweep, launcher):
    words = ["model=linear", "seed=3,4", "data.seed=${seed}", "optim.weight_decay=${optim.lr}", "optim.lr=0.01"]
    by_words = "hydra.sweep.subdir=${hydra.job.override_dirname}"
    folder = sweep(launcher, *words, "trainer.max_epochs=1", by_words)
    jobs = Manifest(folder).jobs.values()
    assert [(job["config"]["data"]["seed"], job["config"]["optim"]["weight_decay"]) for job in jobs] == [
        (3, 0.01),
        (4, 0.01),
    ]
    assert all("seed=" in job["folder"] and metrics(folder / job["folder"])["status"] == "completed" for job in jobs)
    assert len({metrics(folder / job["folder"])["val/loss"] for job in jobs}) == 2


def test_summary_ranks_by_what_the_sweep_optimises(sweep):
    folder = sweep("fused", "optim.lr=0.1,1", "trainer.max_epochs=1", "optimized_metric=val/loss")
    assert "## val/loss" in (folder / "summary.md").read_text()


def test_manifest_survives_a_line_half_written(tmp_path):
    first = Manifest(tmp_path)
    first.begin(["seed=0,1"])
    jobs = [{"job": n, "folder": str(n), "overrides": [f"seed={n}"], "config": {"seed": n}} for n in range(2)]
    first.add(jobs)
    with pytest.raises(ConfigError, match=f"is being run by another process: pid {os.getpid()} on .*, for 0 s"):
        Manifest(tmp_path).begin(["seed=0,1"])
    first.close()
    path = tmp_path / "manifest.jsonl"
    whole = path.read_bytes()
    for end in (10, len(whole) - 1, len(whole) - 30, whole.index(b"\n") + 1):
        path.write_bytes(whole[:end])
        torn = Manifest(tmp_path)
        torn.begin(["seed=0,1"])
        torn.add(jobs)
        torn.close()
        assert path.read_bytes() == whole and Manifest(tmp_path).jobs == first.jobs


def test_earlier_versions_sweep_over_data_without_classes_goes_on(sweep):
    """Its configs lack keys of today, and have the accuracy as the metric of data without classes."""
    words = ["data=function", "model=rectified_lines", "loss=mse", "seed=0,1", "trainer.max_epochs=2"]
    folder = sweep("basic", *words)
    command, *jobs = map(json.loads, (folder / "manifest.jsonl").read_text().splitlines())
    del command["version"]
    for job in jobs:
        job["config"]["optimized_metric"] = "val/accuracy"
        for key in ("expression", "points", "noise", "noise_seed"):
            del job["config"]["data"][key]
    (folder / "manifest.jsonl").write_text("".join(json.dumps(line) + "\n" for line in (command, *jobs)))
    (folder / jobs[1]["folder"] / "metrics.json").unlink()
    sweep("basic", *words, folder=folder)
    assert (folder / jobs[1]["folder"] / "metrics.json").exists()


DAMAGES = {
    "0/metrics.json": ("x", "0/metrics.json: is damaged", 2),
    "1/metrics.json": ("{}", "1/metrics.json: is damaged", 2),
    "manifest.jsonl": ('{"command": []}\n{"jo": 1}\n', "manifest.jsonl: is damaged: a line is no job", 2),
    "columns.json": ("[", "", 0),  # no more than the order of TensorBoard's columns
}


@pytest.mark.parametrize("name", DAMAGES)
def test_damaged_file_of_a_sweep_is_named_in_one_line(sweep, capsys, name):
    words = ["model=linear", "seed=0,1", "trainer.max_epochs=0"]
    folder = sweep("basic", *words)
    content, said, code = DAMAGES[name]
    (folder / name).write_text(content)
    sweep("basic", *words, folder=folder, code=code)
    assert said in capsys.readouterr().err and (code == 0 or (folder / name).read_text() == content)


@pytest.mark.parametrize("folder", ["0", "."])
def test_runs_without_a_manifest_are_left_alone(tmp_path, folder):
    (tmp_path / folder).mkdir(exist_ok=True)
    (tmp_path / folder / "metrics.json").write_text("{}")
    with pytest.raises(Refused, match=r"holds runs and no manifest\.jsonl"):
        Manifest(tmp_path).begin([])
