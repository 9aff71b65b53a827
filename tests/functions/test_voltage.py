"""The voltages of a meter: read each second, kept by the half-hour, told when out of the band."""

import asyncio
from collections.abc import AsyncIterator

import pytest
from hand_clock import HandClock

from meter_runtime.clock import HALF_HOUR_S, Trust
from meter_runtime.errors import MeterError
from meter_runtime.events import EventBus
from meter_runtime.functions.bands import Side
from meter_runtime.functions.calls import OptionalUnitAnswers, OptionalUnitSilent
from meter_runtime.functions.voltage import (
    Line,
    VoltageBackInBand,
    VoltageOutOfBand,
    VoltageService,
    VoltageStored,
)
from meter_runtime.storage.media import MemoryMedia
from meter_runtime.storage.voltage_log import LineVoltage, VoltageLog, VoltageRecord
from meter_runtime.units.contracts import (
    Nameplate,
    OptionalFunction,
    UnitFailure,
    UnitKind,
    VoltageSample,
)

FIRST = 1_000_000
"""The half-hour that the clock begins with."""
NORMAL = VoltageSample(101_000, 102_000, 203_000)


class Meter:
    """A voltage unit that says what it is told to say."""

    nameplate = Nameplate(UnitKind.OPTIONAL, "V", "V1", function=OptionalFunction.VOLTAGE)

    def __init__(self) -> None:
        self.says: VoltageSample | Exception = NORMAL
        self.hangs = False
        self.readings = 0

    async def read(self) -> VoltageSample:
        self.readings += 1
        if self.hangs:
            await asyncio.Event().wait()
        if isinstance(self.says, Exception):
            raise self.says
        return self.says

    async def self_test(self) -> list[str]:
        return []

    async def close(self) -> None:
        pass


class BrittleMedia(MemoryMedia):
    failing = False

    def write(self, offset: int, data: bytes) -> None:
        if self.failing:
            raise MeterError("card: cannot write: gone; replace it")
        super().write(offset, data)


