"""A folder of pictures becomes the pixels that are in it, once decoded and then from the cache."""

import os

import numpy as np
import pytest
import torch
from PIL import Image

from seedbed.data.image_folder import image_folder
from seedbed.data.mnist_sample import arrays

COUNTS = {"train/3": 12, "train/7": 9, "valid/3": 4, "valid/7": 5}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """The cache of decoded pictures lies below tmp_path."""
    monkeypatch.setenv("SEEDBED_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "image_folder"


@pytest.fixture(scope="module")
def sample():
    """split/digit → {name: pixels}: the first of MNIST_SAMPLE, under their published names."""
    found, digits = arrays(), {}
    for key, count in COUNTS.items():
        split, digit = key.split("/")
        chosen = np.flatnonzero(found[f"{split}_labels"] == int(digit))[:count]
        names = [f"{k}.png" for k in found[f"{split}_index"][chosen]]
        digits[key] = dict(zip(names, found[f"{split}_images"][chosen], strict=True))
    return digits


def write(folder, pictures):
    folder.mkdir(parents=True, exist_ok=True)
    for name, pixels in pictures.items():
        Image.fromarray(pixels).save(folder / name)


@pytest.fixture
def root(tmp_path, sample):
    for key, pictures in sample.items():
        write(tmp_path / "pictures" / key, pictures)
    return tmp_path / "pictures"


def pixels(sample, *keys):
    return torch.from_numpy(np.concatenate([list(sample[key].values()) for key in keys]))[:, None]


def test_decoded_pictures_are_the_embedded_pixels(root, sample):
    splits = image_folder(str(root))
    assert torch.equal(splits.train[0], pixels(sample, "train/3", "train/7"))
    assert torch.equal(splits.valid[0], pixels(sample, "valid/3", "valid/7"))
    assert splits.train[1].tolist() == [0] * 12 + [1] * 9
    assert splits.valid[1].tolist() == [0] * 4 + [1] * 5
    assert (splits.classes, splits.shape, splits.test) == (["3", "7"], (1, 28, 28), None)
    assert splits.train[0].dtype == torch.uint8 and splits.train[1].dtype == torch.int64


def test_test_folder_is_the_test_split(root, sample):
    write(root / "test" / "7", sample["valid/7"])
    x, y = image_folder(str(root)).test
    assert torch.equal(x, pixels(sample, "valid/7")) and y.tolist() == [1] * 5


def test_second_time_reads_the_cache(root, cache):
    before = image_folder(str(root)).train[0]
    (file,) = cache.iterdir()
    np.save(file, 255 - np.load(file))
    assert torch.equal(image_folder(str(root)).train[0], 255 - before)


def test_deleted_cache_is_rebuilt(root, cache):
    before = image_folder(str(root)).train[0]
    (file,) = cache.iterdir()
    file.unlink()
    assert torch.equal(image_folder(str(root)).train[0], before)
    assert list(cache.iterdir()) == [file]


def test_changed_picture_is_decoded_anew_under_another_key(root, cache, sample):
    changed = root / "train" / "3" / next(iter(sample["train/3"]))
    Image.fromarray(sample["train/3"][changed.name]).save(changed, compress_level=0)
    image_folder(str(root))
    was = changed.stat()
    Image.fromarray(255 - sample["train/3"][changed.name]).save(changed, compress_level=0)
    os.utime(changed, ns=(was.st_atime_ns, was.st_mtime_ns + 1_000_000))
    assert changed.stat().st_size == was.st_size  # only the time tells
    x = image_folder(str(root)).train[0]
    assert torch.equal(x[0], 255 - pixels(sample, "train/3")[0])
    assert torch.equal(x[1:], pixels(sample, "train/3", "train/7")[1:])
    assert len(list(cache.iterdir())) == 2


@pytest.mark.parametrize(("fraction", "held_out"), [(0.2, [4, 9]), (0.5, [1, 3, 5, 7, 9]), (0.1, [9])])
def test_one_folder_is_split_evenly_within_each_class(tmp_path, sample, fraction, held_out):
    for digit, key in (("3", "train/3"), ("7", "train/3")):  # 10 pictures each
        write(tmp_path / "all" / digit, dict(list(sample[key].items())[:10]))
    splits = image_folder(str(tmp_path / "all"), valid_fraction=fraction)
    x, rest = pixels(sample, "train/3")[:10], [k for k in range(10) if k not in held_out]
    assert torch.equal(splits.valid[0], x[held_out].repeat(2, 1, 1, 1))
    assert torch.equal(splits.train[0], x[rest].repeat(2, 1, 1, 1))
    assert splits.valid[1].tolist() == [0] * len(held_out) + [1] * len(held_out)
    assert splits.train[1].tolist() == [0] * len(rest) + [1] * len(rest)
    assert splits.test is None


def test_coloured_pictures_have_three_channels_and_grey_ones_among_them_equal_channels(root, sample):
    rgb = np.random.default_rng(0).integers(256, size=(28, 28, 3), dtype=np.uint8)
    write(root / "train" / "3", {"0.png": rgb})  # first by name
    splits = image_folder(str(root))
    assert splits.shape == (3, 28, 28)
    assert torch.equal(splits.train[0][0], torch.from_numpy(rgb).permute(2, 0, 1))
    assert torch.equal(splits.train[0][1:], pixels(sample, "train/3", "train/7").repeat(1, 3, 1, 1))


def test_other_files_are_passed_over(root, sample):
    (root / "train" / "3" / "notes.txt").write_text("not a picture")
    (root / "train" / "notes.png").write_text("in no class")
    assert len(image_folder(str(root)).train[1]) == 21


def test_no_such_folder_is_said(tmp_path):
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*nowhere: there is no such folder"):
        image_folder(str(tmp_path / "nowhere"))


@pytest.mark.parametrize("folders", [[], ["3", "7"], ["train/3", "valid/3"], ["train/3"]], ids=str)
def test_folder_without_a_picture_is_said(tmp_path, folders):
    root = tmp_path / "empty"
    for folder in [".", *folders]:
        (root / folder).mkdir(parents=True, exist_ok=True)
    with pytest.raises(FileNotFoundError, match=r"data\.root=.*empty: no picture found"):
        image_folder(str(root))


def test_split_without_a_picture_is_said(root, sample):
    for name in sample["valid/3"]:
        (root / "valid" / "3" / name).unlink()
    for name in sample["valid/7"]:
        (root / "valid" / "7" / name).unlink()
    with pytest.raises(FileNotFoundError, match="no picture found"):
        image_folder(str(root))


def test_pictures_of_differing_sizes_are_refused(root, cache):
    write(root / "valid" / "7", {"odd.png": np.zeros((28, 30), np.uint8)})
    with pytest.raises(ValueError, match=r"pictures differ in size \(\(28, 28\), \(28, 30\)"):
        image_folder(str(root))
    assert not list(cache.rglob("*"))


def mismeasured(content):
    """The data chunk's length is wrong: the next one is looked for amid its bytes."""
    at = content.index(b"IDAT") - 1
    return content[:at] + bytes([content[at] ^ 0x80]) + content[at + 1 :]


@pytest.mark.parametrize(
    "damage",
    [lambda content: b"garbage", lambda content: b"", lambda content: content[: len(content) // 2], mismeasured],
    ids=["garbage", "empty", "half", "wrong length"],
)
def test_damaged_picture_is_refused_by_name(root, cache, sample, damage):
    picture = root / "train" / "7" / next(iter(sample["train/7"]))
    picture.write_bytes(damage(picture.read_bytes()))
    with pytest.raises(ValueError, match="is damaged") as raised:
        image_folder(str(root))
    assert str(picture) in str(raised.value)
    assert not list(cache.rglob("*"))
