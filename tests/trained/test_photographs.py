"""Photographs become what MNIST's makers would have made of them."""

import numpy as np
import pytest
from photos import photograph

from seedbed.data.mnist_sample import arrays
from seedbed.trained.photographs import NoDigitError, centred, photograph_as_digit


@pytest.fixture(scope="module")
def digits() -> np.ndarray:
    """uint8 [204, 28, 28], threes and sevens."""
    return arrays()["valid_images"][::10]


def test_mnists_digits_are_made_so_to_the_pixel(digits):
    boxes = [digit[digit.any(1)][:, digit.any(0)] for digit in digits]
    same = [np.array_equal(centred(box / 255), digit) for box, digit in zip(boxes, digits, strict=True)]
    # of all 2,038 it is 99 %; in the others the middle lies between two pixels, or the longer side has 19
    assert np.mean(same) >= 0.98
    assert all(np.array_equal(photograph_as_digit(digit), digit) for digit in digits)


def test_a_digit_keeps_its_form_at_any_size(digits):
    for digit, times in zip(digits[:20], range(2, 22), strict=True):
        box = digit[digit.any(1)][:, digit.any(0)]
        assert np.array_equal(centred(np.kron(box / 255, np.ones((times, times)))), digit)


def likeness(a: np.ndarray, b: np.ndarray) -> float:
    """Correlation of two pictures of digits, the best of those within a pixel's shift; of two threes it is 0.5."""
    shifts = [(i, j) for i in (-1, 0, 1) for j in (-1, 0, 1)]
    return max(np.corrcoef(np.roll(a, shift, (0, 1)).ravel(), b.ravel())[0, 1] for shift in shifts)


@pytest.mark.parametrize("shadow", [False, True])
def test_photographs_give_the_digit_that_was_photographed(digits, shadow):
    draw = np.random.default_rng(0)
    alike = [likeness(photograph_as_digit(photograph(digit, draw, shadow)), digit) for digit in digits[::8]]
    assert np.median(alike) > 0.95
    assert np.mean(np.array(alike) > 0.85) >= 0.9


def test_dark_on_light_is_as_light_on_dark(digits):
    large = np.pad(np.kron(digits[0], np.ones((9, 9), np.uint8)), 40)
    assert likeness(photograph_as_digit(large), digits[0]) > 0.95
    assert np.array_equal(photograph_as_digit(255 - large), photograph_as_digit(large))
    assert np.array_equal(photograph_as_digit(np.stack([large] * 3, 2)), photograph_as_digit(large))


def test_a_thin_pens_strokes_become_as_thick_as_mnists(digits):
    paper = np.full((400, 300), 230, np.uint8)
    paper[60:340, 150:153] = 40
    seen = photograph_as_digit(paper)
    # mean width of the line, and its brightest pixels, without the rounded ends
    assert 1.4 <= seen.sum() / 255 / 20 <= 2.5 and seen.max(1)[6:24].min() > 200


def test_what_is_broken_counts_as_one_and_specks_do_not_count():
    paper = np.full((300, 300), 220, np.uint8)
    paper[60:75, 110:190] = 20  # the bar of a five, 12 pixels above its body
    paper[87:240, 110:125] = paper[225:240, 110:190] = 20
    whole = photograph_as_digit(paper)
    paper[20:26, 20:26] = paper[280:284, 270:276] = 60
    assert np.array_equal(photograph_as_digit(paper) > 100, whole > 100)
    assert whole[4:8].max() > 200 and (whole.max(1) == 0).sum() <= 10


@pytest.mark.parametrize("value", [0, 128, 255, None])
def test_nothing_to_be_seen_is_said(value):
    noise = np.random.default_rng(0).normal(128, 6, (200, 150)).astype(np.uint8)
    for paper in (noise if value is None else np.full((200, 150), value, np.uint8), np.zeros((1, 1), np.uint8)):
        with pytest.raises(NoDigitError):
            photograph_as_digit(paper)
