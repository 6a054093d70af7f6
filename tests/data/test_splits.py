"""Splits of any source are checked where they are made."""

import pytest
import torch

from seedbed.data.splits import Splits

X, Y = torch.zeros(4, 1, 2, 2, dtype=torch.uint8), torch.tensor([0, 1, 0, 1])


@pytest.mark.parametrize(
    ("train", "valid", "test", "classes", "message"),
    [
        ((X, Y), (X, Y), None, ["a"], r"there is one class only \(a\), give at least two"),
        ((X[:0], Y[:0]), (X, Y), None, ["a", "b"], "the train split has 0 inputs and 0 targets"),
        ((X, Y), (X, Y[:3]), None, ["a", "b"], "the valid split has 4 inputs and 3 targets"),
        ((X, Y), (X, Y), (X, Y + 1), ["a", "b"], "the test split has targets 1 to 2, but 2 classes"),
        ((X, Y - 1), (X, Y), None, ["a", "b"], "the train split has targets -1 to 0, but 2 classes"),
        ((X, Y.float()), (X[:0], Y[:0]), None, None, "the valid split has 0 inputs and 0 targets"),
    ],
)
def test_split_that_cannot_be_trained_is_refused(train, valid, test, classes, message):
    with pytest.raises(ValueError, match=message):
        Splits(train, valid, test, classes)


def test_numbers_need_no_classes():
    assert Splits((X, Y.float() - 9), (X, Y.float()), None, None).shape == (1, 2, 2)
