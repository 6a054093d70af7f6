"""A folder of pictures becomes its pixels, decoded once and then read from the cache; what is unclear is refused."""

import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from seedbed.data.image_folder import image_folder
from seedbed.data.mnist_sample import arrays

COUNTS = {"train/3": 12, "train/7": 9, "valid/3": 4, "valid/7": 5}


@pytest.fixture(autouse=True)
def cache(monkeypatch, tmp_path):
    """Put the cache of decoded pictures below tmp_path."""
    monkeypatch.setenv("SEEDBED_DATA", str(tmp_path / "cache"))
    return tmp_path / "cache" / "image_folder"


@pytest.fixture(scope="module")
def sample():
    """split/digit → {name: pixels}: the first pictures of MNIST_SAMPLE, under their published names."""
    contents, digits = arrays(), {}
    for key, count in COUNTS.items():
        split, digit = key.split("/")
        chosen = np.flatnonzero(contents[f"{split}_labels"] == int(digit))[:count]
        names = [f"{k}.png" for k in contents[f"{split}_index"][chosen]]
        digits[key] = dict(zip(names, contents[f"{split}_images"][chosen], strict=True))
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
    content = bytearray(file.read_bytes())
    content[-1] ^= 255  # the last pixel of the last picture
    file.write_bytes(content)
    assert torch.equal(image_folder(str(root)).train[0], before)
    assert image_folder(str(root)).valid[0][-1, -1, -1, -1] == 255


@pytest.mark.parametrize("damage", [None, b"", 100, -1], ids=["deleted", "empty", "cut in its header", "a byte less"])
def test_deleted_or_damaged_cache_is_rebuilt(root, cache, damage):
    before = image_folder(str(root)).train[0]
    (file,) = cache.iterdir()
    whole = file.read_bytes()
    file.unlink()
    if damage is not None:
        file.write_bytes(whole[:damage] if isinstance(damage, int) else damage)
    assert torch.equal(image_folder(str(root)).train[0], before)
    assert list(cache.iterdir()) == [file] and file.read_bytes() == whole


def test_cache_folder_that_cannot_be_written_is_done_without(monkeypatch, tmp_path, root, sample):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("SEEDBED_DATA", str(tmp_path / "file" / "cache"))
    assert torch.equal(image_folder(str(root)).valid[0], pixels(sample, "valid/3", "valid/7"))


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


def test_other_files_are_passed_over_with_a_warning(root, caplog):
    (root / "train" / "3" / "notes.txt").write_text("not a picture")
    (root / "train" / "notes.png").write_text("in no class")
    (root / "more").mkdir()
    assert len(image_folder(str(root)).train[1]) == 21
    assert "passed over what is no picture: " in caplog.text
    assert "1 × file beside the classes" in caplog.text and "1 × file .txt" in caplog.text
    assert "neither train/, valid/ nor test/: more/" in caplog.text


def test_hidden_files_and_folders_are_passed_over(root, sample):
    write(root / "train" / ".ipynb_checkpoints", sample["train/3"])
    write(root / "train" / "7" / ".ipynb_checkpoints", sample["train/3"])
    write(root / ".git" / "objects", sample["train/3"])
    for path in (root / "train" / "3" / "._0.png", root / "valid" / "7" / ".hidden.png"):
        path.write_bytes(b"what macOS knows of a picture")
    splits = image_folder(str(root))
    assert splits.classes == ["3", "7"] and [len(splits.train[1]), len(splits.valid[1])] == [21, 9]


@pytest.mark.parametrize("name", ["val", "validation"])
def test_other_names_of_the_validation_folder_are_known(root, sample, name):
    (root / "valid").rename(root / name)
    assert torch.equal(image_folder(str(root)).valid[0], pixels(sample, "valid/3", "valid/7"))
    (root / "valid").mkdir()
    with pytest.raises(ValueError, match=rf"data\.root=.*: holds valid/ and {name}/"):
        image_folder(str(root))