class Room:
    """A voltage service at its unit."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.bus = EventBus()
        self.media = BrittleMedia(VoltageLog.size_for(100, 1))
        self.log = VoltageLog.open(self.media, 100)
        self.unit = Meter()
        self.events: list[object] = []
        for kind in (
            VoltageOutOfBand,
            VoltageBackInBand,
            VoltageStored,
            OptionalUnitSilent,
            OptionalUnitAnswers,
        ):
            self.bus.subscribe(kind, self.events.append)
        self.service = VoltageService(self.unit, self.clock, self.bus, self.log)
        self.running = asyncio.ensure_future(self.service.run())

    def stored(self) -> list[int]:
        return [record.slot - FIRST for record in self.log.records(0, 2 * FIRST)]


@pytest.fixture
async def room() -> AsyncIterator[Room]:
    room = Room()
    yield room
    room.running.cancel()
    await asyncio.gather(room.running, return_exceptions=True)


def line(mv: int, readings: int = HALF_HOUR_S) -> LineVoltage:
    return LineVoltage(mv // 10, mv // 10, mv // 10, readings)


async def test_a_half_hour_is_stored_when_the_next_one_begins(room: Room) -> None:
    await room.clock.advance(HALF_HOUR_S - 1)
    assert room.stored() == []
    await room.clock.advance(2)
    record = VoltageRecord(FIRST, line(101_000), line(102_000), line(203_000))
    assert room.log.get(FIRST) == record
    assert room.events == [VoltageStored(record)]
    assert room.unit.readings == HALF_HOUR_S + 2


async def test_a_line_that_was_read_too_rarely_has_no_data(room: Room) -> None:
    await room.clock.advance(899.5)
    room.unit.says = VoltageSample(101_000, None, None)
    await room.clock.advance(HALF_HOUR_S)
    assert room.log.get(FIRST) == VoltageRecord(
        FIRST, line(101_000), line(102_000, 900), line(203_000, 900)
    )
    await room.clock.advance(HALF_HOUR_S)
    assert room.log.get(FIRST + 1) == VoltageRecord(FIRST + 1, line(101_000), None, None)


async def test_a_half_hour_of_silence_is_not_stored(room: Room) -> None:
    await room.clock.advance(800)
    room.unit.says = UnitFailure("V no. V1: gone")
    await room.clock.advance(2 * HALF_HOUR_S)
    room.unit.says = NORMAL
    await room.clock.advance(2 * HALF_HOUR_S)
    assert room.stored() == [2, 3]
    assert [type(event) for event in room.events[:2]] == [OptionalUnitSilent, OptionalUnitAnswers]
    assert room.service.sample == NORMAL


async def test_the_present_voltages_are_forgotten_when_the_unit_is_silent(room: Room) -> None:
    await room.clock.advance(5)
    room.unit.says = UnitFailure("V no. V1: gone")
    known = []
    for _ in range(2):
        await room.clock.advance(9)
        known.append(room.service.sample)
    assert known == [NORMAL, None]


async def test_a_hung_unit_is_cut_off(room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meter_runtime.functions.voltage.READ_BOUND_S", 0.01)
    await room.clock.advance(2)
    room.unit.hangs = True
    await room.clock.advance(2)
    await asyncio.sleep(0.03)
    assert [type(event) for event in room.events] == [OptionalUnitSilent]


async def test_a_voltage_out_of_its_band_is_told_once_and_so_is_its_return(room: Room) -> None:
    await room.clock.advance(5)
    room.unit.says = VoltageSample(94_000, 102_000, 196_000)
    await room.clock.advance(60)
    room.unit.says = NORMAL
    await room.clock.advance(60)
    room.unit.says = VoltageSample(101_000, 102_000, 225_000)
    await room.clock.advance(60)
    assert room.events == [
        VoltageOutOfBand(Line.R_N, Side.BELOW, 94_000),
        VoltageBackInBand(Line.R_N, 101_000),
        VoltageOutOfBand(Line.R_T, Side.ABOVE, 225_000),
    ]
    assert room.service.status.sides[Line.R_T] is Side.ABOVE


async def test_another_unit_goes_on_with_the_half_hour(room: Room) -> None:
    await room.clock.advance(600)
    room.service.removed()
    await room.clock.advance(100)
    other = Meter()
    room.service.fit(other)
    await room.clock.advance(HALF_HOUR_S)
    stored = room.log.get(FIRST)
    assert stored is not None
    assert stored.r_n is not None
    assert 1690 < stored.r_n.readings < 1710
    assert other.readings > 1700


async def test_another_units_bands_begin_anew(room: Room) -> None:
    room.unit.says = VoltageSample(90_000, None, None)
    await room.clock.advance(5)
    room.service.removed()
    sides = [room.service.status.sides[Line.R_N]]
    room.service.fit(room.unit)
    await room.clock.advance(5)
    sides.append(room.service.status.sides[Line.R_N])
    assert sides == [Side.WITHIN, Side.BELOW]
    assert room.events == [VoltageOutOfBand(Line.R_N, Side.BELOW, 90_000)] * 2


async def test_without_a_unit_nothing_is_known(room: Room) -> None:
    await room.clock.advance(2)
    room.service.removed()
    await room.clock.advance(2 * HALF_HOUR_S)
    assert (room.service.status.fitted, room.service.sample) == (False, None)
    assert room.stored() == []


async def test_while_storage_fails_half_hours_wait_in_memory(room: Room) -> None:
    room.media.failing = True
    await room.clock.advance(3 * HALF_HOUR_S + 5)
    assert room.stored() == []
    assert room.service.status.waiting == 3
    assert [each.slot - FIRST for each in room.service.records(FIRST, FIRST + 9)] == [0, 1, 2]
    room.media.failing = False
    await room.clock.advance(11)
    assert room.stored() == [0, 1, 2]
    assert room.service.status.waiting == 0


async def test_what_waits_is_bounded(room: Room) -> None:
    room.media.failing = True
    with room.service.held():
        for _ in range(100 * 30 + 1):
            await room.clock.advance(60)
            await room.service.poll(60)
    assert (room.service.status.waiting, room.service.status.dropped) == (96, 4)


async def test_a_clock_moved_by_hand_fills_half_hours_by_the_minute(room: Room) -> None:
    with room.service.held():
        for _ in range(30):
            await room.clock.advance(60)
            await room.service.poll(60)
    stored = room.log.get(FIRST)
    assert stored is not None
    assert stored.r_n == line(101_000, 1741)


@pytest.mark.parametrize("step_s", [3600.0, -3600.0])
async def test_a_step_of_the_clock_leaves_no_half_hour_with_false_readings(
    room: Room, step_s: float
) -> None:
    await room.clock.advance(1000)
    room.clock.offset += step_s
    await room.clock.advance(2 * HALF_HOUR_S)
    # What was read before a step back belongs to no half-hour; before a step forward to its own.
    assert room.stored() == ([0, 3] if step_s > 0 else [-1])


async def test_nothing_is_stored_while_nobody_knows_the_time(room: Room) -> None:
    room.clock.trust = Trust.UNSET
    room.unit.says = VoltageSample(90_000, 90_000, 180_000)
    await room.clock.advance(2 * HALF_HOUR_S)
    assert room.stored() == []
    assert len(room.events) == 3, "the bands are watched all the same"


async def test_a_clock_before_1970_stores_nothing(room: Room) -> None:
    room.clock.offset = -1e9
    await room.clock.advance(2 * HALF_HOUR_S)
    assert room.events == []
    assert not room.running.done()
