"""The course's demonstrations: their numbers against published figures, formulas and torch."""

import csv
import math

import numpy as np
import pytest
import torch

from seedbed.data.functions import roller_coaster
from seedbed.errors import ConfigError
from seedbed.studies.accuracy_gradient import accuracy_gradient
from seedbed.studies.broadcasting import WAYS, broadcasting, pure_python
from seedbed.studies.descent import descent, walk
from seedbed.studies.from_scratch import from_scratch
from seedbed.studies.gains import gains
from seedbed.studies.one_step import one_step
from seedbed.studies.pixels import pixels


@pytest.fixture(scope="module")
def lab(make_lab):
    return make_lab()


def written(findings, folder):
    """Write the findings and return table.csv as rows of text; every picture must show something."""
    findings.write(folder)
    for name, figure in findings.figures.items():
        assert (folder / f"{name}.png").stat().st_size > 10_000 and figure.axes
    return list(csv.DictReader((folder / "table.csv").read_text(encoding="utf-8").splitlines()))


def test_pixels_are_those_of_the_book(lab, tmp_path):
    """fastbook ch. 4 prints im3_t[4:10,4:10] of its second three."""
    published = "0 0 0 0 0 0 / 0 0 0 0 0 29 / 0 0 0 48 166 224 / 0 93 244 249 253 187 / 0 107 253 253 230 48"
    published += " / 0 3 20 20 15 0"
    found = pixels(lab, 1, ["data=mnist_sample"])
    corner = [[row[str(x)] for x in range(4, 10)] for row in found.details[4:10]]
    assert corner == [[int(n) for n in row.split()] for row in published.split("/")]
    table = written(found, tmp_path)
    assert [table[0]["row"], table[0]["9"], table[0]["12"]] == ["5", "29", "254"] and len(table) == 20


@pytest.mark.parametrize(
    ("image", "overrides", "message"),
    [(99999, ["data=mnist_sample"], "study.image=99999: must be < 12396"), (0, ["data=function"], "holds no images")],
)
def test_pixels_of_no_image_are_refused(lab, image, overrides, message):
    with pytest.raises(ConfigError, match=message):
        pixels(lab, image, overrides)


@pytest.mark.parametrize("lr", [0.05, 0.5, 0.9, 1.03])
def test_descent_on_a_square_is_a_power_of_one_minus_twice_the_lr(lr):
    x = [place for place, _ in walk(3.0, lr, 12)]
    assert x == pytest.approx([3 * (1 - 2 * lr) ** n for n in range(13)], abs=1e-12)


def test_descent_says_how_each_lr_ends(lab, tmp_path):
    table = written(descent(lab, 3.0, [0.05, 0.9, 1.03, 50.0], steps=200, noise_seed=0), tmp_path)
    fates = {row["lr"]: row["it"] for row in table}
    assert fates == {"0.05": "goes down", "0.9": "overshoots, then settles", "1.03": "diverges", "50.0": "diverges"}


def test_one_step_is_gradient_descent_by_hand_and_gradients_add_up(lab, tmp_path):
    """For a·t² + b·t + c the gradients of the mean squared error are means of 2·(prediction − speed)·(t², t, 1)."""
    t, speed = (values.double().numpy().squeeze() for values in roller_coaster(0).train)
    powers = np.stack([t**2, t, np.ones(20)], 1)
    table = written(one_step(lab, 1e-5, 5, 0, 6, ["experiment=quadratic"]), tmp_path)
    assert [row["weight"] for row in table] == [f"coefficients[{i}]" for i in range(3)]
    columns = {name: np.array([float(row[name]) for row in table]) for name in table[0] if name != "weight"}

    def gradient(weights):
        return 2 * ((powers @ weights - speed)[:, None] * powers).mean(0)

    np.testing.assert_allclose(columns["gradient"], gradient(columns["value"]), rtol=1e-4)
    np.testing.assert_allclose(columns["gradient × lr"], 1e-5 * columns["gradient"], rtol=1e-6)
    np.testing.assert_allclose(columns["new value"], columns["value"] - columns["gradient × lr"], rtol=1e-5)
    np.testing.assert_allclose(columns["next, cleared"], gradient(columns["new value"]), rtol=1e-4)
    both = columns["gradient"] + columns["next, cleared"]
    np.testing.assert_allclose(columns["next, not cleared"], both, rtol=1e-5)


