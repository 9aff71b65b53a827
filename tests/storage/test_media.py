"""A file as a medium: made whole, held alone, failing with a remedy."""

import os
import stat
from pathlib import Path

import pytest

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import FileMedia, MemoryMedia


def test_a_new_file_is_full_size_zeroed_and_private(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    media = FileMedia(path, 5000)
    assert media.read(0, 5000) == bytes(5000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_blocks * 512 >= 5000
    media.close()


def test_what_was_written_is_there_after_reopening(tmp_path: Path) -> None:
    media = FileMedia(tmp_path / "ring", 100)
    media.write(98, b"ab")
    media.flush()
    media.close()
    again = FileMedia(tmp_path / "ring", 100)
    assert again.read(96, 4) == b"\0\0ab"
    again.close()


def test_a_half_made_file_of_a_cut_creation_is_replaced(tmp_path: Path) -> None:
    (tmp_path / ".ring.new").write_bytes(b"half")
    FileMedia(tmp_path / "ring", 100).close()
    assert sorted(p.name for p in tmp_path.iterdir()) == ["ring"]


def test_a_failing_creation_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(fd: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(MeterError, match="No space left on device; free space"):
        FileMedia(tmp_path / "ring", 100)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize(("offset", "n"), [(-1, 1), (0, 101), (100, 1), (5, -1)])
def test_a_range_outside_is_refused(tmp_path: Path, offset: int, n: int) -> None:
    media = FileMedia(tmp_path / "ring", 100)
    with pytest.raises(ValueError, match="outside"):
        media.read(offset, n)
    with pytest.raises(ValueError, match="outside"):
        MemoryMedia(100).read(offset, n)
    media.close()


def test_a_second_meter_on_the_same_file_is_refused(tmp_path: Path) -> None:
    media = FileMedia(tmp_path / "ring", 100)
    with pytest.raises(MeterError, match="another meter uses this file"):
        FileMedia(tmp_path / "ring", 100)
    media.close()
    FileMedia(tmp_path / "ring", 100).close()


def test_a_file_of_another_size_is_refused_and_untouched(tmp_path: Path) -> None:
    (tmp_path / "ring").write_bytes(b"x" * 99)
    with pytest.raises(MeterError, match=r"ring: the file has 99 bytes where 100 are expected"):
        FileMedia(tmp_path / "ring", 100)
    assert (tmp_path / "ring").read_bytes() == b"x" * 99


@pytest.mark.parametrize(
    ("where", "remedy"),
    [("missing/ring", "make its directory first"), (".", "a directory is in its place")],
)
def test_an_impossible_path_names_the_remedy(tmp_path: Path, where: str, remedy: str) -> None:
    with pytest.raises(MeterError, match=remedy):
        FileMedia(tmp_path / where, 100)


def test_a_device_is_no_medium() -> None:
    with pytest.raises(MeterError, match="/dev/null: not a regular file"):
        FileMedia(Path("/dev/null"), 100)


def test_a_file_cut_short_while_open_is_told(tmp_path: Path) -> None:
    media = FileMedia(tmp_path / "ring", 100)
    os.truncate(tmp_path / "ring", 10)
    with pytest.raises(MeterError, match="cut short"):
        media.read(0, 100)
    media.close()


def test_a_closed_file_answers_with_an_error(tmp_path: Path) -> None:
    media = FileMedia(tmp_path / "ring", 100)
    media.close()
    media.close()
    for act in (lambda: media.read(0, 1), lambda: media.write(0, b"x"), media.flush):
        with pytest.raises(MeterError, match="it was closed already"):
            act()
