"""Every kind of workers keeps one contract, and a sweep gives the same results with each of them.

`test_workers_keep_the_contract` is the conformance test for a new kind: add it to KINDS.
"""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from hydra import compose
from hydra.utils import instantiate

import seedbed.fused.sweep
from seedbed.startup.command import hydra_with
from seedbed.sweeps.workers.processes import Processes

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["optim.lr=0.1,-1", "trainer.max_epochs=1"]  # one that trains and one that fails


class Here:
    """Workers in this process: what can go wrong in a worker can be made to go wrong."""

    def __init__(self, n_jobs=None, gpus=None):
        pass

    def run(self, call, tasks):
        for place, task in enumerate(tasks):
            try:
                call(task)
            except Exception as error:
                yield place, error
            else:
                yield place, None


def slurm(folder):
    pytest.importorskip("submitit", reason='pip install "seedbed[slurm]"')
    from seedbed.sweeps.workers.slurm import Slurm

    return Slurm(f"{folder}/submitit", cluster="local", timeout_min=5)


def ray(folder):
    pytest.importorskip("ray", reason='pip install "seedbed[ray]"')
    from seedbed.sweeps.workers.ray import Ray

    return Ray({"init": {"num_cpus": 1, "include_dashboard": False}, "remote": {"num_cpus": 1}})


KINDS = {
    "here": lambda folder: Here(),
    "processes": lambda folder: Processes(1),
    "slurm": slurm,
    "ray": ray,
}

SLURM = pytest.param("slurm", marks=pytest.mark.slow)  # submitit looks for results once in some seconds


def leave_a_file(task):
    Path(task["folder"], str(task["number"])).write_text(str(os.getpid()))
    if task["number"] == 1:
        raise ValueError("the second task")


@pytest.mark.parametrize("kind", ["here", "processes", SLURM, pytest.param("ray", marks=pytest.mark.ray)])
def test_workers_keep_the_contract(workers_find_this_file, tmp_path, kind):
    tasks = [{"folder": str(tmp_path), "number": n} for n in range(3)]
    ended = dict(KINDS[kind](tmp_path).run(leave_a_file, tasks))
    assert ended.keys() == {0, 1, 2} and {path.name for path in tmp_path.glob("[0-9]")} == {"0", "1", "2"}
    assert ended[0] is None and ended[2] is None and "the second task" in str(ended[1])


@pytest.mark.parametrize("kind", ["here", "processes"])
def test_closing_stops_what_has_not_begun(workers_find_this_file, tmp_path, kind):
    running = KINDS[kind](tmp_path).run(leave_a_file, [{"folder": str(tmp_path), "number": n} for n in range(4)])
    assert next(running) == (0, None)
    running.close()
    assert {path.name for path in tmp_path.glob("[0-9]")} == {"0"}


def end_the_other_worker(task):
    """Task 0 returns when task 1 has begun; task 1 handles SIGTERM, as training does, and ends the worker of task 0."""
    idle, busy = (Path(task["folder"], name) for name in ("idle", "busy"))
    if task["number"] == 0:
        while not busy.exists():
            time.sleep(0.01)
        idle.write_text(str(os.getpid()))
        return
    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    busy.touch()
    while not idle.exists() or not idle.read_text():
        time.sleep(0.01)
    # by then it waits for a task
    time.sleep(0.5)
    os.kill(int(idle.read_text()), signal.SIGTERM)
    # by then the pool has noticed, and told this worker to end
    time.sleep(1)
    signal.signal(signal.SIGTERM, before)


def test_worker_that_a_signal_ends_while_it_waits_holds_up_no_other(workers_find_this_file, tmp_path):
    tasks = [{"folder": str(tmp_path), "number": n} for n in range(2)]
    run = threading.Thread(target=lambda: list(Processes(2).run(end_the_other_worker, tasks)), daemon=True)
    run.start()
    run.join(60)
    assert not run.is_alive()


def write_gpu_and_meet_the_other_worker(task):
    """Write down what the worker may see; end when both workers have."""
    folder = Path(task["folder"])
    (folder / f"{task['number']}.gpu").write_text(os.environ["CUDA_VISIBLE_DEVICES"])
    while len(list(folder.glob("*.gpu"))) < 2:
        time.sleep(0.01)


def test_each_worker_sees_one_gpu(workers_find_this_file, tmp_path, monkeypatch):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    assert Processes(gpus=2).gpus == ["0", "1"]
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5,7")
    tasks = [{"folder": str(tmp_path), "number": n} for n in range(2)]
    ended = list(Processes(gpus=2).run(write_gpu_and_meet_the_other_worker, tasks))
    assert [error for _, error in ended] == [None, None]
    assert sorted(path.read_text() for path in tmp_path.glob("*.gpu")) == ["3", "5"]


def test_key_that_a_command_adds_to_a_group_of_options_reaches_the_workers():
    words = ["hydra/launcher=ray", "hydra.launcher.ray.init.address=auto", "+hydra.launcher.ray.remote.num_gpus=1"]
    with hydra_with(ROOT / "conf"):
        workers, _ = instantiate(compose("config", words, return_hydra_config=True).hydra.launcher).nodes
    assert workers["ray"] == {"init": {"address": "auto"}, "remote": {"num_cpus": 1, "max_retries": 3, "num_gpus": 1}}


