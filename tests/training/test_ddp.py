"""Two processes train as one does: every sample once, the same steps, one folder, and none of them is left over."""

import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from itertools import chain
from pathlib import Path

import pytest
import torch
from PIL import Image

from seedbed.data.mnist_sample import mnist_sample
from seedbed.errors import ConfigError
from seedbed.training.processes import spread
from seedbed.training.run import train_parts

ROOT = Path(__file__).resolve().parents[2]
TWO = ["trainer.accelerator=cpu", "trainer.devices=2"]
pytestmark = pytest.mark.slow  # a process takes three seconds to import Lightning, where nothing else runs

SPIES = '''
import json
from pathlib import Path
import lightning.pytorch as pl

class Spy(pl.Callback):
    """Writes down which pictures each process trains on and validates, epoch by epoch."""
    def __init__(self, folder):
        self.folder, self.seen = Path(folder), []
    def on_fit_start(self, trainer, module):
        def look(net, inputs):
            rows = inputs[0].flatten(1)
            kind = "train" if net.training else "valid"
            self.seen.append([kind, trainer.current_epoch, [hash(tuple(row)) for row in rows.tolist()]])
        module.net.register_forward_pre_hook(look)
    def on_fit_end(self, trainer, module):
        (self.folder / f"rank-{trainer.global_rank}.json").write_text(json.dumps(self.seen))

class Stop(pl.Callback):
    """Ends all processes after 17 steps, with a checkpoint of that moment."""
    def on_train_batch_end(self, trainer, module, *batch):
        if trainer.global_step == 17:
            trainer.checkpoint_callback._write(trainer)
            trainer.strategy.barrier()
            raise InterruptedError

class Bomb(pl.Callback):
    """Fails in the second process alone, in the second epoch."""
    def on_train_epoch_start(self, trainer, module):
        if trainer.global_rank == 1 and trainer.current_epoch == 1:
            raise OverflowError("the second process fails")
'''


@pytest.fixture
def spies(tmp_path, monkeypatch):
    """The module `spies`, which every process can import."""
    (tmp_path / "spies.py").write_text(SPIES)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setenv("PYTHONPATH", f"{tmp_path}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")


@pytest.fixture
def pictures(tmp_path):
    """A folder of 17 pictures to train on and 5 to validate: no batch size of two processes divides either."""
    splits = mnist_sample()
    for split, (x, y), count in (("train", splits.train, 17), ("valid", splits.valid, 5)):
        for i in torch.linspace(0, len(y) - 1, count).long().tolist():
            path = tmp_path / "pictures" / split / str(y[i].item()) / f"{i:05d}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(x[i, 0].numpy()).save(path)
    return ["data=image_folder", f"data.root={tmp_path}/pictures"]


@pytest.fixture
def run(composed, tmp_path):
    """run("name", "data.batch_size=4", …) → (metrics, last checkpoint) of a run in tmp_path/name."""

    def of(name, *words):
        (tmp_path / name).mkdir()
        metrics = spread(train_parts, composed(*words)[0], tmp_path / name, {})
        return metrics, torch.load(tmp_path / name / "checkpoints/last.ckpt", weights_only=True)

    return of


def pictures_seen(folder, rank, kind):
    found = {}
    for of, epoch, rows in json.loads((folder / f"rank-{rank}.json").read_text()):
        if of == kind:
            found.setdefault(epoch, []).append(rows)
    return found


