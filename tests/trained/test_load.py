"""A network comes back from its run as it was, and nothing else comes with it."""

import os
import pickle
import random
import shutil
import zipfile
from pathlib import Path

import pytest
import torch
from PIL import Image

from seedbed.data.loader import Loader
from seedbed.errors import ConfigError
from seedbed.training.build import build_data
from seedbed.training.evaluation import answer
from seedbed.training.load import CONFIG, load


@pytest.mark.parametrize(
    "overrides",
    [
        ("model=mlp", "model.dropout=0.3"),
        ("data=mnist", "loss=nll", "data.normalize=standard", "+trainer.limit_train_batches=20"),
        ("model=pixel_similarity",),
        pytest.param(
            ("model=resnet18", "loss=cross_entropy", "+trainer.limit_train_batches=1"), marks=pytest.mark.slow
        ),
        ("model=timm", "model.name=resnet10t", "model.image_size=32", "+trainer.limit_train_batches=1"),
        ("model=rectified_lines", "data=function", "loss=mse"),
    ],
)
def test_last_weights_answer_as_the_run_measured(trained, mnist_root, overrides):
    loaded = load(trained(*overrides), "last")
    data = build_data(loaded.config)
    data.evaluate_for(getattr(loaded.net, "resized", data.splits.shape))
    scale = {"divisor": loaded.facts.divisor, "shift": loaded.facts.shift}
    answers = answer(loaded.net, loaded.loss, Loader(data.splits.valid, data.eval_batch, **scale))
    assert answers.loss == loaded.metrics["val/loss"]
    if loaded.facts.classes:
        right = (answers.predicted == answers.target).double().mean().item()
        assert right == loaded.metrics["val/accuracy"]


def test_best_and_last_are_the_files_of_these_names(trained):
    folder = trained("model=linear", "optim.lr=30", "trainer.max_epochs=4")
    for which in ("best", "last"):
        state = torch.load(folder / f"checkpoints/{which}.ckpt", weights_only=True)["state_dict"]
        for loaded in (load(folder, which), load(folder / f"checkpoints/{which}.ckpt")):
            assert all(torch.equal(value, state[f"net.{name}"]) for name, value in loaded.net.state_dict().items())
    assert not torch.equal(load(folder, "best").net[1].weight, load(folder, "last").net[1].weight)


def test_a_network_needs_neither_its_data_nor_random_numbers(trained, tmp_path):
    for i in range(4):
        picture = tmp_path / "data" / "ab"[i % 2] / f"{i}.png"
        picture.parent.mkdir(parents=True, exist_ok=True)
        Image.new("RGB", (12, 10), (60 * i, 0, 9)).save(picture)
    folder = trained("data=image_folder", f"data.root={tmp_path / 'data'}", "data.valid_fraction=0.5")
    shutil.rmtree(tmp_path / "data")
    before = torch.get_rng_state()
    loaded = load(folder)
    assert torch.equal(torch.get_rng_state(), before)
    assert (loaded.facts.shape, loaded.facts.classes) == ((3, 10, 12), ["a", "b"])


def test_a_checkpoint_of_an_earlier_version_asks_the_data(trained, tmp_path):
    folder = shutil.copytree(trained("model=linear"), tmp_path / "run")
    checkpoint = torch.load(folder / "checkpoints/best.ckpt", weights_only=True)
    facts = load(folder).facts
    assert checkpoint.pop("DataModule")
    torch.save(checkpoint, folder / "checkpoints/best.ckpt")
    config = (folder / CONFIG).read_text()
    old = config.replace("seedbed.training.datamodule.DataModule", "seedbed.data.datamodule.DigitsModule")
    assert old != config
    (folder / CONFIG).write_text(old)
    assert load(folder).facts == facts


def test_a_member_of_a_stack_is_loaded_as_a_run_is(tmp_path):
    import seedbed

    words = [
        "hydra/launcher=fused",
        "model=linear",
        "optim.lr=0.1,1",
        "trainer.max_epochs=1",
        f"hydra.sweep.dir={tmp_path}",
    ]
    for run in seedbed.sweep(*words).runs:
        assert load(run.folder).facts.classes == ["7", "3"]
    with pytest.raises(ConfigError, match="is a sweep"):
        load(tmp_path)


class Evil:
    def __reduce__(self):
        return os.mkdir, ("evil",)


def write_config(folder, old, new):
    text = (folder / CONFIG).read_text()
    assert old in text
    (folder / CONFIG).write_text(text.replace(old, new))


def change_checkpoint(folder, change):
    path = folder / "checkpoints/best.ckpt"
    content = torch.load(path, weights_only=True)
    change(content)
    torch.save(content, path)


