"""A G3-PLC modem as a communication unit: the driver joined to a port and to asyncio.

This shell opens the port and reopens it after a loss, carries octets, wakes the driver at its
deadlines, and hands what happened to the readers of the contract through bounded queues.
"""

import asyncio
import contextlib
import difflib
import logging
import random
import secrets
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from typing import Generic, TypeVar

from meter_runtime.clock import Clock, wait_for_event
from meter_runtime.comm.contracts import Datagram, LinkCredentials, LinkEvent
from meter_runtime.comm.g3plc.driver import LOOK_EVERY_S, Phase, PlcDriver
from meter_runtime.comm.g3plc.probe import MODEL, detect
from meter_runtime.comm.g3plc.session import JOIN_TIMEOUT_S, Received
from meter_runtime.comm.ports import BytePort, PortClosed, open_port, parse_port
from meter_runtime.comm.skstack.outbox import SendDone
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.drivers import Driver, DriverContext

log = logging.getLogger(__name__)

T = TypeVar("T")

DEFAULT_LIFETIME_S = 86_400
"""So long a home that says nothing counts as connected, as on a Wi-SUN link."""
MIN_LIFETIME_S = 60
MIN_LOOK_EVERY_S = 0.1
MIN_JOIN_TIMEOUT_S, MAX_JOIN_TIMEOUT_S = 1, 3600
MAX_DATAGRAMS = 64
MAX_EVENTS = 256
STOP_BOUND_S = 15.0
"""A mute modem takes twice 4 s for the reset."""

PortOpener = Callable[[], Awaitable[BytePort]]


