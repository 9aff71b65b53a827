"""The communication unit: driver, port and asyncio together."""

import asyncio
import contextlib
import heapq
import logging
import random
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import pytest
from scripted_module import CREDENTIALS, HOME, MAC, OWN, PASSWORD, ScriptedModule

from meter_runtime.clock import Trust
from meter_runtime.comm.contracts import (
    ALL_NODES,
    AuthOk,
    CommunicationUnit,
    LinkCredentials,
    LinkEvent,
    LinkStarted,
    LinkStartFailed,
    PeerLeft,
    UnitFault,
)
from meter_runtime.comm.ports import BytePort, open_port
from meter_runtime.comm.pty import PtyPort
from meter_runtime.comm.skstack.dialects import DSE, SE
from meter_runtime.comm.skstack.unit import MAX_DATAGRAMS, SkstackUnit, driver
from meter_runtime.comm.streams import PortClosed
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.secret import Secret
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.drivers import DriverContext


class ManualClock:
    """Time that passes only when a test says so."""

    trust = Trust.SYNCED

    def __init__(self) -> None:
        self.now = 1_000.0
        self._timers: list[tuple[float, int, _Timer]] = []
        self._count = 0

    def monotonic(self) -> float:
        return self.now

    def wall(self) -> float:
        return self.now

    def call_at(self, when: float, callback: Callable[[], None]) -> "_Timer":
        timer = _Timer(callback)
        self._count += 1
        heapq.heappush(self._timers, (when, self._count, timer))
        return timer

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        return lambda: None

    async def advance(self, seconds: float) -> None:
        end = self.now + seconds
        await turns()
        while self._timers and self._timers[0][0] <= end:
            when, _, timer = heapq.heappop(self._timers)
            if not timer.cancelled:
                self.now = max(self.now, when)
                timer.callback()
                await turns()
        self.now = end
        await turns()


class _Timer:
    def __init__(self, callback: Callable[[], None]) -> None:
        self.callback = callback
        self.cancelled = False

    def cancel(self) -> None:
        self.cancelled = True


async def turns() -> None:
    for _ in range(50):
        await asyncio.sleep(0)


class ModuleInMemory:
    """A byte port with a scripted module right behind it."""

    def __init__(self, module: ScriptedModule) -> None:
        self.module = module
        self.dropped = 0
        self.closed = False
        self._answers: asyncio.Queue[bytes | None] = asyncio.Queue()

    async def read(self) -> bytes:
        data = await self._answers.get()
        if data is None:
            raise PortClosed("test: the connection was lost")
        return data

    def write(self, data: bytes) -> None:
        if answer := self.module.receive(data):
            self.say(answer)

    def say(self, data: bytes) -> None:
        self._answers.put_nowait(data)

    def unplug(self) -> None:
        self._answers.put_nowait(None)

    async def close(self) -> None:
        self.closed = True


class Laboratory:
    """A unit over modules in memory, on a manual clock; its events are kept."""

    def __init__(self, **options: Any) -> None:
        self.clock = ManualClock()
        self.module = ScriptedModule(SE)
        self.absent: str | None = None
        self.ports: list[ModuleInMemory] = []
        self.trace: list[tuple[str, bytes]] = []
        self.events: list[LinkEvent] = []
        self.unit = SkstackUnit(
            self.clock,
            self.open,
            rng=random.Random(1),
            line_clock=self.clock,
            trace=lambda direction, data: self.trace.append((direction, data)),
            **options,
        )

    async def open(self) -> BytePort:
        if self.absent is not None:
            raise MeterError(self.absent)
        self.ports.append(ModuleInMemory(self.module))
        return self.ports[-1]

    async def follow(self) -> None:
        async for event in self.unit.events():
            self.events.append(event)

    async def join(self) -> None:
        self.ports[-1].say(self.module.event(0x25))
        await turns()

    def told(self) -> list[LinkEvent]:
        events, self.events = self.events, []
        return events


@contextlib.asynccontextmanager
async def laboratory(**options: Any) -> AsyncIterator[Laboratory]:
    lab = Laboratory(**options)
    following = asyncio.create_task(lab.follow())
    await lab.unit.start(CREDENTIALS)
    await turns()
    try:
        yield lab
    finally:
        await lab.unit.stop()
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


