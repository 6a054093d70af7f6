"""A sweep is the same sweep in other processes: joblib's, submitit's, with and without stacks."""

import gc
import json
import os
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch

import seedbed.fused.sweep

ROOT = Path(__file__).resolve().parents[2]
WORDS = ["optim.lr=0.1,-1", "trainer.max_epochs=1"]  # one that trains and one that fails
SUBMITIT = "hydra_plugins.hydra_submitit_launcher"
PLUGINS = {"joblib": "hydra_plugins.hydra_joblib_launcher", "submitit_local": SUBMITIT, "submitit_slurm": SUBMITIT}
PLUGINS["fused_joblib"] = PLUGINS["joblib"]


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
def workers(monkeypatch):
    """Asks for a launcher's package; its workers find this file, and nobody has told them their threads."""
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(__file__).parent), os.environ.get("PYTHONPATH", "")]))
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    return lambda launcher: pytest.importorskip(PLUGINS[launcher], reason=f"pip install -e '.[{launcher}]'")


def results(folder: Path) -> dict[str, dict]:
    found = {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/metrics.json")}
    return {job: {k: v for k, v in metrics.items() if k != "fit_seconds"} for job, metrics in found.items()}


@pytest.mark.parametrize("launcher", ["joblib", "submitit_local"])
def test_jobs_of_other_processes_give_the_bits_of_the_basic_launcher_with_a_thread_each(
    sweep, workers, tmp_path, launcher
):
    workers(launcher)
    threads = ["+callbacks.threads._target_=test_workers.Threads", f"+callbacks.threads.path={tmp_path}/threads"]
    folders = [sweep(name, *WORDS, *threads, code=1) for name in ("basic", launcher)]
    assert results(folders[0]) == results(folders[1]) and len(results(folders[0])) == 2
    assert (folders[0] / "summary.csv").read_bytes() == (folders[1] / "summary.csv").read_bytes()
    lines = [line.split() for line in (tmp_path / "threads").read_text().splitlines()]
    assert [threads for pid, threads in lines if int(pid) != os.getpid()] == ["1"]


def test_stacks_of_other_processes_give_the_bits_of_the_fused_launcher(sweep, workers):
    workers("fused_joblib")
    words = [*WORDS, "seed=0,1", "hydra.launcher.max_stack=2", "model=linear,mlp"]
    folders = [sweep(name, *words, code=1) for name in ("fused", "fused_joblib")]
    assert results(folders[0]) == results(folders[1]) and len(results(folders[0])) == 8
    assert "one of 2 runs of a stack" in (folders[1] / "0/train.log").read_text()
    assert not (folders[1] / ".stacks").exists()


HERE = "hydra.launcher.workers.n_jobs=1"  # the worker is this process then: what can go wrong in it can be made to


def test_jobs_of_a_stack_that_fails_in_a_worker_run_alone_there(sweep, workers, monkeypatch):
    workers("fused_joblib")

    def fails(self, piece):
        raise RuntimeError("the worker's memory")
        yield

    monkeypatch.setattr(seedbed.fused.sweep.FusedSweep, "train", fails)
    words = ["seed=0,1,2", "trainer.max_epochs=1"]
    fused = sweep("fused_joblib", HERE, *words)
    assert "the worker's memory" in (fused / "stacks.log").read_text()
    assert results(fused) == results(sweep("basic", *words))


def test_stack_that_is_killed_in_a_worker_goes_on_there(sweep, killed_sweep, workers):
    workers("fused_joblib")
    words = [HERE, "seed=0,1,2,3", "trainer.max_epochs=2"]
    undisturbed = sweep("fused_joblib", *words)
    folder = killed_sweep("fused_joblib", *words)
    assert len(results(folder)) == 2
    gc.collect()  # the sweep's lock, which a process would have taken with it
    sweep("fused_joblib", *words, folder=folder)
    assert results(folder) == results(undisturbed)


def test_worker_that_dies_ends_the_sweep_with_a_line_and_the_next_command_goes_on(sweep, workers, tmp_path):
    workers("joblib")
    kill = [f"+callbacks.threads.{word}" for word in (f"path={tmp_path}/threads", "kill=true")]
    words = ["seed=0,1", "trainer.max_epochs=1", "hydra.launcher.n_jobs=2"]
    words += ["+callbacks.threads._target_=test_workers.Threads", *kill]
    folder = tmp_path / "sweep"
    command = ["-m", "hydra/launcher=joblib", f"hydra.sweep.dir={folder}", "trainer.accelerator=cpu", *words]
    ended = subprocess.run([sys.executable, ROOT / "train.py", *command], capture_output=True, text=True)
    assert ended.returncode == 1 and f"go on with the same command and resume={folder}" in ended.stdout
    assert "TerminatedWorkerError" in (folder / "launcher.log").read_text() and "Traceback" not in ended.stderr
    done = results(folder)
    after = results(sweep("joblib", *words, folder=folder))
    assert after.keys() == {"0", "1"} and {job: after[job] for job in done} == done and len(done) < 2


@pytest.mark.slow  # submitit waits 50 s for the result of a process that left none
def test_first_failure_stops_a_sweep_of_other_processes(sweep, workers):
    workers("submitit_local")
    folder = sweep("submitit_local", "optim.lr=-1", "on_error=stop", code=1)
    assert results(folder)["0"]["status"] == "failed"


def test_slurm_is_asked_for_by_name(sweep, workers):
    workers("submitit_slurm")
    if shutil.which("srun"):
        pytest.skip("there is a Slurm here")
    folder = sweep("submitit_slurm", "seed=0", code=1)
    assert "are you indeed on a slurm cluster?" in (folder / "launcher.log").read_text()
