"""The S0 driver: every pulse once, whatever the reader missed, and no pulse that was not."""

import asyncio
import random
from collections.abc import Mapping
from typing import Any

import pytest
from hand_clock import HandClock
from hypothesis import given
from hypothesis import strategies as st
from slots import CHIP, slot_with, wire_of

from meter_runtime.bench.board.gpio import VirtualGpio
from meter_runtime.bench.board.pulse_source import PulseSource
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.units.contracts import (
    MeteringUnit,
    Nameplate,
    Sample,
    UnitFailure,
    UnitKind,
    Wiring,
)
from meter_runtime.units.drivers import DriverContext
from meter_runtime.units.gpio import EDGES_KEPT, SEQUENCE_MODULUS, Edge, LineSpec
from meter_runtime.units.metering.s0 import DRIVER, FORWARD, REVERSE, PulseCounter, S0Unit

MWS_PER_WH = 3_600_000
LINES = {
    FORWARD: LineSpec(CHIP, 0, active_low=True, pull="up"),
    REVERSE: LineSpec(CHIP, 1, active_low=True, pull="up"),
}
OPTIONS = {"pulses_per_kwh": 1000, "serial": "S0TEST"}


class Room:
    """A household, its meter's pulse outputs, and the slot they are wired to."""

    def __init__(
        self, pulses_per_kwh: int = 1000, *, two_way: bool = True, pulse_ms: float = 30
    ) -> None:
        self.two_way = two_way
        self.clock = HandClock()
        self.gpio = VirtualGpio(self.clock, {CHIP: 4})
        lines = LINES if two_way else {FORWARD: LINES[FORWARD]}
        self.wires = slot_with(UnitKind.METERING, self.gpio, dict(lines))
        self.forward_mws = self.reverse_mws = 0
        reverse = wire_of(self.wires, self.gpio, REVERSE) if two_way else None
        self.meter = PulseSource(
            lambda: (self.forward_mws, self.reverse_mws),
            pulses_per_kwh,
            wire_of(self.wires, self.gpio, FORWARD),
            reverse,
            pulse_ms=pulse_ms,
        )

    async def unit(self, **options: Any) -> S0Unit:
        said = {**OPTIONS, "two_way": self.two_way, **options}
        unit: S0Unit = await DRIVER.build(self.context(said))
        return unit

    def context(
        self, options: Mapping[str, Any], nameplate: Nameplate | None = None
    ) -> DriverContext:
        return DriverContext(self.clock, options, wires=self.wires, nameplate=nameplate)

    def flow(self, watts: int, seconds: float) -> None:
        """Let power flow, negative towards the grid; what is debounced comes later."""
        self.clock.at += seconds
        if watts > 0:
            self.forward_mws += round(watts * 1000 * seconds)
        else:
            self.reverse_mws += round(-watts * 1000 * seconds)
        for role in self.wires.slot.lines:
            wire_of(self.wires, self.gpio, role).catch_up()

    def rest(self) -> None:
        """Time for the last pulse to be believed."""
        self.flow(0, 0.05)


async def test_it_is_a_metering_unit_that_forgets_and_knows_no_current() -> None:
    unit: MeteringUnit = await Room().unit()
    assert not unit.keeps_registers
    assert await unit.read() == Sample(0, 0, 0, None, None)
    assert await unit.self_test() == []
    assert unit.nameplate.serial == "S0TEST"


async def test_each_pulse_is_its_share_of_a_kilowatt_hour() -> None:
    room = Room()
    unit = await room.unit()
    room.flow(3600, 5)
    room.rest()
    assert (await unit.read()).forward_mwh == 5000


async def test_no_remainder_is_ever_lost() -> None:
    room = Room(300)
    unit = await room.unit(pulses_per_kwh=300)
    for pulses in range(1, 301):
        room.flow(3600, 3.3334)
        room.rest()
        assert (await unit.read()).forward_mwh == pulses * 1_000_000 // 300
    assert (await unit.read()).forward_mwh == 1_000_000


async def test_reading_changes_nothing() -> None:
    room = Room()
    unit = await room.unit()
    room.flow(3600, 5)
    room.rest()
    assert await unit.read() == await unit.read() == await unit.read()


