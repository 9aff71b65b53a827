"""A byte range that survives power loss: the one way to what the meter keeps.

Ring, registers and whatever else is kept speak to :class:`Media` only, so that a file, an FRAM
chip and a medium that tears its writes are the same to them. What is laid out on a medium is its
user's business; a medium knows bytes.
"""

import contextlib
import errno
import fcntl
import logging
import os
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

from meter_runtime.errors import MeterError

log = logging.getLogger(__name__)

FILE_WRITE_UNIT = 512
"""A disk sector: the largest piece that a block device writes whole or not at all."""

FILE_PAGE = 4096
"""Files are made of whole pages: a file system allocates no less."""


class Media(Protocol):
    """``size`` bytes, zero when new.

    A write is durable only after :meth:`flush`. Until then power loss may keep any part of it, in
    any order, in pieces of ``write_unit`` aligned bytes. Each method raises
    :class:`~meter_runtime.errors.MeterError` when the medium fails and :class:`ValueError` for a
    range outside it.
    """

    @property
    def name(self) -> str:
        """What a person calls it: a path, a chip on a bus."""
        ...

    @property
    def size(self) -> int: ...

    @property
    def write_unit(self) -> int:
        """Bytes, aligned to their own number, that are written whole or not at all."""
        ...

    def read(self, offset: int, n: int) -> bytes: ...

    def write(self, offset: int, data: bytes) -> None: ...

    def flush(self) -> None: ...

    def close(self) -> None: ...


