"""The ADE7953 driver over a model of the chip: what it counts, and what disturbs it."""

import asyncio
import re
from collections.abc import Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from i2c_slot import EagerClock, OneBusBoard, SharedBus, Steps

from meter_runtime.bench.board.ade7953 import CALIBRATION, Ade7953Chip
from meter_runtime.bench.board.ds3231 import Ds3231Chip
from meter_runtime.bench.board.mb85rc256v import Mb85rc256v
from meter_runtime.bench.board.mcp39f521 import Mcp39f521Chip
from meter_runtime.bench.board.supply import Supply
from meter_runtime.bench.load import LoadModel
from meter_runtime.errors import UsageError
from meter_runtime.units.contracts import MeteringUnit, Nameplate, UnitFailure, UnitKind, Wiring
from meter_runtime.units.metering import mcp39f521
from meter_runtime.units.metering.ade7953 import DRIVER
from meter_runtime.units.metering.ade7953.chip import ADDRESS, CONFIG, LCYCMODE, PERFORMANCE
from meter_runtime.units.metering.ade7953.unit import Ade7953Unit
from meter_runtime.units.metering.simulated import LoadSource

TWO_WIRE = Wiring.ONE_PHASE_TWO_WIRE
THREE_WIRE = Wiring.ONE_PHASE_THREE_WIRE
GRAIN_MWH = 2 * CALIBRATION["a_energy_pwh"] / 10**9
"""A count of each channel."""
EXACT = 1e-6
"""The calibration's rounding, of what flowed."""


def plate(
    wiring: Wiring = THREE_WIRE,
    calibration: Mapping[str, int] = CALIBRATION,
    *,
    two_way: bool = True,
    capacity_a: int | None = 60,
) -> Nameplate:
    return Nameplate(
        UnitKind.METERING,
        "MU-3W-60",
        "M00000000043",
        wiring=wiring,
        capacity_a=capacity_a,
        two_way=two_way,
        calibration=calibration,
    )


class House:
    """The chip on a supply, and the bus it is on."""

    def __init__(
        self, load: LoadSource, wiring: Wiring = THREE_WIRE, *, r_percent: int = 50
    ) -> None:
        self.clock = EagerClock()
        self.supply = Supply(
            self.clock.monotonic, load, self.clock.at, wiring=wiring, r_percent=r_percent
        )
        self.chip = Ade7953Chip([self.supply.tap(line) for line in range(self.supply.lines)])
        self.board = OneBusBoard({ADDRESS: self.chip})
        self.bus = self.board.virtual
        self.plate = plate(wiring)

    async def unit(self, **options: object) -> Ade7953Unit:
        context = self.board.context(self.clock, self.plate, **options)
        unit: Ade7953Unit = await DRIVER.build(context)
        return unit

    def register(self, register: int, size: int) -> int:
        told = self.bus.transfer(ADDRESS, register.to_bytes(2, "big"), size)
        return int.from_bytes(told, "big")

    @property
    def mwh(self) -> tuple[float, float]:
        forward, reverse = self.supply.registers
        return forward / 3600, reverse / 3600


def quiet() -> Steps:
    return Steps(EagerClock().at, [(3600, 400)])


# Energy


@pytest.mark.parametrize("wiring", [TWO_WIRE, THREE_WIRE])
async def test_it_says_what_flowed_over_days(wiring: Wiring) -> None:
    house = House(LoadModel(5, wiring=wiring), wiring)
    unit: MeteringUnit = await house.unit()
    for _ in range(3 * 1440):
        house.clock.at += 60
        sample = await unit.read()
    truth = house.mwh[0]
    assert truth > 10_000_000
    assert abs(sample.forward_mwh - truth) <= GRAIN_MWH + 1 + truth * EXACT
    assert sample.reverse_mwh == 0
    load = LoadModel(5, wiring=wiring).power(round(house.clock.at * 1000))
    assert abs(sample.power_w - load.power_w) <= 1
    assert load.r_ma is not None
    assert sample.current_r_ma is not None
    assert abs(sample.current_r_ma - load.r_ma) <= 1
    assert (sample.current_t_ma is None) == (wiring is TWO_WIRE)


