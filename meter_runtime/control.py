"""How an operator's command reaches a running meter: a UNIX socket speaking lines of JSON.

A request is one object on one line, ``{"do": "status", ...}``; its answer is one line too:
``{"ok": true, "result": ...}`` or ``{"ok": false, "error": "..."}``, with ``"usage": true``
beside an error that is the caller's to mend. A connection takes its turns one after the
other. What the words mean is the handlers' business; this module owns the wire, the socket
file and its mode 0660, and every bound: the line, the connections, the silences. These waits
are on a person's program, so they run on the loop's real time, not on the meter's clock.

Which meters are running here is :mod:`meter_runtime.control_paths`'s to find out.
"""

import asyncio
import contextlib
import errno
import fcntl
import json
import logging
import os
import socket
import stat
from collections.abc import Awaitable, Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from meter_runtime.errors import MeterError, UsageError, nearest

log = logging.getLogger(__name__)

Handler = Callable[[dict[str, Any]], Awaitable[object]]

MAX_REQUEST = 64 * 1024
"""Bytes of the longest request line."""
MAX_ANSWER = 16 * 1024 * 1024
"""Bytes of the longest answer line."""
MAX_CONNECTIONS = 16
IDLE_S = 30.0
"""How long a connection may stay silent, or leave its answer unread."""
CLOSE_S = 2.0
"""How long closing waits for requests that are being cancelled."""
MAX_PATH = 107
"""Bytes of the longest path the kernel takes for a UNIX socket."""
_PROBE_S = 1.0


