"""The latching relay: one coil at a time, never for long, and off on every way out."""

import asyncio
from collections.abc import Coroutine
from typing import Any

import pytest
from hand_clock import HandClock
from hypothesis import given
from hypothesis import strategies as st
from slots import CHIP, slot_with

from meter_runtime.bench.board.gpio import VirtualGpio
from meter_runtime.bench.board.latching_relay import LatchingRelay
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.units.contracts import (
    Nameplate,
    OptionalFunction,
    SwitchingUnit,
    SwitchPosition,
    UnitFailure,
    UnitKind,
    Wiring,
)
from meter_runtime.units.drivers import DriverContext
from meter_runtime.units.gpio import LineSpec
from meter_runtime.units.optional.relay import (
    COIL_CLOSE,
    COIL_OPEN,
    DRIVER,
    FEEDBACK_CLOSED,
    FEEDBACK_OPEN,
    REST_S,
    RelayUnit,
)

LINES = {
    COIL_OPEN: LineSpec(CHIP, 0),
    COIL_CLOSE: LineSpec(CHIP, 1),
    FEEDBACK_OPEN: LineSpec(CHIP, 2, active_low=True, pull="up"),
    FEEDBACK_CLOSED: LineSpec(CHIP, 3, active_low=True, pull="up"),
}
OPEN, CLOSED, BETWEEN = SwitchPosition.OPEN, SwitchPosition.CLOSED, SwitchPosition.BETWEEN


class Room:
    """A relay in its slot, of which these lines are wired; used within a running loop."""

    def __init__(self, wired: tuple[str, ...] = tuple(LINES), *, closed: bool = True) -> None:
        self.clock = HandClock()
        self.gpio = VirtualGpio(self.clock, {CHIP: len(LINES)})
        self.wires = slot_with(
            UnitKind.OPTIONAL,
            self.gpio,
            {role: line for role, line in LINES.items() if role in wired},
        )
        pins = [self.gpio.wire(CHIP, offset) for offset in range(len(LINES))]
        self.coils = pins[:2]
        self.relay = LatchingRelay(self.clock, *pins, closed=closed)
        self.pulses: list[float] = []
        """How long each pulse of either coil was."""
        self._on_since = 0
        for coil in self.coils:
            coil.watch(self._note)

    async def unit(self, **options: Any) -> RelayUnit:
        context = DriverContext(self.clock, {"serial": "SW1", **options}, wires=self.wires)
        unit: RelayUnit = await DRIVER.build(context)
        return unit

    async def through(self, call: Coroutine[Any, Any, None], seconds: float = 3.0) -> None:
        """The call, and time for it to end in."""
        task = asyncio.create_task(call)
        await self.clock.advance(seconds)
        assert task.done()
        await task

    def at_rest(self) -> bool:
        """No coil pulls, and none met what it must not."""
        return not any(coil.high for coil in self.coils) and not self.relay.violations

    def _note(self, high: bool, at_ns: int) -> None:
        if high:
            self._on_since = at_ns
        else:
            self.pulses.append((at_ns - self._on_since) / 1e9)


async def test_building_it_moves_nothing() -> None:
    for closed in (True, False):
        room = Room(closed=closed)
        unit: SwitchingUnit = await room.unit()
        await room.clock.advance(5)
        assert await unit.position() is (CLOSED if closed else OPEN)
        assert await unit.self_test() == []
        assert room.pulses == []
        assert room.relay.operations == 0


async def test_it_opens_and_closes() -> None:
    room = Room()
    unit = await room.unit()
    await room.through(unit.open_contacts())
    assert room.relay.position is await unit.position() is OPEN
    await room.through(unit.close_contacts())
    assert room.relay.position is await unit.position() is CLOSED
    assert room.relay.operations == 2
    assert room.at_rest()


async def test_a_coil_gets_one_pulse_of_its_length() -> None:
    room = Room()
    unit = await room.unit(pulse_ms=150)
    await room.through(unit.open_contacts())
    assert room.pulses == [pytest.approx(0.15, abs=0.001)]


async def test_it_may_be_driven_to_where_it_is() -> None:
    room = Room()
    unit = await room.unit()
    await room.through(unit.close_contacts())
    assert await unit.position() is CLOSED
    assert room.at_rest()


