"""Every model × loss × init × optimiser × schedule × data set trains two steps, or is refused in one line.

The names are those of the files in conf/: a new file joins by itself. The whole product has hundreds of thousands of
rows; here every pair of choices occurs in some row.
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
NAMES["model"].remove("gan")  # of two networks with an optimiser each: tests/test_gan.py

# What makes no sense. All that is not named here has to work.
NUMBERS = {"roller_coaster", "function"}  # data without classes
OF_NUMBERS = {"model": {"quadratic", "rectified_lines"}, "loss": {"mse", "rmse", "l1"}}
ANY_SHAPE = {"linear", "linear_scratch", "mlp"}  # models
RESIDUAL = {"fixup_resnet18"}


def makes_sense(row):
    """Of a row, or of some of its choices: group → name."""
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


def all_pairs(sensible):
    found = (((a, x), (b, y)) for a, b in itertools.combinations(GROUPS, 2) for x in NAMES[a] for y in NAMES[b])
    return [pair for pair in found if makes_sense(dict(pair)) == sensible]


def covering_rows(seed=0, tries=40):
    """Rows in which every sensible pair occurs: each begins with a pair that is missing and is filled to add most."""
    rng, missing, rows = random.Random(seed), dict.fromkeys(all_pairs(True)), []
    while missing:
        begun = dict(next(iter(missing)))
        found = ({g: begun.get(g) or rng.choice(NAMES[g]) for g in GROUPS} for _ in range(100 * tries))
        candidates = list(itertools.islice(filter(makes_sense, found), tries))
        best = max(candidates, key=lambda row: len(pairs(row) & missing.keys()))
        for pair in pairs(best):
            missing.pop(pair, None)
        rows.append(best)
    return rows


@pytest.fixture(scope="module")
def files(tmp_path_factory, mnist_root):
    """data choice → the overrides that name its files: MNIST's own, noise for sets that need not be here."""
    rng, root = np.random.default_rng(0), tmp_path_factory.mktemp("noise")
    for split, name, k in itertools.product(("train", "valid"), "abc", range(8)):
        (root / "pictures" / split / name).mkdir(parents=True, exist_ok=True)
        picture = Image.fromarray(rng.integers(0, 256, (28, 28, 3), np.uint8))
        picture.save(root / "pictures" / split / name / f"{k}.png")
    for split, count in (("train", 10_016), ("t10k", 16)):  # of the first, 10,000 validate
        for kind, shape in (("images-idx3", (count, 28, 28)), ("labels-idx1", (count,))):
            content = rng.integers(0, 10, shape, np.uint8).tobytes()
            header = b"\0\0\x08" + bytes([len(shape)]) + np.array(shape, ">u4").tobytes()
            (root / f"{split}-{kind}-ubyte").write_bytes(header + content)
    idx = {name: [f"data.root={root}"] for name in ("fashion_mnist", "kmnist")}
    return idx | {"image_folder": [f"data.root={root}/pictures"]}


@pytest.fixture(scope="module")
def configured(composed, files):
    """configured(row) → config. Each choice is composed once: the groups do not depend on each other."""
    parts = {}

    def part(group, name):
        if (group, name) not in parts:
            extra = files.get(name, []) if group == "data" else []
            parts[group, name] = composed(f"{group}={name}", *extra)[0]
        return parts[group, name]

    def config(row):
        found = part("seed", "0") | {group: part(group, name)[group] for group, name in row.items()}
        return found | {"data": found["data"] | {"batch_size": 8}}

    return config


@pytest.fixture(scope="module")
def loaded(configured):
    """loaded(name) → the data set, loaded once."""
    return cache(lambda name: build_data(configured({"data": name})))


def test_names_are_found_and_rows_hold_every_sensible_pair():
    assert {"mnist_sample", "mnist"} <= set(NAMES["data"]) and {"mlp", "resnet18"} <= set(NAMES["model"])
    rows = covering_rows()
    assert set().union(*map(pairs, rows)) == set(all_pairs(True)) and all(map(makes_sense, rows))
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


@pytest.mark.parametrize("pair", all_pairs(False), ids=lambda pair: " ".join(f"{g}={name}" for g, name in pair))
def test_pair_that_makes_no_sense_is_refused_in_one_line(configured, loaded, pair):
    row = dict(pair)
    if "loss" not in row and "init" not in row:
        row["loss"] = "mse"  # the one that images and numbers share: the others are at fault
    with pytest.raises(ConfigError, match=r"^(loss|model|init): ") as error:
        config = configured(row)
        Parts().module(config, loaded(row.get("data", "mnist_sample")))
    assert "\n" not in str(error.value)
