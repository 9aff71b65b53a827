"""Discovery: who is in which slot, whoever answers, refuses, hangs or lies."""

import asyncio
import threading
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.bench.board.ade7953 import Ade7953Chip
from meter_runtime.bench.board.at24c32 import At24c32
from meter_runtime.bench.board.bus import Chip, VirtualI2C
from meter_runtime.bench.board.gpio import VirtualGpio
from meter_runtime.bench.board.mcp39f521 import Mcp39f521Chip
from meter_runtime.bench.board.supply import Supply
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.system_clock import SystemClock
from meter_runtime.units.board import BoardProfile, SlotProfile, Wires
from meter_runtime.units.board_profiles import load_profile
from meter_runtime.units.buses import AsyncI2C, ImmediateBus
from meter_runtime.units.contracts import Nameplate, UnitFailure, UnitKind, Wiring
from meter_runtime.units.discovery import (
    Presence,
    Registry,
    SlotFinding,
    Wanted,
    discover,
    discover_slot,
)
from meter_runtime.units.drivers import Driver, DriverContext
from meter_runtime.units.eeprom import READ_TRIES
from meter_runtime.units.metering import ade7953, mcp39f521
from meter_runtime.units.metering.simulated import SteadyLoad
from meter_runtime.units.nameplate import encode
from meter_runtime.units.real_board import RealBoard

PROFILE = load_profile("virtual")
SLOTS = {slot.name: slot for slot in PROFILE.slots}
METER = Nameplate(UnitKind.METERING, "MU-3W60-2", "M00000000001", driver="mcp39f521")
RADIO = Nameplate(UnitKind.COMMUNICATION, "CU-RF-B9", "C00000000001", driver="skstack")
SWITCH = Nameplate(UnitKind.OPTIONAL, "SW-60", "S00000000001", driver="relay")
BOUND_S = 0.2
"""Where something hangs: the test's patience."""

Detect = Callable[[Wires], Awaitable[Nameplate | None]]


async def build(context: DriverContext) -> None:
    raise AssertionError("discovery builds no unit")


async def never(wires: Wires) -> Nameplate | None:
    await asyncio.Event().wait()
    raise AssertionError


def claiming(nameplate: Nameplate | None) -> Driver:
    async def detect(wires: Wires) -> Nameplate | None:
        return nameplate

    return Driver(build, detect)


@dataclass
class Drivers:
    """The drivers there are."""

    by_kind: dict[UnitKind, dict[str, Driver]] = field(
        default_factory=lambda: {
            UnitKind.METERING: {
                "ade7953": ade7953.DRIVER,
                "mcp39f521": mcp39f521.DRIVER,
                "simulated": Driver(build),
            },
            UnitKind.OPTIONAL: {"relay": Driver(build)},
            UnitKind.COMMUNICATION: {"skstack": Driver(build)},
        }
    )

    def find(self, kind: UnitKind) -> Mapping[str, Driver]:
        return self.by_kind[kind]

    def load_driver(self, kind: UnitKind, name: str) -> Driver:
        if name not in self.by_kind[kind]:
            known = nearest(name, self.by_kind[kind])
            raise UsageError(f'no {kind.value} driver is called "{name}"; {known}')
        return self.by_kind[kind][name]


class HangingBus:
    """A bus whose transfers never end."""

    name = "i2c-1"

    async def write(self, address: int, data: bytes) -> None:
        await asyncio.Event().wait()

    async def read(self, address: int, n: int) -> bytes:
        await asyncio.Event().wait()
        raise AssertionError

    async def transfer(self, address: int, data: bytes, n: int) -> bytes:
        return await self.read(address, n)