async def test_the_position_is_between_while_it_moves() -> None:
    room = Room()
    unit = await room.unit(debounce_ms=1)
    task = asyncio.create_task(unit.open_contacts())
    await room.clock.advance(0.01)
    assert await unit.position() is BETWEEN
    await room.clock.advance(3)
    assert await unit.position() is OPEN
    await task


async def test_a_drive_under_way_is_not_joined_by_another() -> None:
    room = Room()
    unit = await room.unit()
    task = asyncio.create_task(unit.open_contacts())
    await room.clock.advance(0.05)
    for call in (unit.close_contacts, unit.open_contacts):
        with pytest.raises(UnitFailure, match="relay SW1 is being driven already"):
            await call()
    await room.clock.advance(3)
    await task
    assert room.relay.position is OPEN
    assert room.at_rest()


async def test_the_other_coil_waits_until_the_first_ones_field_is_gone() -> None:
    room = Room()
    unit = await room.unit()
    changes: list[tuple[int, bool, int]] = []
    for nth, coil in enumerate(room.coils):
        coil.watch(lambda high, at_ns, nth=nth: changes.append((nth, high, at_ns)))  # type: ignore[misc]

    async def both() -> None:
        await unit.open_contacts()
        await unit.close_contacts()

    await room.through(both())
    assert [(nth, high) for nth, high, _ in changes] == [
        (0, True),
        (0, False),
        (1, True),
        (1, False),
    ]
    assert changes[2][2] - changes[1][2] >= (REST_S - 0.001) * 1e9


@pytest.mark.parametrize("turns", range(8))
async def test_cancelled_at_any_turn_it_leaves_no_coil_on(turns: int) -> None:
    room = Room()
    unit = await room.unit()
    task = asyncio.create_task(unit.open_contacts())
    for _ in range(turns):
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert room.at_rest()
    await room.through(unit.open_contacts())
    assert room.relay.position is OPEN
    assert room.at_rest()


@pytest.mark.parametrize("after_s", [0.001, 0.015, 0.05, 0.099])
async def test_cancelled_in_its_pulse_the_coil_is_off_at_once(after_s: float) -> None:
    room = Room()
    unit = await room.unit()
    task = asyncio.create_task(unit.open_contacts())
    await room.clock.advance(after_s)
    assert room.coils[0].high
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert room.at_rest()
    assert room.relay.position in {OPEN, CLOSED}


async def test_cancelled_while_it_rests_it_has_not_pulled() -> None:
    room = Room()
    unit = await room.unit(pulse_ms=5)
    room.relay.stuck = True
    task = asyncio.create_task(unit.open_contacts())
    await room.clock.advance(0.005)
    await task
    again = asyncio.create_task(unit.close_contacts())
    await asyncio.sleep(0)
    again.cancel()
    with pytest.raises(asyncio.CancelledError):
        await again
    assert len(room.pulses) == 1
    assert room.at_rest()


async def test_a_chip_that_fails_before_a_drive_keeps_everything_off() -> None:
    room = Room()
    unit = await room.unit()
    room.gpio.failure = "No such device"
    with pytest.raises(UnitFailure, match="relay SW1: coil_open cannot be switched off"):
        await unit.open_contacts()
    with pytest.raises(UnitFailure, match="relay SW1: virtual line 2: No such device"):
        await unit.position()
    room.gpio.failure = None
    assert room.pulses == []
    await room.through(unit.open_contacts())
    assert room.at_rest()


