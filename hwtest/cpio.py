"""An initial RAM file system in the kernel's own archive format (cpio "newc").

One entry is a header of 110 ASCII characters (``070701``, then thirteen fields of eight hexadecimal
digits: inode, mode, owner, group, links, time, size, device, device of a node, length of the name,
check), the name with its NUL and the content, each filled up to a multiple of four bytes
(Documentation/driver-api/early-userspace/buffer-format.rst of Linux). Archives may follow one
another: the kernel unpacks them all, in that order.
"""

import os
import stat
from collections.abc import Iterator
from pathlib import Path

_CONSOLE = os.makedev(5, 1)
_END = "TRAILER!!!"


class Archive:
    """Entries in the order they are added; a directory must come before what is in it."""

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._inode = 0
        self._directories: set[str] = set()

    def directory(self, name: str) -> None:
        """A directory and those it lies in; does nothing for one that is there already."""
        for parent in reversed(Path(name).parents[:-1]):
            self._directory(str(parent))
        self._directory(name)

    def file(self, name: str, content: bytes, mode: int = 0o644) -> None:
        self._enter(name, stat.S_IFREG | mode, content)

    def link(self, name: str, target: str) -> None:
        self._enter(name, stat.S_IFLNK | 0o777, target.encode())

    def console(self) -> None:
        """``/dev/console``: without it the first process has nowhere to write to."""
        self.directory("dev")
        self._add("dev/console", stat.S_IFCHR | 0o600, b"", _CONSOLE)

    def tree(self, top: Path, name: str = "") -> None:
        """Everything below ``top``, as it is there, under ``name``."""
        for path in _walk(top):
            inside = str(Path(name) / path.relative_to(top))
            if path.is_symlink():
                self.link(inside, str(path.readlink()))
            elif path.is_dir():
                self.directory(inside)
            else:
                self.file(inside, path.read_bytes(), stat.S_IMODE(path.stat().st_mode))

    def finished(self) -> bytes:
        """The archive with its end, to which nothing can be added."""
        self._add(_END, 0, b"")
        return b"".join(self._parts)

    def _directory(self, name: str) -> None:
        if name not in self._directories:
            self._directories.add(name)
            self._add(name, stat.S_IFDIR | 0o755, b"")

    def _enter(self, name: str, mode: int, content: bytes) -> None:
        parent = str(Path(name).parent)
        if parent != ".":
            self.directory(parent)
        self._add(name, mode, content)

    def _add(self, name: str, mode: int, content: bytes, node: int = 0) -> None:
        self._inode += 1
        encoded = name.encode() + b"\0"
        fields = (
            *(self._inode, mode, 0, 0, 1, 0, len(content), 0, 0),
            *(os.major(node), os.minor(node), len(encoded), 0),
        )
        header = b"070701" + b"".join(b"%08X" % field for field in fields)
        self._parts += [_filled(header + encoded), _filled(content)]


def _filled(data: bytes) -> bytes:
    return data + bytes(-len(data) % 4)


def _walk(top: Path) -> Iterator[Path]:
    for path in sorted(top.iterdir()):
        yield path
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
