"""Names of jobs' folders; a sweep that is resumed keeps them, one that grows adds to them."""

import json
import re

import pytest

from seedbed.sweeps.folders import job_names
from seedbed.sweeps.manifest import Manifest

DEFAULT = "hydra.sweep.subdir=${hydra.job.id}"


def folders(sweep):
    return sorted(path.parent.name for path in sweep.glob("*/metrics.json"))


@pytest.mark.parametrize("launcher", ["basic", "fused"])
def test_folders_say_number_and_swept_values(sweep, launcher):
    words = ["model=linear,mlp", "seed=0,1", "trainer.max_epochs=1", "optim.lr=0.5"]
    assert folders(sweep(launcher, *words, DEFAULT)) == [
        "00-linear-seed0",
        "01-linear-seed1",
        "02-mlp-seed0",
        "03-mlp-seed1",
    ]


def test_names_are_short_and_can_be_typed():
    jobs = {
        0: {"model.hidden": "[30,20]", "data.root": "'/a b/c=d é'", "init": "default"},
        1: {"model.hidden": "x" * 300, "data.root": "null", "init": "lsuv"},
        2: {"model.hidden": "[]", "data.root": "''", "init": "lsuv"},
    }
    names = job_names(jobs, ["model.hidden", "data.root", "init"], {"init"}, 2)
    assert names[0] == "00-hidden30_20-rootc_d-default" and names[2] == "02-hiddennone-rootnone-lsuv"
    assert all(re.fullmatch(r"[\w.+-]+", name, re.ASCII) and len(name.encode()) < 255 for name in names.values())
    assert len(set(names.values())) == 3


def test_sweep_grows_and_old_jobs_keep_their_numbers_and_folders(sweep, capsys):
    words = ["model=linear", "trainer.max_epochs=1", "optim.lr=0.1,1", DEFAULT]
    folder = sweep("fused", *words, "seed=0,1")
    before = {path: path.stat().st_mtime_ns for path in folder.glob("*/metrics.json")}
    names = folders(folder)
    sweep("fused", *words, "seed=range(0,3)", folder=folder, code=2)
    assert "is the sweep of another command" in capsys.readouterr().err
    sweep("fused", *words, "seed=range(0,3)", "extend=true", folder=folder)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert folders(folder) == [*names, "04-lr0.1-seed2", "05-lr1-seed2"]
    jobs = Manifest(folder).jobs
    assert [job["config"]["seed"] for job in jobs.values()] == [0, 1, 0, 1, 2, 2]
    summary = (folder / "summary.csv").read_text().splitlines()
    assert len(summary) == 7 and all(",completed," in line for line in summary[1:])
    sweep("fused", *words, "seed=range(0,3)", folder=folder)  # it is the sweep of the longer command now
    assert {path: path.stat().st_mtime_ns for path in before} == before


def test_columns_name_the_swept_keys_first_and_no_constants(sweep):
    folder = sweep("basic", "seed=0,1", "model=linear,mlp", "trainer.max_epochs=0")
    columns = json.loads((folder / "columns.json").read_text())
    assert list(columns)[:2] == ["seed", "model"] and columns["seed"] == "number"
    # hidden is a key of mlp alone and there a constant, data.seed is the seed
    assert not {"optim.lr", "model.hidden", "data.seed"} & columns.keys()
