"""A file as a medium: made whole, held alone, failing with a remedy."""

import errno
import fcntl
import logging
import os
import shutil
import stat
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import FILE_PAGE, FileMedia, MemoryMedia, Slice, write_whole


def refuse(number: int) -> OSError:
    return OSError(number, os.strerror(number))


def failing(number: int) -> Callable[..., int]:
    """A system call that always fails so."""

    def call(*_: object) -> int:
        raise refuse(number)

    return call


def refuse_writing(patch: pytest.MonkeyPatch, path: Path, number: int) -> None:
    """Opening this file for writing fails, as on a file system that is mounted read-only."""
    real = os.open

    def unwritable(name: Path, flags: int, mode: int = 0o777) -> int:
        if name == path and flags & (os.O_RDWR | os.O_WRONLY):
            raise refuse(number)
        return real(name, flags, mode)

    patch.setattr(os, "open", unwritable)


def test_a_new_file_is_full_size_zeroed_and_private(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    media = FileMedia(path, 5000)
    assert media.read(0, 5000) == bytes(5000)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert path.stat().st_size == 2 * FILE_PAGE
    assert path.stat().st_blocks * 512 >= 2 * FILE_PAGE
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
    monkeypatch.setattr(os, "fsync", failing(errno.ENOSPC))
    with pytest.raises(MeterError, match="No space left on device; free space"):
        FileMedia(tmp_path / "ring", 100)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_durable_before_it_has_its_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[tuple[bool, int]] = []
    fsync = os.fsync

    def watch(fd: int) -> None:
        fsync(fd)
        seen.append(((tmp_path / "ring").exists(), os.fstat(fd).st_mode))

    monkeypatch.setattr(os, "fsync", watch)
    FileMedia(tmp_path / "ring", 100).close()
    assert [(named, stat.S_ISDIR(mode)) for named, mode in seen] == [(False, False), (True, True)]


def test_a_file_that_another_meter_made_meanwhile_is_opened_not_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "ring"
    flock = fcntl.flock

    def wait_for_the_other(fd: int, operation: int) -> None:
        flock(fd, operation)
        if stat.S_ISDIR(os.fstat(fd).st_mode):
            path.write_bytes(b"theirs".ljust(FILE_PAGE, b"\0"))

    monkeypatch.setattr(fcntl, "flock", wait_for_the_other)
    media = FileMedia(path, 100)
    assert media.read(0, 6) == b"theirs"
    media.close()


def test_a_replaced_file_is_the_old_one_until_it_is_the_new_one(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    path.write_bytes(b"old")
    with path.open("rb") as old:
        write_whole(path, b"new and longer")
        assert old.read() == b"old"
    assert path.read_bytes() == b"new and longer"
    assert [file.name for file in tmp_path.iterdir()] == ["ring"]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root replaces what others own")
def test_root_leaves_a_replaced_file_to_its_owner(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    path.write_bytes(b"old")
    os.chown(path, 12, 34)
    write_whole(path, b"new")
    assert (path.stat().st_uid, path.stat().st_gid) == (12, 34)


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
    with pytest.raises(MeterError, match=r"ring: the file has 99 bytes, not 4096; .* move it away"):
        FileMedia(tmp_path / "ring", 100)
    assert (tmp_path / "ring").read_bytes() == b"x" * 99


@pytest.mark.parametrize(
    ("where", "remedy"),
    [("missing/ring", "make its directory first"), (".", "a directory is in its place")],
)
def test_an_impossible_path_names_the_remedy(tmp_path: Path, where: str, remedy: str) -> None:
    with pytest.raises(MeterError, match=remedy):
        FileMedia(tmp_path / where, 100)


@pytest.mark.parametrize("target", ["elsewhere", "nowhere"])
def test_a_link_is_not_followed(tmp_path: Path, target: str) -> None:
    (tmp_path / "elsewhere").write_bytes(bytes(FILE_PAGE))
    (tmp_path / "ring").symlink_to(target)
    with pytest.raises(MeterError, match=r"ring: cannot open: .*; a link is in its place"):
        FileMedia(tmp_path / "ring", 100)
    assert not (tmp_path / "nowhere").exists()


def test_a_directory_may_be_a_link(tmp_path: Path) -> None:
    (tmp_path / "state").mkdir()
    (tmp_path / "link").symlink_to("state")
    FileMedia(tmp_path / "link" / "ring", 100).close()
    assert (tmp_path / "state" / "ring").is_file()


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


def test_a_file_that_can_only_be_read_is_read(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "ring"
    media = FileMedia(path, 100)
    media.write(3, b"kept")
    media.flush()
    media.close()
    with pytest.MonkeyPatch.context() as patch:
        refuse_writing(patch, path, errno.EROFS)
        with caplog.at_level(logging.ERROR):
            media = FileMedia(path, 100)
        assert f"{path}: cannot write: Read-only file system; mount its file" in caplog.text
        assert media.read(3, 4) == b"kept"
        for _ in range(2):
            with pytest.raises(MeterError, match="cannot write: Read-only file system; mount its"):
                media.write(3, b"lost")
        media.flush()
        assert media.read(3, 4) == b"kept"
        with pytest.raises(MeterError, match="another meter uses this file"):
            FileMedia(path, 100)
    media.write(3, b"went")
    media.flush()
    with pytest.raises(MeterError, match="another meter uses this file"):
        FileMedia(path, 100)
    media.close()
    again = FileMedia(path, 100)
    assert again.read(3, 4) == b"went"
    again.close()


@pytest.mark.parametrize("number", [errno.EROFS, errno.EACCES, errno.EPERM])
def test_a_missing_file_that_cannot_be_made_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    refuse_writing(monkeypatch, tmp_path / ".ring.new", number)
    with pytest.raises(MeterError, match=f"ring: cannot open: {os.strerror(number)}; (mount|let)"):
        FileMedia(tmp_path / "ring", 100)


def test_another_file_under_the_same_name_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "ring"
    FileMedia(path, 100).close()
    with pytest.MonkeyPatch.context() as patch:
        refuse_writing(patch, path, errno.EROFS)
        media = FileMedia(path, 100)
    path.rename(tmp_path / "first")
    path.write_bytes(b"x" * FILE_PAGE)
    with pytest.raises(MeterError, match="ring: the file was replaced; start the meter anew"):
        media.write(0, b"y")
    path.write_bytes(b"x")
    with pytest.raises(MeterError, match="ring: the file has 1 bytes"):
        media.write(0, b"y")
    (tmp_path / "first").rename(path)
    media.write(0, b"y")
    assert path.read_bytes()[:2] == b"y\0"
    media.close()


REMOUNTED = """
import subprocess, sys
from pathlib import Path
from meter_runtime.errors import MeterError
from meter_runtime.storage.media import FileMedia

directory = Path(sys.argv[1])
def mount(*words):
    subprocess.run(["mount", *words, directory], check=True)

mount("-t", "tmpfs", "-o", "size=64k", "none")
FileMedia(directory / "ring", 100).close()
mount("-o", "remount,ro")
media = FileMedia(directory / "ring", 100)
try:
    media.write(0, b"x")
except MeterError as error:
    print(error)
try:
    FileMedia(directory / "other", 100)
except MeterError as error:
    print(error)
mount("-o", "remount,rw")
media.write(0, b"x")
media.flush()
print(media.read(0, 2))
"""


def test_a_real_remount_makes_it_writable_again(tmp_path: Path) -> None:
    shell = ["unshare", "--user", "--map-root-user", "--mount", sys.executable, "-c"]
    may = (
        "import subprocess, sys; subprocess.run(['mount','-t','tmpfs','t',sys.argv[1]],check=True)"
    )
    if (
        shutil.which("unshare") is None
        or subprocess.run(  # noqa: S603
            [*shell, may, tmp_path], capture_output=True, check=False
        ).returncode
    ):
        pytest.skip("this system lets nobody mount a file system of their own")
    run = subprocess.run(  # noqa: S603
        [*shell, REMOUNTED, tmp_path], capture_output=True, text=True, check=True
    )
    read_only = "Read-only file system; mount its file system writable"
    assert run.stdout.splitlines() == [
        f"{tmp_path}/ring: cannot write: {read_only}",
        f"{tmp_path}/other: cannot open: {read_only}",
        "b'x\\x00'",
    ]


@pytest.mark.parametrize(
    ("call", "act", "said"),
    [
        ("pread", lambda media: media.read(0, 1), "cannot read"),
        ("pwrite", lambda media: media.write(0, b"x"), "cannot write"),
        ("fdatasync", lambda media: media.flush(), "cannot write"),
    ],
)
def test_a_failing_disk_names_the_file_and_the_remedy(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    act: Callable[[FileMedia], object],
    said: str,
) -> None:
    media = FileMedia(tmp_path / "ring", 100)
    monkeypatch.setattr(os, call, failing(errno.EIO))
    with pytest.raises(MeterError, match=f"ring: {said}: .*; the disk or card fails: replace it"):
        act(media)
    media.close()


class Disk:
    """A kernel whose writes reach the disk at a sync; one that fails takes them for done."""

    def __init__(self, size: int) -> None:
        self.content = bytearray(size)
        self.dirty: dict[int, int] = {}
        self.failing = False
        self.rewritten = 0

    def pwrite(self, fd: int, data: memoryview, offset: int) -> int:
        piece = bytes(data)[:5]
        self.dirty.update(enumerate(piece, offset))
        self.rewritten += len(piece)
        return len(piece)

    def fdatasync(self, fd: int) -> None:
        lost, self.dirty = self.dirty, {}
        if self.failing:
            raise refuse(errno.EIO)
        for at, value in lost.items():
            self.content[at] = value


writes = st.tuples(st.integers(0, 40), st.binary(min_size=1, max_size=20))


@settings(deadline=None)
@given(st.lists(st.tuples(st.lists(writes, max_size=5), st.booleans()), max_size=12))
def test_what_a_failed_flush_lost_is_written_again_before_a_flush_succeeds(
    rounds: list[tuple[list[tuple[int, bytes]], bool]],
) -> None:
    directory = Path(tempfile.mkdtemp())
    media = FileMedia(directory / "ring", 60)
    disk, expected = Disk(60), bytearray(60)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", disk.pwrite)
        patch.setattr(os, "fdatasync", disk.fdatasync)
        for pieces, failing in rounds:
            for offset, data in pieces:
                media.write(offset, data)
                expected[offset : offset + len(data)] = data
            disk.failing, disk.rewritten = failing, 0
            if failing:
                with pytest.raises(MeterError):
                    media.flush()
            else:
                media.flush()
                assert disk.content == expected
            assert disk.rewritten <= 60, "more is kept than the file has bytes"
            disk.rewritten = 0
        disk.failing = False
        media.flush()
        assert disk.content == expected
        media.flush()
        assert disk.rewritten <= 60
    media.close()
    shutil.rmtree(directory)


def test_a_good_flush_writes_nothing_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    disk = Disk(100)
    monkeypatch.setattr(os, "pwrite", disk.pwrite)
    monkeypatch.setattr(os, "fdatasync", disk.fdatasync)
    media = FileMedia(tmp_path / "ring", 100)
    for failing in (True, False, False):
        media.write(0, b"abc")
        disk.failing = failing
        if failing:
            with pytest.raises(MeterError):
                media.flush()
        else:
            media.flush()
    assert disk.rewritten == 3 + 3 + 3 + 3
    media.write(50, b"xy")
    disk.failing, disk.rewritten = True, 0
    with pytest.raises(MeterError):
        media.flush()
    disk.failing = False
    media.flush()
    assert disk.rewritten == 2
    media.close()


def test_a_write_that_failed_is_not_done_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disk = Disk(100)
    monkeypatch.setattr(os, "pwrite", disk.pwrite)
    monkeypatch.setattr(os, "fdatasync", disk.fdatasync)
    media = FileMedia(tmp_path / "ring", 100)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(os, "pwrite", failing(errno.EIO))
        with pytest.raises(MeterError):
            media.write(0, b"never")
    media.write(50, b"this")
    disk.failing = True
    with pytest.raises(MeterError):
        media.flush()
    disk.failing = False
    media.flush()
    assert disk.content == bytes(50) + b"this" + bytes(46)
    media.close()


def test_a_slice_is_a_medium_of_its_own() -> None:
    whole = MemoryMedia(100, write_unit=4)
    part = Slice(whole, 40, 20, "part")
    part.write(0, b"first")
    part.write(16, b"last")
    part.flush()
    part.close()
    assert (part.name, part.size, part.write_unit) == ("part", 20, 4)
    assert part.read(0, 5) == b"first"
    assert whole.read(40, 20) == b"first" + bytes(11) + b"last"
    assert not any(whole.read(0, 40) + whole.read(60, 40))


@pytest.mark.parametrize(("offset", "n"), [(-1, 1), (0, 21), (20, 1), (17, 4)])
def test_a_slice_ends_where_it_ends(offset: int, n: int) -> None:
    part = Slice(MemoryMedia(100), 40, 20, "part")
    with pytest.raises(ValueError, match=r"part has 20 bytes: .* is outside"):
        part.read(offset, n)
    with pytest.raises(ValueError, match=r"part has 20 bytes: .* is outside"):
        part.write(offset, bytes(n))


@pytest.mark.parametrize(("offset", "size"), [(90, 20), (-1, 10), (42, 10)])
def test_a_slice_begins_at_a_write_unit_of_its_medium(offset: int, size: int) -> None:
    with pytest.raises(ValueError, match=r"memory has 100 bytes|begins inside a write unit"):
        Slice(MemoryMedia(100, write_unit=4), offset, size, "part")


def test_a_slice_passes_flushes_on() -> None:
    class Counting(MemoryMedia):
        flushes = 0

        def flush(self) -> None:
            self.flushes += 1

    whole = Counting(100)
    Slice(whole, 0, 10, "part").flush()
    assert whole.flushes == 1
