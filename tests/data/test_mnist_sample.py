"""The embedded MNIST_SAMPLE is the published one: all 3s and 7s of MNIST, in the published order."""

import hashlib
import runpy
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch

from seedbed.data import idx, mnist_sample

SCRIPT = Path(__file__).resolve().parents[2] / "scripts" / "build_mnist_sample.py"
ZLIB = "1.2.13"  # the version that compressed the file; another may compress to other bytes
SHA256 = {
    "file": "e5dd2626e13b805742b9bc2d1c83d0c9b3801987bb34e249d01ade95d737cf1a",
    "train_images": "b8d61acbecc309ae2b4c866f1ae05de400c78dea76fcbb26ce8536db31f87582",
    "train_labels": "fd28f74cd1cc05ea9f3391dffc88e53474a0682ec2a7c0da57fdce6353676aaf",
    "train_index": "dc4e71568396b03b07b587827a39c088631d564d25d5f18af9e61ed5d2a8bd1e",
    "valid_images": "2884f31e5b237ff0d67637e76b9185666fe90a5c0a38bdf84f9e4b195118a312",
    "valid_labels": "e656b41090d7f5e1798f6079b3d35c20e2fd0aef013f4361bf41c10c931130a6",
    "valid_index": "03c5475b3ac87b312f0a4658fb0482f3dd5622f707e24266b522c5ff8af35acc",
}
COUNTS = {"train": (6131, 6265), "valid": (1010, 1028)}  # threes, sevens


@pytest.fixture(scope="module")
def arrays():
    return mnist_sample.arrays()


def sha256(content):
    return hashlib.sha256(content).hexdigest()


def test_file_and_its_arrays_have_the_recorded_sha256(arrays):
    hashes = {name: sha256(array.tobytes()) for name, array in arrays.items()}
    assert {"file": sha256(mnist_sample.FILE.read_bytes())} | hashes == SHA256


@pytest.mark.parametrize("name", COUNTS)
def test_arrays_are_threes_then_sevens_in_the_published_numbers(arrays, name):
    threes, sevens = COUNTS[name]
    assert arrays[f"{name}_labels"].tolist() == [3] * threes + [7] * sevens
    assert arrays[f"{name}_images"].shape == (threes + sevens, 28, 28)
    assert {key: a.dtype.name for key, a in arrays.items() if key.startswith(name)} == {
        f"{name}_images": "uint8",
        f"{name}_labels": "uint8",
        f"{name}_index": "uint16",
    }


@pytest.mark.parametrize("name", COUNTS)
def test_each_digit_is_in_the_string_order_of_its_file_names(arrays, name):
    threes = COUNTS[name][0]
    files = [f"{k}.png" for k in arrays[f"{name}_index"].tolist()]
    assert files[:threes] == sorted(files[:threes]) and files[threes:] == sorted(files[threes:])
    assert len(set(files)) == len(files)


def test_training_set_begins_with_10_10000_10011(arrays):
    assert arrays["train_index"][:3].tolist() == [10, 10000, 10011]


def test_target_is_1_for_a_three_and_0_for_a_seven(arrays):
    splits = mnist_sample.mnist_sample()
    for name, (x, y) in {"train": splits.train, "valid": splits.valid}.items():
        threes, sevens = COUNTS[name]
        assert y.dtype == torch.int64 and y.tolist() == [1] * threes + [0] * sevens
        assert x.dtype == torch.uint8 and np.array_equal(x[:, 0].numpy(), arrays[f"{name}_images"])
    assert splits.shape == (1, 28, 28)
    assert splits.classes == ["7", "3"] and splits.test is None


def test_every_picture_is_the_one_at_its_index_in_mnists_files(arrays, mnist_root):
    raw = [idx.read(idx.find(mnist_root, "MNIST", file), "MNIST") for file in idx.NAMES]
    for name, (images, labels) in {"train": raw[:2], "valid": raw[2:]}.items():
        index = arrays[f"{name}_index"]
        assert np.array_equal(images[index], arrays[f"{name}_images"])
        assert np.array_equal(labels[index], arrays[f"{name}_labels"])
        assert np.isin(labels, (3, 7)).sum() == len(index)


def test_script_rebuilds_the_file_byte_for_byte(arrays, mnist_root, tmp_path):
    script = runpy.run_path(str(SCRIPT))
    built = script["build"](str(mnist_root))
    assert {name: a.dtype for name, a in built.items()} == {name: a.dtype for name, a in arrays.items()}
    assert all(np.array_equal(built[name], array) for name, array in arrays.items())
    script["save"](tmp_path / "rebuilt.npz", built)
    with np.load(tmp_path / "rebuilt.npz") as saved:
        assert all(np.array_equal(saved[name], array) for name, array in arrays.items())
    if zlib.ZLIB_RUNTIME_VERSION == ZLIB:
        assert (tmp_path / "rebuilt.npz").read_bytes() == mnist_sample.FILE.read_bytes()