def compress(folder):
    path = folder / "checkpoints/best.ckpt"
    with zipfile.ZipFile(path) as archive:
        records = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in records.items():
            archive.writestr(name, content)


HUGE = 10**6
WEIGHT = "net.1.weight"
DAMAGE = {
    "no run": (lambda f: (f / CONFIG).unlink(), "is no run"),
    "no checkpoint": (lambda f: (f / "checkpoints/best.ckpt").unlink(), "left no checkpoints/best.ckpt"),
    "an evil pickle": (lambda f: change_checkpoint(f, lambda c: c.update(evil=Evil())), "not unpickled.*stranger"),
    "a bare evil pickle": (lambda f: (f / "checkpoints/best.ckpt").write_bytes(pickle.dumps(Evil())), "damaged"),
    "an evil target": (
        lambda f: write_config(f, "seedbed.models.linear.linear", "os.mkdir"),
        "model._target_=os.mkdir",
    ),
    "a module's module": (
        lambda f: write_config(f, "seedbed.models.linear.linear", "seedbed.models.convnet.torch.load"),
        "model._target_=seedbed.models.convnet.torch.load",
    ),
    "a target behind an interpolation": (
        lambda f: write_config(f, "callbacks: {}", "callbacks: {x: '\\${oc.create:{_target_: os.mkdir}}'}"),
        "callbacks.x=.*interpolation",
    ),
    "an alias in YAML": (lambda f: write_config(f, "callbacks: {}", "a: &a [x]\nb: [*a, *a]"), "as Hydra writes it"),
    "no YAML": (lambda f: (f / CONFIG).write_text("{: ["), "config.yaml"),
    "no model": (lambda f: (f / CONFIG).write_text("seed: 1"), "it has no data"),
    "no loss of that name": (lambda f: write_config(f, "losses.MnistLoss", "losses.Nothing"), "loss._target_"),
    "a value out of range": (lambda f: write_config(f, "linear.linear", "mlp.mlp\n  hidden: [-1]"), "model.hidden"),
    "an argument too many": (lambda f: write_config(f, "linear.linear", "linear.linear\n  x: 1"), "model: .*'x'"),
    "another model": (lambda f: write_config(f, "linear.linear", "mlp.mlp"), "of another network: for 1.weight"),
    "a model larger than memory": (
        lambda f: write_config(f, "linear.linear", f"mlp.mlp\n  hidden: [{HUGE}, {HUGE}]"),
        "of another network",
    ),
    "weights larger than the file": (
        lambda f: change_checkpoint(f, lambda c: c["state_dict"].update({WEIGHT: torch.zeros(1).expand(HUGE, HUGE)})),
        "1.weight is no weight",
    ),
    "another shape": (
        lambda f: change_checkpoint(f, lambda c: c["DataModule"].update(shape=[1, 8, 8])),
        "another network",
    ),
    "no shape": (lambda f: change_checkpoint(f, lambda c: c["DataModule"].update(shape=[0, "x"])), "shape, classes"),
    "no weights": (lambda f: change_checkpoint(f, lambda c: c.pop("state_dict")), "no state_dict"),
    "half a file": (
        lambda f: os.truncate(f / "checkpoints/best.ckpt", (f / "checkpoints/best.ckpt").stat().st_size // 2),
        "damaged",
    ),
    "an empty file": (lambda f: os.truncate(f / "checkpoints/best.ckpt", 0), "damaged"),
    "compressed records": (compress, "compressed"),
    "broken metrics": (lambda f: (f / "metrics.json").write_text("{"), "metrics.json"),
}


@pytest.mark.parametrize("what", DAMAGE)
def test_what_is_damaged_or_asks_for_more_ends_in_one_line(trained, tmp_path, monkeypatch, what):
    folder = shutil.copytree(trained("model=linear"), tmp_path / "run")
    monkeypatch.chdir(tmp_path)
    damage, message = DAMAGE[what]
    damage(folder)
    with pytest.raises(ConfigError, match=message) as raised:
        load(folder)
    assert "\n" not in str(raised.value)
    assert not Path("evil").exists()


def test_any_flipped_byte_is_found_or_harmless(trained, tmp_path):
    folder = shutil.copytree(trained("model=linear"), tmp_path / "run")
    path, draw = folder / "checkpoints/best.ckpt", random.Random(0)
    sound, refused = path.read_bytes(), 0
    for _ in range(60):
        at = draw.randrange(len(sound))
        path.write_bytes(sound[:at] + bytes([sound[at] ^ (1 << draw.randrange(8))]) + sound[at + 1 :])
        try:
            load(folder)
        except ConfigError as error:
            refused += 1
            assert "\n" not in str(error)
    assert 0 < refused < 60