class G3PlcUnit:
    """A communication unit on a G3-PLC modem.

    ``clock`` stamps what is received. The conversation with the modem runs on ``line_clock``, by
    default the host's: the other end of a UART lives in real time, and a bench that moves its
    meter's clock by a day must not make a healthy modem look silent.
    """

    medium = "PLC"

    def __init__(
        self,
        clock: Clock,
        open_port: PortOpener,
        *,
        lifetime_s: int = DEFAULT_LIFETIME_S,
        join_timeout_s: int = JOIN_TIMEOUT_S,
        look_every_s: float = LOOK_EVERY_S,
        rng: random.Random | None = None,
        line_clock: Clock | None = None,
    ) -> None:
        self._clock = clock
        self._line_clock = line_clock or SystemClock()
        self._open_port = open_port
        self._driver = PlcDriver(
            rng or random.Random(),
            secrets.token_bytes,
            lifetime_s=lifetime_s,
            join_timeout_s=join_timeout_s,
            look_every_s=look_every_s,
        )
        self._port: BytePort | None = None
        self._dropped_by_ports = 0
        self._wake = asyncio.Event()
        self._task: asyncio.Task[None] | None = None
        self._datagrams: _Queue[Datagram] = _Queue(MAX_DATAGRAMS)
        self._events: _Queue[LinkEvent] = _Queue(MAX_EVENTS)
        self._sends: dict[int, asyncio.Future[bool]] = {}

    @property
    def nameplate(self) -> Nameplate:
        """The modem's own data once it was asked; its serial is the end of its MAC address."""
        mac = self.mac
        return Nameplate(
            kind=UnitKind.COMMUNICATION,
            model=MODEL,
            serial="" if mac is None else mac.hex().upper()[-12:],
        )

    @property
    def mac(self) -> bytes | None:
        """The modem's EUI-64, once it told it."""
        network = self._driver.network
        return None if network is None else network.mac

    @property
    def counters(self) -> dict[str, int]:
        return self._driver.counters | {
            "rx_dropped": self._datagrams.dropped,
            "events_dropped": self._events.dropped,
            "uart_dropped": self._dropped_by_ports + (self._port.dropped if self._port else 0),
        }

    async def start(self, credentials: LinkCredentials) -> None:
        """Bring the link up, and keep bringing it up until :meth:`stop`."""
        self._datagrams.clear()
        self._driver.start(credentials, self._now())
        self._go()

    async def vacate(self) -> None:
        """Have the modem forget whom it admitted, at once or once it can be reached."""
        self._driver.vacate(self._now())
        self._go()

    async def stop(self) -> None:
        """End the session and release the port, within :data:`STOP_BOUND_S`."""
        task, self._task = self._task, None
        if task is None:
            return
        self._driver.stop(self._now())
        self._pass_on()
        bound = self._now() + STOP_BOUND_S
        ended = asyncio.Event()
        task.add_done_callback(lambda _: ended.set())
        if not await wait_for_event(self._line_clock, ended, bound):
            task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        self._driver.port_lost("stopped", self._now())
        self._pass_on()

    async def close(self) -> None:
        """As :meth:`stop`; harmless twice."""
        await self.stop()

    async def set_credentials(self, credentials: LinkCredentials) -> None:
        """Drop the session and admit only holders of the new credentials."""
        # What the former home has asked is nobody's any more.
        self._datagrams.clear()
        self._driver.set_credentials(credentials, self._now())
        self._pass_on()

    async def events(self) -> AsyncIterator[LinkEvent]:
        """Link events in order; one reader."""
        while True:
            yield await self._events.get()

    async def send(self, payload: bytes, peer: str) -> bool:
        """Send to ``peer`` or ``ALL_NODES``; True once the modem reports it sent."""
        send_id = self._driver.send(payload, peer, self._now())
        done: asyncio.Future[bool] = asyncio.get_running_loop().create_future()
        self._sends[send_id] = done
        self._pass_on()
        try:
            return await done
        finally:
            self._sends.pop(send_id, None)

    async def recv(self) -> Datagram:
        """The next datagram from the joined home. It has no strength in dBm on a power line."""
        return await self._datagrams.get()

    def _now(self) -> float:
        return self._line_clock.monotonic()

    def _stopped(self) -> bool:
        return self._driver.phase is Phase.STOPPED

    def _go(self) -> None:
        """See to it that what the driver wants is done."""
        self._pass_on()
        if not self._stopped() and (self._task is None or self._task.done()):
            self._task = asyncio.create_task(self._run(), name="g3plc unit")

    async def _run(self) -> None:
        """Serve until the driver has stopped; a defect costs a restart, never the B-route."""
        while not self._stopped():
            try:
                await self._serve()
            except Exception:
                log.exception("the g3plc driver failed and starts over")
                self._driver.port_lost("the driver failed; see the log", self._now())
                self._pass_on()

    async def _serve(self) -> None:
        """One turn without a port, or one port's life."""
        if self._driver.port_wanted:
            await self._connect()
        port = self._port
        if port is None:
            await self._turn()
            return
        reading = asyncio.create_task(self._read(port), name="g3plc port")
        reading.add_done_callback(lambda _: self._wake.set())
        try:
            while not self._stopped() and not reading.done():
                await self._turn()
            if reading.done():
                reading.result()
        finally:
            self._port = None
            if self._stopped():
                # Whoever wants it while it is being closed opens it anew.
                self._driver.port_lost("released", self._now())
            self._dropped_by_ports += port.dropped
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await port.close()

    async def _turn(self) -> None:
        """Wait for the next deadline or a wake-up, and let the driver act."""
        self._wake.clear()
        await wait_for_event(self._line_clock, self._wake, self._driver.next_deadline())
        self._driver.tick(self._now())
        self._pass_on()

    async def _connect(self) -> None:
        try:
            self._port = await self._open_port()
        except (MeterError, OSError) as reason:
            self._driver.port_lost(str(reason), self._now())
        else:
            self._driver.port_opened(self._now())
        self._pass_on()

    async def _read(self, port: BytePort) -> None:
        try:
            while True:
                data = await port.read()
                self._driver.receive(data, self._now())
                self._pass_on()
        except PortClosed as reason:
            self._driver.port_lost(str(reason), self._now())
            self._pass_on()

    def _pass_on(self) -> None:
        """Carry out what the driver wants and tell what it saw."""
        output = self._driver.take_output()
        if output and self._port is not None:
            with contextlib.suppress(PortClosed):  # the reader learns it too, and tells
                self._port.write(output)
        for event in self._driver.take_events():
            match event:
                case Received(payload, peer):
                    self._datagrams.put(Datagram(payload, peer, self._clock.monotonic()))
                case SendDone(send_id, ok):
                    done = self._sends.get(send_id)
                    if done is not None and not done.done():
                        done.set_result(ok)
                case _:
                    self._events.put(event)
        self._wake.set()


