"""What a data source gives: every picture of a set as one uint8 tensor, or points of a function, split by use.

A source is f(…) → Splits. Raises ValueError or OSError, with a message for the user, where the data is not as it
should be.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

Split = tuple[Tensor, Tensor]  # images uint8 [N, C, H, W], targets int64 [N]; or numbers float [N, 1], float [N]


@dataclass
class Splits:
    """A data set in memory. `test` is None where a set has no test split.

    classes[k] is the name of target k; None where the targets are numbers.
    """

    train: Split
    valid: Split
    test: Split | None
    classes: list[str] | None
    axes: tuple[str, str] = ("x", "y")  # what input and target are, where they are numbers

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of one input: (C, H, W) of an image."""
        return tuple(self.train[0].shape[1:])
