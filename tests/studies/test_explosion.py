"""A vector through a hundred random matrices: nan, 0 or near 1."""

import csv

import pytest
import torch

from seedbed.studies.explosion import SCALES, explosion, multiply, rms


@pytest.fixture(scope="module")
def found():
    return explosion(None, seeds=2)


def test_standard_normal_matrices_give_nan():
    vectors = multiply(SCALES["standard normal"](512))
    first = int(vectors.isnan().any(1).nonzero()[0])
    # the size grows by √512 = 22.6 each time: 22.6^28 = 9e37, and float32 ends at 3.4e38
    assert first in (28, 29)
    assert vectors[-1].isnan().all()


def test_a_hundredth_of_them_gives_zero():
    vectors = multiply(SCALES["× 0.01"](512))
    assert (vectors[-1] == 0).all() and (vectors[50] != 0).any()


def test_one_over_root_size_stays_near_one():
    sizes = torch.stack([rms(multiply(SCALES["× 1/√size"](512), seed=seed)) for seed in range(3)])
    # ln of the size is a random walk with steps of std √(1/2/512): 0.31 after 100, four of them are a factor of 3.5
    assert sizes.min() > 1 / 3.5 and sizes.max() < 3.5


def test_size_after_one_multiplication_is_that_of_the_formula():
    x, y = multiply(0.01, seed=3, times=1)
    assert rms(y[None]).item() == pytest.approx(0.01 * x.double().norm().item(), rel=0.15)


@pytest.mark.parametrize(("size", "times"), [(64, 30), (512, 100), (512, 29), (8, 10)])
def test_no_label_lies_on_a_line(size, times):
    figure = explosion(None, size, times, seeds=1).figures["explosion"]
    figure.draw_without_rendering()
    (ax,) = figure.axes
    boxes = [text.get_window_extent() for text in (*ax.texts, *figure.legends[0].get_texts())]
    curves = [line.get_transform().transform_path(line.get_path()) for line in ax.get_lines()]
    assert not any(curve.intersects_bbox(box, filled=False) for curve in curves for box in boxes)


def test_table_says_when_and_details_hold_every_step(found, tmp_path):
    assert [row[:3] for row in found.rows] == [
        ["standard normal", "29", "never"],
        ["× 0.01", "never", "70"],
        ["× 1/√size", "never", "never"],
    ]
    found.write(tmp_path)
    details = list(csv.DictReader((tmp_path / "details.csv").read_text(encoding="utf-8").splitlines()))
    assert len(details) == 3 * 2 * 101
    last = [float(row["rms"]) for row in details if row["multiplications"] == "100" and row["matrices"] == "× 0.01"]
    assert last == [0.0, 0.0]