@settings(deadline=None, max_examples=40)
@given(
    st.lists(st.tuples(st.floats(0.5, 90), st.integers(-9000, 9000)), min_size=2, max_size=20),
    st.floats(0.2, 100),
)
def test_no_wrap_of_a_counter_is_ever_energy(
    steps: list[tuple[float, int]], every_s: float
) -> None:
    """Both directions, many times around; what turned round between readings cancels out."""

    async def live() -> None:
        house = House(Steps(EagerClock().at, steps))
        unit = await house.unit()
        last = (0, 0)
        truth = [0.0, 0.0]
        before = house.mwh
        for _ in range(60):
            house.clock.at += every_s
            sample = await unit.read()
            forward, reverse = (now - then for now, then in zip(house.mwh, before, strict=True))
            before = house.mwh
            truth[0] += max(0.0, forward - reverse)
            truth[1] += max(0.0, reverse - forward)
            registers = sample.forward_mwh, sample.reverse_mwh
            assert registers[0] >= last[0]
            assert registers[1] >= last[1]
            last = registers
        # A reading has two ends, and at each a count of each channel may not be whole yet.
        slack = 2 * 60 * GRAIN_MWH + 2 + sum(house.mwh) * EXACT
        assert abs(last[0] - truth[0]) <= slack
        assert abs(last[1] - truth[1]) <= slack

    asyncio.run(live())


async def test_the_counters_go_around_without_a_trace() -> None:
    house = House(Steps(EagerClock().at, [(60, 9000)]), TWO_WIRE)
    unit = await house.unit()
    for _ in range(40):
        house.clock.at += 100
        sample = await unit.read()
    assert house.chip.counts(0) > 10 << 24 - 1
    assert abs(sample.forward_mwh - 10_000_000) <= 2 + 10


async def test_the_registers_begin_where_they_are_told_to() -> None:
    house = House(Steps(EagerClock().at, [(60, -3600)]))
    house.clock.at += 1000
    unit = await house.unit(start_forward_mwh=7, start_reverse_mwh=5)
    sample = await unit.read()
    assert (sample.forward_mwh, sample.reverse_mwh) == (7, 5)
    house.clock.at += 10
    sample = await unit.read()
    assert sample.forward_mwh == 7
    assert abs(sample.reverse_mwh - 10_005) <= 1


async def test_a_one_way_unit_ratchets() -> None:
    house = House(Steps(EagerClock().at, [(60, 3600), (60, -3600)]), TWO_WIRE)
    house.plate = plate(TWO_WIRE, two_way=False)
    unit = await house.unit()
    for _ in range(12):
        house.clock.at += 10
        sample = await unit.read()
    assert abs(sample.forward_mwh - 60_000) <= 1
    assert sample.reverse_mwh == 0
    assert sample.power_w in {-3600, 3600}


async def test_currents_are_signed_like_their_power() -> None:
    house = House(Steps(EagerClock().at, [(60, -3600)], r_ma=36_000), TWO_WIRE)
    sample = await (await house.unit()).read()
    assert sample.power_w == -3600
    assert sample.current_r_ma == pytest.approx(-36_000, abs=1)


# Settings


async def test_the_start_sequence_and_the_end_of_read_with_reset() -> None:
    house = House(quiet())
    assert house.register(LCYCMODE, 1) == 0x40
    await house.unit()
    assert house.register(LCYCMODE, 1) == 0x00
    assert house.register(CONFIG, 2) == 0x0004
    assert house.register(PERFORMANCE, 2) == 0x0030


async def test_read_with_reset_would_lose_what_a_bus_error_hides() -> None:
    house = House(Steps(EagerClock().at, [(60, 3600)]))
    house.clock.at += 10
    assert house.register(0x31E, 4) > 0
    assert house.register(0x31E, 4) == 0
    await house.unit()
    house.clock.at += 10
    assert house.register(0x31E, 4) == house.register(0x21E, 3) > 0


async def test_gains_are_written_and_work() -> None:
    house = House(Steps(EagerClock().at, [(60, 3600)]), TWO_WIRE)
    house.plate = plate(TWO_WIRE, {**CALIBRATION, "a_watt_gain": 0x440000, "pga_ia": 2})
    unit = await house.unit()
    house.clock.at += 100
    assert abs((await unit.read()).forward_mwh - 106_250) <= 1
    assert house.register(0x382, 4) == 0x440000
    assert house.register(0x008, 1) == 2