def test_without_a_validation_folder_a_part_of_train_validates(root, sample):
    (root / "valid").rename(root / "test")
    splits = image_folder(str(root), valid_fraction=0.25)
    assert torch.equal(splits.test[0], pixels(sample, "valid/3", "valid/7"))
    assert [splits.train[1].bincount().tolist(), splits.valid[1].bincount().tolist()] == [[9, 7], [3, 2]]


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


@pytest.mark.parametrize("on_broken", ["error", "skip"])
def test_pictures_of_differing_sizes_are_refused(root, cache, on_broken):
    write(root / "valid" / "7", {"odd.png": np.zeros((28, 30), np.uint8)})
    with pytest.raises(ValueError, match=r"odd\.png has 30 × 28 pixels, others 28 × 28: scale them to one size"):
        image_folder(str(root), on_broken=on_broken)
    assert not list(cache.rglob("*"))


def folder_in_a_class(root):
    write(root / "train" / "7" / "more", {"0.png": np.zeros((28, 28), np.uint8)})


def folder_named_as_a_picture(root):
    (root / "train" / "7" / "x.png").mkdir()


def class_named_as_a_picture(root):
    write(root / "train" / "x.png", {"0.png": np.zeros((28, 28), np.uint8)})


def class_in_valid_only(root):
    (root / "train" / "7").rename(root / "seven")


def class_in_test_only(root):
    write(root / "test" / "9", {"0.png": np.zeros((28, 28), np.uint8)})


def one_class(root):
    for split in ("train", "valid"):
        (root / split / "7").rename(root / split / ".7")


def equal_pictures(root):
    for path in root.rglob("*.png"):
        Image.new("L", (28, 28), 9).save(path)


def valid_without_train(root):
    (root / "train").rename(root / ".train")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (folder_in_a_class, "more is a folder inside a class; data.root takes train/<class>/*.png"),
        (folder_named_as_a_picture, "x.png is a folder inside a class; data.root takes"),
        (class_named_as_a_picture, "x.png is a folder with the name of a picture: rename or remove it"),
        (class_in_valid_only, "class 7 is in valid/ only; add it to train/ or remove it"),
        (class_in_test_only, "class 9 is in test/ only; add it to train/ or remove it"),
        (one_class, "there is one class only (3), give at least two"),
        (equal_pictures, "its 30 pictures are all the same, there is nothing to learn"),
        (valid_without_train, "is a folder inside a class; data.root takes"),
    ],
    ids=lambda value: getattr(value, "__name__", ""),
)
def test_folder_that_would_train_something_else_is_refused_in_one_line(root, change, words):
    change(root)
    with pytest.raises(ValueError) as raised:
        image_folder(str(root))
    message = str(raised.value)
    assert words in message and str(root) in message and "\n" not in message


def test_class_without_a_validation_picture_is_named_in_a_warning(root, caplog):
    (root / "valid" / "3").rename(root / ".3")
    assert image_folder(str(root)).classes == ["3", "7"]
    assert f"data.root={root}: class 3 has no picture in valid/" in caplog.text


def test_refusal_ends_the_command_with_one_line_and_code_2(root, tmp_path):
    one_class(root)
    command = [sys.executable, str(Path(__file__).resolve().parents[2] / "train.py"), "hydra.run.dir=run"]
    overrides = ["data=image_folder", f"data.root={root}"]
    done = subprocess.run([*command, *overrides], cwd=tmp_path, capture_output=True, text=True, timeout=300)
    assert done.returncode == 2
    (line,) = (done.stdout + done.stderr).splitlines()
    assert line == f"data.root={root}: there is one class only (3), give at least two"
    assert not (tmp_path / "run").exists()


