"""The meter's local port: where a hand-held terminal brings commands to and reads the diagnosis.

TLS 1.3 over TCP, on whatever network the terminal plugs into (a USB gadget, a cable). It listens
only while somebody stands at the meter: a button, held, opens it for a while. A terminal shows a
certificate of the utility's authority whose organisational unit is *terminal* and whose name the
meter's trust file has as a carrier; the meter shows its own. What is said then is
:mod:`~meter_runtime.aroute.local_frames`; a command goes through the same gate as one from afar,
and needs the terminal's signature besides.

One terminal is heard at a time, and others wait in a queue of one: every wait and every count has a
bound, so that whoever reaches the port can neither fill memory nor keep the meter busy. The
diagnosis tells how the meter and its service do, and nothing about the home: no energy, no
credentials, no addresses.
"""

import asyncio
import ipaddress
import json
import logging
import socket
import ssl
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Protocol, TypeVar

from meter_runtime.aroute import results
from meter_runtime.aroute.cbor import MalformedError
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.events import CommandDone
from meter_runtime.aroute.local_frames import MAX_ANSWERED, Frame, FrameReader, Kind, refusal
from meter_runtime.aroute.presence import (
    HOLD_S,
    LocalPortOpened,
    Presence,
    TerminalConnected,
)
from meter_runtime.aroute.trust import Trust as Trusted
from meter_runtime.clock import Clock, Trust, sleep_until
from meter_runtime.comm.mqtt import TlsFiles
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.events import EventBus
from meter_runtime.units.gpio import InputLine

log = logging.getLogger(__name__)

HANDSHAKE_S = 10.0
IDLE_S = 30.0
"""How long a terminal may say nothing, or take nothing."""
SESSION_S = 300.0
"""How long it may stay; one that began in time may end."""
ANSWER_S = 30.0
"""How long a command is waited for. It is carried out to its end all the same."""
MAX_ASKED_PER_SESSION = 32
CLOSE_S = 2.0
PAUSE_S = 0.5
"""After whoever was not let in: strangers cost a handshake, and not more often than this."""
HOLD_US = int(HOLD_S * 1_000_000)
"""The debouncing that the button's line is opened with."""

_CHUNK = 4096
_QUEUE = 1
_NO_CHECK_TIME = 0x200000
"""X509_V_FLAG_NO_CHECK_TIME of OpenSSL, which Python's ssl has no name for."""
_TERMINAL = Way.TERMINAL.value
"""The organisational unit of a terminal's certificate."""

T = TypeVar("T")


class Gate(Protocol):
    """What is used of :class:`~meter_runtime.aroute.gate.Gate`."""

    async def take(self, message: bytes, way: Way) -> bytes | None: ...


def parse_listen(text: str) -> tuple[str, int]:
    """Address and port of ``[local] listen``; raises UsageError."""
    host, _, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not (
        _is_address(host)
        and port.isascii()
        and port.isdigit()
        and len(port) <= 5
        and int(port) <= 65_535
    ):
        raise UsageError(
            f'[local] listen: "{text}" is no place to listen; write ADDRESS:PORT, 0.0.0.0:8450'
        )
    return host, int(port)


def _is_address(host: str) -> bool:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        return False
    return True