class Room:
    """The virtual board's wires, and what is plugged into them."""

    def __init__(self, profile: BoardProfile = PROFILE) -> None:
        self.profile = profile
        self.clock = SystemClock()
        self.gpio = VirtualGpio(self.clock, {"virtual": 28})
        self.wires = {"i2c-1": VirtualI2C("i2c-1", {}), "i2c-3": VirtualI2C("i2c-3", {})}
        self.buses: dict[str, AsyncI2C] = {
            name: ImmediateBus(wire) for name, wire in self.wires.items()
        }
        self.drivers = Drivers()
        supply = Supply(self.clock.monotonic, SteadyLoad(500, Wiring.ONE_PHASE_THREE_WIRE), 1.8e9)
        self.mcp: Chip = Mcp39f521Chip(supply.tap(0))
        self.ade: Chip = Ade7953Chip([supply.tap(0), supply.tap(1)])

    def i2c(self, bus: str) -> AsyncI2C:
        if bus not in self.buses:
            raise MeterError(f"/dev/{bus}: cannot be opened: No such file or directory; switch it")
        return self.buses[bus]

    def close(self) -> None:
        self.gpio.close()

    @property
    def chips(self) -> dict[int, Chip]:
        return self.wires["i2c-1"].chips

    @property
    def metering(self) -> dict[str, Driver]:
        return self.drivers.by_kind[UnitKind.METERING]

    def contact(self, slot: str, *, plugged: bool) -> None:
        line = SLOTS[slot].presence
        assert line is not None
        self.gpio.wire(line.chip, line.offset).drive(not plugged)

    def label(self, slot: str, record: bytes = b"") -> At24c32:
        """Plug in a unit whose EEPROM begins with these bytes."""
        address = SLOTS[slot].eeprom
        assert address is not None
        eeprom = At24c32(self.clock.monotonic)
        eeprom.content[: len(record)] = record
        self.chips[address] = eeprom
        self.contact(slot, plugged=True)
        return eeprom

    async def discover(self, **wanted: str) -> dict[str, SlotFinding]:
        wishes = {name: Wanted(driver) for name, driver in wanted.items()}
        return await discover(self, wishes, registry=self.drivers)

    async def metering_unit(
        self, driver: str = "auto", *, contact: bool = False, bound_s: float = 3.0
    ) -> SlotFinding:
        """The metering slot, without its presence contact unless that is wanted."""
        slot = SLOTS["metering"] if contact else replace(SLOTS["metering"], presence=None)
        return await discover_slot(
            self, slot, Wanted(driver), registry=self.drivers, bound_s=bound_s
        )


def answers(finding: SlotFinding) -> list[tuple[str, str]]:
    return [(asked.what, asked.answer) for asked in finding.trail]


async def test_units_are_known_by_their_nameplates() -> None:
    room = Room()
    for slot, nameplate in (("metering", METER), ("communication", RADIO), ("optional", SWITCH)):
        room.label(slot, encode(nameplate))
    findings = await room.discover()
    assert list(findings) == [slot.name for slot in PROFILE.slots]
    for name, nameplate in (("metering", METER), ("communication", RADIO), ("optional", SWITCH)):
        finding = findings[name]
        assert finding.presence is Presence.FOUND
        assert (finding.nameplate, finding.driver) == (nameplate, nameplate.driver)
        assert (finding.source, finding.reason, finding.codes) == ("eeprom", "", ())
    assert answers(findings["metering"]) == [
        ("presence line", "something is plugged in"),
        ("ID EEPROM (24C32)", "MU-3W60-2 no. M00000000001"),
    ]
    assert findings["metering"].trail[1].where == "i2c-1 address 0x51"


async def test_an_empty_board_is_absent_and_its_bus_is_left_alone() -> None:
    room = Room()
    for finding in (await room.discover()).values():
        assert finding.presence is Presence.ABSENT
        assert finding.reason == "nothing is plugged in"
        assert answers(finding) == [("presence line", "nothing is plugged in")]
    assert not room.wires["i2c-1"].transactions


async def test_a_slot_without_a_contact_is_absent_when_nobody_answers() -> None:
    finding = await Room().metering_unit()
    assert (finding.presence, finding.reason) == (Presence.ABSENT, "no unit answers")
    assert answers(finding) == [
        ("ID EEPROM (24C32)", "no answer"),
        ("driver ade7953", "none of its units"),
        ("driver mcp39f521", "none of its units"),
    ]


