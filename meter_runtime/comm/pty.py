"""A byte port whose far end is a pseudo-terminal: a virtual serial device under a fixed name.

It behaves like the UART of a module on a USB bridge: programs may open, close and reopen it,
nothing that they do hangs it up, and what is written while nobody has it open is lost, not kept
for whoever comes next. Nothing here ever waits for a reader.
"""

import asyncio
import contextlib
import ctypes
import fcntl
import os
import struct
import sys
import termios
import tty
from collections.abc import Callable
from pathlib import Path

from meter_runtime.comm.streams import READ_LIMIT, PortClosed
from meter_runtime.errors import MeterError

_CHUNK = 4096


class PtyPort:
    """The near end of a pseudo-terminal; its far end is offered as the symbolic link ``link``.

    The link appears atomically, is ours by a lock file beside it (``.NAME.lock``) and goes away
    at close. Raises MeterError where the link cannot be made, or where it would replace a file, a
    foreign link, or the link of a port that is alive.
    """

    def __init__(self, link: str) -> None:
        self.link = Path(link)
        self.dropped = 0
        self._lock = _claim(self.link)
        self._master = self._slave = -1
        try:
            self._master, self._slave = os.openpty()
            os.set_blocking(self._master, False)
            tty.setraw(self._slave)
            self.device = os.ttyname(self._slave)
            self._clients = _Clients(self.device)
            _point(self.link, self.device)
        except OSError as reason:
            self._release()
            raise MeterError(
                f"pty:{link}: cannot be offered: {reason.strerror}; name a path in a directory "
                "that this user may write"
            ) from None
        self._loop = asyncio.get_running_loop()
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._reading = False
        self.on_opened: Callable[[bool], None] | None = None
        """Told True when a program opens the far end, False when the last one has closed it."""
        self._was_opened = False
        self._listen()
        if self._clients.watch >= 0:
            self._loop.add_reader(self._clients.watch, self._see_clients)

    @property
    def opened(self) -> bool:
        """Whether a program has the far end open (always, where the system does not tell)."""
        self._see_clients()
        return self._clients.count > 0

    async def read(self) -> bytes:
        while not self._received:
            if self._master < 0:
                raise PortClosed(f"pty:{self.link}: the port is closed")
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._received)
        self._received.clear()
        if self._master >= 0:
            self._listen()
        return data

    def write(self, data: bytes) -> None:
        if self._master < 0:
            raise PortClosed(f"pty:{self.link}: the port is closed")
        sent = 0
        if self.opened:
            with contextlib.suppress(BlockingIOError):
                while sent < len(data):
                    sent += os.write(self._master, data[sent:])
        self.dropped += len(data) - sent

    async def close(self) -> None:
        if self._master < 0:
            return
        self._loop.remove_reader(self._master)
        if self._clients.watch >= 0:
            self._loop.remove_reader(self._clients.watch)
        with contextlib.suppress(OSError):
            if self.link.readlink() == Path(self.device):
                self.link.unlink()
        self._release()
        self._arrived.set()
        # One turn, so that a waiting reader learns of the end before the caller goes on.
        await asyncio.sleep(0)

    def _listen(self) -> None:
        if not self._reading:
            self._reading = True
            self._loop.add_reader(self._master, self._take)

    def _take(self) -> None:
        try:
            self._received += os.read(self._master, _CHUNK)
        except BlockingIOError:
            return
        self._arrived.set()
        self._see_clients()
        self._clients.heard(self._loop.time())
        if len(self._received) > READ_LIMIT:
            self._reading = False
            self._loop.remove_reader(self._master)

    def _see_clients(self) -> None:
        gone = self._clients.went_away(self._loop.time())
        self._tell_opened(gone)
        if not gone:
            return
        # First what the kernel has not yet handed to the far end, then what it has.
        termios.tcflush(self._master, termios.TCOFLUSH)
        self.dropped += _unread(self._slave)
        termios.tcflush(self._slave, termios.TCIFLUSH)

    def _tell_opened(self, gone: bool) -> None:
        """A program may have come and gone between two looks, and another may be here."""
        opened = self._clients.count > 0
        for now in (True, False, opened) if gone else (opened,):
            if now != self._was_opened:
                self._was_opened = now
                if self.on_opened is not None:
                    self.on_opened(now)

    def _release(self) -> None:
        for descriptor in (self._master, self._slave):
            if descriptor >= 0:
                os.close(descriptor)
        self._master = self._slave = -1
        if hasattr(self, "_clients"):
            self._clients.close()
        with contextlib.suppress(FileNotFoundError):
            _lock_path(self.link).unlink()
        os.close(self._lock)