class FileMedia:
    """A preallocated file, held under an exclusive lock while it is open.

    A new file is made whole before it has its name (:func:`write_whole`). An existing file must
    have exactly :func:`file_size` bytes: another size is another configuration's file, and refused.
    One on a read-only file system can be read; each write tries to open it for writing again.
    """

    write_unit = FILE_WRITE_UNIT

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        self._unflushed: list[tuple[int, bytes]] = []
        self._doubted = False
        self._lock_fd = -1
        self._writable = True
        self._fd = self._open()
        try:
            lock(path, self._fd)
            self._check_file(os.fstat(self._fd))
        except BaseException:
            self.close()
            raise

    @property
    def name(self) -> str:
        return str(self.path)

    def read(self, offset: int, n: int) -> bytes:
        _check_range(self, offset, n)
        try:
            data = os.pread(self._open_fd(), n, offset)
        except OSError as error:
            raise failure(self.path, "read", error) from error
        if len(data) != n:
            raise MeterError(f"{self.path}: the file was cut short; restore it or move it away")
        return data

    def write(self, offset: int, data: bytes) -> None:
        _check_range(self, offset, len(data))
        self._open_fd()
        if not self._writable:
            self._reopen_writable()
        self._pwrite(offset, data)
        self._remember(offset, data)

    def flush(self) -> None:
        """Make durable what was written since the last good flush.

        After a failed fdatasync the kernel takes the pages for clean, so that the next one would
        succeed without them; therefore they are written once more before it.
        """
        fd = self._open_fd()
        if self._doubted:
            for offset, data in self._unflushed:
                self._pwrite(offset, data)
        try:
            os.fdatasync(fd)
        except OSError as error:
            self._doubted = True
            raise failure(self.path, "write", error) from error
        self._doubted = False
        self._unflushed.clear()

    def close(self) -> None:
        """Release the file; does nothing the second time. What was not flushed may be lost."""
        for fd in (self._fd, self._lock_fd):
            if fd >= 0:
                os.close(fd)
        self._fd = self._lock_fd = -1

    def _open(self) -> int:
        try:
            if not os.path.lexists(self.path):
                _make(self.path, self.size)
            return open_file(self.path, os.O_RDWR)
        except OSError as error:
            if error.errno in _READ_ONLY:
                with contextlib.suppress(OSError):
                    fd = open_file(self.path, os.O_RDONLY)
                    self._writable = False
                    log.error("%s", failure(self.path, "write", error))
                    return fd
            raise failure(self.path, "open", error) from error

    def _reopen_writable(self) -> None:
        """The first descriptor stays open: it holds the lock."""
        try:
            fd = open_file(self.path, os.O_RDWR)
        except OSError as error:
            raise failure(self.path, "write", error) from error
        try:
            found = os.fstat(fd)
            self._check_file(found)
            if not os.path.samestat(found, os.fstat(self._fd)):
                raise MeterError(f"{self.path}: the file was replaced; start the meter anew")
        except BaseException:
            os.close(fd)
            raise
        self._lock_fd, self._fd = self._fd, fd
        self._writable = True

    def _open_fd(self) -> int:
        if self._fd < 0:
            raise MeterError(f"{self.path}: it was closed already; open it again")
        return self._fd

    def _check_file(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise MeterError(f"{self.path}: not a regular file; move it away")
        if found.st_size != file_size(self.size):
            raise MeterError(
                f"{self.path}: the file has {found.st_size} bytes, not {file_size(self.size)};"
                " it belongs to another configuration: move it away"
            )

    def _pwrite(self, offset: int, data: bytes) -> None:
        left = memoryview(data)
        try:
            while left:
                written = os.pwrite(self._fd, left, offset)
                offset += written
                left = left[written:]
        except OSError as error:
            raise failure(self.path, "write", error) from error

    def _remember(self, offset: int, data: bytes) -> None:
        """Keep what is not flushed; pieces that meet become one: never more than the file."""
        apart: list[tuple[int, bytes]] = []
        for at, old in self._unflushed:
            if at + len(old) < offset or offset + len(data) < at:
                apart.append((at, old))
                continue
            before = old[: max(0, offset - at)]
            after = old[max(0, offset + len(data) - at) :]
            offset, data = min(at, offset), before + data + after
        apart.append((offset, data))
        self._unflushed = apart


class MemoryMedia:
    """Bytes in memory, for a bench that keeps nothing: durable until the object is gone."""

    def __init__(self, size: int, name: str = "memory", write_unit: int = 1) -> None:
        self.size = size
        self.name = name
        self.write_unit = write_unit
        self._bytes = bytearray(size)

    def read(self, offset: int, n: int) -> bytes:
        _check_range(self, offset, n)
        return bytes(self._bytes[offset : offset + n])

    def write(self, offset: int, data: bytes) -> None:
        _check_range(self, offset, len(data))
        self._bytes[offset : offset + len(data)] = data

    def flush(self) -> None:
        """Nothing is held back."""

    def close(self) -> None:
        """Nothing is held open."""


class Slice:
    """A part of a medium as a medium of its own; whoever opened the whole closes it."""

    def __init__(self, media: Media, offset: int, size: int, name: str) -> None:
        _check_range(media, offset, size)
        if offset % media.write_unit:
            raise ValueError(f"{name} begins inside a write unit of {media.name}")
        self._media = media
        self._offset = offset
        self.size = size
        self.name = name
        self.write_unit = media.write_unit

    def read(self, offset: int, n: int) -> bytes:
        _check_range(self, offset, n)
        return self._media.read(self._offset + offset, n)

    def write(self, offset: int, data: bytes) -> None:
        _check_range(self, offset, len(data))
        self._media.write(self._offset + offset, data)

    def flush(self) -> None:
        self._media.flush()

    def close(self) -> None:
        """The whole stays open."""


def file_size(size: int) -> int:
    """Bytes of the file that holds a medium of ``size`` bytes."""
    return -(-size // FILE_PAGE) * FILE_PAGE


def write_whole(path: Path, content: bytes) -> None:
    """Make or replace a file: its name stands for all of ``content`` or for what was there before.

    Written under another name, made durable, renamed; root keeps a replaced file's owner. Raises
    OSError and then leaves nothing behind.
    """
    with _alone_in(path.parent) as directory:
        _write_whole(path, content, directory)


def _make(path: Path, size: int) -> None:
    with _alone_in(path.parent) as directory:
        if not os.path.lexists(path):
            # Written, not only reserved: later writes must neither need space nor move an extent.
            _write_whole(path, bytes(file_size(size)), directory)


@contextlib.contextmanager
def _alone_in(directory: Path) -> Iterator[int]:
    """One file is made at a time: another maker's half-made file has the same name."""
    fd = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(fd, fcntl.LOCK_EX)
        yield fd
    finally:
        os.close(fd)


def _write_whole(path: Path, content: bytes, directory: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fd = open_file(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    try:
        if os.geteuid() == 0:
            with contextlib.suppress(FileNotFoundError):
                old = path.lstat()
                os.fchown(fd, old.st_uid, old.st_gid)
        left = memoryview(content)
        while left:
            left = left[os.write(fd, left) :]
        os.fsync(fd)
        fresh.rename(path)
    except BaseException:
        with contextlib.suppress(OSError):
            fresh.unlink()
        raise
    finally:
        os.close(fd)
    os.fsync(directory)


def open_file(path: Path, flags: int) -> int:
    """Open without following a link; a new file is its owner's alone.

    A store lies in the meter's own directory, where a link is nobody's doing but an intruder's;
    and what replaces a file would replace the link. To keep the state elsewhere the directory is
    named, and that may be a link.
    """
    return os.open(path, flags | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)


def lock(path: Path, fd: int) -> None:
    """Claim the open file for this process; raises :class:`MeterError` when another has it."""
    try:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError as error:
        raise MeterError(
            f"{path}: another meter uses this file; stop it or use another directory"
        ) from error
    except OSError as error:
        raise failure(path, "lock", error) from error


def _check_range(media: Media, offset: int, n: int) -> None:
    if offset < 0 or n < 0 or offset + n > media.size:
        raise ValueError(f"{media.name} has {media.size} bytes: {offset}+{n} is outside")


_READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
_REMEDIES = {
    errno.ENOENT: "make its directory first",
    errno.ENOTDIR: "name a file in a directory",
    errno.EISDIR: "a directory is in its place: move it away",
    errno.ELOOP: "a link is in its place: move it away, or name another state directory",
    errno.EACCES: "let the meter's user read and write it",
    errno.EPERM: "let the meter's user read and write it",
    errno.EROFS: "mount its file system writable",
    errno.ENOSPC: "free space on its file system",
    errno.EDQUOT: "raise the quota of the meter's user",
    errno.EIO: "the disk or card fails: replace it",
}


def failure(path: Path, what: str, error: OSError) -> MeterError:
    """What a person is told when the system refuses ``what``."""
    remedy = _REMEDIES.get(error.errno or 0, "check the file system")
    return MeterError(f"{path}: cannot {what}: {error.strerror or error}; {remedy}")
