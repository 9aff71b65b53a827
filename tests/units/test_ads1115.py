"""The ADS1115 driver over a model of the chip: what it measures, and what disturbs it."""

import asyncio
import itertools
from collections.abc import Callable, Mapping
from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st
from i2c_slot import EagerClock, OneBusBoard, Steps

from meter_runtime.bench.board.ads1115 import (
    CALIBRATION,
    DEFAULT_ADDRESS,
    Ads1115Chip,
    front_ends,
)
from meter_runtime.bench.board.ds3231 import Ds3231Chip
from meter_runtime.bench.board.mb85rc256v import Mb85rc256v
from meter_runtime.bench.board.supply import Flow, Supply
from meter_runtime.errors import UsageError
from meter_runtime.i2c import I2CBus
from meter_runtime.units.buses import ImmediateBus
from meter_runtime.units.contracts import (
    Nameplate,
    OptionalFunction,
    UnitFailure,
    UnitKind,
    VoltageSample,
    VoltageUnit,
)
from meter_runtime.units.optional.ads1115 import (
    CONFIG,
    CONVERSION_S,
    DRIVER,
    HI_THRESH,
    LO_THRESH,
    POLLS,
    RANGES_UV,
    Ads1115Unit,
    inputs_of,
)

GRAIN_MV = 20
"""What a count, its rounding, and the front ends' rounding come to, with some room."""


def plate(calibration: Mapping[str, int] = CALIBRATION) -> Nameplate:
    return Nameplate(
        UnitKind.OPTIONAL,
        "OU-V",
        "V00000000007",
        function=OptionalFunction.VOLTAGE,
        calibration=calibration,
    )


class Lines:
    """Two lines whose voltages a test sets, and the chip that measures them."""

    def __init__(self, r_mv: int = 101_300, t_mv: int = 100_700) -> None:
        self.clock = EagerClock()
        self.mv = [r_mv, t_mv]
        self.chip = Ads1115Chip(front_ends([self._tap(0), self._tap(1)]), self.clock.monotonic)
        self.board = OneBusBoard({DEFAULT_ADDRESS: self.chip})
        self.bus = self.board.virtual
        self.plate = plate()

    async def unit(self, **options: object) -> Ads1115Unit:
        unit: Ads1115Unit = await DRIVER.build(
            self.board.context(self.clock, self.plate, **options)
        )
        return unit

    def register(self, register: int) -> int:
        return int.from_bytes(self.bus.transfer(DEFAULT_ADDRESS, bytes((register,)), 2), "big")

    def put(self, register: int, value: int) -> None:
        self.bus.write(DEFAULT_ADDRESS, bytes((register, *value.to_bytes(2, "big"))))

    def _tap(self, line: int) -> Callable[[], Flow]:
        return lambda: Flow(0, 0, 0, 0, self.mv[line], 50_000)


def is_right(sample: VoltageSample, lines: Lines) -> bool:
    r_n, t_n, r_t = sample.r_n_mv, sample.t_n_mv, sample.r_t_mv
    assert r_n is not None
    assert t_n is not None
    assert r_t is not None
    r_mv, t_mv = lines.mv
    wrong_by = abs(r_n - r_mv), abs(t_n - t_mv), abs(r_t - r_mv - t_mv) // 2
    return max(wrong_by) <= GRAIN_MV


# Measuring


@given(r_mv=st.integers(0, 150_000), t_mv=st.integers(0, 150_000))
def test_each_voltage_is_the_lines_within_a_grain(r_mv: int, t_mv: int) -> None:
    async def scenario() -> None:
        lines = Lines(r_mv, t_mv)
        unit: VoltageUnit = await lines.unit()
        assert is_right(await unit.read(), lines)
        assert await unit.self_test() == []

    asyncio.run(scenario())


async def test_voltages_follow_a_supply_under_load() -> None:
    clock = EagerClock()
    supply = Supply(clock.monotonic, Steps(clock.at, [(60, 3000)], r_ma=30_000), clock.at)
    chip = Ads1115Chip(front_ends([supply.tap(0), supply.tap(1)]), clock.monotonic)
    board = OneBusBoard({DEFAULT_ADDRESS: chip})
    sample = await (await DRIVER.build(board.context(clock, plate()))).read()
    assert sample.r_n_mv == pytest.approx(supply.flow(0).voltage_mv, abs=GRAIN_MV)
    assert sample.r_n_mv < sample.t_n_mv