async def test_something_that_is_plugged_in_and_silent_is_abnormal() -> None:
    room = Room()
    room.contact("metering", plugged=True)
    finding = (await room.discover())["metering"]
    assert (finding.presence, finding.codes) == (Presence.ABNORMAL, ("U-23",))
    assert finding.reason.startswith("something is plugged in and silent; label it: ")


async def test_a_chip_is_known_by_its_driver() -> None:
    room = Room()
    room.chips[0x74] = room.mcp
    finding = await room.metering_unit()
    assert (finding.presence, finding.driver) == (Presence.FOUND, "mcp39f521")
    assert finding.source == "detect"
    assert finding.nameplate is not None
    assert finding.nameplate.model == "MCP39F521"


async def test_a_blank_nameplate_leaves_it_to_the_drivers() -> None:
    room = Room()
    room.label("metering")
    finding = await room.metering_unit()
    assert (finding.presence, finding.codes) == (Presence.ABNORMAL, ("U-23",))
    assert finding.reason == (
        "the unit's ID EEPROM is blank; label it: meter-runtime units label --slot metering"
    )
    room.chips[0x38] = room.ade
    finding = await room.metering_unit()
    assert (finding.presence, finding.driver) == (Presence.FOUND, "ade7953")
    assert ("ID EEPROM (24C32)", "blank") in answers(finding)


async def test_a_damaged_nameplate_is_abnormal_whatever_else_answers() -> None:
    room = Room()
    room.chips[0x74] = room.mcp
    room.label("metering", encode(METER)).content[12] ^= 4
    finding = await room.metering_unit()
    assert (finding.presence, finding.codes) == (Presence.ABNORMAL, ("U-23",))
    assert "i2c-1 address 0x51: the nameplate is damaged" in finding.reason
    assert [asked.what for asked in finding.trail] == ["ID EEPROM (24C32)"]


async def test_a_unit_of_another_kind_is_in_the_wrong_slot() -> None:
    room = Room()
    room.label("optional", encode(METER))
    finding = (await room.discover())["optional"]
    assert (finding.presence, finding.codes) == (Presence.ABNORMAL, ("U-23",))
    assert "a metering unit (MU-3W60-2 no. M00000000001) is plugged in here" in finding.reason


async def test_two_units_in_one_slot_are_told_and_neither_is_taken() -> None:
    room = Room()
    room.chips[0x74], room.chips[0x38] = room.mcp, room.ade
    finding = await room.metering_unit()
    assert (finding.presence, finding.codes) == (Presence.ABNORMAL, ("U-02",))
    assert "(ade7953) and MCP39F521" in finding.reason


@pytest.mark.parametrize(
    ("slot", "nameplate", "code"),
    [("communication", RADIO, "U-04"), ("optional", SWITCH, "U-05"), ("metering", METER, "U-02")],
)
async def test_each_kind_has_its_finding_for_two_units(
    slot: str, nameplate: Nameplate, code: str
) -> None:
    room = Room()
    room.drivers.by_kind[nameplate.kind] = {"a": claiming(nameplate), "b": claiming(nameplate)}
    room.contact(slot, plugged=True)
    finding = (await room.discover())[slot]
    assert (finding.presence, finding.codes) == (Presence.ABNORMAL, (code,))


async def test_a_named_driver_alone_is_asked() -> None:
    room = Room()
    room.chips[0x38] = room.ade
    finding = await room.metering_unit("mcp39f521")
    assert (finding.presence, finding.driver) == (Presence.ABSENT, "mcp39f521")
    room.chips[0x74] = room.mcp
    finding = await room.metering_unit("mcp39f521")
    assert (finding.presence, finding.source) == (Presence.FOUND, "detect")


async def test_a_named_driver_that_cannot_look_is_believed() -> None:
    finding = await Room().metering_unit("simulated")
    assert (finding.presence, finding.driver) == (Presence.FOUND, "simulated")
    assert (finding.source, finding.nameplate) == ("configuration", None)