async def test_it_serves_the_contract() -> None:
    async with laboratory() as lab:
        unit: CommunicationUnit = lab.unit
        assert isinstance(lab.told()[0], LinkStarted)
        await lab.join()
        assert lab.told() == [AuthOk(HOME, 86_400)]
        lab.ports[-1].say(lab.module.datagram(b"\x10\x81"))
        datagram = await unit.recv()
        assert (datagram.payload, datagram.peer) == (b"\x10\x81", HOME)
        assert datagram.received_at == lab.clock.now
        assert await unit.send(b"\x01", ALL_NODES)
        assert lab.module.sent == [(ALL_NODES, b"\x01")]
        assert unit.medium == "920MHz"
        assert unit.nameplate.serial == MAC.hex().upper()[-12:]
        assert unit.nameplate.fw_version == "1.2.10 rev26e"
        assert (lab.unit.address, lab.unit.mac) == (OWN, MAC)
        assert unit.counters["tx"] == unit.counters["rx"] == 1
    assert lab.events == [PeerLeft(HOME)]
    assert lab.ports[-1].closed
    assert lab.module.registers["S15"] == "0"


async def test_it_can_be_started_again_after_a_stop() -> None:
    async with laboratory() as lab:
        await lab.unit.stop()
        assert lab.ports[0].closed
        await lab.unit.start(CREDENTIALS)
        await turns()
        assert len(lab.ports) == 2
        assert [type(event) for event in lab.told()] == [LinkStarted, LinkStarted]


async def test_a_port_that_is_not_there_is_tried_again_and_again() -> None:
    lab = Laboratory()
    lab.absent = "serial:/dev/ttyUSB9: no such port"
    following = asyncio.create_task(lab.follow())
    await lab.unit.start(CREDENTIALS)
    await lab.clock.advance(200.0)
    failures = lab.told()
    assert failures[:3] == [LinkStartFailed(lab.absent, pause) for pause in (1.0, 2.0, 4.0)]
    assert failures[-1] == LinkStartFailed(lab.absent, 60.0)
    lab.absent = None
    await lab.clock.advance(60.0)
    assert [type(event) for event in lab.told()] == [LinkStarted]
    await lab.unit.stop()
    following.cancel()


async def test_an_unplugged_module_comes_back_with_a_new_port() -> None:
    async with laboratory() as lab:
        await lab.join()
        lab.told()
        lab.ports[-1].unplug()
        await turns()
        assert lab.told() == [UnitFault("test: the connection was lost"), PeerLeft(HOME)]
        assert lab.ports[0].closed
        assert not await lab.unit.send(b"\x01", HOME)
        await lab.clock.advance(1.0)
        assert [type(event) for event in lab.told()] == [LinkStarted]
        assert len(lab.ports) == 2


async def test_sends_end_when_the_unit_is_stopped() -> None:
    async with laboratory() as lab:
        await lab.join()
        lab.module.deaf_to.add("SKSENDTO")
        sending = asyncio.create_task(lab.unit.send(b"\x01", HOME))
        await turns()
        assert not sending.done()
        await lab.unit.stop()
        assert not await sending


async def test_a_stop_is_bounded_by_a_mute_module() -> None:
    async with laboratory() as lab:
        await lab.join()
        lab.module.silent = True
        stopping = asyncio.create_task(lab.unit.stop())
        await lab.clock.advance(12.0)
        assert not stopping.done()
        await lab.clock.advance(2.0)
        assert stopping.done()
        assert lab.ports[-1].closed


async def test_the_oldest_of_too_many_unread_datagrams_is_dropped() -> None:
    async with laboratory() as lab:
        await lab.join()
        for number in range(MAX_DATAGRAMS + 3):
            lab.ports[-1].say(lab.module.datagram(bytes((number,))))
        await turns()
        await turns()
        assert (await lab.unit.recv()).payload == b"\x03"
        assert lab.unit.counters["rx_dropped"] == 3


async def test_new_credentials_restart_the_link() -> None:
    async with laboratory() as lab:
        await lab.join()
        lab.told()
        await lab.unit.set_credentials(
            LinkCredentials("FF112233445566778899AABBCCDDEEFF", Secret("NEWPASSWORD1"))
        )
        await turns()
        left, started = lab.told()
        assert left == PeerLeft(HOME)
        assert isinstance(started, LinkStarted)
        assert "SKSETPWD C NEWPASSWORD1" in lab.module.heard