async def test_without_a_channel_of_its_own_r_t_is_the_sum() -> None:
    lines = Lines()
    lines.plate = plate({"r_uv_per_v": 8000, "t_uv_per_v": 8000})
    sample = await (await lines.unit()).read()
    assert sample.r_n_mv is not None
    assert sample.t_n_mv is not None
    assert sample.r_t_mv == sample.r_n_mv + sample.t_n_mv


async def test_a_line_without_calibration_is_not_measured() -> None:
    lines = Lines()
    lines.plate = plate({"r_uv_per_v": 8000})
    sample = await (await lines.unit()).read()
    assert sample.r_n_mv == pytest.approx(101_300, abs=GRAIN_MV)
    assert sample.t_n_mv is None
    assert sample.r_t_mv is None


@given(
    counts=st.integers(-0x8000, 0x7FFF),
    scale=st.integers(1, 24_000),
    offset=st.integers(-100_000, 100_000),
)
def test_a_count_is_worth_what_the_calibration_says(counts: int, scale: int, offset: int) -> None:
    (one,) = inputs_of(plate({"r_uv_per_v": scale, "r_offset_uv": offset}))
    exact = (counts * RANGES_UV[one.pga] / 32768 - offset) * 1000 / scale
    assert abs(one.millivolts(counts) - exact) <= 0.51


@given(scale=st.integers(1, 24_000), offset=st.integers(-100_000, 100_000))
def test_the_range_is_the_finest_that_shows_the_most_volts(scale: int, offset: int) -> None:
    (one,) = inputs_of(plate({"r_uv_per_v": scale, "r_offset_uv": offset}))
    needed_uv = 250 * scale + max(0, offset)
    finer = [range_uv for range_uv in RANGES_UV.values() if range_uv < RANGES_UV[one.pga]]
    assert needed_uv < RANGES_UV[one.pga]
    assert all(needed_uv >= range_uv for range_uv in finer)


async def test_an_offset_is_taken_off() -> None:
    lines = Lines()
    lines.plate = plate({**CALIBRATION, "r_offset_uv": 80_000})
    sample = await (await lines.unit()).read()
    assert sample.r_n_mv == pytest.approx(101_300 - 10_000, abs=GRAIN_MV)


async def test_a_dead_line_is_zero_volts() -> None:
    lines = Lines(0, 0)
    lines.plate = plate({**CALIBRATION, "r_offset_uv": 5_000})
    assert await (await lines.unit()).read() == VoltageSample(0, 0, 0)


async def test_a_front_end_the_wrong_way_round_is_told() -> None:
    lines = Lines(-101_000, 101_000)
    with pytest.raises(UnitFailure, match="never negative"):
        await (await lines.unit()).read()


@pytest.mark.parametrize("r_mv", [300_000, 5_000_000, -5_000_000])
async def test_saturation_is_a_failure_and_no_voltage(r_mv: int) -> None:
    lines = Lines(r_mv)
    unit = await lines.unit()
    with pytest.raises(UnitFailure, match="channel r: saturated"):
        await unit.read()
    lines.mv[0] = 101_000
    assert is_right(await unit.read(), lines)


async def test_channels_that_disagree_are_a_finding() -> None:
    lines = Lines()
    lines.plate = plate({**CALIBRATION, "rt_uv_per_v": 5500})
    (finding,) = await (await lines.unit()).self_test()
    assert "R-T is 183" in finding


# Conversions


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
async def test_a_slow_or_fast_oscillator_is_waited_for(speed: float) -> None:
    lines = Lines()
    lines.chip.speed = speed
    unit = await lines.unit()
    lines.clock.waits.clear()
    assert is_right(await unit.read(), lines)
    assert len(lines.clock.waits) == 6


async def test_a_much_slower_conversion_is_polled_for() -> None:
    lines = Lines()
    lines.chip.speed = 0.3
    unit = await lines.unit()
    lines.clock.waits.clear()
    assert is_right(await unit.read(), lines)
    assert len(lines.clock.waits) > 6


async def test_a_conversion_that_does_not_end_is_given_up() -> None:
    lines = Lines()
    unit = await lines.unit()
    lines.chip.stalled = True
    began = lines.clock.at
    with pytest.raises(UnitFailure, match=r"ADS1115 no\. V00000000007: .*does not end"):
        await unit.read()
    assert lines.clock.at - began <= 2 * POLLS * CONVERSION_S + 0.001


async def test_readings_at_once_take_turns() -> None:
    lines = Lines()
    unit = await lines.unit()
    samples = await asyncio.gather(*(unit.read() for _ in range(5)))
    assert all(is_right(sample, lines) for sample in samples)