async def test_a_named_driver_comes_before_the_one_on_the_nameplate() -> None:
    room = Room()
    room.label("metering", encode(METER))
    finding = await room.metering_unit("simulated")
    assert (finding.nameplate, finding.driver, finding.source) == (METER, "simulated", "eeprom")


async def test_a_nameplate_without_a_driver_leaves_that_to_the_chip() -> None:
    room = Room()
    plain = replace(METER, driver="")
    room.label("metering", encode(plain))
    finding = await room.metering_unit()
    assert finding.presence is Presence.ABNORMAL
    assert finding.reason.startswith("no driver knows MU-3W60-2 no. M00000000001; name one")
    room.chips[0x38] = room.ade
    finding = await room.metering_unit()
    assert (finding.nameplate, finding.driver, finding.source) == (plain, "ade7953", "eeprom")
    room.chips[0x74] = room.mcp
    assert (await room.metering_unit()).codes == ("U-02",)


async def test_the_catalogue_knows_who_speaks_with_its_models() -> None:
    room = Room()
    room.label("metering", encode(Nameplate(UnitKind.METERING, "MU-1P3W-60-2", "M00000000001")))
    finding = await room.metering_unit()
    assert (finding.driver, finding.source) == ("mcp39f521", "eeprom")
    assert [asked.what for asked in finding.trail] == ["ID EEPROM (24C32)"]


async def test_a_driver_on_a_nameplate_that_nobody_provides_is_told() -> None:
    room = Room()
    room.label("metering", encode(replace(METER, driver="mcp39f51")))
    finding = await room.metering_unit()
    assert finding.presence is Presence.ABNORMAL
    assert 'called "mcp39f51"; did you mean "mcp39f521"?' in finding.reason


async def test_a_driver_that_the_configuration_got_wrong_is_told_before_anything_is_asked() -> None:
    room = Room()
    with pytest.raises(UsageError, match='did you mean "ade7953"'):
        await room.discover(metering="ade795")
    with pytest.raises(UsageError, match='board virtual has no slot "metring"; did you mean'):
        await room.discover(metring="ade7953")
    assert not room.wires["i2c-1"].transactions


async def test_a_stuck_bus_is_abnormal_and_costs_the_other_bus_nothing() -> None:
    slots = tuple(
        replace(slot, presence=None, i2c="i2c-3" if slot.name == "optional" else slot.i2c)
        for slot in PROFILE.slots
    )
    room = Room(replace(PROFILE, slots=slots))
    room.wires["i2c-3"].chips[0x52] = room.label("optional", encode(SWITCH))
    room.wires["i2c-1"].stuck = True
    findings = await room.discover()
    assert findings["optional"].nameplate == SWITCH
    assert findings["metering"].presence is Presence.ABNORMAL
    assert "the bus is stuck" in findings["metering"].reason
    assert findings["metering"].codes == ()


async def test_a_bus_that_hangs_costs_the_bound_and_no_more() -> None:
    room = Room()
    for slot in SLOTS:
        room.contact(slot, plugged=True)
    room.buses["i2c-1"] = HangingBus()
    began = time.monotonic()
    findings = await discover(room, {}, registry=room.drivers, bound_s=BOUND_S)
    assert time.monotonic() - began < BOUND_S + 1
    for finding in findings.values():
        assert finding.presence is Presence.ABNORMAL
    assert answers(findings["metering"])[1] == ("ID EEPROM (24C32)", "no answer in time")
    assert answers(findings["metering"])[2] == (
        "driver ade7953",
        "not asked: the slot's time was over",
    )