@pytest.mark.parametrize(
    ("calibration", "said"),
    [
        ({}, r"does not say what a count is worth \(a_energy_pwh\)"),
        ({**CALIBRATION, "b_power_nw": -1}, r"\(b_power_nw\)"),
        ({**CALIBRATION, "a_wat_gain": 1}, 'mean "a_watt_gain"'),
        ({**CALIBRATION, "pga_v": 256}, "pga_v = 256, which no register holds"),
    ],
)
async def test_a_calibration_that_cannot_be_its_own_is_refused(
    calibration: dict[str, int], said: str
) -> None:
    house = House(quiet())
    house.plate = plate(THREE_WIRE, calibration)
    with pytest.raises(UnitFailure, match=f"M00000000043.*{said}"):
        await house.unit()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"start_forward": 1}, 'did you mean "start_forward_mwh"'),
        ({"start_forward_mwh": -1}, "give a whole number from 0"),
    ],
)
async def test_wrong_options_are_named(options: dict[str, object], said: str) -> None:
    with pytest.raises(UsageError, match=re.escape(said)):
        await House(quiet()).unit(**options)


async def test_self_test_tells_what_is_wrong() -> None:
    house = House(quiet())
    unit = await house.unit()
    assert await unit.self_test() == []
    house.bus.write(ADDRESS, bytes((0, LCYCMODE, 0x40)))
    house.bus.write(ADDRESS, bytes((3, 0x01, 0, 0, 0, 0x0A)))
    assert await unit.self_test() == [
        "i2c-7 address 0x38: reading clears its counters: it was reset",
        "i2c-7 address 0x38: energy is accumulated without its sign",
    ]
    del house.bus.chips[ADDRESS]
    assert "Remote I/O error" in (await unit.self_test())[0]


# Silence


async def test_a_missed_reading_loses_no_energy() -> None:
    house = House(Steps(EagerClock().at, [(60, 9000)]), TWO_WIRE)
    unit = await house.unit()
    for _ in range(10):
        house.clock.at += 50
        house.bus.nak(ADDRESS, 100)
        with pytest.raises(UnitFailure):
            await unit.read()
        house.bus.nak(ADDRESS, 0)
        house.clock.at += 50
        sample = await unit.read()
    assert abs(sample.forward_mwh - 2_500_000) <= 5


async def test_a_gap_in_which_the_counters_may_have_wrapped_is_told_once() -> None:
    house = House(Steps(EagerClock().at, [(60, 3600)]), TWO_WIRE)
    unit = await house.unit()
    assert 100 < unit.longest_gap_s < 120
    house.clock.at += 130
    with pytest.raises(UnitFailure, match=r"M00000000043: .*wrapped in 130 s without a reading"):
        await unit.read()
    house.clock.at += 10
    assert abs((await unit.read()).forward_mwh - 10_000) <= 1


async def test_the_longest_gap_without_a_rating_is_that_of_full_scale() -> None:
    house = House(quiet())
    house.plate = plate(capacity_a=None)
    assert (await house.unit()).longest_gap_s == pytest.approx(40.5, abs=0.1)


async def test_a_chip_that_lost_its_power_is_prepared_again_and_the_gap_is_told() -> None:
    house = House(Steps(EagerClock().at, [(60, 3600)]))
    unit = await house.unit()
    house.clock.at += 10
    before = await unit.read()
    house.chip.power_off()
    with pytest.raises(UnitFailure, match="Remote I/O error"):
        await unit.read()
    house.chip.power_on()
    house.clock.at += 5
    with pytest.raises(UnitFailure, match="was reset; what flowed since"):
        await unit.read()
    house.clock.at += 10
    after = await unit.read()
    assert abs(after.forward_mwh - before.forward_mwh - 10_000) <= 1
    assert after.reverse_mwh == 0


async def test_a_silent_unit_says_who_and_where_and_comes_back() -> None:
    house = House(quiet())
    unit = await house.unit()
    del house.bus.chips[ADDRESS]
    said = r"^ADE7953 no\. M00000000043: i2c-7 address 0x38: Remote I/O error"
    with pytest.raises(UnitFailure, match=said):
        await unit.read()
    house.bus.chips[ADDRESS] = house.chip
    assert (await unit.read()).power_w == 400
    await unit.close()
    await unit.close()


# Disturbances