def _unread(descriptor: int) -> int:
    waiting = fcntl.ioctl(descriptor, termios.FIONREAD, struct.pack("i", 0))
    return int(struct.unpack("i", waiting)[0])


def _lock_path(link: Path) -> Path:
    return link.with_name(f".{link.name}.lock")


def _claim(link: Path) -> int:
    """Lock the link's name; the descriptor of the lock file."""
    path = _lock_path(link)
    while True:
        try:
            lock = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        except OSError as reason:
            raise MeterError(
                f"pty:{link}: cannot be offered: {reason.strerror}; name a path in a directory "
                "that this user may write"
            ) from None
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise MeterError(
                f"pty:{link}: in use by another port that is alive; end it or name another link"
            ) from None
        # Who held it before may have removed it between our open and our lock.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(lock), path.stat()):
                break
        os.close(lock)
    if not link.is_symlink():
        trouble = "is a file" if link.exists() else None
    else:
        trouble = None if str(link.readlink()).startswith("/dev/pts/") else "is a foreign link"
    if trouble is not None:
        path.unlink()
        os.close(lock)
        raise MeterError(f"pty:{link} {trouble} and is left alone; name another link")
    return lock


def _point(link: Path, device: str) -> None:
    """Make the link, or make a dead one ours, so that no reader ever sees it missing."""
    fresh = link.with_name(f".{link.name}.{os.getpid()}")
    with contextlib.suppress(FileNotFoundError):
        fresh.unlink()
    fresh.symlink_to(device)
    fresh.replace(link)


_IN_OPEN, _IN_CLOSE_WRITE, _IN_CLOSE_NOWRITE = 0x20, 0x08, 0x10
_LAST_WORDS_S = 0.2
"""What a program wrote just before it closed may come after the news that it did."""
_EVENT_HEAD = struct.Struct("iIII")


class _Clients:
    """How many times others have the terminal open, by inotify(7).

    We hold the far end open ourselves, so that its settings live on and nothing hangs up; the
    terminal itself therefore cannot tell whether a program is there. Where inotify is not to be
    had, one is assumed.
    """

    def __init__(self, device: str) -> None:
        self.count = 1
        self.watch = -1
        self._gone_at = -_LAST_WORDS_S
        if sys.platform != "linux":
            return
        system = ctypes.CDLL(None)
        watch = system.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        if watch < 0:
            return
        mask = _IN_OPEN | _IN_CLOSE_WRITE | _IN_CLOSE_NOWRITE
        if system.inotify_add_watch(watch, os.fsencode(device), mask) < 0:
            os.close(watch)
            return
        self.watch = watch
        self.count = 0

    def heard(self, now: float) -> None:
        """Octets came: somebody is there, even if two openings were reported as one."""
        if now - self._gone_at > _LAST_WORDS_S:
            self.count = max(1, self.count)

    def went_away(self, now: float) -> bool:
        """Count what happened since the last call; True when the last program had gone."""
        gone = False
        if self.watch < 0:
            return gone
        with contextlib.suppress(BlockingIOError):
            while events := os.read(self.watch, _CHUNK):
                at = 0
                while at < len(events):
                    _, mask, _, name_length = _EVENT_HEAD.unpack_from(events, at)
                    at += _EVENT_HEAD.size + name_length
                    if mask & _IN_OPEN:
                        self.count += 1
                    elif mask & (_IN_CLOSE_WRITE | _IN_CLOSE_NOWRITE):
                        self.count = max(0, self.count - 1)
                        gone = gone or self.count == 0
        if gone:
            self._gone_at = now
        return gone

    def close(self) -> None:
        if self.watch >= 0:
            os.close(self.watch)
            self.watch = -1