async def test_a_two_way_meter_has_a_line_for_each_direction() -> None:
    room = Room()
    unit = await room.unit()
    assert unit.nameplate.two_way
    room.flow(3600, 5)
    room.flow(-3600, 3)
    room.rest()
    sample = await unit.read()
    assert (sample.forward_mwh, sample.reverse_mwh) == (5000, 3000)


async def test_a_one_way_meter_needs_one_line_and_reverse_energy_leaves_it_alone() -> None:
    room = Room(two_way=False)
    unit = await room.unit()
    assert unit.nameplate.two_way is False
    room.flow(3600, 5)
    room.flow(-3600, 5)
    room.rest()
    sample = await unit.read()
    assert (sample.forward_mwh, sample.reverse_mwh) == (5000, 0)


async def test_power_follows_from_the_time_between_pulses() -> None:
    room = Room()
    unit = await room.unit()
    for _ in range(3):
        room.flow(1800, 4)
        room.rest()
        sample = await unit.read()
    assert sample.power_w == pytest.approx(1800, rel=0.02)


async def test_power_to_the_grid_is_negative() -> None:
    room = Room()
    unit = await room.unit()
    for _ in range(3):
        room.flow(-1800, 4)
        await unit.read()
    assert (await unit.read()).power_w == pytest.approx(-1800, rel=0.02)


async def test_one_pulse_tells_no_power_yet() -> None:
    room = Room()
    unit = await room.unit()
    room.flow(3600, 1)
    room.rest()
    sample = await unit.read()
    assert (sample.forward_mwh, sample.power_w) == (1000, 0)


async def test_power_falls_as_the_next_pulse_is_overdue_and_then_to_zero() -> None:
    room = Room()
    unit = await room.unit(zero_after_s=100)
    for _ in range(3):
        room.flow(3600, 1)
        room.rest()
        await unit.read()
    seen = []
    for _ in range(12):
        room.flow(0, 10)
        seen.append((await unit.read()).power_w)
    assert seen[0] == pytest.approx(360, rel=0.02)
    assert seen == sorted(seen, reverse=True)
    assert seen[-1] == 0
    assert seen[8] > 0


async def test_after_a_change_of_direction_power_waits_for_the_second_pulse() -> None:
    room = Room()
    unit = await room.unit()
    room.flow(3600, 2)
    await unit.read()
    room.flow(3600, 2)
    assert (await unit.read()).power_w == pytest.approx(3600, rel=0.02)
    room.flow(-3600, 1.5)
    assert (await unit.read()).power_w == 0
    room.flow(-3600, 2)
    assert (await unit.read()).power_w == pytest.approx(-3600, rel=0.02)


async def test_pulses_of_both_directions_between_two_readings_tell_no_power() -> None:
    room = Room()
    unit = await room.unit()
    room.flow(3600, 3)
    await unit.read()
    room.flow(3600, 3)
    room.flow(-3600, 3)
    sample = await unit.read()
    assert sample.power_w == 0
    assert sample.forward_mwh == 6000


async def test_edges_that_overflowed_are_counted_by_their_numbers_and_reported(
    caplog: pytest.LogCaptureFixture,
) -> None:
    room = Room(10_000)
    unit = await room.unit(pulses_per_kwh=10_000)
    room.flow(3600, 300)
    room.rest()
    sample = await unit.read()
    assert sample.forward_mwh == 300_000
    [forward, _] = unit.counters
    assert forward.pulses == 3000
    assert forward.lost_edges == 6000 - EDGES_KEPT
    [finding] = await unit.self_test()
    assert finding.startswith(f"pulse_forward: {forward.lost_edges} edges came faster than they")
    room.flow(3600, 300)
    await unit.read()
    assert caplog.text.count("edges came faster than they were read") == 1


async def test_bounces_shorter_than_the_debounce_time_are_no_pulses() -> None:
    room = Room()
    unit = await room.unit()
    room.meter.bounces = 5
    room.flow(3600, 10)
    room.rest()
    assert (await unit.read()).forward_mwh == 10_000
    assert await unit.self_test() == []


