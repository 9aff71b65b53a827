"""The PLC communication unit: its options, its bounds, and real ports."""

import asyncio
import random
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from plc_room import CREDENTIALS, HOME, METER, OTHERS

from meter_runtime.bench.air import FAST, Air
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.port import Dongle
from meter_runtime.bench.module.profiles import parse_module_option
from meter_runtime.bench.plc.adapter import Adapter
from meter_runtime.bench.plc.line import Line
from meter_runtime.bench.plc.modem import VirtualModem
from meter_runtime.bench.plc.port import ModemDongle
from meter_runtime.bench.plc.station import JoinFailed, PlcHems
from meter_runtime.comm.contracts import AuthFailed, AuthOk, LinkEvent, LinkStarted, UnitFault
from meter_runtime.comm.g3plc.probe import QUESTION, Interview, detect
from meter_runtime.comm.g3plc.unit import DRIVER, G3PlcUnit, driver
from meter_runtime.comm.ports import open_port
from meter_runtime.comm.pty import PtyPort
from meter_runtime.comm.skstack.probe import detect as detect_radio
from meter_runtime.errors import UsageError
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.contracts import BRouteMedium, UnitFailure
from meter_runtime.units.drivers import DriverContext

SERIAL = "45004058B5FB"


class Slot:
    """A slot whose UART is at a path."""

    def __init__(self, tty: Path) -> None:
        self._tty = tty

    def uart(self) -> str:
        return f"serial:{self._tty}"


class Socket:
    """A modem on a serial device, and a home on its line."""

    def __init__(self, tty: Path) -> None:
        clock = SystemClock()
        self.line = Line(clock, random.Random(1))
        self.modem = VirtualModem(METER, random.Random(2))
        self.dongle = ModemDongle(
            "meter", self.modem, lambda: open_port(f"pty:{tty}"), self.line, clock
        )
        self.hems = PlcHems(Adapter(HOME, random.Random(3)), self.line, clock)
        self.hems.plug()


@asynccontextmanager
async def modem_at(tty: Path) -> AsyncIterator[Socket]:
    socket = Socket(tty)
    await socket.dongle.plug()
    try:
        yield socket
    finally:
        await socket.dongle.unplug()


@asynccontextmanager
async def unit_at(tty: Path, **options: Any) -> AsyncIterator[tuple[G3PlcUnit, list[LinkEvent]]]:
    """The unit of a slot, started, and its events."""
    context = DriverContext(SystemClock(), {"port": f"serial:{tty}", **options})
    unit = driver(context)
    events: list[LinkEvent] = []

    async def listen() -> None:
        async for event in unit.events():
            events.append(event)  # noqa: PERF401 - one after the other

    listening = asyncio.create_task(listen())
    await unit.start(CREDENTIALS)
    try:
        yield unit, events
    finally:
        await unit.close()
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


async def until(kind: type[object], events: list[LinkEvent], nth: int = 1) -> None:
    async with asyncio.timeout(10):
        while sum(isinstance(event, kind) for event in events) < nth:  # noqa: ASYNC110
            await asyncio.sleep(0.01)


async def test_it_serves_a_home_over_a_real_port(tmp_path: Path) -> None:
    tty = tmp_path / "modem"
    async with modem_at(tty) as socket, unit_at(tty, join_timeout_s=1) as (unit, events):
        await until(LinkStarted, events)
        with pytest.raises(JoinFailed):
            await socket.hems.join(OTHERS.route_b_id, OTHERS.password.reveal())
        await until(AuthFailed, events)
        await socket.hems.join(CREDENTIALS.route_b_id, CREDENTIALS.password.reveal())
        await until(AuthOk, events)
        socket.hems.send(b"\x10\x81")
        async with asyncio.timeout(5):
            datagram = await unit.recv()
        assert (datagram.payload, datagram.rssi_dbm) == (b"\x10\x81", None)
        assert await unit.send(b"\x10\x82", datagram.peer)
        assert socket.hems.adapter.received[-1] == b"\x10\x82"
        assert (unit.mac, unit.nameplate.serial) == (METER, SERIAL)