def test_accuracy_stands_still_where_the_loss_follows_its_slope(lab, tmp_path):
    found = accuracy_gradient(lab, [1e-6, 1.0], 0.01, 3.0, 0, ["model=linear_scratch"])
    small, large = written(found, tmp_path)
    slope = float(found.conclusion.split("slope of the loss is ")[1].split(",")[0])
    assert (small["images"], float(small["accuracy / change"])) == ("+0", 0.0)
    assert float(small["loss / change"]) == pytest.approx(slope, rel=1e-3)
    assert large["images"] != "+0" and float(large["loss / change"]) * slope > 0


def test_every_way_to_multiply_gives_the_same_product(lab, tmp_path):
    x, w = torch.randn(3, 5), torch.randn(5, 2)
    for function, _ in WAYS.values():
        arguments = (x.tolist(), w.tolist()) if function is pure_python else (x, w)
        torch.testing.assert_close(torch.as_tensor(function(*arguments)), x @ w)
    threads = torch.get_num_threads()
    table = written(broadcasting(lab, 4, 3, ["data=mnist_sample"]), tmp_path)
    assert [row["way"] for row in table] == list(WAYS) and all(float(row["ms"]) > 0 for row in table)
    assert torch.get_num_threads() == threads


def test_gains_are_the_published_ones_and_only_a_zero_keeps_the_signal(lab, tmp_path):
    """gain(0) = 1.4142, gain(1) = 1, gain(√5) = 0.5774; fans of 32×1×5×5: 25 and 800 (fast.ai, "Why sqrt 5")."""
    found = gains(lab, [0, 1, math.sqrt(5)], 32, 5, 3, ["model=convnet", "data.normalize=standard"])
    table = written(found, tmp_path)
    assert [row["a"] for row in table] == ["0", "1", "√5"] * 2
    for row, gain in zip(table, [1.4142, 1.0, 0.5774] * 2, strict=True):
        assert float(row["gain"]) == pytest.approx(gain, abs=5e-5)
        assert (row["fan_in"], row["fan_out"]) == ("25", "800")
        assert float(row["std weight"]) == pytest.approx(gain / 5, rel=0.05)
    last = {(row["init"], round(row["a"], 3)): row["std of its output"] for row in found.details if row["layer"] == 4}
    for init in ("kaiming_normal", "kaiming_uniform"):
        assert last[init, 0] > 0.5 > last[init, 1] > last[init, 2.236] and last[init, 2.236] < 0.05


@pytest.mark.parametrize(
    ("study", "message"),
    [
        (lambda lab: one_step(lab, 1.0, 1, 0, 1, ["model=pixel_similarity"]), "no weights"),
        (lambda lab: accuracy_gradient(lab, [1.0], 1.0, 1.0, 0, ["experiment=quadratic"]), "data with classes"),
        (lambda lab: gains(lab, [0], 1, 29, 1, ["model=convnet"]), "study.kernel=29"),
    ],
    ids=["one_step", "accuracy_gradient", "gains"],
)
def test_model_or_data_that_shows_nothing_is_refused(lab, study, message):
    with pytest.raises(ConfigError, match=message):
        study(lab)


def test_loop_from_scratch_is_the_librarys(lab, tmp_path):
    findings = from_scratch(lab, 1.0, 3, 0, ["data=mnist_sample"])
    written(findings, tmp_path)
    assert [row[0] for row in findings.rows] == [0, 1, 2, 3] and findings.rows[-1][1] > 0.9
    assert all(row[1] == pytest.approx(row[2], abs=0.002) and row[3] < 1e-3 for row in findings.rows)


def test_loop_from_scratch_tells_two_classes_apart(lab):
    with pytest.raises(ConfigError, match="the data must have two classes"):
        from_scratch(lab, 1.0, 3, 0, ["data=function"])