@settings(deadline=None, max_examples=200)
@given(st.integers(0, 180), st.integers(0, 7), st.booleans())
def test_a_flipped_bit_never_becomes_energy(nth: int, bit: int, again: bool) -> None:
    async def live() -> None:
        house = House(Steps(EagerClock().at, [(60, 3600)]), r_percent=70)
        unit = await house.unit()
        house.bus.flip(nth, bit)
        if again:
            house.bus.flip(nth + 1, bit)
        for second in range(1, 4):
            house.clock.at += 1
            sample = await unit.read()
            assert abs(sample.forward_mwh - 1000 * second) <= 1
            assert sample.reverse_mwh == 0
            assert abs(sample.power_w - 3600) <= 1

    asyncio.run(live())


@pytest.mark.parametrize("count", [1, 2])
async def test_a_few_refusals_are_healed(count: int) -> None:
    house = House(quiet())
    unit = await house.unit()
    house.bus.nak(ADDRESS, count)
    assert (await unit.read()).power_w == 400


async def test_two_readings_at_once_count_once() -> None:
    house = House(Steps(EagerClock().at, [(60, 3600)]))
    unit = await house.unit()
    house.clock.at += 10
    for sample in await asyncio.gather(unit.read(), unit.read()):
        assert abs(sample.forward_mwh - 10_000) <= 1


async def test_two_readings_at_once_do_not_mix_their_answers() -> None:
    house = House(quiet())
    unit = await house.unit()
    samples = await asyncio.gather(unit.read(), unit.read(), unit.self_test())
    assert samples[0] == samples[1]
    assert samples[2] == []


# Detection


async def test_it_is_found_by_its_version_and_its_memory_of_being_asked() -> None:
    house = House(quiet())
    house.clock.at += 5
    counted = house.chip.counts(0)
    assert DRIVER.detect is not None
    found = await DRIVER.detect(house.board.wires)
    assert found is not None
    assert (found.model, found.serial, found.driver) == ("ADE7953", "ADE7953@38", "ade7953")
    assert found.hw_version == "3"
    assert house.register(LCYCMODE, 1) == 0x40
    assert house.register(0x31E, 4) == counted > 0


async def test_others_are_not_claimed() -> None:
    assert DRIVER.detect is not None
    clock = EagerClock()
    supply = Supply(clock.monotonic, quiet(), clock.at)
    for other in (
        Ds3231Chip(clock.monotonic),
        Mb85rc256v(),
        Mcp39f521Chip(supply.tap()),
        Ade7953Chip([supply.tap()], version=0xFF),
    ):
        assert await DRIVER.detect(OneBusBoard({ADDRESS: other}).wires) is None
    assert await DRIVER.detect(OneBusBoard({}).wires) is None


async def test_a_stuck_bus_proves_nothing() -> None:
    house = House(quiet())
    house.bus.stuck = True
    assert DRIVER.detect is not None
    with pytest.raises(UnitFailure, match="the bus is stuck"):
        await DRIVER.detect(house.board.wires)


async def test_a_bus_that_hangs_costs_less_than_a_second(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async def hang(*_: object) -> bytes:
        await asyncio.Event().wait()
        return b""

    house = House(quiet())
    monkeypatch.setattr(SharedBus, "write", hang)
    monkeypatch.setattr(SharedBus, "transfer", hang)
    monkeypatch.setattr("meter_runtime.units.metering.ade7953.unit.DETECT_BOUND_S", 0.01)
    assert DRIVER.detect is not None
    with pytest.raises(UnitFailure, match=r"i2c-7: no answer within 0\.01 s"):
        await DRIVER.detect(house.board.wires)


async def test_the_other_meter_chips_driver_does_not_claim_it() -> None:
    house = House(quiet())
    house.bus.chips[0x74] = house.chip
    assert mcp39f521.DRIVER.detect is not None
    assert await mcp39f521.DRIVER.detect(house.board.wires) is None


async def test_a_unit_that_is_not_there_or_not_labelled_cannot_be_built() -> None:
    with pytest.raises(UnitFailure, match="nobody answers at i2c-7 address 0x38"):
        await DRIVER.build(OneBusBoard({}).context(EagerClock()))
    house = House(quiet())
    with pytest.raises(UnitFailure, match="ADE7953@38: its nameplate does not say"):
        await DRIVER.build(house.board.context(house.clock))
