"""Byte ports by URI: the stream a communication unit talks over, whatever carries it.

``serial:/dev/ttyUSB0?baudrate=115200`` is a UART (8N1, locked), ``tcp:host:port`` a serial server
or a remote bench, ``pty:LINK`` the near end of a pseudo-terminal whose far end is offered under
the symbolic link LINK. A port knows bytes only: lines, commands and dialects are its user's.
"""

import asyncio
import difflib
import errno
import os
import termios
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Protocol
from urllib.parse import parse_qsl

import serialx

from meter_runtime.comm.pty import PtyPort
from meter_runtime.comm.streams import PortClosed, StreamPort
from meter_runtime.errors import MeterError, UsageError

__all__ = ["BytePort", "PortClosed", "PortUri", "open_port", "parse_port"]

DEFAULT_BAUDRATE = 115_200
TCP_CONNECT_S = 10.0
"""Bound of name look-up and connection."""


class BytePort(Protocol):
    """A stream of bytes to one device or host."""

    @property
    def dropped(self) -> int:
        """Octets that were written and could not be delivered nor kept."""
        ...

    async def read(self) -> bytes:
        """The octets that have come, at least one; raises :class:`PortClosed` when gone."""
        ...

    def write(self, data: bytes) -> None:
        """Queue octets, never waiting; what exceeds the bounded buffer is dropped and counted.

        Raises :class:`PortClosed` when the port is gone.
        """
        ...

    async def close(self) -> None:
        """Release the port, within a bounded time, whatever is still unsent."""
        ...


@dataclass(frozen=True, slots=True)
class PortUri:
    """A port's URI, taken apart and checked as far as that is possible without opening it."""

    scheme: str
    target: str
    """Device path, host, or link path."""
    number: int = 0
    """Baud rate of a serial port, TCP port number."""
    text: str = field(default="", compare=False)


def parse_port(uri: str) -> PortUri:
    """Check a port's URI; UsageError names the nearest right one."""
    scheme, colon, rest = uri.partition(":")
    if scheme not in _SCHEMES or not colon:
        if uri.startswith("/"):
            hint = f"did you mean serial:{uri}?"
        else:
            near = difflib.get_close_matches(scheme, _SCHEMES, n=1)
            hint = f"did you mean {near[0]}:?" if near else f"known: {', '.join(_SCHEMES)}"
        raise UsageError(f"port {uri!r}: no such kind of port; {hint}")
    target, _, query = rest.partition("?")
    options = _options(uri, query, _SCHEMES[scheme])
    if not target:
        raise UsageError(f"port {uri!r} names nothing; write for example {_EXAMPLES[scheme]}")
    match scheme:
        case "serial":
            baudrate = options.get("baudrate", str(DEFAULT_BAUDRATE))
            if not hasattr(termios, f"B{baudrate}") or baudrate == "0":
                raise UsageError(
                    f"port {uri!r}: {baudrate} is no baud rate of a UART; "
                    f"the modules speak {DEFAULT_BAUDRATE}"
                )
            return PortUri(scheme, target, int(baudrate), uri)
        case "tcp":
            host, _, number = target.rpartition(":")
            if not host or not number.isdecimal() or not 0 < int(number) < 65_536:
                raise UsageError(
                    f"port {uri!r} needs a host and a port number 1-65535, as in "
                    f"{_EXAMPLES[scheme]}"
                )
            return PortUri(scheme, host.removeprefix("[").removesuffix("]"), int(number), uri)
        case _:
            return PortUri(scheme, target, 0, uri)


_SCHEMES: Mapping[str, tuple[str, ...]] = {"serial": ("baudrate",), "tcp": (), "pty": ()}
_EXAMPLES = {
    "serial": "serial:/dev/ttyUSB0?baudrate=115200",
    "tcp": "tcp:localhost:2000",
    "pty": "pty:/tmp/meter-tty",
}


def _options(uri: str, query: str, known: tuple[str, ...]) -> dict[str, str]:
    options = dict(parse_qsl(query, keep_blank_values=True))
    for key in options:
        if key not in known:
            near = difflib.get_close_matches(key, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known) or 'none'}"
            raise UsageError(f"port {uri!r} has no option {key!r}; {hint}")
    return options


async def open_port(uri: str) -> BytePort:
    """Open the port; UsageError for a wrong URI, MeterError for a port that cannot be had."""
    port = parse_port(uri)
    match port.scheme:
        case "serial":
            return await _open_serial(port)
        case "tcp":
            return await _open_tcp(port)
        case _:
            return PtyPort(port.target)


async def _open_serial(port: PortUri) -> BytePort:
    stream = StreamPort(port.text)
    try:
        transport, _ = await serialx.create_serial_connection(
            asyncio.get_running_loop(), lambda: stream, port.target, port.number, exclusive=True
        )
    except (OSError, ValueError, termios.error) as reason:
        raise MeterError(await _serial_trouble(port, reason)) from None
    # A rate that the UART cannot do is not an error to the kernel: it keeps another one.
    rate = termios.tcgetattr(transport.serial.fileno())[5]
    if rate != getattr(termios, f"B{port.number}"):
        await stream.close()
        raise MeterError(
            f"{port.text}: this UART cannot do {port.number} baud; name a rate it can do"
        )
    return stream


async def _serial_trouble(port: PortUri, reason: Exception) -> str:
    code = reason.args[0] if reason.args and isinstance(reason.args[0], int) else None
    match code:
        case errno.ENOENT | errno.ENODEV | errno.ENXIO:
            found = await serialx.async_list_serial_ports()
            here = ", ".join(sorted(info.device for info in found)) or "none"
            return (
                f"{port.text}: no such port; plug the module in or name another one "
                f"(ports here: {here})"
            )
        case errno.EBUSY | errno.EWOULDBLOCK:
            return f"{port.text}: port in use by another program; end it or name another port"
        case errno.EACCES | errno.EPERM:
            return (
                f"{port.text}: permission denied; add this user to the group dialout "
                "(sudo usermod -aG dialout $USER) and log in again"
            )
        case errno.ENOTTY | errno.EINVAL:
            return f"{port.text}: not a serial port; name the module's device"
        case _:
            return f"{port.text}: cannot be opened: {reason}; check the cable and the device"


async def _open_tcp(port: PortUri) -> BytePort:
    stream = StreamPort(port.text)
    loop = asyncio.get_running_loop()
    try:
        async with asyncio.timeout(TCP_CONNECT_S):
            await loop.create_connection(lambda: stream, port.target, port.number)
    except TimeoutError:
        raise MeterError(
            f"{port.text}: no answer within {TCP_CONNECT_S:.0f} s; check the host and its firewall"
        ) from None
    except OSError as reason:
        what = os.strerror(reason.errno) if reason.errno and reason.errno > 0 else str(reason)
        raise MeterError(
            f"{port.text}: cannot connect: {what}; check that the other side is listening"
        ) from None
    return stream