def break_in_every_way(root):
    """Break five pictures of train/3: empty, cut, too large, a link out of the folder, a link to nothing."""
    paths = sorted((root / "train" / "3").iterdir())[:5]
    for path, content in zip(paths, (b"", paths[1].read_bytes()[:-40], huge_png()), strict=False):
        path.write_bytes(content)
    outside = root.parent / "outside.png"
    paths[3].rename(outside)
    paths[3].symlink_to(outside)
    paths[4].unlink()
    paths[4].symlink_to("nowhere.png")
    return paths


def huge_png():
    """The header of a PNG of 4 · 10⁹ pixels."""
    header = (60_000).to_bytes(4) * 2 + bytes([1, 0, 0, 0, 0])
    chunk = b"IHDR" + header
    return b"\x89PNG\r\n\x1a\n" + len(header).to_bytes(4) + chunk + zlib.crc32(chunk).to_bytes(4)


def test_broken_pictures_are_refused_by_name(root):
    for path in break_in_every_way(root):
        with pytest.raises(ValueError, match=r"is damaged|is a link out of|is no file") as raised:
            image_folder(str(root))
        assert str(path.parent) in str(raised.value)
        assert "replace or remove it, or leave it out with data.on_broken=skip" in str(raised.value)
        Path(str(raised.value).split(": ")[1].split(" is ")[0]).unlink()
    assert len(image_folder(str(root)).train[1]) == 16


def test_broken_pictures_are_skipped_with_a_warning_where_the_config_says_so(root, sample, caplog, cache):
    broken = break_in_every_way(root)
    for _ in range(2):  # decoded, then from the cache
        caplog.clear()
        splits = image_folder(str(root), on_broken="skip")
        assert torch.equal(splits.train[0], pixels(sample, "train/3", "train/7")[5:])
        assert splits.train[1].tolist() == [0] * 7 + [1] * 9
        assert torch.equal(splits.valid[0], pixels(sample, "valid/3", "valid/7"))
        assert f"data.on_broken=skip: left out 5 of 30 pictures, first {broken[0]}" in caplog.text
    with pytest.raises(ValueError, match="link out of"):
        image_folder(str(root))  # the cache of what was skipped is not used


def test_folder_of_broken_pictures_is_refused_when_they_are_skipped(root):
    for path in root.rglob("*.png"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"none of its 30 pictures can be read; .*\.png is damaged"):
        image_folder(str(root), on_broken="skip")


def test_class_that_is_skipped_as_a_whole_is_refused(root):
    for path in (root / "train" / "7").iterdir():
        path.write_bytes(b"")
    with pytest.raises(ValueError, match="class 7 is in valid/ only"):
        image_folder(str(root), on_broken="skip")


def test_links_inside_the_folder_are_followed_and_linked_classes_outside_are_refused(root, sample):
    (root / "train" / "3" / "9999.png").symlink_to(next((root / "valid" / "3").iterdir()))
    (root / "linked").symlink_to(root)
    assert len(image_folder(str(root / "linked")).train[1]) == 22
    (root / "valid" / "7").rename(root.parent / "7")
    (root / "valid" / "7").symlink_to(root.parent / "7")
    with pytest.raises(ValueError, match=rf"valid/7/\d+\.png is a link out of the folder, to {root.parent}/7/"):
        image_folder(str(root))


def test_more_pictures_than_memory_holds_are_refused_before_they_are_decoded(tmp_path):
    """Many names of one picture of 64 million pixels, which takes a few KB on disk."""
    for name in ("a", "b"):
        (tmp_path / "x" / name).mkdir(parents=True)
    first = tmp_path / "x" / "a" / "0.png"
    Image.new("1", (8000, 8000), 1).save(first)
    count = os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // (8000 * 8000) + 1
    for i in range(1, count + 1):
        os.link(first, tmp_path / "x" / "ab"[i % 2] / f"{i}.png")
    with pytest.raises(ValueError, match=r"pictures need \d+ GiB of memory, this machine has \d+; scale them down"):
        image_folder(str(tmp_path / "x"))


def mismeasured(content):
    """Change the length of the data chunk, so that the next chunk is expected amid its bytes."""
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
