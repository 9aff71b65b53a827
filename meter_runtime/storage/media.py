"""A byte range that survives power loss: the one way to what the meter keeps.

Ring, registers and whatever else is kept speak to :class:`Media` only, so that a file, an FRAM
chip and a medium that tears its writes are the same to them. What is laid out on a medium is its
user's business; a medium knows bytes.
"""

import contextlib
import errno
import fcntl
import os
import stat
from pathlib import Path
from typing import Protocol

from meter_runtime.errors import MeterError

FILE_WRITE_UNIT = 512
"""A disk sector: the largest piece that a block device writes whole or not at all."""


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

    A new file is filled with zeros under another name and renamed, so that its name never stands
    for half a file. An existing file must have exactly ``size`` bytes: another size is another
    configuration's file, and refused.
    """

    write_unit = FILE_WRITE_UNIT

    def __init__(self, path: Path, size: int) -> None:
        self.path = path
        self.size = size
        try:
            if not path.exists():
                _create(path, size)
            self._fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        except OSError as error:
            raise _failure(path, "open", error) from error
        try:
            self._claim()
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
            raise _failure(self.path, "read", error) from error
        if len(data) != n:
            raise MeterError(f"{self.path}: the file was cut short; restore it or move it away")
        return data

    def write(self, offset: int, data: bytes) -> None:
        _check_range(self, offset, len(data))
        left = memoryview(data)
        try:
            while left:
                written = os.pwrite(self._open_fd(), left, offset)
                offset += written
                left = left[written:]
        except OSError as error:
            raise _failure(self.path, "write", error) from error

    def flush(self) -> None:
        try:
            os.fdatasync(self._open_fd())
        except OSError as error:
            raise _failure(self.path, "write", error) from error

    def close(self) -> None:
        """Release the file; does nothing the second time. What was not flushed may be lost."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            os.close(fd)

    def _open_fd(self) -> int:
        if self._fd < 0:
            raise MeterError(f"{self.path}: it was closed already; open it again")
        return self._fd

    def _claim(self) -> None:
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
            found = os.fstat(self._fd)
        except BlockingIOError as error:
            raise MeterError(
                f"{self.path}: another meter uses this file; stop it or use another directory"
            ) from error
        except OSError as error:
            raise _failure(self.path, "lock", error) from error
        if not stat.S_ISREG(found.st_mode):
            raise MeterError(f"{self.path}: not a regular file; move it away")
        if found.st_size != self.size:
            raise MeterError(
                f"{self.path}: the file has {found.st_size} bytes where {self.size} are expected;"
                " it belongs to another configuration: move it away"
            )


class MemoryMedia:
    """Bytes in memory, for a bench that keeps nothing: durable until the object is gone."""

    write_unit = 1

    def __init__(self, size: int, name: str = "memory") -> None:
        self.size = size
        self.name = name
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


def _create(path: Path, size: int) -> None:
    fresh = path.with_name(f".{path.name}.new")
    fd = os.open(fresh, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        # Written, not only reserved: a later write must neither need space nor move an extent.
        left = memoryview(bytes(size))
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
    directory = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(directory)
    finally:
        os.close(directory)


def _check_range(media: Media, offset: int, n: int) -> None:
    if offset < 0 or n < 0 or offset + n > media.size:
        raise ValueError(f"{media.name} has {media.size} bytes: {offset}+{n} is outside")


_REMEDIES = {
    errno.ENOENT: "make its directory first",
    errno.ENOTDIR: "name a file in a directory",
    errno.EISDIR: "a directory is in its place: move it away",
    errno.EACCES: "let the meter's user read and write it",
    errno.EPERM: "let the meter's user read and write it",
    errno.EROFS: "mount its file system writable",
    errno.ENOSPC: "free space on its file system",
    errno.EDQUOT: "raise the quota of the meter's user",
    errno.EIO: "the disk or card fails: replace it",
}


def _failure(path: Path, what: str, error: OSError) -> MeterError:
    remedy = _REMEDIES.get(error.errno or 0, "check the file system")
    return MeterError(f"{path}: cannot {what}: {error.strerror or error}; {remedy}")