class LocalPort:
    """Serves terminals. ``status`` gives what JSON can say.

    ``open_button`` opens the button's line for edges, debounced by :data:`HOLD_US`; None: somebody
    is always there, as at a bench.
    """

    def __init__(
        self,
        gate: Gate,
        trusted: Trusted,
        listen: tuple[str, int],
        tls: TlsFiles,
        *,
        status: Callable[[], Mapping[str, Any]],
        open_button: Callable[[], InputLine] | None,
        clock: Clock,
        bus: EventBus,
    ) -> None:
        self.address: tuple[str, int] | None = None
        """Where it listens; None while it does not."""
        self._gate = gate
        self._trusted = trusted
        self._listen = listen
        self._tls = tls
        self._status = status
        self._open_button = open_button
        self._clock = clock
        self._bus = bus
        self._presence = Presence(always=open_button is None)
        self._stirred = asyncio.Event()
        self._counts: Counter[str] = Counter()
        self._at_work: set[asyncio.Task[bytes | None]] = set()

    def check(self) -> None:
        """Raise UsageError for certificate files that cannot be used.

        That the address is there is not asked: the terminal may bring the network.
        """
        self._context()

    async def run(self) -> None:
        """Serve until cancelled."""
        tasks: list[asyncio.Task[None]] = [asyncio.create_task(self._open_and_close())]
        if self._open_button is not None:
            tasks.append(asyncio.create_task(self._watch(self._open_button)))
        try:
            done, _ = await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()  # neither ends but by a failure
        finally:
            for task in tasks:
                task.cancel()
            for command in self._at_work:
                command.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    def press(self) -> None:
        """Somebody is there: open the port, or leave it open for longer."""
        self._presence.pressed(self._clock.monotonic())
        self._counts["opened"] += 1
        self._stirred.set()
        self._bus.publish(LocalPortOpened())

    def report(self) -> dict[str, Any]:
        """The ``local_port`` part of the status document."""
        left_s = self._presence.left_s(self._clock.monotonic())
        return {
            "open": left_s > 0,
            "closes_in_s": None if self._presence.always else round(left_s),
            "counters": dict(self._counts),
        }

    async def _watch(self, open_button: Callable[[], InputLine]) -> None:
        line = open_button()
        try:
            while True:
                if any(edge.active for edge in await line.edges()):
                    self.press()
        finally:
            line.close()

    async def _open_and_close(self) -> None:
        while True:
            self._stirred.clear()
            if self._left_s() <= 0:
                await self._stirred.wait()
                continue
            with self._bound() as listener:
                listener.listen(_QUEUE)
                self.address = listener.getsockname()[:2]
                log.info("the local port is open at %s:%d", *self.address)
                try:
                    await self._take_turns(listener)
                finally:
                    self.address = None
            log.info("the local port is closed")

    async def _take_turns(self, listener: socket.socket) -> None:
        """One terminal after the other, until nobody is there any more."""
        loop = asyncio.get_running_loop()
        while (left_s := self._left_s()) > 0:
            accepted = await self._within(left_s, loop.sock_accept(listener))
            if accepted is None:
                continue  # the time is over, if nobody has prolonged it meanwhile
            connection, _ = accepted
            if await self._within(SESSION_S, self._serve(connection)) is False:
                self._counts["refused"] += 1
                await sleep_until(self._clock, self._clock.monotonic() + PAUSE_S)

    async def _serve(self, connection: socket.socket) -> bool:
        """One terminal, from its first byte to its last; False: it was not let in."""
        loop = asyncio.get_running_loop()
        reader = asyncio.StreamReader(limit=_CHUNK)
        protocol = asyncio.StreamReaderProtocol(reader)
        connection.setblocking(False)
        try:
            transport, _ = await loop.connect_accepted_socket(
                lambda: protocol,
                connection,
                ssl=self._context(),
                ssl_handshake_timeout=HANDSHAKE_S,
                ssl_shutdown_timeout=CLOSE_S,
            )
        except OSError as failure:
            connection.close()
            log.info("local port: no TLS with whoever connected: %s", failure)
            return False
        writer = asyncio.StreamWriter(transport, protocol, reader, loop)
        try:
            let_in = await self._converse(reader, writer)
            writer.close()
            await self._within(CLOSE_S, writer.wait_closed())
        except OSError:
            return True  # it went away: nobody is left to tell
        else:
            return let_in
        finally:
            transport.abort()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        name, unit = _subject(writer)
        if unit != _TERMINAL or self._trusted.carrier(name, Way.TERMINAL) is None:
            log.warning('local port: the certificate of "%s" is of no terminal that is known', name)
            await self._say(writer, refusal("this certificate is of no terminal that is known"))
            return False
        log.info("local port: terminal %s is connected", name)
        self._counts["sessions"] += 1
        self._bus.publish(TerminalConnected(name))
        frames = FrameReader(asks=True)
        for _ in range(MAX_ASKED_PER_SESSION):
            asked = await self._next(reader, frames)
            if asked is None:
                return True
            await self._say(writer, await self._answer(asked))
        await self._say(writer, refusal("that is enough; connect again for more"))
        return True

    async def _next(self, reader: asyncio.StreamReader, frames: FrameReader) -> Frame | None:
        """What is asked next; None where nothing more comes, or nothing that can be read."""
        deadline = self._clock.monotonic() + IDLE_S
        while True:
            try:
                if (frame := frames.next()) is not None:
                    return frame
            except MalformedError:
                self._counts["malformed"] += 1
                return None
            data = await self._within(deadline - self._clock.monotonic(), reader.read(_CHUNK))
            if not data:
                return None
            frames.take(data)

    async def _answer(self, asked: Frame) -> Frame:
        if asked.kind is Kind.STATUS:
            self._counts["statuses"] += 1
            document = json.dumps(self._status()).encode()
            if len(document) > MAX_ANSWERED:
                log.error("the diagnosis is too long for the local port: %d bytes", len(document))
                return refusal("the diagnosis is too long to be told here")
            return Frame(Kind.DOCUMENT, document)
        self._counts["commands"] += 1
        # Its own task: a terminal that is pulled off does not cut a command off.
        task = asyncio.create_task(self._carry_out(asked.body))
        self._at_work.add(task)
        task.add_done_callback(self._at_work.discard)
        result = await self._within(ANSWER_S, asyncio.shield(task))
        if result is not None:
            return Frame(Kind.RESULT, result)
        if task.done():
            return refusal("the meter says nothing to this now; wait a minute and bring it again")
        return refusal("the meter is still at it; bring the same command again for its result")

    async def _carry_out(self, message: bytes) -> bytes | None:
        try:
            result = await self._gate.take(message, Way.TERMINAL)
        except Exception as failure:  # one command's fault stays that command's
            log.error("a command was left undone: %s", type(failure).__name__)
            return None
        if result is not None:
            told = results.peek(result)
            if told.command_id is not None and told.code is not Code.REJECTED:
                self._bus.publish(CommandDone(told.command_id, told.code))
        return result

    async def _say(self, writer: asyncio.StreamWriter, frame: Frame) -> None:
        writer.write(bytes(frame))
        await self._within(IDLE_S, writer.drain())

    async def _within(self, seconds: float, what: Awaitable[T]) -> T | None:
        """What it gives, or None when it takes longer than this, by the meter's clock."""
        task = asyncio.ensure_future(what)

        def end() -> None:
            task.cancel()

        timer = None
        if seconds != float("inf"):
            timer = self._clock.call_at(self._clock.monotonic() + seconds, end)
        try:
            await asyncio.wait((task,))
            return None if task.cancelled() else task.result()
        except asyncio.CancelledError:
            task.cancel()
            await asyncio.wait((task,))
            raise
        finally:
            if timer is not None:
                timer.cancel()

    def _left_s(self) -> float:
        return self._presence.left_s(self._clock.monotonic())

    def _bound(self) -> socket.socket:
        host, port = self._listen
        try:
            # A number, so that nobody is asked what it means.
            family, kind, *_, place = socket.getaddrinfo(
                host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST
            )[0]
            bound = socket.socket(family, kind)
            try:
                bound.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
                bound.setblocking(False)
                bound.bind(place)
            except OSError:
                bound.close()
                raise
        except OSError as failure:
            raise MeterError(
                f"[local] listen: {host} port {port}: {failure.strerror or failure};"
                " look at the network's address"
            ) from None
        return bound

    def _context(self) -> ssl.SSLContext:
        self._tls.context()  # it tells best what is wrong with the files
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.verify_mode = ssl.CERT_REQUIRED
        context.load_verify_locations(cafile=self._tls.ca)
        context.load_cert_chain(self._tls.certificate, self._tls.key, password="")
        if self._clock.trust is Trust.UNSET:
            # Whoever comes to set the clock must not be told that his certificate is too new.
            context.verify_flags |= _NO_CHECK_TIME
        return context


def _subject(writer: asyncio.StreamWriter) -> tuple[str, str]:
    """Common name and organisational unit of the other side's certificate."""
    certificate = writer.get_extra_info("peercert") or {}
    named = {key: value for part in certificate.get("subject", ()) for key, value in part}
    return named.get("commonName", ""), named.get("organizationalUnitName", "")