@pytest.mark.parametrize("by", ["rewriting", "starting anew"])
async def test_what_the_former_home_asked_is_not_read_for_the_next(by: str) -> None:
    async with laboratory() as lab:
        await lab.join()
        lab.ports[-1].say(lab.module.datagram(b"of the former home"))
        await turns()
        if by == "rewriting":
            await lab.unit.set_credentials(CREDENTIALS)
        else:
            await lab.unit.stop()
            await lab.unit.start(CREDENTIALS)
        await turns()
        await lab.join()
        lab.ports[-1].say(lab.module.datagram(b"of the next"))
        assert (await lab.unit.recv()).payload == b"of the next"


async def test_a_defect_in_the_driver_costs_a_restart_only(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with laboratory() as lab:
        lab.told()
        real = lab.unit._driver.receive

        def broken(data: bytes, now: float) -> None:
            monkeypatch.setattr(lab.unit._driver, "receive", real)
            raise RuntimeError("defect")

        monkeypatch.setattr(lab.unit._driver, "receive", broken)
        lab.ports[-1].say(b"OK\r\n")
        with caplog.at_level(logging.ERROR):
            await turns()
        assert "starts over" in caplog.text
        await lab.clock.advance(1.0)
        assert [type(event) for event in lab.told()] == [UnitFault, LinkStarted]


async def test_the_trace_and_the_log_show_everything_but_the_credentials(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level(logging.DEBUG):
        lab = Laboratory()
        lab.module.refuses["SFE"] = 4
        await lab.unit.start(CREDENTIALS)
        await turns()
        await lab.unit.stop()
    assert ("tx", b"SKSTART\r\n") in lab.trace
    assert ("rx", b"EVER 1.2.10\r") in lab.trace
    shown = b"".join(data for _, data in lab.trace)
    assert b"SKSETPWD ******" in shown
    for secret in (PASSWORD, CREDENTIALS.route_b_id):
        assert secret.encode() not in shown
        assert secret not in caplog.text


@pytest.mark.parametrize("dialect", [SE, DSE])
async def test_over_a_real_pseudo_terminal(tmp_path: Path, dialect: Any) -> None:
    link = tmp_path / "tty"
    module = ScriptedModule(dialect, hex_data=False)
    far = PtyPort(str(link))

    async def serve() -> None:
        while True:
            far.write(module.receive(await far.read()))

    serving = asyncio.create_task(serve())
    unit = SkstackUnit(SystemClock(), lambda: open_port(f"serial:{link}"), dialect=dialect)
    await unit.start(CREDENTIALS)
    events = unit.events()
    async with asyncio.timeout(20.0):
        assert isinstance(await anext(events), LinkStarted)
        far.write(module.event(0x25))
        assert await anext(events) == AuthOk(HOME, 86_400)
        far.write(module.datagram(bytes(range(256))))
        assert (await unit.recv()).payload == bytes(range(256))
        assert await unit.send(bytes(range(256)), HOME)
        assert module.sent == [(HOME, bytes(range(256)))]
        await unit.stop()
        assert not far.opened
    serving.cancel()
    await asyncio.gather(serving, return_exceptions=True)
    await far.close()


def test_the_driver_is_built_from_the_configuration() -> None:
    async def build() -> SkstackUnit:
        options = {"port": "serial:/dev/ttyUSB0", "profile": "bp35c2", "lifetime_s": 900}
        return driver(DriverContext(SystemClock(), options))

    unit = asyncio.run(build())
    assert (unit.nameplate.model, unit.nameplate.maker) == ("BP35C2", "ROHM")
    assert unit._driver._expected is DSE


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ({}, "needs a port"),
        ({"port": "serail:/x"}, "did you mean serial:?"),
        ({"port": "serial:/x", "profil": "bp35a1"}, "did you mean 'profile'?"),
        ({"port": "serial:/x", "profile": "bp35a2"}, "did you mean 'bp35"),
        ({"port": "serial:/x", "dialect": "DSEE"}, "did you mean 'DSE'?"),
        ({"port": "serial:/x", "lifetime_s": "1d"}, "whole number of seconds"),
        ({"port": "serial:/x", "lifetime_s": 5}, "at least 60"),
    ],
)
def test_a_wrong_option_names_the_nearest_right_one(options: dict[str, Any], hint: str) -> None:
    with pytest.raises(UsageError) as error:
        driver(DriverContext(SystemClock(), options))
    assert hint in str(error.value)
