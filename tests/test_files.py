"""A file is replaced whole, or stays as it was."""

from pathlib import Path

import pytest

from seedbed.files import replacing, write_whole


def test_text_is_utf8_with_its_own_line_ends_and_bytes_stay_bytes(tmp_path):
    write_whole(tmp_path / "a", "√5\r\n×\n")
    assert (tmp_path / "a").read_bytes() == "√5\r\n×\n".encode()
    write_whole(tmp_path / "a", b"\x00\xff")
    assert (tmp_path / "a").read_bytes() == b"\x00\xff"
    assert [path.name for path in tmp_path.iterdir()] == ["a"]


def test_error_while_writing_leaves_the_old_content_and_nothing_else(tmp_path):
    write_whole(tmp_path / "a", "old")
    with pytest.raises(KeyboardInterrupt), replacing(tmp_path / "a") as temporary:
        Path(temporary).write_text("ne")
        raise KeyboardInterrupt
    assert (tmp_path / "a").read_text() == "old" and len(list(tmp_path.iterdir())) == 1


def test_two_writers_at_once_do_not_mix(tmp_path):
    with replacing(tmp_path / "a") as first, replacing(tmp_path / "a") as second:
        Path(first).write_text("1" * 10)
        Path(second).write_text("22")
    assert (tmp_path / "a").read_text() == "1" * 10  # the outer block ends last
