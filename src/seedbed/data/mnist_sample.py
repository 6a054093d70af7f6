"""MNIST_SAMPLE: all the 3s and 7s of MNIST, embedded in the package (mnist_sample/README.md has credit and licence)."""

from __future__ import annotations

from importlib.resources import files

import numpy as np
import torch

from seedbed.data.splits import Splits

FILE = files("seedbed.data") / "mnist_sample" / "mnist_sample.npz"


def arrays() -> dict[str, np.ndarray]:
    """Return train_images and valid_images uint8 [N, 28, 28], with their labels uint8 [N] and index uint16 [N].

    train_index[i] is the position of train_images[i] in MNIST's training file, valid_index that in its test file.
    """
    with FILE.open("rb") as f, np.load(f) as archive:
        return dict(archive)


def mnist_sample() -> Splits:
    """12,396 training and 2,038 validation images; the target is 1 for a three and 0 for a seven."""
    contents = arrays()

    def split(name: str):
        images, labels = contents[f"{name}_images"], contents[f"{name}_labels"]
        return torch.from_numpy(images).unsqueeze(1), torch.from_numpy((labels == 3).astype(np.int64))

    return Splits(split("train"), split("valid"), None, ["7", "3"])