def test_every_sample_is_seen_once_an_epoch_and_steps_equal_those_of_one_process(run, spies, pictures, tmp_path):
    spied = [*pictures, "+callbacks.spy._target_=spies.Spy", f"+callbacks.spy.folder={tmp_path}"]
    words = ["model=mlp", "trainer.max_epochs=3", "optim=momentum", "trainer.gradient_clip_val=0.1"]
    # rank 1 has one sample less than rank 0 of the last batch: none
    two, state = run("two", *spied, *words, *TWO, "data.batch_size=4")
    seen = [{kind: pictures_seen(tmp_path, rank, kind) for kind in ("train", "valid")} for rank in (0, 1)]
    one, expected = run("one", *spied, *words, "data.batch_size=8")
    whole = {kind: pictures_seen(tmp_path, 0, kind) for kind in ("train", "valid")}
    blank = hash((0.0,) * 784)  # what a rank without a sample takes part with, twice
    for epoch in range(3):
        steps = zip(seen[0]["train"][epoch], seen[1]["train"][epoch], whole["train"][epoch], strict=True)
        for mine, theirs, batch in steps:
            assert Counter(mine) + Counter(row for row in theirs if row != blank) == Counter(batch)
        assert len(seen[1]["train"][epoch][-1]) == 2 and set(seen[1]["train"][epoch][-1]) == {blank}
        given = [Counter(chain(*side["valid"][epoch])) for side in (*seen, whole)]
        # the untrained network is validated before the first epoch
        assert given[0] + given[1] == given[2] and given[2].total() == (5 if epoch else 10)
    # of three epochs of three steps in float32: sums in another order
    for name, value in expected["state_dict"].items():
        torch.testing.assert_close(state["state_dict"][name], value, rtol=0, atol=1e-6)
    assert two["train/loss"] == pytest.approx(one["train/loss"], abs=1e-6)
    assert two["val/loss"] == pytest.approx(one["val/loss"], abs=1e-6)
    assert {k: two[k] for k in ("val/accuracy", "epochs", "steps", "status")} == {
        k: one[k] for k in ("val/accuracy", "epochs", "steps", "status")
    }
    assert state["global_step"] == 9


def test_resumed_run_of_two_processes_equals_the_uninterrupted_one(run, spies, pictures, tmp_path):
    # rank 1 has no sample of an epoch's last batch, and takes part with two blank ones: dropout draws more there
    words = [*pictures, "model.dropout=0.3", *TWO, "optim=adam", "schedule=one_cycle", "data.batch_size=4"]
    words.append("trainer.max_epochs=7")
    whole, expected = run("whole", *words)
    with pytest.raises(RuntimeError, match=r"^rank \d: InterruptedError$"):
        run("half", *words, "+callbacks.stop._target_=spies.Stop")
    last = tmp_path / "half/checkpoints/last.ckpt"
    state = torch.load(last, weights_only=True)
    assert state["global_step"] == 17 and not torch.equal(*state["rng"])  # of 3 an epoch
    resumed, found = run("resumed", *words, f"ckpt_path={last}")
    assert all(torch.equal(found["state_dict"][name], value) for name, value in expected["state_dict"].items())
    assert {**resumed, "fit_seconds": 0} == {**whole, "fit_seconds": 0} and found["global_step"] == 21


def test_loss_that_diverges_stops_both(run):
    metrics, _ = run("diverging", *TWO, "loss=mse", "optim.lr=1e6", "trainer.max_epochs=5")
    assert metrics["status"] == "diverged" and metrics["epochs"] < 5


def test_what_one_process_refuses_is_refused_as_ever(run):
    with pytest.raises(ConfigError, match=r"^a GAN trains on one device; use trainer.devices=1$"):
        run("gan", "model=gan", *TWO)


def test_jobs_of_slurm_start_their_own_processes(run, monkeypatch):
    monkeypatch.setenv("SLURM_NTASKS", "1")
    monkeypatch.setenv("SLURM_JOB_NAME", "sweep")
    metrics, _ = run("job", *TWO, "model=linear", "trainer.max_epochs=1")
    assert metrics["status"] == "completed"


# --- the command


def command(*words: str) -> list[str]:
    return [sys.executable, str(ROOT / "train.py"), "model=linear", "optim.lr=1", "data.batch_size=128", *TWO, *words]


@pytest.fixture
def environment(monkeypatch, tmp_path):
    """A mark that all processes of a command inherit."""
    monkeypatch.setenv("SEEDBED_TEST_MARK", str(tmp_path))
    return tmp_path


def living(mark) -> list[int]:
    """Processes with this mark, besides this one. What cannot be read is another's, or a zombie without a memory."""
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        try:
            marked = f"SEEDBED_TEST_MARK={mark}\0".encode() in path.read_bytes() + b"\0"
        except OSError:
            continue
        if marked and int(path.parent.name) != os.getpid():
            found.append(int(path.parent.name))
    return found


def files(folder) -> set[str]:
    names = {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}
    return {"events" if name.startswith("events.out") else name for name in names}


LEFT = {"history.csv", "metrics.json", "train.log", "events", "checkpoints/last.ckpt", "checkpoints/best.ckpt"}
LEFT |= {f".hydra/{name}.yaml" for name in ("config", "hydra", "overrides")}


