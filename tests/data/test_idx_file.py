"""An IDX file is read whole or refused by name, and takes no more memory than it can fill."""

import gzip
import tracemalloc

import numpy as np
import pytest

from seedbed.data.idx_file import read_idx

IMAGES = np.random.default_rng(0).integers(0, 256, (5, 28, 28), dtype=np.uint8)


def header(*shape):
    return b"\0\0\x08" + bytes([len(shape)]) + np.array(shape, ">u4").tobytes()


CONTENT = header(5, 28, 28) + IMAGES.tobytes()


@pytest.mark.parametrize("ending", ["", ".gz"])
def test_whole_file_is_read(tmp_path, ending):
    path = tmp_path / f"file{ending}"
    for shape in ((5, 28, 28), (3920,)):
        content = header(*shape) + IMAGES.tobytes()
        path.write_bytes(gzip.compress(content) if ending else content)
        assert np.array_equal(read_idx(path), IMAGES.reshape(shape))


def test_every_flipped_bit_of_the_header_is_refused(tmp_path):
    for bit in range(16 * 8):
        content = bytearray(CONTENT)
        content[bit // 8] ^= 1 << bit % 8
        (tmp_path / "file").write_bytes(content)
        with pytest.raises(ValueError, match="file is damaged"):
            read_idx(tmp_path / "file")


def test_every_flipped_bit_of_a_gz_file_is_refused_or_changes_nothing(tmp_path):
    """Some bits of gzip's own header, such as the time, say nothing of the contents."""
    packed = gzip.compress(header(40) + bytes(range(40)), mtime=0)
    refused = 0
    for bit in range(len(packed) * 8):
        content = bytearray(packed)
        content[bit // 8] ^= 1 << bit % 8
        (tmp_path / "file.gz").write_bytes(content)
        try:
            assert read_idx(tmp_path / "file.gz").tolist() == list(range(40))
        except ValueError as error:
            refused += 1
            assert "file.gz is damaged" in str(error)
    assert refused > (len(packed) - 10) * 8


@pytest.mark.parametrize("cut", [0, 3, 4, 7, 15, 16, 17, len(CONTENT) - 1])
@pytest.mark.parametrize("ending", ["", ".gz"])
def test_cut_file_is_refused(tmp_path, cut, ending):
    path = tmp_path / f"file{ending}"
    path.write_bytes(gzip.compress(CONTENT[:cut]) if ending else CONTENT[:cut])
    with pytest.raises(ValueError, match="is damaged"):
        read_idx(path)


@pytest.mark.parametrize(
    ("ending", "content"),
    [
        ("", header(2**31, 28, 28) + bytes(100)),
        ("", header(*[2**32 - 1] * 3) + bytes(100)),
        ("", header(2**16, 2**16, 2**32 - 2**16)),  # its product is 0 in 64 bits
        (".gz", gzip.compress(header(2**31, 28, 28) + bytes(2**26))),
        (".gz", gzip.compress(header(60_000, 28, 28) + bytes(2**16))),
        (".gz", gzip.compress(header(5, 28, 28) + bytes(2**28), 1)),  # a bomb behind a modest header
        ("", header(0, 28, 28)),
        ("", header(*[1] * 200) + b"1"),
    ],
    ids=["huge", "largest", "overflow", "huge gz", "cut gz", "bomb", "empty", "200 dimensions"],
)
def test_header_that_promises_other_bytes_is_refused_without_taking_their_memory(tmp_path, ending, content):
    path = tmp_path / f"file{ending}"
    path.write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="is damaged"):
            read_idx(path)
        assert tracemalloc.get_traced_memory()[1] < 2**26
    finally:
        tracemalloc.stop()