async def test_bounces_that_get_through_are_told() -> None:
    room = Room()
    unit = await room.unit(debounce_ms=0)
    room.meter.bounces = 1
    room.flow(3600, 10)
    room.rest()
    await unit.read()
    assert "pulses came faster than S0 allows" in (await unit.self_test())[0]


async def test_missing_pulses_are_missing_energy() -> None:
    room = Room()
    unit = await room.unit()
    room.meter.missing = 2
    room.flow(3600, 5)
    room.rest()
    assert (await unit.read()).forward_mwh == 3000
    room.meter.cut = True
    room.flow(3600, 5)
    room.rest()
    assert (await unit.read()).forward_mwh == 3000
    assert room.meter.pulses == (10, 0)


async def test_a_shorted_line_is_a_failure_until_it_is_mended() -> None:
    room = Room()
    unit = await room.unit()
    room.flow(3600, 2)
    room.rest()
    wire = wire_of(room.wires, room.gpio, FORWARD)
    wire.short(False)
    room.clock.at += 9
    await unit.read()
    room.clock.at += 2
    shorted = "pulse_forward has been active for 11 s, which is no pulse; look for a short"
    with pytest.raises(UnitFailure, match=f"S0 unit S0TEST: {shorted}"):
        await unit.read()
    assert shorted in (await unit.self_test())[0]
    wire.short(None)
    room.rest()
    # The short began like a pulse: one that no wire can tell from a true one.
    assert (await unit.read()).forward_mwh == 3000


async def test_a_line_that_is_active_from_the_start_is_found_too() -> None:
    room = Room()
    wire_of(room.wires, room.gpio, REVERSE).short(False)
    unit = await room.unit()
    await unit.read()
    room.clock.at += 11
    with pytest.raises(UnitFailure, match="pulse_reverse has been active"):
        await unit.read()


async def test_a_chip_that_fails_is_a_failure_of_the_unit_and_no_pulse_is_lost_by_it() -> None:
    room = Room()
    unit = await room.unit()
    room.flow(3600, 2)
    room.gpio.failure = "No such device"
    for ask in (unit.read, unit.self_test):
        with pytest.raises(UnitFailure, match="S0 unit S0TEST: virtual line 0: No such device"):
            await ask()
    room.flow(3600, 2)
    room.gpio.failure = None
    room.rest()
    assert (await unit.read()).forward_mwh == 4000


async def test_closing_frees_the_lines_and_is_harmless_twice() -> None:
    room = Room()
    unit = await room.unit()
    await unit.close()
    await unit.close()
    with pytest.raises(UnitFailure, match="closed already"):
        await unit.read()
    again = await room.unit()
    assert (await again.read()).forward_mwh == 0


async def test_an_unplugged_meter_lets_go_of_its_wires() -> None:
    room = Room()
    unit = await room.unit()
    room.meter.unplug()
    room.flow(3600, 5)
    assert (await unit.read()).forward_mwh == 0


async def test_a_meter_whose_constant_is_too_high_falls_behind_and_catches_up() -> None:
    room = Room(100_000)
    unit = await room.unit(pulses_per_kwh=100_000)
    room.flow(3600, 1)
    room.rest()
    behind = (await unit.read()).forward_mwh
    assert 100 <= behind < 1000
    room.flow(0, 10)
    assert (await unit.read()).forward_mwh == 1000
    assert await unit.self_test() == []


async def test_a_reader_that_waits_is_told_of_pulses_within_a_second() -> None:
    clock = HandClock()
    gpio = VirtualGpio(clock, {CHIP: 1})
    start = clock.monotonic()
    PulseSource(
        lambda: (round((clock.monotonic() - start) * 100 * MWS_PER_WH / 3600), 0),
        10_000,
        gpio.wire(CHIP, 0),
    )
    line = gpio.input(LineSpec(CHIP, 0, active_low=True, pull="up"), edges=True)
    waiting = asyncio.create_task(line.edges())
    await asyncio.sleep(0)
    await clock.advance(10)
    assert (await waiting)[0].active