class ControlServer:
    """Serves ``handlers`` by name on a socket at ``path``.

    A handler takes the request's other keys and returns what JSON can say. A
    :class:`MeterError` it raises is the answer; anything else is logged here and answered as
    an internal error.
    """

    def __init__(self, path: Path, handlers: Mapping[str, Handler], idle_s: float = IDLE_S) -> None:
        self.path = path
        self._handlers = handlers
        self._idle_s = idle_s
        self._server: asyncio.Server | None = None
        self._inode: tuple[int, int] | None = None
        self._connections: set[asyncio.Task[None]] = set()

    @property
    def connections(self) -> int:
        """How many connections are open."""
        return len(self._connections)

    async def start(self) -> None:
        """Bind and serve; :class:`MeterError` when a live meter is already there."""
        bound = _bind(self.path)
        self._inode = _identity(self.path)
        self._server = await asyncio.start_unix_server(
            self._accept, sock=bound, limit=MAX_REQUEST, backlog=MAX_CONNECTIONS
        )

    async def close(self) -> None:
        """Stop serving, cancel what is running, remove the socket file if it is still ours."""
        if self._server is None:
            return
        self._server.close()
        self._server = None
        if self._inode == _identity(self.path):
            self.path.unlink(missing_ok=True)
        if self._connections:
            for task in self._connections:
                task.cancel()
            await asyncio.wait(self._connections, timeout=CLOSE_S)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._connections.add(task)

        def ended(task: asyncio.Task[None]) -> None:
            # Here, not in the task: one cancelled before its first step runs no finally.
            self._connections.discard(task)
            writer.close()

        task.add_done_callback(ended)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            if len(self._connections) > MAX_CONNECTIONS:
                await self._send(writer, _failure("too many connections; close one"))
                return
            await self._take_turns(reader, writer)
        except (TimeoutError, ConnectionError):
            pass  # the operator's program went away or fell silent: nobody is left to tell

    async def _take_turns(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while True:
            try:
                line = await asyncio.wait_for(reader.readline(), self._idle_s)
            except ValueError:
                await self._send(writer, _failure(f"a request has at most {MAX_REQUEST} bytes"))
                return
            if not line:
                return
            await self._send(writer, await self._answer(line))

    async def _send(self, writer: asyncio.StreamWriter, answer: bytes) -> None:
        writer.write(answer)
        await asyncio.wait_for(writer.drain(), self._idle_s)

    async def _answer(self, line: bytes) -> bytes:
        try:
            do, arguments = _parse_request(line)
            handler = self._handlers.get(do)
            if handler is None:
                raise UsageError(f'no request "{do}"; {nearest(do, self._handlers)}')
            return _line({"ok": True, "result": await handler(arguments)})
        except MeterError as failure:
            return _failure(str(failure), usage=isinstance(failure, UsageError))
        except Exception:  # a request never stops the meter
            log.exception("a control request failed")
            return _failure("internal error; the meter's log has the details")


async def request(path: Path, do: str, /, *, timeout_s: float = 10.0, **arguments: object) -> Any:
    """Ask the meter at ``path`` and return its result.

    Raises the error the meter answers with, or a :class:`MeterError` when there is no answer
    within ``timeout_s``.
    """
    line = _line({"do": do, **arguments})
    try:
        async with asyncio.timeout(timeout_s):
            return _parse_answer(path, await _exchange(path, line))
    except TimeoutError:
        raise MeterError(f"{path}: no answer to {do} within {timeout_s:g} s") from None
    except FileNotFoundError:
        raise MeterError(f"{path}: no meter runs here; start one, or name its socket") from None
    except ConnectionRefusedError:
        raise MeterError(f"{path}: left by a meter that has ended; start it again") from None
    except PermissionError:
        raise MeterError(
            f"{path}: permission denied; run as the meter's user or join its group"
        ) from None
    except (ValueError, RecursionError):
        raise MeterError(f"{path}: the answer to {do} is not the meter's protocol") from None
    except OSError as failure:
        raise MeterError(f"{path}: {failure.strerror or failure}") from None


def ask(path: Path, do: str, /, *, timeout_s: float = 10.0, **arguments: object) -> Any:
    """:func:`request` for a program without a loop."""
    return asyncio.run(request(path, do, timeout_s=timeout_s, **arguments))


def is_live(path: Path) -> bool:
    """Whether a process listens on this socket; :class:`PermissionError` where we may not ask."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        probe.settimeout(_PROBE_S)
        try:
            probe.connect(str(path))
        except PermissionError:
            raise
        except OSError as failure:
            # A full backlog is a busy meter, not a dead one.
            return failure.errno == errno.EAGAIN or isinstance(failure, TimeoutError)
        return True


async def _exchange(path: Path, line: bytes) -> bytes:
    reader, writer = await asyncio.open_unix_connection(str(path), limit=MAX_ANSWER)
    try:
        writer.write(line)
        await writer.drain()
        return await reader.readline()
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()


def _parse_request(line: bytes) -> tuple[str, dict[str, Any]]:
    try:
        arguments = json.loads(line)
    except (ValueError, RecursionError):
        raise UsageError("a request is one JSON object on one line") from None
    if isinstance(arguments, dict) and isinstance(do := arguments.pop("do", None), str):
        return do, arguments
    raise UsageError('a request is a JSON object that names what to "do"')


def _parse_answer(path: Path, line: bytes) -> Any:
    if not line:
        raise MeterError(f"{path}: the meter closed the connection without an answer")
    match json.loads(line):
        case {"ok": True, "result": result}:
            return result
        case {"ok": False, "error": str(error), **others}:
            raise UsageError(error) if others.get("usage") else MeterError(error)
    raise ValueError


def _line(message: dict[str, object]) -> bytes:
    return json.dumps(message, allow_nan=False, separators=(",", ":")).encode() + b"\n"


def _failure(error: str, usage: bool = False) -> bytes:
    return _line({"ok": False, "error": error} | ({"usage": True} if usage else {}))


def _bind(path: Path) -> socket.socket:
    """A listening socket at ``path``, in place of a dead one but never of a live one."""
    if len(os.fsencode(path)) > MAX_PATH:
        raise UsageError(
            f"{path}: a control path has at most {MAX_PATH} bytes; choose a shorter one"
        )
    bound = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        with _alone_in(path.parent):
            _remove_stale(path)
            # Owner only while it is being bound; the group may in once the mode is set whole.
            os.fchmod(bound.fileno(), 0o600)
            bound.bind(str(path))
            path.chmod(0o660)
            bound.listen(MAX_CONNECTIONS)
    except OSError as failure:
        bound.close()
        raise MeterError(f"{path}: the control socket cannot be made: {failure.strerror}") from None
    except MeterError:
        bound.close()
        raise
    bound.setblocking(False)
    return bound


@contextlib.contextmanager
def _alone_in(folder: Path) -> Iterator[None]:
    """Keep a second starting meter out until the socket listens and so shows as live."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def _remove_stale(path: Path) -> None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return
    if not stat.S_ISSOCK(found.st_mode):
        raise MeterError(f"{path}: is there and is not a socket; remove it or choose another path")
    if is_live(path):
        raise MeterError(f"{path}: a meter is already running here; stop it or choose another path")
    path.unlink()


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
