"""A byte port over any asyncio stream transport: a UART or a TCP connection.

Both directions are bounded: reading pauses the transport while nobody takes the octets, and what
is written beyond the transport's buffer is dropped whole and counted, so that a stuck line costs
data and never memory.
"""

import asyncio
from typing import cast

from meter_runtime.errors import MeterError

READ_LIMIT = 65_536
"""Octets kept for the reader before the transport is paused."""
WRITE_LIMIT = 65_536
"""Octets kept for the line before writes are dropped."""
CLOSE_BOUND_S = 1.0
"""A close waits for unsent output; one that nobody takes would make it wait for ever."""


class PortClosed(MeterError):  # noqa: N818 - a state of the port, told to its reader
    """The port is gone: unplugged, hung up, or closed by us."""


class StreamPort(asyncio.Protocol):
    """A :class:`~meter_runtime.comm.ports.BytePort` that is the transport's protocol."""

    def __init__(self, name: str) -> None:
        self._name = name
        self._transport: asyncio.Transport | None = None
        self._received = bytearray()
        self._arrived = asyncio.Event()
        self._gone = asyncio.Event()
        self._reason = "the port is closed"
        self._paused = False
        self.dropped = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._received += data
        self._arrived.set()
        if len(self._received) > READ_LIMIT and not self._paused and self._transport is not None:
            self._paused = True
            self._transport.pause_reading()

    def eof_received(self) -> bool:
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        if exc is not None:
            self._reason = f"the connection was lost: {exc}"
        elif not self._gone.is_set():
            self._reason = "the other side hung up"
        self._gone.set()
        self._arrived.set()

    async def read(self) -> bytes:
        while not self._received:
            if self._gone.is_set():
                raise PortClosed(f"{self._name}: {self._reason}")
            self._arrived.clear()
            await self._arrived.wait()
        data = bytes(self._received)
        self._received.clear()
        if self._paused and self._transport is not None:
            self._paused = False
            self._transport.resume_reading()
        return data

    def write(self, data: bytes) -> None:
        if self._transport is None or self._gone.is_set() or self._transport.is_closing():
            raise PortClosed(f"{self._name}: {self._reason}")
        if self._transport.get_write_buffer_size() + len(data) > WRITE_LIMIT:
            self.dropped += len(data)
            return
        try:
            self._transport.write(data)
        except OSError as reason:
            raise PortClosed(f"{self._name}: the connection was lost: {reason}") from None

    async def close(self) -> None:
        if self._transport is None or self._gone.is_set():
            return
        self._transport.close()
        try:
            async with asyncio.timeout(CLOSE_BOUND_S):
                await self._gone.wait()
        except TimeoutError:
            self._transport.abort()
            await self._gone.wait()
