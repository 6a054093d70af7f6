"""The fused launcher gives every job what the basic launcher gives it."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st


def jobs(folder: Path) -> dict[str, dict]:
    return {path.parent.name: json.loads(path.read_text()) for path in folder.glob("*/metrics.json")}


def last(folder: Path, job: str, name: str = "last") -> dict:
    return torch.load(folder / job / f"checkpoints/{name}.ckpt", weights_only=True)


def assert_equal_jobs(basic: Path, fused: Path, rtol: float) -> None:
    """Every job's files say the same; weights within rtol of their norm."""
    expected, found = jobs(basic), jobs(fused)
    assert expected.keys() == found.keys() and expected
    for job, a in expected.items():
        b = found[job]
        # only a stack says how it computed its first layer
        assert [key for key in a if key != "first_layer"] == [key for key in b if key != "first_layer"]
        same = ("status", "epochs", "steps", "seed", "versions")
        assert {k: a[k] for k in same} == {k: b[k] for k in same}
        if a["status"] == "diverged":
            continue
        assert a["val/accuracy"] == pytest.approx(b["val/accuracy"], abs=5e-5)
        assert a["val/loss"] == pytest.approx(b["val/loss"], rel=max(1e-3, rtol))
        assert a.get("val/accuracy_by_class") == pytest.approx(b.get("val/accuracy_by_class"), abs=1e-4)
        for name in ("last", "best"):
            x, y = last(basic, job, name), last(fused, job, name)
            assert x.keys() - {"rng"} == y.keys() - {"rng"} and (x["epoch"], x["global_step"]) == (
                y["epoch"],
                y["global_step"],
            )
            assert x["state_dict"].keys() == y["state_dict"].keys()
            for key, p in x["state_dict"].items():
                q = y["state_dict"][key]
                assert (p.double() - q.double()).norm() <= rtol * p.double().norm() + 1e-12, (job, name, key)


QUADRATIC = ["data=roller_coaster", "model=quadratic", "loss=mse", "trainer.max_epochs=10"]
LINES = ["data=function", "model=rectified_lines", "loss=rmse", "optim=adam"]


def slow(case):
    return pytest.param(*case, marks=pytest.mark.slow)


