"""What the host writes: commands, to bytes and from bytes.

A command is one line, ended by CR or CRLF, with two exceptions: SKSENDTO is a header that ends
in one space followed by ``length`` raw bytes and no line end, and WOPT/ROPT/WUART/RUART end in
CR alone. What is read is bounded: a line beyond its limit is dropped up to the next line end, so
that garbage cannot grow a buffer.

Source: SKSTACK-IP command manuals as quoted by public client code, and logs of real modules.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from meter_runtime.comm.skstack.dialects import Dialect

CRLF = b"\r\n"
MAX_COMMAND_LINE = 256
"""Longest command line without SKSENDTO's data: far above the longest legal one (SKSETPWD)."""
MAX_SEND = 1232
"""Largest SKSENDTO payload, octets."""

OPTION_COMMANDS = frozenset({"WOPT", "ROPT", "WUART", "RUART"})
SECRET_COMMANDS = ("SKSETPWD", "SKSETRBID", "SKSETPSK", "SKSETKEY")


def mask_secrets(line: str) -> str:
    """The line with the arguments of credential commands hidden, for logs and traces."""
    for name in SECRET_COMMANDS:
        at = line.upper().find(name)
        if at >= 0:
            return line[: at + len(name)] + " ••••"
    return line


@dataclass(frozen=True, slots=True)
class Command:
    """One command as the host wrote it: its name in upper case, its arguments as written."""

    name: str
    arguments: tuple[str, ...] = ()
    data: bytes | None = None
    """The payload of SKSENDTO."""
    header: bytes = b""
    """What an echoing module writes back, without the line end (SKSENDTO: up to its last space)."""


@dataclass(frozen=True, slots=True)
class EmptyLine:
    """A line end with nothing before it."""


@dataclass(frozen=True, slots=True)
class OverlongLine:
    """A line beyond :data:`MAX_COMMAND_LINE` was dropped."""


def encode_command(name: str, *arguments: str) -> bytes:
    """A command line; option commands end in CR alone, all others in CRLF."""
    end = b"\r" if name in OPTION_COMMANDS else CRLF
    return " ".join((name, *arguments)).encode("ascii") + end


def encode_send(
    dialect: Dialect,
    address: str,
    data: bytes,
    *,
    port: int,
    handle: int = 1,
    security: int = 1,
    side: int = 0,
) -> bytes:
    """SKSENDTO: header, one space, raw data, no line end."""
    if not 1 <= len(data) <= MAX_SEND:
        raise ValueError(f"SKSENDTO carries 1 to {MAX_SEND} bytes, not {len(data)}")
    middle = f" {side}" if dialect.has_side else ""
    header = f"SKSENDTO {handle} {address} {port:04X} {security}{middle} {len(data):04X} "
    return header.encode("ascii") + data


class CommandReader:
    """The module's ear: bytes from the host, in any pieces, to commands.

    A CR ends a command; an LF right after it belongs to it. After SKSENDTO's data a line end
    yields :class:`EmptyLine`, which a module answers with a blank line at most.
    """

    def __init__(self, dialect: Dialect) -> None:
        self._send_arguments = dialect.sendto_arguments
        self._line = bytearray()
        self._pending: tuple[tuple[str, ...], bytes, int] | None = None
        self._data = bytearray()
        self._after_cr = False
        self._overlong = False

    def feed(self, data: bytes) -> Iterator[Command | EmptyLine | OverlongLine]:
        """Yield what these bytes complete, in order."""
        at = 0
        while at < len(data):
            if self._pending is not None:
                arguments, header, length = self._pending
                take = data[at : at + length - len(self._data)]
                self._data += take
                at += len(take)
                if len(self._data) == length:
                    payload = bytes(self._data)
                    self._data.clear()
                    self._pending = None
                    yield Command("SKSENDTO", arguments, payload, header)
                continue
            byte = data[at]
            at += 1
            if byte == 0x0A and self._after_cr:
                self._after_cr = False
                continue
            self._after_cr = byte == 0x0D
            if byte in (0x0D, 0x0A):
                yield from self._end_of_line()
            elif self._overlong:
                continue
            elif len(self._line) >= MAX_COMMAND_LINE:
                self._line.clear()
                self._overlong = True
            else:
                self._line.append(byte)
                if byte == 0x20:
                    self._begin_send_data()

    def _end_of_line(self) -> Iterator[Command | EmptyLine | OverlongLine]:
        line = bytes(self._line)
        self._line.clear()
        if self._overlong:
            self._overlong = False
            yield OverlongLine()
            return
        words = line.decode("latin-1").split(" ")
        words = [word for word in words if word]
        if not words:
            yield EmptyLine()
            return
        yield Command(words[0].upper(), tuple(words[1:]), None, line)

    def _begin_send_data(self) -> None:
        words = self._line.decode("latin-1").split()
        if len(words) != self._send_arguments + 1 or words[0].upper() != "SKSENDTO":
            return
        try:
            length = int(words[-1], 16)
        except ValueError:
            return
        if not 1 <= length <= MAX_SEND:
            return
        self._pending = (tuple(words[1:]), bytes(self._line), length)
        self._line.clear()