async def test_a_modem_that_is_pulled_out_is_waited_for(tmp_path: Path) -> None:
    tty = tmp_path / "modem"
    async with modem_at(tty) as socket, unit_at(tty) as (_, events):
        await until(LinkStarted, events)
        await socket.dongle.unplug()
        await until(UnitFault, events)
        await socket.dongle.plug()
        await until(LinkStarted, events, nth=2)


@pytest.mark.parametrize(
    ("options", "says"),
    [
        ({"prot": "x"}, "has no option 'prot'; did you mean 'port'"),
        ({}, "needs a port"),
        ({"port": 3}, "needs a port"),
        ({"port": "seral:/dev/x"}, "did you mean serial:"),
        ({"lifetime_s": 59}, "lifetime_s is a whole number of seconds, at least 60"),
        ({"join_timeout_s": 0}, "join_timeout_s is a whole number of seconds, 1 to 3600"),
        ({"join_timeout_s": "soon"}, "join_timeout_s is a whole number"),
        ({"look_every_s": 0}, "look_every_s is a number of seconds, at least 0.1"),
    ],
)
def test_a_wrong_option_is_told(options: dict[str, Any], says: str) -> None:
    given = options if "port" in options or not options else {"port": "serial:/dev/x", **options}
    with pytest.raises(UsageError, match=says):
        driver(DriverContext(SystemClock(), given))


async def asked(tty: Path) -> Any:
    return await detect(Slot(tty))  # type: ignore[arg-type]  # all that it asks of the wires


async def test_a_modem_is_found_whether_it_was_initialised_or_not(tmp_path: Path) -> None:
    tty = tmp_path / "modem"
    async with modem_at(tty):
        plate = await asked(tty)
        assert (plate.model, plate.serial, plate.driver) == ("G3-PLC modem", "", "g3plc")
        assert plate.broute_medium is BRouteMedium.PLC
        async with unit_at(tty) as (_, events):
            await until(LinkStarted, events)
        assert (await asked(tty)).serial == ""


async def test_asking_changes_nothing_on_a_modem_that_serves(tmp_path: Path) -> None:
    tty = tmp_path / "modem"
    async with modem_at(tty) as socket, unit_at(tty) as (_, events):
        await until(LinkStarted, events)
        before = socket.modem.state
        socket.modem.receive(QUESTION, 0.0)
        interview = Interview()
        interview.hear(b"noise" + b"".join(socket.modem.take_uart()))
        plate = interview.nameplate()
        assert plate is not None
        assert plate.serial == SERIAL
        assert socket.modem.state == before


@pytest.mark.parametrize("said", [b"", b"OK\r\nFAIL ER04\r\n", QUESTION, b"~~~~\x00"])
async def test_what_is_no_modem_is_none(tmp_path: Path, said: bytes) -> None:
    tty = tmp_path / "other"
    port = PtyPort(str(tty))

    async def answer() -> None:
        while True:
            await port.read()
            port.write(said)

    answering = asyncio.create_task(answer())
    try:
        assert await asked(tty) is None
    finally:
        answering.cancel()
        await asyncio.gather(answering, return_exceptions=True)
        await port.close()


async def test_it_and_a_wi_sun_module_are_never_taken_for_each_other(tmp_path: Path) -> None:
    plc, radio = tmp_path / "plc", tmp_path / "radio"
    clock = SystemClock()
    air = Air(clock, random.Random(1), FAST)
    module = VirtualModule(parse_module_option("bp35a1:pace=1ms"), METER, random.Random(1), FAST)
    dongle = Dongle("radio", module, lambda: open_port(f"pty:{radio}"), air, clock)
    await dongle.plug()
    try:
        async with modem_at(plc):
            for _ in range(2):
                assert await asked(radio) is None
                assert await detect_radio(Slot(plc)) is None  # type: ignore[arg-type]
                assert (await asked(plc)).driver == "g3plc"
                found = await detect_radio(Slot(radio))  # type: ignore[arg-type]
                assert found is not None
                assert found.driver == "skstack"
    finally:
        await dongle.unplug()


async def test_a_port_that_cannot_be_had_is_a_failure(tmp_path: Path) -> None:
    with pytest.raises(UnitFailure, match="no such port"):
        await asked(tmp_path / "nothing")


def test_the_driver_can_ask_its_slot() -> None:
    assert DRIVER.detect is detect