# Matrix products of another shape sum in another order: 6e-8 a step, which training amplifies. Ten epochs of SGD at
# moderate rates stay within 1e-5; momentum and Adam divide or carry on small differences further.
@pytest.mark.parametrize(
    ("overrides", "rtol"),
    [
        (["model=linear", "optim.lr=0.1,1", "seed=0,1", "trainer.max_epochs=10"], 1e-5),
        slow((["init=default,kaiming_normal", "optim.lr=0.05,0.1", "seed=0,1", "trainer.max_epochs=10"], 1e-5)),
        (["init=default,kaiming_normal", "optim.lr=0.05", "seed=0,1", "trainer.max_epochs=3"], 1e-5),
        (["optim.lr=0.05", "seed=range(0,8)", "trainer.max_epochs=3"], 1e-5),
        (["model=linear_scratch", "init=normal", "optim=basic", "init.std=0.1,1", "trainer.max_epochs=2"], 1e-5),
        slow((["optim=momentum", "optim.lr=0.01", "optim.momentum=0,0.9", "optim.weight_decay=0,0.01"], 1e-4)),
        (["optim=momentum", "optim.lr=0.01,0.02", "optim.nesterov=true", "schedule=constant,one_cycle"], 1e-4),
        (["optim=adam", "optim.lr=0.001,0.003", "optim.betas=[0.9,0.999],[0.7,0.9]", "loss=nll"], 1e-3),
        slow((["optim=adamw", "optim.weight_decay=0,0.1", "loss=cross_entropy", "loss.label_smoothing=0,0.1"], 1e-3)),
        (["optim=adamw", "schedule=values", "schedule.lr=[0,1e-3]", "+schedule.weight_decay=[0,1],[1,0]"], 1e-3),
        (["optim=rmsprop", "optim.lr=0.0003,0.001", "optim.alpha=0.9,0.99"], 1e-3),
        slow((["model=convnet", "loss=mse", "optim.lr=0.01,0.1", "data.shuffle=false", "data.batch_size=512"], 1e-5)),
        (["optim=momentum", "optim.lr=0.02,0.05", "optim.momentum=0.9,0.95", "schedule=one_cycle"], 1e-4),
        (["trainer.gradient_clip_val=0.05", "trainer.accumulate_grad_batches=3", "optim.lr=0.1,1"], 1e-5),
        slow((["seed=0,1", "data.seed=5", "loss=bce", "schedule=cosine", "schedule.end=0,0.5"], 1e-5)),
        ([*QUADRATIC, "optim.lr=1e-6,1e-5", "seed=0,1", "schedule=constant,linear"], 1e-5),
        ([*LINES, "optim.lr=0.003,0.01", "seed=0,1", "init=default,normal"], 1e-3),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_members_equal_their_solo_runs(sweep, overrides, rtol):
    epochs = [] if any("max_epochs" in word for word in overrides) else ["trainer.max_epochs=2"]
    assert_equal_jobs(sweep("basic", *overrides, *epochs), sweep("fused", *overrides, *epochs), rtol)


def test_members_stop_early_as_their_solo_runs_do(sweep):
    words = ["callbacks=early_stopping", "callbacks.early_stopping.min_delta=0.002", "optim.lr=0.03,0.3,3"]
    words += ["callbacks.early_stopping.patience=1", "trainer.max_epochs=30"]
    basic, fused = (sweep(launcher, *words) for launcher in ("basic", "fused"))
    assert_equal_jobs(basic, fused, 1e-5)
    assert len({job["epochs"] for job in jobs(fused).values()} - {30}) > 1
    for name in ("last", "best"):
        states = [last(folder, "0", name)["callbacks"] for folder in (basic, fused)]
        a, b = (next(v for k, v in state.items() if k.startswith("EarlyStopping")) for state in states)
        assert a["wait_count"] == b["wait_count"] and torch.isclose(a["best_score"], b["best_score"], rtol=1e-5)


@pytest.mark.slow
def test_stacked_resnet18_equals_its_solo_runs(sweep, monkeypatch, tmp_path, capsys):
    """In float64, 1e-9 after three steps; in float32 a change of one unit in the last place grows to 1e-3 by then."""
    from PIL import Image

    import seedbed.fused.capacity
    from seedbed.data.mnist_sample import mnist_sample

    images, targets = mnist_sample().train
    for i in range(0, len(images), len(images) // 240):
        folder = tmp_path / ("train" if i % 5 else "valid") / str(int(targets[i]))
        folder.mkdir(parents=True, exist_ok=True)
        Image.fromarray(images[i, 0].numpy()).save(folder / f"{i}.png")
    monkeypatch.setattr(
        seedbed.fused.capacity, "_probe", lambda nets, x: (1.0, 0.0)
    )  # on a CPU it would not be stacked
    words = ["model=resnet18", "data=image_folder", f"data.root={tmp_path}", "data.batch_size=64"]
    words += ["optim.lr=0.01,0.02", "trainer.precision=64-true", "trainer.max_epochs=1"]
    assert_equal_jobs(sweep("basic", *words), sweep("fused", *words), 1e-9)
    assert "1 × 2 runs as one" in capsys.readouterr().out


def choice(key: str, *values: str) -> st.SearchStrategy[list[str]]:
    """No override, or a sweep over one or two of the values."""
    some = st.lists(st.sampled_from(values), min_size=1, max_size=2, unique=True)
    return st.one_of(st.just([]), some.map(lambda chosen: [f"{key}={','.join(chosen)}"]))


SWEEPS = st.tuples(
    choice("model", "linear", "mlp"),
    choice("loss", "mnist_loss", "cross_entropy", "cross_entropy_scratch", "bce", "l1"),
    choice("init", "default", "xavier_uniform", "orthogonal"),
    choice("optim.lr", "0.03", "0.1", "0.3"),
    choice("optim.weight_decay", "0", "0.001"),
    choice("schedule", "constant", "linear", "exponential"),
    choice("seed", "0", "7"),
    choice("data.batch_size", "256", "500"),
).map(lambda parts: [word for part in parts for word in part])


@pytest.mark.slow
@settings(max_examples=10, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True)
@given(words=SWEEPS)
def test_random_sweeps_equal_those_of_the_basic_launcher(sweep, words):
    words = [*words[:4], "trainer.max_epochs=1"]
    assert_equal_jobs(sweep("basic", *words), sweep("fused", *words), 1e-5)


def test_dropout_masks_differ_between_members_and_train_as_well(sweep):
    words = ["model.dropout=0.3", "seed=0,1,2,3", "trainer.max_epochs=5"]
    fused = jobs(sweep("fused", *words))
    basic = jobs(sweep("basic", *words))
    means = [sum(m["val/accuracy"] for m in found.values()) / 4 for found in (basic, fused)]
    assert abs(means[0] - means[1]) < 0.004  # the spread over seeds is 0.002
    assert len({m["train/loss"] for m in fused.values()}) == 4


def test_diverging_member_is_marked_and_disturbs_nobody(sweep):
    words = ["loss=mse", "trainer.max_epochs=3"]
    alone = sweep("fused", *words, "optim.lr=0.01,0.02")
    mixed = sweep("fused", *words, "optim.lr=0.01,1e6,0.02")
    found = jobs(mixed)
    assert [found[job]["status"] for job in "012"] == ["completed", "diverged", "completed"]
    assert found["1"]["epochs"] == 1 and found["1"]["val/loss"] is None
    for job, same in (("0", "0"), ("2", "1")):
        a, b = last(mixed, job)["state_dict"], last(alone, same)["state_dict"]
        # a stack of three multiplies matrices of other shapes than one of two: not bits, but 1e-6
        assert all(torch.allclose(a[k], b[k], rtol=0, atol=1e-6) for k in a)


def test_bad_job_fails_alone_with_its_message(sweep):
    folder = sweep("fused", "optim.lr=0.1,-1,0.2", "trainer.max_epochs=1", code=1)
    assert [jobs(folder)[job]["status"] for job in "012"] == ["completed", "failed", "completed"]
    assert "optim.lr=-1: must be a number > 0" in (folder / "1/train.log").read_text()
    assert (folder / "summary.csv").read_text().count("\n") == 4


@pytest.mark.parametrize(
    ("words", "bad"),
    [
        (["model=linear", "init=default,fixup,xavier_uniform", "optim.lr=0.1,1"], "23"),
        (["schedule=combined", "schedule.fractions=[0.5,0.6],[0.3,0.7]", "seed=0,1"], "01"),
        (["optim=momentum", "optim.nesterov=true", "optim.momentum=0,0.9", "optim.lr=0.1,0.2"], "01"),
    ],
)
def test_jobs_that_cannot_be_built_disturb_no_stack(sweep, capsys, words, bad):
    folder = sweep("fused", *words, "trainer.max_epochs=1", code=1)
    found = jobs(folder)
    assert {job for job, metrics in found.items() if metrics["status"] == "failed"} == set(bad)
    assert all(metrics["status"] == "completed" for job, metrics in found.items() if job not in bad)
    assert not (folder / "stacks.log").exists()
    assert f"trained {len(found) - len(bad)} runs in" in capsys.readouterr().out
    for job in bad:
        log = (folder / job / "train.log").read_text()
        assert len(log.splitlines()) == 1 and found[job]["error"] in log
        assert found[job]["seed"] == int(job) % 2 * ("seed=0,1" in words)


def test_stop_at_the_first_bad_value(sweep, capsys):
    folder = sweep("fused", "optim.lr=0.1,-1,1", "on_error=stop", "trainer.max_epochs=1", code=1)
    assert jobs(folder).keys() == {"1"} and "stopped: on_error=stop" in capsys.readouterr().out


@pytest.mark.parametrize(
    "words",
    [
        ["callbacks=early_stopping", "callbacks.early_stopping.patience=0", "callbacks.early_stopping.min_delta=0.02"],
        ["callbacks=early_stopping", "+callbacks.early_stopping.stopping_threshold=0.1"],
        ["callbacks=early_stopping", "callbacks.early_stopping.min_delta=0.1", "+trainer.min_epochs=5"],
        ["callbacks=early_stopping", "callbacks.early_stopping.min_delta=0.01", "+trainer.check_val_every_n_epoch=2"],
        [
            "callbacks=early_stopping",
            "+callbacks.second={_target_: lightning.pytorch.callbacks.EarlyStopping, monitor: val/accuracy, mode: max,"
            " patience: 1, min_delta: 0.01}",
        ],
        ["+trainer.max_steps=60"],
        ["trainer.max_epochs=0,1"],
        ["trainer.precision=bf16-true"],
    ],
    ids=lambda words: words[-1][:40],
)
def test_what_a_stack_does_not_have_is_as_in_solo_runs(sweep, left_in, words):
    epochs = [] if "max_epochs" in words[-1] else ["trainer.max_epochs=6"]
    words = [*epochs, *(["optim.lr=0.1,1"] if not any("lr=" in word for word in words) else []), *words]
    basic, fused = sweep("basic", *words), sweep("fused", *words)
    assert_equal_jobs(basic, fused, 1e-5)
    assert not (fused / "stacks.log").exists()
    steps = [[event.step for event in left_in(folder / "1").events("val/loss")] for folder in (basic, fused)]
    assert steps[0] == steps[1]


def test_stack_without_classes_has_no_accuracy_and_is_ranked_by_its_loss(sweep):
    folder = sweep("fused", *QUADRATIC, "optim.lr=1e-6,1e-5", "optimized_metric=val/loss")
    assert not (folder / ".stacks").exists()  # trained as one
    assert all(found["val/accuracy"] is None and found["val/loss"] > 0 for found in jobs(folder).values())
    assert "## val/loss" in (folder / "summary.md").read_text()


def test_jobs_that_learn_nothing_by_gradient_run_alone(sweep):
    words = ["model=pixel_similarity", "seed=0,1"]
    basic, fused = (jobs(sweep(launcher, *words)) for launcher in ("basic", "fused"))
    assert {job: m["val/accuracy"] for job, m in basic.items()} == {job: m["val/accuracy"] for job, m in fused.items()}
    assert [m["steps"] for m in fused.values()] == [0, 0]


def test_capped_stacks_give_the_same(sweep):
    words = ["optim.lr=0.1,0.2,0.3", "seed=0,1", "trainer.max_epochs=1"]
    whole, capped = sweep("fused", *words), sweep("fused", *words, "hydra.launcher.max_stack=2")
    assert_equal_jobs(whole, capped, 1e-5)


def test_stack_that_runs_out_of_memory_is_split(sweep, monkeypatch):
    from seedbed.fused.stack import Stack

    def fits_two(stack):
        if stack.members > 2:
            raise torch.OutOfMemoryError("CUDA out of memory")

    words = ["optim.lr=0.1,0.2,0.3,0.4,0.5", "trainer.max_epochs=1"]
    whole = sweep("fused", *words)
    monkeypatch.setattr(Stack, "on_fit_start", fits_two)
    assert_equal_jobs(whole, sweep("fused", *words), 1e-5)


def test_member_goes_on_from_its_checkpoint_as_a_solo_run_does(sweep, fit):
    words = ["optim=adam", "optim.lr=0.001,0.002", "trainer.max_epochs=2"]
    folders = [sweep(launcher, *words) for launcher in ("basic", "fused")]
    runs = [
        fit("optim=adam", "optim.lr=0.002", "trainer.max_epochs=3", f"ckpt_path={folder}/1/checkpoints/last.ckpt")
        for folder in folders
    ]
    assert runs[0].metrics["steps"] == runs[1].metrics["steps"] == 147
    a, b = (run.module.net.state_dict() for run in runs)
    assert all((a[k] - b[k]).norm() <= 1e-3 * a[k].norm() for k in a)


def test_jobs_that_cannot_stack_run_alone(sweep, tmp_path):
    first = sweep("fused", "optim.lr=0.1,0.2", "trainer.max_epochs=1")
    paths = ",".join(str(first / job / "checkpoints/last.ckpt") for job in "01")
    gone_on = jobs(sweep("fused", f"ckpt_path={paths}", "trainer.max_epochs=2"))
    assert [gone_on[job]["steps"] for job in "01"] == [98, 98]


@pytest.mark.parametrize("data", ["mnist_sample", "mnist"])
def test_event_files_hold_curves_and_hparams_as_solo_ones_do(sweep, request, data):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    words = [f"data={data}", "optim.lr=0.1,0.2", "trainer.max_epochs=2", "+trainer.limit_train_batches=10"]
    if data == "mnist":
        request.getfixturevalue("mnist_root")
        words += ["loss=cross_entropy"]
    curves = []
    for launcher in ("basic", "fused"):
        found = EventAccumulator(str(sweep(launcher, *words) / "1")).Reload()
        tags = found.Tags()["scalars"]
        curves.append({(tag, e.step): e.value for tag in tags for e in found.Scalars(tag)})
        assert found.PluginTagToContent("hparams").keys() == {
            "_hparams_/experiment",
            "_hparams_/session_start_info",
            "_hparams_/session_end_info",
        }
    tested = {"test/accuracy", "test/loss"} if data == "mnist" else set()
    by_epoch = {"train/loss", "val/accuracy", "val/loss"}
    assert {tag for tag, _ in curves[0]} == {"lr", *by_epoch, *(f"epoch/{tag}" for tag in by_epoch), *tested}
    # other matrix products: 6e-8 a step
    assert curves[0] == pytest.approx(curves[1], abs=1e-5, rel=1e-5)


def test_hydra_folder_is_what_hydra_writes(sweep):
    import yaml

    words = ["optim.lr=0.1,0.2", "seed=3", "trainer.max_epochs=1"]
    basic, fused = (sweep(launcher, *words) / "1/.hydra" for launcher in ("basic", "fused"))
    for name in ("config.yaml", "overrides.yaml"):
        assert yaml.safe_load((basic / name).read_text()) == yaml.safe_load((fused / name).read_text())
    assert (fused / "hydra.yaml").exists()