@pytest.mark.parametrize("strategy", ["ddp", "ddp_spawn"])
def test_single_run_leaves_one_folder_and_the_accuracy_of_one_process(environment, strategy, run):
    words = [f"trainer.strategy={strategy}", "trainer.max_epochs=3"]
    done = subprocess.run(command(*words), cwd=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 0 and "leaked" not in done.stderr, done.stderr
    (folder,) = environment.glob("outputs/runs/*/*")
    assert files(folder) == LEFT and len(list(folder.glob("events.out.*"))) == 1
    metrics = json.loads((folder / "metrics.json").read_text())
    one, _ = run("one", "model=linear", "optim.lr=1", "trainer.max_epochs=3")
    assert metrics["val/accuracy"] == pytest.approx(one["val/accuracy"], abs=2 / 2038)  # a picture on the border
    assert metrics["val/loss"] == pytest.approx(one["val/loss"], abs=1e-5)
    assert (metrics["epochs"], metrics["steps"], metrics["status"]) == (3, 147, "completed")
    assert f"val/accuracy {metrics['val/accuracy']:.4f}" in done.stdout and done.stdout.count("completed") == 1
    assert living(environment) == []


@pytest.mark.parametrize(("strategy", "launcher"), [("ddp", "basic"), ("ddp_spawn", "basic"), ("ddp", "fused")])
def test_sweep_leaves_a_result_a_job(environment, strategy, launcher):
    words = [f"trainer.strategy={strategy}", "trainer.max_epochs=1", "seed=0,1", f"hydra.sweep.dir={environment}/sweep"]
    words += ["hydra.sweep.subdir=${hydra.job.num}"]
    done = subprocess.run(
        command("hydra.mode=MULTIRUN", f"hydra/launcher={launcher}", *words),
        cwd=environment,
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert done.returncode == 0, done.stderr
    sweep = environment / "sweep"
    assert {path.name for path in environment.iterdir()} == {"sweep"}
    assert {path.name for path in sweep.iterdir() if path.is_dir()} == {"0", "1"}
    results = [json.loads((sweep / f"{job}/metrics.json").read_text()) for job in (0, 1)]
    for job, metrics in enumerate(results):
        assert files(sweep / str(job)) == LEFT and metrics["status"] == "completed" and metrics["steps"] == 49
        assert len(list((sweep / str(job)).glob("events.out.*"))) == 1
    assert results[0]["val/loss"] != results[1]["val/loss"]
    rows = (sweep / "summary.csv").read_text().splitlines()
    assert len(rows) == 3
    assert living(environment) == []


def test_failure_of_the_second_process_ends_the_run_and_the_first(environment, spies):
    words = ["+callbacks.bomb._target_=spies.Bomb", f"hydra.run.dir={environment}/run"]
    done = subprocess.run(command(*words), cwd=environment, capture_output=True, text=True, timeout=600)
    assert done.returncode == 1
    log = (environment / "run/train.log").read_text()
    assert "failed: rank 1: OverflowError: the second process fails" in log and "on_train_epoch_start" in log
    assert json.loads((environment / "run/metrics.json").read_text())["status"] == "failed"
    assert living(environment) == []


class Aborts:
    def __del__(self, abort=os.abort):
        abort()


def aborted_by_its_shutdown(config):
    sys.modules[
        "__main__"
    ].aborts = Aborts()  # as a thread of gloo does, once in a hundred runs, that lets go of a tensor just then
    return int(os.environ["LOCAL_RANK"])


def test_process_that_is_done_ends_without_a_shutdown():
    assert spread(aborted_by_its_shutdown, {"trainer": {"devices": 2}}) == 0


def test_death_of_the_command_ends_its_processes(environment):
    words = ["trainer.max_epochs=2000", f"hydra.run.dir={environment}/run"]
    run = subprocess.Popen(command(*words), cwd=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 120
    while not (environment / "run/checkpoints/last.ckpt").exists() and time.monotonic() < deadline:
        time.sleep(0.1)
    assert len(living(environment)) >= 3
    run.send_signal(signal.SIGKILL)
    run.wait()
    deadline = time.monotonic() + 30
    while living(environment) and time.monotonic() < deadline:
        time.sleep(0.1)
    assert living(environment) == [] and not (environment / "run/metrics.json").exists()