async def test_a_reset_between_two_readings_is_nothing() -> None:
    lines = Lines()
    unit = await lines.unit()
    await unit.read()
    lines.chip.power_off()
    with pytest.raises(UnitFailure, match="0x48"):
        await unit.read()
    lines.chip.power_on()
    assert is_right(await unit.read(), lines)


async def test_a_closed_unit_says_so() -> None:
    lines = Lines()
    unit = await lines.unit()
    await unit.close()
    await unit.close()
    with pytest.raises(UnitFailure, match="closed already"):
        await unit.read()


# Disturbance


async def test_a_flipped_bit_never_becomes_a_voltage() -> None:
    lines = Lines(101_300, 64_000)
    unit = await lines.unit()
    lines.bus.transactions.clear()
    await unit.read()
    crossed = sum(len(each.written) + len(each.read) for each in lines.bus.transactions)
    for nth in range(crossed):
        for bit in range(8):
            lines.bus.flip(nth, bit)
            assert is_right(await unit.read(), lines)


@given(flips=st.lists(st.tuples(st.integers(0, 120), st.integers(0, 7)), min_size=20, max_size=80))
def test_much_noise_is_told_and_over_when_it_is_over(flips: list[tuple[int, int]]) -> None:
    async def scenario() -> None:
        lines = Lines()
        unit = await lines.unit()
        for nth, bit in flips:
            lines.bus.flip(nth, bit)
        for _ in range(12):
            with suppress(UnitFailure):
                await unit.read()
        assert is_right(await unit.read(), lines)

    asyncio.run(scenario())


async def test_conversions_that_do_not_agree_are_told() -> None:
    lines = Lines()
    unit = await lines.unit()
    swinging = itertools.cycle([800_000, 840_000])
    lines.bus.chips[DEFAULT_ADDRESS] = Ads1115Chip([swinging.__next__], lines.clock.monotonic)
    with pytest.raises(UnitFailure, match="channel r: two conversions in a row do not agree"):
        await unit.read()


async def test_a_nak_is_healed_and_two_are_told() -> None:
    lines = Lines()
    unit = await lines.unit()
    lines.bus.nak(DEFAULT_ADDRESS)
    assert is_right(await unit.read(), lines)
    lines.bus.nak(DEFAULT_ADDRESS, 2)
    with pytest.raises(UnitFailure, match=r"ADS1115 no\. V00000000007: i2c-7 address 0x48"):
        await unit.read()
    assert is_right(await unit.read(), lines)


async def test_a_stuck_bus_is_told_and_heals() -> None:
    lines = Lines()
    unit = await lines.unit()
    lines.bus.stuck = True
    with pytest.raises(UnitFailure, match="stuck"):
        await unit.read()
    assert "stuck" in (await unit.self_test())[0]
    lines.bus.stuck = False
    assert is_right(await unit.read(), lines)


class SilentBus(ImmediateBus):
    """A bus whose transfers never end."""

    def __init__(self, bus: I2CBus) -> None:
        super().__init__(bus)
        self.hangs = False

    async def write(self, address: int, data: bytes) -> None:
        if self.hangs:
            await asyncio.Event().wait()
        await super().write(address, data)


async def test_a_bus_that_never_ends_is_bounded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("meter_runtime.units.optional.ads1115.READ_BOUND_S", 0.02)
    lines = Lines()
    bus = SilentBus(lines.bus)
    unit = Ads1115Unit(lines.plate, bus, DEFAULT_ADDRESS, lines.clock, inputs_of(lines.plate))
    bus.hangs = True
    with pytest.raises(UnitFailure, match="no reading within"):
        await unit.read()
    bus.hangs = False
    assert is_right(await unit.read(), lines)


# Recognising it


async def test_a_chip_fresh_from_reset_is_recognised_and_nothing_is_written() -> None:
    lines = Lines()
    assert DRIVER.detect is not None
    found = await DRIVER.detect(lines.board.wires)
    assert found is not None
    assert (found.model, found.serial, found.driver) == ("ADS1115", "ADS1115@48", "ads1115")
    assert found.function is OptionalFunction.VOLTAGE
    assert all(len(each.written) <= 1 for each in lines.bus.transactions)


@pytest.mark.parametrize("address", [0x48, 0x49, 0x4A, 0x4B])
async def test_it_is_found_at_each_of_its_addresses(address: int) -> None:
    lines = Lines()
    lines.bus.chips = {address: lines.chip}
    assert DRIVER.detect is not None
    found = await DRIVER.detect(lines.board.wires)
    assert found is not None
    assert found.serial == f"ADS1115@{address:02x}"
    assert is_right(await (await lines.unit()).read(), lines)


