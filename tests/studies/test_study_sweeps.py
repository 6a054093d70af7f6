"""Studies that train: real sweeps of the fused launcher, read back and drawn."""

import csv
import subprocess
import sys
from pathlib import Path

import pytest
from uncovered import uncovered

from seedbed.errors import ConfigError
from seedbed.studies import over_seeds
from seedbed.studies.depth import depth
from seedbed.studies.init import init
from seedbed.studies.loss import loss
from seedbed.studies.why_sqrt5 import why_sqrt5
from seedbed.sweeps.records import Job

ROOT = Path(__file__).resolve().parents[2]


def test_mean_curve_ends_with_the_shortest_run(tmp_path):
    for name, rows in (("0", "0,,0.5\n1,0.4,0.7\n2,0.2,0.8\n"), ("1", "0,,0.6\n1,0.6,0.9\n")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "history.csv").write_text(f"epoch,train/loss,val/accuracy\n{rows}")
    jobs = [Job(n, str(n), {}, {}) for n in range(3)]  # the third left no history
    half = 12.706205 * 0.1  # Student's t for two numbers that are 0.2 apart
    assert over_seeds.mean_curve(jobs, tmp_path, "train/loss") == {1: pytest.approx((0.5, half))}
    assert list(over_seeds.mean_curve(jobs, tmp_path, "val/accuracy")) == [0, 1]


def test_select_finds_values_as_one_types_them():
    jobs = [Job(n, str(n), {"optim.lr": lr, "init": "default"}, {}) for n, lr in enumerate((0.1, 1, 1))]
    assert [job.number for job in over_seeds.select(jobs, {"optim.lr": "1", "init": "default"})] == [1, 2]


def test_jobs_without_accuracy_are_left_out():
    jobs = [Job(n, str(n), {}, {"val/accuracy": value}) for n, value in enumerate((0.5, None, 0.7))] + [
        Job(3, "3", {}, {})
    ]
    assert over_seeds.mean_and_interval(over_seeds.accuracies(jobs))[0] == pytest.approx(0.6)


@pytest.fixture(scope="module")
def init_study(make_lab):
    lab = make_lab()
    return lab, init(lab, ["linear"], ["default", "normal"], seeds=2, epochs=2, overrides=["optim.lr=1"])


def test_init_finds_the_standard_normal_worse(init_study):
    _, found = init_study
    assert [row[:3] for row in found.rows] == [["linear", "default", 2], ["linear", "normal", 2]]
    assert found.rows[0][3] > found.rows[1][3] + 0.005


def test_init_equals_the_sweeps_own_jobs(init_study):
    lab, found = init_study
    rows = list(csv.DictReader((lab.runs / "summary.csv").read_text(encoding="utf-8").splitlines()))
    own = [float(row["val/accuracy"]) for row in rows if row["init"] == "default"]
    assert found.rows[0][3] == pytest.approx(sum(own) / 2, abs=1e-6)
    assert len(found.curves["train loss/linear/default"]) == 2


@pytest.mark.slow
def test_loss_takes_each_loss_at_its_best_lr(make_lab):
    found = loss(make_lab(), ["mnist_loss", "mse"], [0.001, 0.1, 3], seeds=2, epochs=2, overrides=["model=mlp"])
    assert {row[0]: row[1] for row in found.rows} == {"mnist_loss": "3", "mse": "0.1"}


@pytest.mark.slow
def test_depth_only_kaiming_trains_twenty_layers(make_lab):
    found = depth(make_lab(), [2, 20], 32, ["default", "kaiming_normal"], [0.1], 2, 2, ["loss=cross_entropy"])
    accuracy = {row[0]: row[1:] for row in found.rows}
    assert min(accuracy["default"][0], *accuracy["kaiming_normal"]) > 0.9 and accuracy["default"][1] < 0.6


def study(*overrides: str, cwd: Path) -> subprocess.CompletedProcess:
    command = [sys.executable, str(ROOT / "scripts" / "study.py"), *overrides]
    return subprocess.run(command, cwd=cwd, capture_output=True, text=True, env=uncovered(), timeout=300)


def test_command_prints_its_table_and_leaves_its_files(tmp_path):
    done = study("study=explosion", "study.seeds=1", "study.size=64", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "× 1/√size" in done.stdout
    (folder,) = (tmp_path / "outputs" / "studies").glob("*/*")
    assert {"table.csv", "details.csv", "explosion.png", ".hydra"} <= {path.name for path in folder.iterdir()}
    assert list(folder.glob("events.out.tfevents.*"))


@pytest.mark.parametrize(
    ("overrides", "shown"),
    [
        (["study=init", "study.seeds=0"], "study.seeds=0: must be an integer ≥ 1"),
        (["study=nope"], "Could not find 'study/nope'"),
        ([], "You must specify 'study'"),
    ],
    ids=str,
)
def test_mistake_ends_with_its_message_and_leaves_nothing(tmp_path, overrides, shown):
    done = study(*overrides, cwd=tmp_path)
    assert done.returncode != 0 and shown in done.stderr + done.stdout and "Traceback" not in done.stderr
    assert not (tmp_path / "outputs").exists()


@pytest.mark.parametrize(
    ("study", "unknown"),
    [
        (lambda lab: init(lab, ["linear", "liner"], ["default"], 1, 1, []), "model/liner"),
        (lambda lab: init(lab, ["linear"], ["default", "kaiming"], 1, 1, []), "init/kaiming"),
        (lambda lab: loss(lab, ["bce", "bec"], [0.1], 1, 1, []), "loss/bec"),
        (lambda lab: depth(lab, [2], 8, ["xavier"], [0.1], 1, 1, []), "init/xavier"),
        (lambda lab: why_sqrt5(lab, ["default", "xavier"], 1, 1, []), "init/xavier"),
    ],
    ids=["model", "init", "loss", "depth", "why_sqrt5"],
)
def test_unknown_name_is_one_line_before_any_work(make_lab, monkeypatch, study, unknown):
    lab = make_lab()
    monkeypatch.setattr(lab, "sweep", None)
    monkeypatch.setattr(lab, "module", None)
    with pytest.raises(ConfigError, match=rf"Could not find '{unknown}' Available options in '\w+': [\w ]+$") as error:
        study(lab)
    assert "\n" not in str(error.value)


def test_sweep_with_a_mistake_is_refused_with_its_message(make_lab):
    with pytest.raises(ConfigError, match="model/nope"):
        make_lab().sweep(["model=nope"])
