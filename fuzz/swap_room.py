"""A whole meter on the bench's board, in virtual time, whose units somebody plays with.

Real are the runtime, discovery, the drivers of metering and switching unit and the models of their
chips. The communication unit is a stand-in: a link that is up while its unit is plugged in.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

from fuzz.virtual_time import LoopClock
from meter_runtime import config as cfg
from meter_runtime.bench.board.bus import VirtualI2C
from meter_runtime.bench.board.plugged import Switch
from meter_runtime.bench.body import MeterBody
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import Clock, sleep_until
from meter_runtime.comm.contracts import (
    Datagram,
    LinkCredentials,
    LinkEvent,
    LinkStarted,
    UnitFault,
)
from meter_runtime.runtime import Meter, build
from meter_runtime.secret import Secret
from meter_runtime.storage.stores import open_file_stores
from meter_runtime.units import drivers
from meter_runtime.units.buses import AsyncI2C, ImmediateBus
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.drivers import Driver, DriverContext

HOME = LinkCredentials("0123456789ABCDEF0123456789ABCDEF", Secret("ABCDEFGHIJKL"))
DEVICE_KEY = bytes(range(32))
START = 1_795_143_600.0
"""A half-hour boundary."""

LOAD = "time,power_w\n0,700\n600,-400\n1500,2000\n"

UNITS = """
[[unit]]
slot = "communication"
model = "CU-RF-920-2"
serial = "C00000000001"

[[unit]]
slot = "metering"
model = "MU-1P3W-60-2"
serial = "M00000000001"
calibration = { keeps_registers = 1 }

[[unit]]
slot = "optional"
model = "OU-SW-60"
serial = "S00000000001"
"""

STAND_IN = "stand-in"
BARE = Nameplate(UnitKind.COMMUNICATION, "Wi-SUN module", "")
"""A unit whose ID EEPROM could not be read is taken for a module alone."""


class Radio:
    """The stand-in's other end: there while its unit is plugged in."""

    def __init__(self) -> None:
        self.plugged = True

    async def plug(self) -> None:
        self.plugged = True

    async def unplug(self) -> None:
        self.plugged = False

    def renew(self) -> None:
        """Another unit has another one, which is as good."""


class StandIn:
    """A communication unit that nobody speaks with."""

    medium = "920MHz"
    mac = None

    def __init__(self, clock: Clock, nameplate: Nameplate, radio: Radio) -> None:
        self.nameplate = nameplate
        self.counters: dict[str, int] = {}
        self.closed = False
        self.started = False
        self._clock = clock
        self._radio = radio

    async def start(self, credentials: LinkCredentials) -> None:
        self.started = True

    async def stop(self) -> None:
        self.started = False

    async def set_credentials(self, credentials: LinkCredentials) -> None:
        """The home joins anew, if there were one."""

    async def vacate(self) -> None:
        """It remembers nobody."""

    async def events(self) -> AsyncIterator[LinkEvent]:
        up = False
        while True:
            if self._radio.plugged != up:
                up = self._radio.plugged
                yield LinkStarted("FE80::1", "stand-in") if up else UnitFault("it is silent")
            await sleep_until(self._clock, self._clock.monotonic() + 1)

    async def send(self, payload: bytes, peer: str) -> bool:
        return self._radio.plugged

    async def recv(self) -> Datagram:
        await asyncio.Event().wait()
        raise AssertionError

    async def close(self) -> None:
        self.closed = True


class Copper:
    """A bus of the board, whose transfers can be made to hang."""

    def __init__(self, bus: VirtualI2C) -> None:
        self.name = bus.name
        self.moves = asyncio.Event()
        self.moves.set()
        self._bus = ImmediateBus(bus)

    async def write(self, address: int, data: bytes) -> None:
        await self.moves.wait()
        await self._bus.write(address, data)

    async def read(self, address: int, n: int) -> bytes:
        await self.moves.wait()
        return await self._bus.read(address, n)

    async def transfer(self, address: int, data: bytes, n: int) -> bytes:
        await self.moves.wait()
        return await self._bus.transfer(address, data, n)


class Board:
    """The bench's board with another bus master, and the radio in its communication unit."""

    def __init__(self, body: MeterBody, radio: Radio) -> None:
        self.radio = radio
        self._board = body.board
        self.profile = body.board.profile
        self.gpio = body.board.gpio
        self.copper = {
            slot.i2c: Copper(body.board.bus(slot.i2c))
            for slot in self.profile.slots
            if slot.i2c is not None
        }

    def i2c(self, bus: str) -> AsyncI2C:
        return self.copper[bus]

    def close(self) -> None:
        self._board.close()


@dataclass(slots=True)
class Room:
    """The meter, its body and the time; the meter runs in a task of its own."""

    clock: LoopClock
    body: MeterBody
    board: Board
    radio: Radio
    meter: Meter

    async def lives(self, seconds: float) -> None:
        await sleep_until(self.clock, self.clock.monotonic() + seconds)

    @property
    def switch(self) -> Switch:
        """Of the switching unit; MeterError where none is plugged in."""
        (part,) = self.body.unit("optional").parts
        assert isinstance(part, Switch)
        return part


def configuration(folder: Path, **said: object) -> cfg.Config:
    """The meter's file, with other sections than the usual ones."""
    sections: Mapping[str, object] = {
        "meter": cfg.Meter(id="SWAPS"),
        "storage": cfg.Storage(state_dir=folder),
        "units": cfg.Units(communication=cfg.CommunicationUnit(driver=STAND_IN)),
        "switching": cfg.Switching(min_interval_s=1.0),
        "broute": cfg.BRoute(id=HOME.route_b_id, password=HOME.password),
        **said,
    }
    return cfg.Config(**sections)  # type: ignore[arg-type]


@asynccontextmanager
async def room(
    folder: Path, *, units: str = UNITS, start: float = START, **said: object
) -> AsyncIterator[Room]:
    """A meter at work with these units, in ``folder``; ``said`` are sections of its file."""
    file, load = folder / "units.toml", folder / "load.csv"
    file.write_text(units, "utf-8")
    load.write_text(LOAD, "ascii")
    clock, radio = LoopClock(start), Radio()
    body = MeterBody(
        BenchOptions(units=file, load=load),
        clock,
        folder,
        folder,
        radio=radio,
        new_radio=radio.renew,
        port=folder / "module",
    )

    known = {STAND_IN: f"{__name__}:DRIVER"}
    with mock.patch.dict(drivers.BUILT_IN[UnitKind.COMMUNICATION], known):
        await body.assemble()
        board = Board(body, radio)
        meter = await build(
            configuration(folder, **said),
            open_file_stores(folder, fine=False),
            clock,
            DEVICE_KEY,
            board=board,
            rng=random.Random(1),
        )
        life = asyncio.create_task(meter.run(), name="meter")
        try:
            yield Room(clock, body, board, radio, meter)
        finally:
            meter.stop()
            await life
            await body.close()


async def _build(context: DriverContext) -> StandIn:
    assert context.wires is not None
    board = context.wires.board
    assert isinstance(board, Board)
    return StandIn(context.clock, context.nameplate or BARE, board.radio)


DRIVER = Driver(_build)
