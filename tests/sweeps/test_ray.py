"""Jobs and stacks as tasks of a Ray cluster of two nodes, one of which dies."""

import csv
import os
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray
os.environ["RAY_AUTH_MODE"] = "disabled"  # else Ray writes a token into the home folder
ROOT = Path(__file__).resolve().parents[2]
WORDS = ["model=mlp,linear", "seed=0,1,2", "data.batch_size=16", "trainer.max_epochs=10", "trainer.accelerator=cpu"]


@pytest.fixture
def cluster(tmp_path):
    """A head and a second node, of one CPU each, and nothing of them left."""
    pytest.importorskip("ray", reason="pip install -e '.[ray]'")
    from ray.cluster_utils import Cluster

    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 1, "include_dashboard": False})
    cluster.add_node(num_cpus=1)
    cluster.wait_for_nodes()
    yield cluster
    cluster.shutdown()


def command(launcher: str, folder: Path, *words: str) -> list[str]:
    words = [
        "-m",
        f"hydra/launcher={launcher}",
        f"hydra.sweep.dir={folder}",
        "hydra.sweep.subdir=${hydra.job.num}",
        *WORDS,
        *words,
    ]
    return [sys.executable, str(ROOT / "train.py"), *words]


def start(launcher: str, folder: Path, *words: str) -> subprocess.Popen:
    with open(folder.with_suffix(".log"), "wb") as log:
        return subprocess.Popen(command(launcher, folder, *words), stdout=log, stderr=log)


def over(folder: Path) -> dict[str, tuple[int, int]]:
    """The files of jobs that are over, by what changes when one is written again."""
    found = {path.parent.name: path.stat() for path in folder.glob("*/metrics.json")}
    return {job: (stat.st_ino, stat.st_mtime_ns) for job, stat in found.items()}


def until(found, process: subprocess.Popen) -> None:
    end = time.monotonic() + 240
    while not found():
        assert process.poll() is None and time.monotonic() < end
        time.sleep(0.05)


def kill_second_node(cluster, process: subprocess.Popen, started) -> None:
    """Once both nodes are at work; its tasks die with it."""
    until(lambda: len(list(started())) >= 2, process)
    second = next(node for node in cluster.worker_nodes)
    cluster.remove_node(second, allow_graceful=False)


def assert_equal_summaries(a: Path, b: Path) -> None:
    rows = [list(csv.DictReader((folder / "summary.csv").read_text().splitlines())) for folder in (a, b)]
    assert len(rows[0]) == len(rows[1]) == 6
    for x, y in zip(*rows, strict=True):
        assert x["status"] == y["status"] == "completed" and x["job"] == y["job"]
        assert float(x["val/accuracy"]) == float(y["val/accuracy"])
        assert float(x["val/loss"]) == pytest.approx(float(y["val/loss"]), rel=1e-6)


@pytest.mark.parametrize("scratch", [False, True], ids=["shared storage", "scratch"])
def test_jobs_of_a_node_that_dies_run_on_another(cluster, tmp_path, scratch):
    subprocess.run(command("basic", tmp_path / "basic"), check=True, capture_output=True)
    folder, scratched = tmp_path / "ray", tmp_path / "scratch"
    words = [f"hydra.launcher.ray.init.address={cluster.address}", *[f"hydra.launcher.scratch={scratched}"] * scratch]
    process = start("ray", folder, *words)
    at_work = (tmp_path / "scratch" if scratch else folder).rglob
    kill_second_node(cluster, process, lambda: at_work("events.out.tfevents.*"))
    assert process.wait(400) == 0, folder.with_suffix(".log").read_text()[-3000:]
    assert_equal_summaries(tmp_path / "basic", folder)
    events = Counter(path.parent.name for path in folder.rglob("events.out.tfevents.*"))
    assert events.keys() == set("012345")
    assert not [path for path in scratched.rglob("*") if path.is_file()]


def test_sweep_that_loses_a_job_for_good_says_so_and_goes_on_when_told(cluster, tmp_path):
    folder = tmp_path / "ray"
    words = [f"hydra.launcher.ray.init.address={cluster.address}", "hydra.launcher.ray.remote.max_retries=0"]
    process = start("ray", folder, *words)
    kill_second_node(cluster, process, lambda: folder.glob("*/events.out.tfevents.*"))
    assert process.wait(400) == 1 and f"resume={folder}" in folder.with_suffix(".log").read_text()
    done = over(folder)
    assert len(done) < 6
    subprocess.run(command("ray", folder, *words), check=True, capture_output=True)
    after = over(folder)
    assert len(after) == 6 and {job: after[job] for job in done} == done


def test_stacks_of_a_node_that_dies_train_on_another_and_come_home(cluster, tmp_path):
    stacks = "hydra.launcher.max_stack=2"
    subprocess.run(command("fused", tmp_path / "fused", stacks), check=True, capture_output=True)
    folder, scratch = tmp_path / "ray", tmp_path / "scratch"
    words = [f"hydra.launcher.workers.ray.init.address={cluster.address}", f"hydra.launcher.workers.scratch={scratch}"]
    process = start("fused_ray", folder, stacks, *words)
    kill_second_node(cluster, process, lambda: scratch.rglob("stack-*/train.log"))
    assert process.wait(400) == 0, folder.with_suffix(".log").read_text()[-3000:]
    assert_equal_summaries(tmp_path / "fused", folder)
    assert {path.parent.name for path in folder.rglob("checkpoints/last.ckpt")} == {"checkpoints"}
    assert not [path for path in scratch.rglob("*") if path.is_file()]