class Threads:
    """A callback that writes down with how many threads torch computes; with `kill`, the first worker dies of it."""

    def __new__(cls, path: str, kill: bool = False):
        from lightning.pytorch import Callback

        class Written(Callback):
            def on_fit_start(self, trainer, module):
                first = not Path(path).exists()
                with open(path, "a") as file:
                    file.write(f"{os.getpid()} {torch.get_num_threads()}\n")
                if first and kill:
                    os.kill(os.getpid(), signal.SIGKILL)

        return Written()


@pytest.fixture
def workers_find_this_file(monkeypatch):
    """Workers find this file, and nobody has told them their threads."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)


def results(folder: Path) -> dict[str, dict]:
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/metrics.json")}
    return {job: {k: v for k, v in metrics.items() if k != "fit_seconds"} for job, metrics in found.items()}


@pytest.mark.parametrize("launcher", ["processes", pytest.param("submitit_local", marks=pytest.mark.slow)])
def test_jobs_of_other_processes_give_the_bits_of_the_basic_launcher_with_a_thread_each(
    sweep, workers_find_this_file, tmp_path, launcher
):
    threads = ["+callbacks.threads._target_=test_workers.Threads", f"+callbacks.threads.path={tmp_path}/threads"]
    folders = [sweep(name, *WORDS, *threads, code=1) for name in ("basic", launcher)]
    assert results(folders[0]) == results(folders[1]) and len(results(folders[0])) == 2
    assert (folders[0] / "summary.csv").read_bytes() == (folders[1] / "summary.csv").read_bytes()
    lines = [line.split() for line in (tmp_path / "threads").read_text().splitlines()]
    assert [threads for pid, threads in lines if int(pid) != os.getpid()] == ["1"]


def test_stacks_of_other_processes_give_the_bits_of_the_fused_launcher(sweep, workers_find_this_file):
    words = [*WORDS, "seed=0,1", "hydra.launcher.max_stack=2", "model=linear,mlp"]
    folders = [sweep(name, *words, code=1) for name in ("fused", "fused_processes")]
    assert results(folders[0]) == results(folders[1]) and len(results(folders[0])) == 8
    assert "one of 2 runs of a stack" in (folders[1] / "0/train.log").read_text()
    assert not (folders[1] / ".stacks").exists()


HERE = "hydra.launcher.workers._target_=test_workers.Here"


def test_jobs_of_a_stack_that_fails_in_a_worker_run_alone_there(sweep, workers_find_this_file, monkeypatch):

    def fails(self, stack):
        raise RuntimeError("the worker's memory")
        yield

    monkeypatch.setattr(seedbed.fused.sweep.FusedSweep, "train", fails)
    words = ["seed=0,1,2", "trainer.max_epochs=1"]
    fused = sweep("fused_processes", HERE, *words)
    assert "the worker's memory" in (fused / "stacks.log").read_text()
    assert results(fused) == results(sweep("basic", *words))


def test_stack_that_is_killed_in_a_worker_goes_on_there(sweep, killed_sweep, workers_find_this_file):
    words = [HERE, "seed=0,1,2,3", "trainer.max_epochs=2"]
    undisturbed = sweep("fused_processes", *words)
    folder = killed_sweep("fused_processes", *words)
    assert len(results(folder)) == 2
    gc.collect()  # the sweep's lock, which a process would have taken with it
    sweep("fused_processes", *words, folder=folder)
    assert results(folder) == results(undisturbed)


def test_worker_that_dies_ends_the_sweep_with_a_line_and_the_next_command_goes_on(
    sweep, workers_find_this_file, tmp_path
):
    kill = [f"+callbacks.threads.{word}" for word in (f"path={tmp_path}/threads", "kill=true")]
    words = ["seed=0,1", "trainer.max_epochs=1", "hydra.launcher.n_jobs=2"]
    words += ["+callbacks.threads._target_=test_workers.Threads", *kill]
    folder = tmp_path / "sweep"
    command = ["-m", "hydra/launcher=processes", f"hydra.sweep.dir={folder}", "hydra.sweep.subdir=${hydra.job.num}"]
    command += ["trainer.accelerator=cpu", *words]
    ended = subprocess.run([sys.executable, ROOT / "train.py", *command], capture_output=True, text=True)
    assert ended.returncode == 1 and f"go on with the same command and resume={folder}" in ended.stdout
    assert "BrokenProcessPool" in (folder / "launcher.log").read_text() and "Traceback" not in ended.stderr
    done = results(folder)
    after = results(sweep("processes", *words, folder=folder))
    assert after.keys() == {"0", "1"} and {job: after[job] for job in done} == done and len(done) < 2


@pytest.mark.slow  # submitit waits 50 s for the result of a process that left none
def test_first_failure_stops_a_sweep_of_other_processes(sweep, workers_find_this_file):
    folder = sweep("submitit_local", "optim.lr=-1", "on_error=stop", code=1)
    assert results(folder)["0"]["status"] == "failed"


def test_slurm_is_asked_for_by_name(sweep, workers_find_this_file):
    if shutil.which("srun"):
        pytest.skip("there is a Slurm here")
    folder = sweep("submitit_slurm", "seed=0", code=1)
    assert "are you indeed on a slurm cluster?" in (folder / "launcher.log").read_text()
