"""Rebuild the embedded MNIST_SAMPLE from the IDX files, byte for byte: python scripts/build_mnist_sample.py [ROOT]

ROOT is a folder with MNIST's four files. Without it, the files in the default data folder are used, or fetched to it.
"""

import sys
import zipfile

import numpy as np

from seedbed.data.idx import mnist
from seedbed.data.mnist_sample import FILE


def build(root: str | None) -> dict[str, np.ndarray]:
    """Return the arrays of the embedded file: the 3s and 7s of MNIST's training file, then those of its test file."""
    splits = mnist(root)
    train = [np.concatenate([a.numpy(), b.numpy()]) for a, b in zip(splits.train, splits.valid, strict=True)]
    contents = {}
    for name, (images, labels) in {"train": train, "valid": [t.numpy() for t in splits.test]}.items():
        chosen = select(labels)
        contents[f"{name}_images"] = images[chosen, 0]
        contents[f"{name}_labels"] = labels[chosen].astype(np.uint8)
        contents[f"{name}_index"] = chosen.astype(np.uint16)
    return contents


def select(labels: np.ndarray) -> np.ndarray:
    """Return the indices of the 3s, then of the 7s, each in string order ("10", "1004", "103").

    The published folder of PNG files, named by index, is read in that order.
    """
    order = np.array(sorted(range(len(labels)), key=str))
    return np.concatenate([order[labels[order] == digit] for digit in (3, 7)])


def save(path, contents: dict[str, np.ndarray]) -> None:
    """Write arrays as .npz with fixed dates, so that equal contents give equal bytes."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as archive:
        for name, array in contents.items():
            with archive.open(f"{name}.npy", "w") as f:
                np.lib.format.write_array(f, array)


if __name__ == "__main__":
    save(FILE, build(sys.argv[1] if len(sys.argv) > 1 else None))
    print(f"{FILE}: {len(FILE.read_bytes()):,} bytes")