async def test_a_coil_that_cannot_be_switched_off_is_told_and_the_other_one_never_switched_on(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = Room()
    unit = await room.unit()
    task = asyncio.create_task(unit.open_contacts())
    await room.clock.advance(0.05)
    room.gpio.failure = "No such device"
    await room.clock.advance(1)
    with pytest.raises(UnitFailure, match="coil_open cannot be switched off, it may burn"):
        await task
    assert "relay SW1: coil_open cannot be switched off" in caplog.text
    with pytest.raises(UnitFailure, match="cannot be switched off"):
        await unit.close_contacts()
    await room.clock.advance(1)
    assert [violation.what for violation in room.relay.violations] == ["the opening coil burns"]
    room.gpio.failure = None
    assert await unit.self_test() == []
    assert not any(coil.high for coil in room.coils)


async def test_closing_stops_a_drive_and_is_harmless_twice() -> None:
    room = Room()
    unit = await room.unit()
    task = asyncio.create_task(unit.open_contacts())
    await room.clock.advance(0.01)
    await unit.close()
    assert room.at_rest()
    await room.clock.advance(3)
    with pytest.raises(UnitFailure, match="relay SW1 was closed already"):
        await task
    await unit.close()
    for use in (unit.open_contacts, unit.close_contacts, unit.position):
        with pytest.raises(UnitFailure, match="closed already"):
            await use()
    again = await room.unit()
    assert await again.position() is CLOSED
    assert room.at_rest()


async def test_feedback_that_chatters_is_waited_out() -> None:
    room = Room()
    unit = await room.unit(debounce_ms=5)
    room.relay.bounces = 4
    seen: set[SwitchPosition] = set()
    task = asyncio.create_task(unit.open_contacts())
    for _ in range(100):
        await room.clock.advance(0.0007)
        seen.add(await unit.position())
    await room.clock.advance(1)
    await task
    assert seen <= {CLOSED, BETWEEN, OPEN}
    assert await unit.position() is OPEN


@pytest.mark.parametrize(
    ("feedback", "role"), [("open", FEEDBACK_OPEN), ("closed", FEEDBACK_CLOSED)]
)
async def test_one_feedback_contact_is_enough(feedback: str, role: str) -> None:
    room = Room((COIL_OPEN, COIL_CLOSE, role))
    unit = await room.unit(feedback=feedback)
    assert await unit.position() is CLOSED
    await room.through(unit.open_contacts())
    assert await unit.position() is OPEN


async def test_contacts_that_are_welded_stay_closed_and_are_not_reported_open() -> None:
    room = Room()
    unit = await room.unit()
    room.relay.welded = True
    await room.through(unit.open_contacts())
    assert await unit.position() is CLOSED
    room.relay.welded = False
    await room.through(unit.open_contacts())
    assert await unit.position() is OPEN


async def test_a_stuck_armature_stays_where_it_is() -> None:
    room = Room(closed=False)
    unit = await room.unit()
    room.relay.stuck = True
    await room.through(unit.close_contacts())
    assert await unit.position() is OPEN
    assert room.at_rest()


async def test_what_somebody_moves_by_hand_is_seen() -> None:
    room = Room()
    unit = await room.unit()
    room.relay.move_by_hand(OPEN)
    await room.clock.advance(0.1)
    assert await unit.position() is OPEN


async def test_a_pulse_that_is_too_short_for_the_relay_shows_in_the_position() -> None:
    room = Room()
    unit = await room.unit(pulse_ms=10)
    await room.through(unit.open_contacts())
    assert await unit.position() is CLOSED
    assert room.relay.weak_pulses == 1


async def test_feedback_that_contradicts_itself_is_no_position() -> None:
    room = Room()
    unit = await room.unit()
    room.gpio.wire(CHIP, 2).short(False)
    await room.clock.advance(0.1)
    assert await unit.position() is SwitchPosition.UNKNOWN
    assert await unit.self_test() == ["both feedback contacts are active: check their wiring"]


async def test_a_unit_that_is_pulled_out_shows_no_position() -> None:
    room = Room()
    unit = await room.unit()
    room.relay.unplug()
    await room.clock.advance(0.1)
    assert await unit.position() is BETWEEN
    assert "no feedback contact is active" in (await unit.self_test())[0]
    await room.through(unit.open_contacts())
    assert room.relay.operations == 0


async def test_a_self_test_leaves_a_drive_alone() -> None:
    room = Room()
    unit = await room.unit()
    task = asyncio.create_task(unit.open_contacts())
    await room.clock.advance(0.05)
    assert await unit.self_test() == []
    assert room.coils[0].high
    await room.clock.advance(1)
    await task
    assert room.relay.position is OPEN


async def test_the_model_notes_both_coils_and_a_coil_that_burns() -> None:
    room = Room()
    first, second = room.coils
    first.drive(True)
    second.drive(True)
    await room.clock.advance(2)
    assert [violation.what for violation in room.relay.violations] == [
        "both coils pull",
        "the opening coil burns",
        "the closing coil burns",
    ]
    assert room.relay.position is CLOSED


ACTIONS = st.sampled_from(
    ("open", "close", "cancel", "hand", "stick", "fail", "mend", "test", "wait", "wait longer")
)


@given(st.lists(ACTIONS, max_size=25))
def test_whatever_happens_coils_are_never_on_together_or_for_long(actions: list[str]) -> None:
    async def run() -> None:
        room = Room()
        unit = await room.unit()
        tasks: list[asyncio.Task[None]] = []
        for action in actions:
            match action:
                case "open":
                    tasks.append(asyncio.create_task(unit.open_contacts()))
                case "close":
                    tasks.append(asyncio.create_task(unit.close_contacts()))
                case "cancel" if tasks:
                    tasks[-1].cancel()
                case "hand":
                    room.relay.move_by_hand(OPEN)
                case "stick":
                    room.relay.stuck = not room.relay.stuck
                case "fail":
                    room.gpio.failure = "No such device"
                case "mend":
                    room.gpio.failure = None
                case "test" if room.gpio.failure is None:
                    await unit.self_test()
                case "wait":
                    await room.clock.advance(0.03)
                case "wait longer":
                    await room.clock.advance(0.3)
        room.gpio.failure = None
        await room.clock.advance(1)
        for ended in await asyncio.gather(*tasks, return_exceptions=True):
            assert ended is None or isinstance(ended, UnitFailure | asyncio.CancelledError)
        await unit.self_test()
        assert not any(coil.high for coil in room.coils)
        # A coil burns where the chip that would switch it off is gone, and only there.
        burnt = {violation.what for violation in room.relay.violations}
        assert not burnt if "fail" not in actions else "both coils pull" not in burnt

    asyncio.run(run())


SWITCH = Nameplate(
    UnitKind.OPTIONAL, "SW-60", "SW000001", capacity_a=60, function=OptionalFunction.SWITCHING
)


async def test_a_nameplate_is_believed() -> None:
    room = Room()
    unit = await DRIVER.build(DriverContext(room.clock, {}, wires=room.wires, nameplate=SWITCH))
    assert unit.nameplate is SWITCH


async def test_a_unit_without_a_nameplate_is_described_by_options() -> None:
    unit = await Room().unit(model="SW-9", wiring="1P3W", capacity_a=60)
    assert unit.nameplate == Nameplate(
        UnitKind.OPTIONAL,
        "SW-9",
        "SW1",
        driver="relay",
        wiring=Wiring.ONE_PHASE_THREE_WIRE,
        capacity_a=60,
        function=OptionalFunction.SWITCHING,
    )


@pytest.mark.parametrize(
    ("options", "nameplate", "message"),
    [
        ({}, None, "a unit without an ID EEPROM needs the option serial"),
        ({"serial": "A", "pulse_ms": 2000}, None, "pulse_ms = 2000; give a whole number from 5"),
        ({"serial": "A", "puls_ms": 100}, None, 'no option "puls_ms"; did you mean "pulse_ms"'),
        ({"serial": "A", "feedback": "none"}, None, "feedback = 'none'; known: both, closed, open"),
        ({"serial": "A"}, SWITCH, 'the relay driver has no option "serial"'),
        (
            {},
            Nameplate(UnitKind.OPTIONAL, "VOLT", "V1", function=OptionalFunction.VOLTAGE),
            r"unit V1 \(VOLT\) is no switching unit",
        ),
    ],
)
async def test_a_mistake_in_the_options_is_told(
    options: dict[str, Any], nameplate: Nameplate | None, message: str
) -> None:
    room = Room()
    context = DriverContext(room.clock, options, wires=room.wires, nameplate=nameplate)
    with pytest.raises(UsageError, match=message):
        await DRIVER.build(context)


async def test_a_relay_without_feedback_is_refused_and_its_lines_are_free_again() -> None:
    room = Room((COIL_OPEN, COIL_CLOSE))
    for _ in range(2):
        with pytest.raises(MeterError, match=r"slots\.optional\.lines\.feedback_open"):
            await room.unit()


async def test_without_a_slot_there_is_nothing_to_drive() -> None:
    with pytest.raises(UsageError, match="the relay driver needs a slot of the board"):
        await DRIVER.build(DriverContext(HandClock(), {"serial": "A"}))