async def test_two_hundred_pulses_a_second_are_read_each_second_without_a_loss() -> None:
    room = Room(100_000, pulse_ms=2)
    unit = await room.unit(pulses_per_kwh=100_000, debounce_ms=1)
    for _ in range(600):
        room.flow(7200, 1)
        await unit.read()
    room.rest()
    assert (await unit.read()).forward_mwh == 1_200_000
    assert unit.counters[0].lost_edges == 0


def edges_of(levels: list[bool], first: int = 1) -> list[Edge]:
    """Edges of a line that was inactive, as the kernel numbers them."""
    return [
        Edge(100_000_000 * nth, level, nth % SEQUENCE_MODULUS)
        for nth, level in enumerate(levels, start=first)
    ]


def alternating(count: int) -> list[Edge]:
    return edges_of([nth % 2 == 0 for nth in range(count)])


@given(st.integers(0, 60), st.randoms(use_true_random=False), st.booleans())
def test_whichever_edges_are_lost_every_pulse_before_the_last_one_seen_is_counted(
    count: int, rng: random.Random, one_by_one: bool
) -> None:
    edges = alternating(count)
    seen = [edge for edge in edges if rng.random() < 0.5]
    counter = PulseCounter(active=False)
    if one_by_one:
        for edge in seen:
            counter.take([edge])
    else:
        counter.take(seen)
    last = seen[-1].sequence if seen else 0
    assert counter.pulses == (last + 1) // 2
    assert counter.lost_edges == last - len(seen)
    assert counter.irregular == counter.too_fast == 0


@given(st.lists(st.booleans(), max_size=40), st.randoms(use_true_random=False))
def test_levels_that_do_not_alternate_never_make_more_pulses_than_they_show(
    levels: list[bool], rng: random.Random
) -> None:
    seen = [edge for edge in edges_of(levels) if rng.random() < 0.7]
    whole, counter = PulseCounter(active=False), PulseCounter(active=False)
    whole.take(edges_of(levels))
    rises = sum(
        level and not before for before, level in zip([False, *levels], levels, strict=False)
    )
    assert whole.pulses == rises
    counter.take(seen)
    assert counter.pulses <= (len(levels) + 1) // 2


def test_numbers_go_on_where_they_begin_anew() -> None:
    counter = PulseCounter(active=False)
    counter.take([Edge(1, True, 1)])
    almost = SEQUENCE_MODULUS // 2 - 1
    for nth in (almost, 2 * almost, SEQUENCE_MODULUS - 1):
        counter.take([Edge(nth, nth % 2 == 1, nth)])
    before = counter.pulses
    counter.take([Edge(SEQUENCE_MODULUS, False, 0), Edge(SEQUENCE_MODULUS + 1, True, 1)])
    assert counter.pulses == before + 1


def test_numbers_that_go_back_are_no_energy() -> None:
    counter = PulseCounter(active=False)
    counter.take(alternating(10))
    counter.take(alternating(2))
    counter.take([Edge(0, False, 2)])
    assert counter.pulses == 5
    assert counter.irregular == 2


def test_a_line_that_was_active_when_it_was_opened_ends_a_pulse_that_is_not_ours() -> None:
    counter = PulseCounter(active=True)
    counter.take(edges_of([False, True, False]))
    assert counter.pulses == 1


@given(
    st.lists(
        st.tuples(st.integers(-20_000, 20_000), st.floats(0.05, 90), st.booleans()), max_size=30
    ),
    st.integers(1, 3000),
)
def test_energy_is_the_meters_to_the_pulse_however_load_and_readings_fall(
    steps: list[tuple[int, float, bool]], pulses_per_kwh: int
) -> None:
    async def run() -> None:
        room = Room(pulses_per_kwh)
        unit = await room.unit(pulses_per_kwh=pulses_per_kwh)
        before = Sample(0, 0, 0, None, None)
        for watts, seconds, read in steps:
            room.flow(watts, seconds)
            if read:
                sample = await unit.read()
                assert sample.forward_mwh >= before.forward_mwh
                assert sample.reverse_mwh >= before.reverse_mwh
                assert abs(sample.power_w) <= 21_000
                before = sample
        room.flow(0, 3600)
        sample = await unit.read()
        pulses = [
            flowed * pulses_per_kwh // (1000 * MWS_PER_WH)
            for flowed in (room.forward_mws, room.reverse_mws)
        ]
        assert [counter.pulses for counter in unit.counters] == pulses
        assert sample.forward_mwh == pulses[0] * 1_000_000 // pulses_per_kwh
        assert sample.reverse_mwh == pulses[1] * 1_000_000 // pulses_per_kwh

    asyncio.run(run())


