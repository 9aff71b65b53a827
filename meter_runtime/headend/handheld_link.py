"""The terminal's end of the line to a meter's local port.

What is said is :mod:`~meter_runtime.aroute.local_frames`; the meter's end is
:mod:`~meter_runtime.aroute.local_port`. TLS 1.3 both ways: the terminal believes that it talks to a
meter when the utility's authority says so, and to which one by the certificate's common name.
"""

import asyncio
import json
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from meter_runtime.aroute.cbor import MalformedError
from meter_runtime.aroute.local_frames import Frame, FrameReader, Kind
from meter_runtime.comm.mqtt import TlsFiles
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend.certificates import Unit

CONNECT_S = 10.0
ANSWER_S = 45.0
"""A command takes a meter half of a minute at most."""
CLOSE_S = 2.0
DEFAULT_PORT = 8450

_CHUNK = 4096


class RefusedError(MeterError):
    """The meter answered, and not with what was asked for."""


def parse_place(text: str) -> tuple[str, int]:
    """``HOST[:PORT]``, an IPv6 address in brackets; raises UsageError."""
    host, colon, port = text.rpartition(":")
    if not colon or "]" in port:
        host, port = text, str(DEFAULT_PORT)
    host = host.removeprefix("[").removesuffix("]")
    if (
        not host
        or not port.isascii()
        or not port.isdigit()
        or len(port) > 5
        or not 0 < int(port) <= 65_535
    ):
        raise UsageError(f'"{text}" is no local port; write HOST or HOST:PORT')
    return host, int(port)


class MeterLink:
    """One connection to one meter."""

    def __init__(
        self, meter: str, place: str, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self.meter = meter
        """Its id, by its certificate."""
        self._place = place
        self._reader = reader
        self._writer = writer
        self._frames = FrameReader(asks=False)

    async def command(self, message: bytes) -> bytes:
        """Bring a message; the meter's signed result, unverified."""
        return await self._ask(Frame(Kind.COMMAND, message), Kind.RESULT)

    async def status(self) -> dict[str, Any]:
        """The meter's diagnosis."""
        body = await self._ask(Frame(Kind.STATUS), Kind.DOCUMENT)
        try:
            document = json.loads(body)
        except (ValueError, RecursionError):
            document = None
        if not isinstance(document, dict):
            raise MeterError(f"{self._place}: that is no diagnosis of a meter's")
        return document

    async def _ask(self, asked: Frame, wanted: Kind) -> bytes:
        try:
            async with asyncio.timeout(ANSWER_S):
                self._writer.write(bytes(asked))
                await self._writer.drain()
                answer = await self._next()
        except TimeoutError:
            raise MeterError(f"{self._place}: no answer within {ANSWER_S:g} s") from None
        except ssl.SSLError:
            raise MeterError(f"{self._place}: {_NOT_LET_IN}") from None
        except OSError:
            raise MeterError(f"{self._place}: the connection broke; {_ASK_AGAIN}") from None
        except MalformedError:
            raise MeterError(f"{self._place}: that is no meter's local port") from None
        if answer.kind is Kind.REFUSED:
            said = " ".join(answer.body.decode(errors="replace").split())
            raise RefusedError(f"{self._place}: the meter refuses: {said[:200]}")
        if answer.kind is not wanted:
            raise MeterError(f"{self._place}: that is no meter's local port")
        return answer.body

    async def _next(self) -> Frame:
        while (frame := self._frames.next()) is None:
            data = await self._reader.read(_CHUNK)
            if not data:
                raise ConnectionResetError
            self._frames.take(data)
        return frame


_NOT_LET_IN = "the meter does not accept this terminal's certificate; is it of its laboratory?"
_ASK_AGAIN = "bring the same order again: the meter obeys it once and repeats its answer"


@asynccontextmanager
async def connect(
    address: tuple[str, int], tls: TlsFiles, meter: str | None = None
) -> AsyncIterator[MeterLink]:
    """A connection, and that it is to ``meter``, if one is named; raises MeterError."""
    host, port = address
    place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
    context = tls.context()
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    # Where a meter hangs says nothing: it is known by its name, below.
    context.check_hostname = False
    try:
        async with asyncio.timeout(CONNECT_S):
            reader, writer = await asyncio.open_connection(host, port, ssl=context)
    except TimeoutError:
        raise MeterError(
            f"{place}: no answer within {CONNECT_S:g} s; is another terminal at it?"
        ) from None
    except ssl.SSLError:
        raise MeterError(
            f"{place}: no meter of this terminal's laboratory; one that was enrolled before its"
            " certificate could serve a local port is enrolled anew"
        ) from None
    except OSError:
        raise MeterError(
            f"{place}: cannot be reached; hold the meter's button, and look at cable and address"
        ) from None
    try:
        name, unit = _subject(writer)
        if unit != Unit.METER:
            raise MeterError(f'{place}: "{name}" is no meter')
        if meter is not None and name != meter:
            raise MeterError(f"{place}: this is meter {name}, and not {meter}")
        yield MeterLink(name, place, reader, writer)
    finally:
        await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    try:
        async with asyncio.timeout(CLOSE_S):
            await writer.wait_closed()
    except OSError:  # a TimeoutError is one, too
        writer.transport.abort()


def _subject(writer: asyncio.StreamWriter) -> tuple[str, str]:
    """Common name and organisational unit of the other side's certificate."""
    certificate = writer.get_extra_info("peercert") or {}
    named = {key: value for part in certificate.get("subject", ()) for key, value in part}
    return named.get("commonName", ""), named.get("organizationalUnitName", "")
