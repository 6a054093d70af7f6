"""MNIST_SAMPLE: all the 3s and 7s of MNIST, embedded in the package (mnist_sample/README.md has credit and licence)."""

from __future__ import annotations

import zipfile
from importlib.resources import files

import numpy as np
import torch

from seedbed.data.splits import Splits

FILE = files("seedbed.data") / "mnist_sample" / "mnist_sample.npz"


def arrays() -> dict[str, np.ndarray]:
    """`{train,valid}_images` uint8 [N, 28, 28], `_labels` uint8 [N], `_index` uint16 [N]: the position in MNIST."""
    with FILE.open("rb") as f, np.load(f) as archive:
        return dict(archive)


def save(path, contents: dict[str, np.ndarray]) -> None:
    """Write arrays as .npz, in which every date is 1980-01-01: equal contents give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in contents.items():
            with archive.open(f"{name}.npy", "w") as f:
                np.lib.format.write_array(f, array)


def select(images: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Indices of the 3s, then of the 7s, each in the order of their file names as strings ("10", "1004", "103").

    That is the order in which the published folder of PNG files is read.
    """
    order = np.array(sorted(range(len(labels)), key=str))
    return np.concatenate([order[labels[order] == digit] for digit in (3, 7)])


def mnist_sample() -> Splits:
    """12,396 training and 2,038 validation images; the target is 1 for a three and 0 for a seven."""
    found = arrays()

    def split(name: str):
        images, labels = found[f"{name}_images"], found[f"{name}_labels"]
        return torch.from_numpy(images).unsqueeze(1), torch.from_numpy((labels == 3).astype(np.int64))

    return Splits(split("train"), split("valid"), None, ["7", "3"])
