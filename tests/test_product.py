"""Every model × loss × init × optimiser × schedule × data set trains two steps, or is refused in one line.

The choices are the files of conf/, so that a new file joins by itself. The whole product has hundreds of thousands of
rows; the tests take rows in which every valid pair of choices occurs.
"""

import itertools
from functools import cache

import pytest
import torch
from pairwise import NARROW, all_pairs, choices, covering_rows, is_valid, narrow, noise_files, pairs

from seedbed.allowed_values import check
from seedbed.errors import ConfigError
from seedbed.training.build import Parts, build_data

GROUPS = ("data", "model", "loss", "init", "optim", "schedule")
NAMES = {group: choices(group) for group in GROUPS}
# two networks with an optimiser each: tests/training/test_gan.py
NAMES["model"].remove("gan")
VALID, REFUSED = (all_pairs(NAMES, valid) for valid in (True, False))


@pytest.fixture(scope="module")
def files(tmp_path_factory, mnist_root):
    """data choice → overrides that name its files: MNIST's own, and noise in place of the other sets."""
    return noise_files(tmp_path_factory.mktemp("noise"))


@pytest.fixture(scope="module")
def configured(composed, files):
    """configured(row) → config. The k-th choices of all groups are composed together: they are independent."""
    parts, metrics, whole = {}, {}, composed()[0]
    for k in range(max(map(len, NAMES.values()))):
        row = {group: names[k % len(names)] for group, names in NAMES.items()}
        config, _ = composed(*(f"{group}={name}" for group, name in row.items()), *files.get(row["data"], []))
        parts |= {(group, name): config[group] for group, name in row.items()}
        metrics[row["data"]] = config["optimized_metric"]

    def config(row):
        made = whole | {group: parts[group, name] for group, name in row.items()}
        metric = metrics[row["data"]] if "data" in row else whole["optimized_metric"]
        return narrow(made | {"data": made["data"] | {"batch_size": 8}, "optimized_metric": metric})

    return config


@pytest.fixture(scope="module")
def loaded(configured):
    """loaded(name) → the data set, loaded once."""
    return cache(lambda name: build_data(configured({"data": name})))


def test_rows_hold_every_valid_pair_and_every_choice():
    assert {"mnist_sample", "mnist"} <= set(NAMES["data"]) and {"mlp", "resnet18"} <= set(NAMES["model"])
    rows = covering_rows(NAMES, VALID)
    assert set().union(*map(pairs, rows)) == set(VALID) and all(map(is_valid, rows))
    assert all({name for row in rows for name in [row[group]]} == set(NAMES[group]) for group in GROUPS)


def test_every_pair_of_choices_trains_two_steps(configured, loaded):
    for row in covering_rows(NAMES, VALID):
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
    for row in covering_rows(NAMES, VALID)[::25]:
        words = [f"{group}={name}" for group, name in row.items()] + files.get(row["data"], [])
        words += [f"+model.{key}={value}" for key, value in NARROW.get(row["model"], {}).items()]
        limits = [f"+trainer.limit_{stage}_batches=2" for stage in ("train", "val", "test")]
        run = fit(*words, "data.batch_size=8", "trainer.max_epochs=1", *limits)
        assert run.metrics["status"] in ("completed", "diverged"), row
        assert run.metrics["steps"] == (2 if row["model"] != "pixel_similarity" else 0), row


def test_pairs_that_do_not_work_are_refused_in_one_line(configured, loaded):
    for pair in REFUSED:
        row = dict(pair)
        # mse is the loss that images and numbers share: the other two choices are at fault
        if "loss" not in row and "init" not in row:
            row["loss"] = "mse"
        config = configured(row)
        with pytest.raises(ConfigError, match=r"^(loss|model|init): [^\n]*$"):
            Parts().module(config, loaded(row.get("data", "mnist_sample")))
            pytest.fail(f"not refused: {row}")