async def test_a_driver_that_hangs_and_ignores_its_end_does_not_hold_the_slot() -> None:
    room = Room()
    released = asyncio.Event()

    async def stubborn(wires: Wires) -> Nameplate | None:
        while not released.is_set():
            try:
                await released.wait()
            except asyncio.CancelledError:
                continue
        raise UnitFailure("too late for anybody")

    room.metering["zz-stubborn"] = Driver(build, stubborn)
    room.chips[0x74] = room.mcp
    finding = await room.metering_unit(bound_s=BOUND_S)
    assert (finding.presence, finding.driver) == (Presence.FOUND, "mcp39f521")
    assert answers(finding)[-1][0] == "driver zz-stubborn"
    released.set()
    await asyncio.sleep(0)


async def test_a_driver_that_fails_costs_its_own_answer_only(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = Room()

    async def broken(wires: Wires) -> Nameplate | None:
        raise ZeroDivisionError

    room.metering["broken"] = Driver(build, broken)
    finding = await room.metering_unit()
    assert finding.presence is Presence.ABNORMAL
    assert finding.reason == "the driver failed: ZeroDivisionError"
    room.chips[0x74] = room.mcp
    assert (await room.metering_unit()).presence is Presence.FOUND
    assert "the driver broken failed while it looked for its unit" in caplog.text


async def test_what_is_answered_after_the_bound_is_not_used() -> None:
    room = Room()
    late = asyncio.Event()

    async def slow(wires: Wires) -> Nameplate | None:
        await late.wait()
        return METER

    room.drivers.by_kind[UnitKind.METERING] = {"slow": Driver(build, slow)}
    finding = await room.metering_unit(bound_s=BOUND_S)
    late.set()
    await asyncio.sleep(0)
    assert (finding.presence, finding.nameplate) == (Presence.ABNORMAL, None)
    assert finding.reason == "no answer in time"


@given(st.lists(st.integers(0, 5), min_size=4, max_size=4), st.sets(st.sampled_from("abcd")))
def test_what_is_found_does_not_depend_on_who_is_faster(turns: list[int], ours: set[str]) -> None:
    async def found() -> SlotFinding:
        room = Room()

        def driver(name: str, pause: int) -> Driver:
            async def detect(wires: Wires) -> Nameplate | None:
                for _ in range(pause):
                    await asyncio.sleep(0)
                return METER if name in ours else None

            return Driver(build, detect)

        room.drivers.by_kind[UnitKind.METERING] = {
            name: driver(name, pause) for name, pause in zip("dbca", turns, strict=True)
        }
        return await room.metering_unit()

    finding = asyncio.run(found())
    assert [asked.what for asked in finding.trail[1:]] == [f"driver {name}" for name in "abcd"]
    if len(ours) == 1:
        assert finding.presence is Presence.FOUND
        assert {finding.driver} == ours
    else:
        assert finding.presence is (Presence.ABNORMAL if ours else Presence.ABSENT)


async def test_a_missing_wire_is_not_a_broken_one() -> None:
    room = Room()

    async def on_uart(wires: Wires) -> Nameplate | None:
        wires.uart()
        raise AssertionError

    room.drivers.by_kind[UnitKind.METERING] = {"uart": Driver(build, on_uart)}
    finding = await room.metering_unit()
    assert finding.presence is Presence.ABSENT
    assert answers(finding)[-1] == ("driver uart", "no wire for it")


async def test_a_contact_that_cannot_be_read_proves_nothing() -> None:
    room = Room()
    room.label("metering", encode(METER))
    room.gpio.failure = "it is gone"
    finding = await room.metering_unit(contact=True)
    assert finding.nameplate == METER
    assert "it is gone" in answers(finding)[0][1]


async def test_who_holds_the_contact_open_may_say_what_it_shows() -> None:
    room = Room()
    slot = SLOTS["metering"]
    assert slot.presence is not None
    room.gpio.input(slot.presence)
    for plugged, presence in ((False, Presence.ABSENT), (True, Presence.ABNORMAL)):
        finding = await discover_slot(room, slot, Wanted(), registry=room.drivers, plugged=plugged)
        assert finding.presence is presence
        assert "presence line" not in {asked.what for asked in finding.trail}


async def test_a_bus_that_cannot_be_opened_is_told() -> None:
    room = Room()
    del room.buses["i2c-1"]
    finding = await room.metering_unit()
    assert finding.presence is Presence.ABNORMAL
    assert finding.reason.startswith("/dev/i2c-1: cannot be opened")
    assert (await room.metering_unit("simulated")).presence is Presence.FOUND


@pytest.mark.parametrize("address", [0x51, 0x74])
async def test_a_moment_of_silence_changes_nothing(address: int) -> None:
    room = Room()
    room.label("metering", encode(replace(METER, driver="")))
    room.chips[0x74] = room.mcp
    quiet = await room.metering_unit()
    room.wires["i2c-1"].nak(address, READ_TRIES - 1 if address == 0x51 else 1)
    disturbed = await room.metering_unit()
    assert replace(disturbed, trail=()) == replace(quiet, trail=())


async def test_slow_imports_cost_no_answer() -> None:
    room = Room()
    room.drivers.by_kind[UnitKind.METERING] = {"claims": claiming(METER)}
    find = room.drivers.find

    def slow_find(kind: UnitKind) -> Mapping[str, Driver]:
        until = time.monotonic() + 0.11
        while time.monotonic() < until:
            pass
        return find(kind)

    room.drivers.find = slow_find  # type: ignore[method-assign]
    for slot in SLOTS:
        room.contact(slot, plugged=True)
    findings = await discover(room, {}, registry=room.drivers, bound_s=0.3)
    assert findings["metering"].nameplate == METER


async def test_discovery_that_is_called_off_leaves_nothing_running() -> None:
    room = Room()
    room.drivers.by_kind[UnitKind.METERING] = {"hangs": Driver(build, never)}
    before = asyncio.all_tasks()
    search = asyncio.ensure_future(room.metering_unit())
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    search.cancel()
    with pytest.raises(asyncio.CancelledError):
        await search
    await asyncio.sleep(0)
    assert asyncio.all_tasks() == before


async def test_a_full_board_takes_a_moment() -> None:
    room = Room()
    for slot, nameplate in (("metering", METER), ("communication", RADIO), ("optional", SWITCH)):
        room.label(slot, encode(nameplate))
    began = time.monotonic()
    findings = await room.discover()
    assert time.monotonic() - began < 0.5
    assert all(0 <= asked.took_ms < 500 for each in findings.values() for asked in each.trail)


async def test_a_real_board_asks_on_the_buses_threads() -> None:
    opened: list[int] = []
    wire = VirtualI2C("i2c-1", {})

    def open_bus(number: int) -> VirtualI2C:
        opened.append(number)
        return wire

    profile = load_profile("pi4")
    board = RealBoard(profile, open_bus=open_bus)
    eeprom = At24c32(time.monotonic)
    record = encode(METER)
    eeprom.content[: len(record)] = record
    wire.chips[0x51] = eeprom
    registry: Registry = Drivers()
    findings = await discover(board, {}, registry=registry)
    assert findings["metering"].nameplate == METER
    assert findings["optional"].presence is Presence.ABSENT
    assert opened == [1]
    board.close()
    board.close()
    with pytest.raises(MeterError, match="it was closed already"):
        wire.read(0x51, 1)


async def test_a_kernel_that_does_not_come_back_costs_the_bound() -> None:
    released = threading.Event()

    class Blocking(VirtualI2C):
        def transfer(self, address: int, data: bytes, n: int) -> bytes:
            released.wait(10)
            return super().transfer(address, data, n)

    board = RealBoard(load_profile("pi4"), open_bus=lambda number: Blocking("i2c-1", {}))
    began = time.monotonic()
    findings = await discover(board, {}, registry=Drivers(), bound_s=BOUND_S)
    assert time.monotonic() - began < BOUND_S + 1
    assert {finding.reason for finding in findings.values()} == {"no answer in time"}
    released.set()
    board.close()


def test_slots_are_asked_by_the_names_of_their_kinds() -> None:
    assert set(SLOTS) == {kind.value for kind in UnitKind}
    assert all(isinstance(slot, SlotProfile) for slot in SLOTS.values())