class _Queue(Generic[T]):
    """A bounded queue for one reader; a full one drops and counts its oldest."""

    def __init__(self, limit: int) -> None:
        self._items: deque[T] = deque(maxlen=limit)
        self._filled = asyncio.Event()
        self.dropped = 0

    def put(self, item: T) -> None:
        self.dropped += len(self._items) == self._items.maxlen
        self._items.append(item)
        self._filled.set()

    def clear(self) -> None:
        self._items.clear()

    async def get(self) -> T:
        while not self._items:
            self._filled.clear()
            await self._filled.wait()
        return self._items.popleft()


_OPTIONS = ("port", "lifetime_s", "join_timeout_s", "look_every_s")


def driver(context: DriverContext) -> G3PlcUnit:
    """The driver ``g3plc``.

    ``port`` is a URI, by default the slot's UART. ``lifetime_s`` is how long a home that says
    nothing counts as connected, ``join_timeout_s`` after how long a join that was not completed
    has failed, ``look_every_s`` (at least 0.1) after how much silence the modem is asked whether
    it lives.
    """
    options = context.options
    for key in options:
        if key not in _OPTIONS:
            raise UsageError(f"the g3plc driver has no option {key!r}; {_near(key, _OPTIONS)}")
    uri = options.get("port")
    if uri is None and context.wires is not None:
        uri = context.wires.uart()
    if not isinstance(uri, str):
        raise UsageError("the g3plc driver needs a port, for example serial:/dev/ttyUSB0")
    parse_port(uri)
    lifetime_s = options.get("lifetime_s", DEFAULT_LIFETIME_S)
    if not isinstance(lifetime_s, int) or lifetime_s < MIN_LIFETIME_S:
        raise UsageError(
            f"lifetime_s is a whole number of seconds, at least {MIN_LIFETIME_S},"
            f" not {lifetime_s!r}"
        )
    join_timeout_s = options.get("join_timeout_s", JOIN_TIMEOUT_S)
    if (
        not isinstance(join_timeout_s, int)
        or not MIN_JOIN_TIMEOUT_S <= join_timeout_s <= MAX_JOIN_TIMEOUT_S
    ):
        raise UsageError(
            f"join_timeout_s is a whole number of seconds, {MIN_JOIN_TIMEOUT_S} to"
            f" {MAX_JOIN_TIMEOUT_S}, not {join_timeout_s!r}"
        )
    look_every_s = options.get("look_every_s", LOOK_EVERY_S)
    if not isinstance(look_every_s, int | float) or not look_every_s >= MIN_LOOK_EVERY_S:
        raise UsageError(
            f"look_every_s is a number of seconds, at least {MIN_LOOK_EVERY_S:g},"
            f" not {look_every_s!r}"
        )
    return G3PlcUnit(
        context.clock,
        lambda: open_port(uri),
        lifetime_s=lifetime_s,
        join_timeout_s=join_timeout_s,
        look_every_s=look_every_s,
        rng=context.rng,
    )


def _near(given: str, known: Iterable[str]) -> str:
    names = list(known)
    near = difflib.get_close_matches(given, names, n=1)
    return f"did you mean {near[0]!r}?" if near else f"known: {', '.join(names)}"


async def _build(context: DriverContext) -> G3PlcUnit:
    return driver(context)


DRIVER = Driver(build=_build, detect=detect)
