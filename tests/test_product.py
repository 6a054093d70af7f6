"""Every model × loss × init × optimiser × schedule × data set trains two steps, or is refused in one line.

The choices are the files of conf/, so that a new file joins by itself. The whole product has hundreds of thousands of
rows; the tests take rows in which every valid pair of choices occurs.
"""

import itertools
import random
from functools import cache
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seedbed.allowed_values import check
from seedbed.errors import ConfigError
from seedbed.training.build import Parts, build_data

ROOT = Path(__file__).resolve().parents[1]
GROUPS = ("data", "model", "loss", "init", "optim", "schedule")
NAMES = {group: sorted(path.stem for path in (ROOT / "conf" / group).glob("*.yaml")) for group in GROUPS}
# two networks with an optimiser each: tests/training/test_gan.py
NAMES["model"].remove("gan")

# data without classes, the models and losses for it, the models for any data, and those for init=fixup
NUMBERS = {"roller_coaster", "function"}
OF_NUMBERS = {"model": {"quadratic", "rectified_lines"}, "loss": {"mse", "rmse", "l1"}}
ANY_SHAPE = {"linear", "linear_scratch", "mlp"}
RESIDUAL = {"fixup_resnet18"}


def is_valid(row):
    """Whether a row, or some of its choices (group → name), must train; every other one must be refused."""
    data, model, loss, init = (row.get(group) for group in ("data", "model", "loss", "init"))
    if data and model and model not in ANY_SHAPE and (data in NUMBERS) != (model in OF_NUMBERS["model"]):
        return False
    if data in NUMBERS and loss and loss not in OF_NUMBERS["loss"]:
        return False
    if model in OF_NUMBERS["model"] and loss and loss not in OF_NUMBERS["loss"]:
        return False
    is_residual = data not in NUMBERS and (not model or model in RESIDUAL)
    return init != "fixup" or is_residual


def pairs(row):
    return set(itertools.combinations(row.items(), 2))


def all_pairs(valid):
    found = (((a, x), (b, y)) for a, b in itertools.combinations(GROUPS, 2) for x in NAMES[a] for y in NAMES[b])
    return [pair for pair in found if is_valid(dict(pair)) == valid]


def covering_rows(seed=0, tries=40):
    """Rows in which every valid pair occurs: each begins with a missing pair and is filled to add most others."""
    rng, missing, rows = random.Random(seed), dict.fromkeys(all_pairs(True)), []
    while missing:
        begun = dict(next(iter(missing)))
        found = ({g: begun.get(g) or rng.choice(NAMES[g]) for g in GROUPS} for _ in range(100 * tries))
        candidates = list(itertools.islice(filter(is_valid, found), tries))
        best = max(candidates, key=lambda row: len(pairs(row) & missing.keys()))
        for pair in pairs(best):
            missing.pop(pair, None)
        rows.append(best)
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory, mnist_root):
    """data choice → overrides that name its files: MNIST's own, and noise in place of the other sets."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("noise")
    for split, name, k in itertools.product(("train", "valid"), "abc", range(8)):
        (root / "pictures" / split / name).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8))
        picture.save(root / "pictures" / split / name / f"{k}.png")
    # 10,000 of the training file validate
    for split, count in (("train", 10_016), ("t10k", 16)):
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            content = rng.integers(0, 10, shape, np.uint8).tobytes()
            header = b"\0\0\x08" + bytes([len(shape)]) + np.array(shape, ">u4").tobytes()
            (root / f"{split}-{kind}-ubyte").write_bytes(header + content)
    idx = {name: [f"data.root={root}"] for name in ("fashion_mnist", "kmnist")}
    return idx | {"image_folder": [f"data.root={root}/pictures"]}


@pytest.fixture(scope="module")
def configured(composed, files):
    """configured(row) → config. Each choice is composed once, as the groups do not depend on each other."""
    parts = {}

    def part(group, name):
        if (group, name) not in parts:
            extra = files.get(name, []) if group == "data" else []
            parts[group, name] = composed(f"{group}={name}", *extra)[0]
        return parts[group, name]

    def config(row):
        whole = part("seed", "0") | {group: part(group, name)[group] for group, name in row.items()}
        return whole | {"data": whole["data"] | {"batch_size": 8}}

    return config


@pytest.fixture(scope="module")
def loaded(configured):
    """loaded(name) → the data set, loaded once."""
    return cache(lambda name: build_data(configured({"data": name})))


def test_rows_hold_every_valid_pair_and_every_choice():
    assert {"mnist_sample", "mnist"} <= set(NAMES["data"]) and {"mlp", "resnet18"} <= set(NAMES["model"])
    rows = covering_rows()
    assert set().union(*map(pairs, rows)) == set(all_pairs(True)) and all(map(is_valid, rows))
    assert all({name for row in rows for name in [row[group]]} == set(NAMES[group]) for group in GROUPS)


def test_every_pair_of_choices_trains_two_steps(configured, loaded):
    for row in covering_rows():
        config, data = configured(row), loaded(row["data"])
        check(config)
        try:
            two_steps(Parts().module(config, data), data)
        except Exception as error:
            raise AssertionError(" ".join(f"{group}={name}" for group, name in row.items())) from error


def two_steps(module, data):
    optimizer = module.configure_optimizers()
    for step, (x, y) in enumerate(itertools.islice(data.train_dataloader(), 2)):
        if optimizer:
            module.set_rates(optimizer, step / 2)
        loss, _ = module.batch_losses(x, y)
        assert loss.shape == ()
        if optimizer:
            loss.backward()
            assert all(p.grad is not None and p.grad.shape == p.shape for p in module.net.parameters())
            optimizer.step()
            optimizer.zero_grad()
    with torch.no_grad():
        output = module.net.eval()(x)
    assert output.shape == (len(x), module.loss.num_outputs(data.num_classes))
    assert module.loss.predict(output).shape == y.shape


def test_some_rows_train_as_whole_runs(fit, files):
    for row in covering_rows()[::25]:
        words = [f"{group}={name}" for group, name in row.items()] + files.get(row["data"], [])
        limits = [f"+trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test")]
        run = fit(*words, "data.batch_size=8", "trainer.max_epochs=1", *limits)
        assert run.metrics["status"] in ("completed", "diverged"), row
        assert run.metrics["steps"] == (2 if row["model"] != "pixel_similarity" else 0), row


def test_pairs_that_do_not_work_are_refused_in_one_line(configured, loaded):
    for pair in all_pairs(False):
        row = dict(pair)
        # mse is the loss that images and numbers share: the other two choices are at fault
        if "loss" not in row and "init" not in row:
            row["loss"] = "mse"
        config = configured(row)
        with pytest.raises(ConfigError, match=r"^(loss|model|init): [^\n]*$"):
            Parts().module(config, loaded(row.get("data", "mnist_sample")))
            pytest.fail(f"not refused: {row}")
