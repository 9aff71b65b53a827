"""The supply behind the chip models: exact integrals, lines, and units that are not there."""

import pytest

from meter_runtime.bench.board.supply import MWS_PER_MWH, NOMINAL_MV, SAG_MV_PER_A, Supply
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.load import LoadModel
from meter_runtime.units.contracts import Nameplate, UnitKind, Wiring
from meter_runtime.units.metering.simulated import Load, SimulatedMeteringUnit

T0 = 1_790_000_000.0
THREE_WIRE = Wiring.ONE_PHASE_THREE_WIRE
TWO_WIRE = Wiring.ONE_PHASE_TWO_WIRE


class Time:
    """A monotonic clock that stands where it is put."""

    def __init__(self) -> None:
        self.at = 77.7

    def __call__(self) -> float:
        return self.at


class Fixed:
    """A power that never changes."""

    def __init__(self, load: Load) -> None:
        self.load = load

    def power(self, at_ms: int) -> Load:
        return self.load

    def energy(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        energy = self.load.power_w * (to_ms - from_ms)
        return max(0, energy), max(0, -energy)


def test_registers_are_the_exact_integral_however_often_they_are_read() -> None:
    time, model = Time(), LoadModel(3, pv_kw=4.0)
    often, once = (Supply(time, model, T0, (5, 7)) for _ in range(2))
    for _ in range(400):
        time.at += 123.457
        often.flow(1)
    assert often.registers == once.registers
    span = round(T0 * 1000), round((T0 + 400 * 123.457) * 1000)
    forward, reverse = model.energy(*span)
    assert once.registers == (5 + forward, 7 + reverse)


async def test_it_counts_what_the_simulated_unit_counts() -> None:
    clock, model = BenchClock(T0), LoadModel(3, pv_kw=4.0)
    nameplate = Nameplate(UnitKind.METERING, "simulated", "S1")
    unit = SimulatedMeteringUnit(clock, model, nameplate, T0)
    supply = Supply(clock.monotonic, model, T0)

    async def look() -> None:
        sample = await unit.read()
        forward, reverse = (energy // 3600 for energy in supply.registers)
        # The two began microseconds apart.
        assert abs(sample.forward_mwh - forward) <= 1
        assert abs(sample.reverse_mwh - reverse) <= 1

    await clock.advance(86_400, look)


@pytest.mark.parametrize("r_percent", [0, 1, 50, 97, 100])
def test_the_lines_sum_up_to_the_registers(r_percent: int) -> None:
    time = Time()
    supply = Supply(time, LoadModel(3, pv_kw=4.0), T0, (11, 13), r_percent=r_percent)
    before = supply.flow(0), supply.flow(1)
    for _ in range(200):
        time.at += 307.7
        now = supply.flow(0), supply.flow(1)
        whole = [register // MWS_PER_MWH * MWS_PER_MWH for register in supply.registers]
        assert sum(flow.forward_mws for flow in now) == whole[0]
        assert sum(flow.reverse_mws for flow in now) == whole[1]
        for earlier, later in zip(before, now, strict=True):
            assert later.forward_mws >= earlier.forward_mws
            assert later.reverse_mws >= earlier.reverse_mws
        before = now


def test_the_lines_power_follows_their_currents() -> None:
    supply = Supply(Time(), Fixed(Load(-1000, -6000, -4000)), T0)
    r, t = supply.flow(0), supply.flow(1)
    assert (r.power_mw, t.power_mw) == (-600_000, -400_000)
    assert (r.current_ma, t.current_ma) == (6000, 4000)


def test_a_two_wire_supply_has_one_line() -> None:
    time = Time()
    supply = Supply(time, Fixed(Load(360, 3600, None)), T0, wiring=TWO_WIRE)
    time.at += 10
    assert supply.lines == 1
    assert supply.flow().forward_mws == supply.registers[0] == 3_600_000
    assert supply.flow().power_mw == 360_000


def test_the_voltage_sags_under_load_and_rises_when_energy_is_given() -> None:
    taking = Supply(Time(), Fixed(Load(2000, 10_000, 10_000)), T0).flow()
    giving = Supply(Time(), Fixed(Load(-2000, -10_000, -10_000)), T0).flow()
    assert taking.voltage_mv == NOMINAL_MV - 10 * SAG_MV_PER_A
    assert giving.voltage_mv == NOMINAL_MV + 10 * SAG_MV_PER_A


def test_a_three_phase_element_sees_the_voltage_between_lines() -> None:
    wiring = Wiring.THREE_PHASE_THREE_WIRE
    idle = Supply(Time(), Fixed(Load(0, 0, 0)), T0, wiring=wiring, frequency_mhz=60_000).flow()
    assert (idle.voltage_mv, idle.frequency_mhz) == (2 * NOMINAL_MV, 60_000)


def test_the_house_goes_on_while_the_unit_is_out_and_the_unit_stands_still() -> None:
    time = Time()
    supply = Supply(time, Fixed(Load(1000, 5000, 5000)), T0)
    time.at += 10
    supply.unplug()
    time.at += 60
    assert supply.registers == (10_000_000, 0)
    assert supply.house_mws == (70_000_000, 0)
    supply.plug()
    time.at += 5
    assert supply.registers == (15_000_000, 0)


def test_a_one_way_unit_counts_nothing_in_reverse() -> None:
    time = Time()
    supply = Supply(time, Fixed(Load(-1000, -5000, -5000)), T0, two_way=False)
    time.at += 10
    assert supply.registers == (0, 0)
    assert supply.house_mws == (0, 10_000_000)


def test_what_flowed_between_since_and_the_start_is_counted() -> None:
    supply = Supply(Time(), Fixed(Load(1000, 5000, 5000)), T0, (1, 2), since=T0 - 60)
    assert supply.registers == (60_000_001, 2)