async def test_a_chip_that_was_read_is_recognised_after_a_restart() -> None:
    lines = Lines()
    await (await lines.unit()).read()
    assert DRIVER.detect is not None
    assert await DRIVER.detect(lines.board.wires) is not None


@pytest.mark.parametrize(
    ("register", "value"), [(CONFIG, 0x8483), (LO_THRESH, 0x4B00), (HI_THRESH, 0x5000)]
)
async def test_a_chip_with_other_registers_is_not_recognised(register: int, value: int) -> None:
    lines = Lines()
    lines.put(register, value)
    assert DRIVER.detect is not None
    assert await DRIVER.detect(lines.board.wires) is None
    with pytest.raises(UnitFailure, match="looks like one"):
        await lines.unit()


async def test_other_chips_and_nobody_are_not_recognised() -> None:
    lines = Lines()
    assert DRIVER.detect is not None
    for chip in (Mb85rc256v(), Ds3231Chip(lines.clock.monotonic)):
        lines.bus.chips = {DEFAULT_ADDRESS: chip}
        assert await DRIVER.detect(lines.board.wires) is None
    lines.bus.chips = {}
    assert await DRIVER.detect(lines.board.wires) is None
    lines.bus.stuck = True
    assert await DRIVER.detect(lines.board.wires) is None


async def test_an_address_that_is_given_needs_no_recognition() -> None:
    lines = Lines()
    lines.put(HI_THRESH, 0x5000)
    assert is_right(await (await lines.unit(address=0x48)).read(), lines)
    with pytest.raises(UnitFailure, match="0x49"):
        await lines.unit(address=0x49)


# Options and calibration


async def test_a_unit_without_a_nameplate_is_calibrated_by_options() -> None:
    lines = Lines()
    context = lines.board.context(lines.clock, None, serial="LAB1", **CALIBRATION)
    unit = await DRIVER.build(context)
    assert unit.nameplate.serial == "LAB1"
    assert is_right(await unit.read(), lines)


async def test_the_nameplate_knows_its_calibration_better_than_an_option() -> None:
    lines = Lines()
    unit = await lines.unit(r_uv_per_v=4000)
    assert is_right(await unit.read(), lines)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adress": 0x48}, 'did you mean "address"'),
        ({"address": 0x50}, "from 72 to 75"),
        ({"r_uv_per_v": 0}, "r_uv_per_v"),
        ({"t_uv_per_v": 8000.5}, "whole number"),
    ],
)
async def test_wrong_options_are_refused(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=said):
        await Lines().unit(**options)


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        ({}, "does not say what a volt is worth"),
        ({"r_uv_per_vv": 8000}, 'did you mean "r_uv_per_v"'),
        ({"r_uv_per_v": -1}, "above 0"),
        ({"r_uv_per_v": 8000, "r_offset_uv": 200_000}, "at most 100000"),
        ({"r_uv_per_v": 30_000}, "more than the 6144 mV"),
    ],
)
async def test_a_calibration_of_no_sense_is_refused(calibration: dict[str, int], said: str) -> None:
    lines = Lines()
    lines.plate = plate(calibration)
    with pytest.raises(UnitFailure, match=said):
        await lines.unit()


async def test_a_switching_unit_is_refused() -> None:
    lines = Lines()
    lines.plate = Nameplate(UnitKind.OPTIONAL, "OU-S", "S1", function=OptionalFunction.SWITCHING)
    with pytest.raises(UsageError, match="no voltage unit"):
        await lines.unit()


# The model


def test_the_models_conversion_takes_its_time_and_then_stays() -> None:
    lines = Lines(100_000, 0)
    lines.put(CONFIG, 0xC3E3)  # AIN0, 4.096 V
    assert lines.register(CONFIG) == 0x43E3
    assert lines.register(0) == 0
    lines.clock.at += 1 / 860 + 30e-6
    assert lines.register(CONFIG) == 0xC3E3
    assert lines.register(0) == 800_000 * 0x8000 // 4_096_000
    lines.mv[0] = 50_000
    lines.clock.at += 1
    assert lines.register(0) == 800_000 * 0x8000 // 4_096_000


def test_the_model_measures_differences_and_converts_continuously() -> None:
    lines = Lines(100_000, 50_000)
    lines.put(CONFIG, 0x02E3)  # AIN0 against AIN1, 4.096 V, continuous
    assert lines.register(CONFIG) == 0x02E3
    assert lines.register(0) == 400_000 * 0x8000 // 4_096_000
    lines.mv[1] = 0
    assert lines.register(0) == 800_000 * 0x8000 // 4_096_000