PRINTED = Nameplate(
    UnitKind.METERING, "EM-1", "M0000001", two_way=False, calibration={"pulses_per_kwh": 800}
)


async def test_a_nameplate_tells_what_the_options_need_not() -> None:
    room = Room(800)
    unit = await DRIVER.build(room.context({}, PRINTED))
    assert unit.nameplate is PRINTED
    room.flow(3600, 9)
    room.rest()
    assert (await unit.read()).forward_mwh == 7 * 1250


async def test_a_meter_without_a_nameplate_is_described_by_options() -> None:
    unit = await Room().unit(model="EM-2", wiring="1P2W", capacity_a=30, two_way=False)
    assert unit.nameplate == Nameplate(
        UnitKind.METERING,
        "EM-2",
        "S0TEST",
        driver="s0",
        wiring=Wiring.ONE_PHASE_TWO_WIRE,
        capacity_a=30,
        two_way=False,
    )


@pytest.mark.parametrize(
    ("options", "nameplate", "message"),
    [
        ({"serial": "A"}, None, "needs the option pulses_per_kwh"),
        ({"pulses_per_kwh": 1000}, None, "needs the option serial"),
        ({**OPTIONS, "pulses_per_kwh": 0}, None, "pulses_per_kwh = 0; give a whole number from 1"),
        ({**OPTIONS, "pulses_per_kwh": 100_001}, None, "from 1 to 100000"),
        ({**OPTIONS, "pulses_per_kwh": True}, None, "pulses_per_kwh = True"),
        ({**OPTIONS, "pulses_per_kwh": 12.5}, None, r"pulses_per_kwh = 12\.5"),
        ({**OPTIONS, "serial": "LONGERTHANTWELVE"}, None, "give 1 to 12 ASCII characters"),
        ({**OPTIONS, "serial": "漢字"}, None, "give 1 to 12 ASCII characters"),
        ({**OPTIONS, "wiring": "1P3V"}, None, 'did you mean "1P3W"'),
        ({**OPTIONS, "two_way": "yes"}, None, "two_way = 'yes'; give true or false"),
        ({**OPTIONS, "pulse_per_kwh": 1}, None, 'no option "pulse_per_kwh"; did you mean "pulses'),
        ({"pulses_per_kwh": 1000}, PRINTED, "pulses_per_kwh = 1000, but the nameplate of M0000001"),
        ({"serial": "A"}, PRINTED, 'no option "serial"'),
        (
            {},
            Nameplate(UnitKind.METERING, "EM-1", "M1", calibration={"pulses_per_kwh": -5}),
            "the nameplate of M1 says -5 pulses per kWh",
        ),
    ],
)
async def test_a_mistake_in_the_options_is_told(
    options: dict[str, Any], nameplate: Nameplate | None, message: str
) -> None:
    with pytest.raises(UsageError, match=message):
        await DRIVER.build(Room().context(options, nameplate))


async def test_a_slot_without_the_line_is_told_which_key_to_add() -> None:
    room = Room(two_way=False)
    with pytest.raises(MeterError, match=r"pulse_reverse.*slots\.metering\.lines\.pulse_reverse"):
        await room.unit(two_way=True)
    # What was opened before is free again.
    await room.unit()


async def test_without_a_slot_there_is_nothing_to_count() -> None:
    context = DriverContext(HandClock(), OPTIONS)
    with pytest.raises(UsageError, match="the s0 driver needs a slot of the board"):
        await DRIVER.build(context)


def test_a_pulse_output_cannot_be_recognised() -> None:
    assert DRIVER.detect is None
