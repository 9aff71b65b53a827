"""The simulated metering unit: exact integrals on monotonic time."""

import asyncio

import pytest

from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.load import LoadModel
from meter_runtime.errors import MeterError
from meter_runtime.units.contracts import (
    MeteringUnit,
    Nameplate,
    Sample,
    UnitFailure,
    UnitKind,
    UnitSnapshot,
)
from meter_runtime.units.drivers import DriverContext
from meter_runtime.units.metering.simulated import (
    SNAPSHOTS_KEPT,
    Load,
    SimulatedMeteringUnit,
    driver,
)

T0 = 1_790_000_000.0
TWO_WAY = Nameplate(UnitKind.METERING, "SIM-1", "M0000001")
ONE_WAY = Nameplate(UnitKind.METERING, "SIM-1", "M0000001", two_way=False)


class ConstantLoad:
    """Forward 3600 W for the first half of each minute, reverse 1800 W for the second."""

    def power(self, at_ms: int) -> Load:
        watts = 3600 if at_ms % 60_000 < 30_000 else -1800
        return Load(watts, watts * 10, None)

    def energy(self, from_ms: int, to_ms: int) -> tuple[int, int]:
        def until(at_ms: int) -> tuple[int, int]:
            minutes, rest = divmod(at_ms, 60_000)
            forward = 30_000 * minutes + min(rest, 30_000)
            return 3600 * forward, 1800 * (at_ms - forward)

        before, after = until(from_ms), until(to_ms)
        return after[0] - before[0], after[1] - before[1]


class StillClock(BenchClock):
    """A bench clock that real time does not move."""

    at = 77.7

    def __init__(self, start: float) -> None:
        super().__init__(start)
        self.set_wall(start)

    def monotonic(self) -> float:
        return self.at


async def test_registers_are_the_exact_integral_since_the_start() -> None:
    clock = StillClock(T0)
    load = ConstantLoad()
    start = T0 // 60 * 60
    unit: MeteringUnit = SimulatedMeteringUnit(
        clock, load, TWO_WAY, start, start_forward_mwh=500, start_reverse_mwh=70
    )
    assert await unit.read() == Sample(500, 70, 3600, 36_000, None)
    clock.at += 45
    assert await unit.read() == Sample(500 + 30_000, 70 + 7500, -1800, -18_000, None)
    clock.at += 15
    assert await unit.read() == Sample(500 + 30_000, 70 + 15_000, 3600, 36_000, None)


async def test_many_readings_add_up_to_one() -> None:
    clock = StillClock(T0)
    model = LoadModel(9, 5.0)
    often = SimulatedMeteringUnit(clock, model, TWO_WAY, T0)
    once = SimulatedMeteringUnit(clock, model, TWO_WAY, T0)
    for _ in range(500):
        clock.at += 61.237
        last = await often.read()
    assert last == await once.read()
    forward, reverse = model.energy(round(T0 * 1000), round((T0 + 500 * 61.237) * 1000))
    assert (last.forward_mwh, last.reverse_mwh) == (forward // 3600, reverse // 3600)


async def test_a_wall_step_creates_no_energy() -> None:
    clock = StillClock(T0)
    unit = SimulatedMeteringUnit(clock, ConstantLoad(), TWO_WAY, T0)
    before = await unit.read()
    clock.step(86_400)
    assert await unit.read() == before


async def test_a_one_way_unit_ratchets() -> None:
    clock = StillClock(T0)
    start = T0 // 60 * 60
    unit = SimulatedMeteringUnit(clock, ConstantLoad(), ONE_WAY, start)
    clock.at += 60
    sample = await unit.read()
    assert (sample.forward_mwh, sample.reverse_mwh) == (30_000, 0)


async def test_a_failing_unit_says_who_and_why() -> None:
    unit = SimulatedMeteringUnit(StillClock(T0), ConstantLoad(), TWO_WAY, T0)
    assert await unit.self_test() == []
    unit.failure = "no answer on the bus"
    with pytest.raises(UnitFailure, match="M0000001: no answer on the bus"):
        await unit.read()
    assert await unit.self_test() == ["no answer on the bus"]


async def test_the_load_flows_on_while_the_unit_is_off() -> None:
    clock = StillClock(T0)
    model = LoadModel(9, 5.0)
    unit = SimulatedMeteringUnit(clock, model, TWO_WAY, T0, start_forward_mwh=123)
    unbroken = SimulatedMeteringUnit(clock, model, TWO_WAY, T0, start_forward_mwh=123)
    clock.at += 1000
    state = unit.snapshot()
    clock.at += 5000
    again = SimulatedMeteringUnit.restore(state, clock, model, TWO_WAY, T0 + 6000)
    assert await again.read() == await unbroken.read()
    clock.at += 777
    assert await again.read() == await unbroken.read()


async def test_a_restart_before_the_snapshot_adds_nothing_and_loses_nothing() -> None:
    clock = StillClock(T0)
    load = ConstantLoad()
    unit = SimulatedMeteringUnit(clock, load, TWO_WAY, T0)
    clock.at += 86_400
    before = await unit.read()
    again = SimulatedMeteringUnit.restore(unit.snapshot(), clock, load, TWO_WAY, T0)
    sample = await again.read()
    assert (sample.forward_mwh, sample.reverse_mwh) == (before.forward_mwh, before.reverse_mwh)


@pytest.mark.parametrize(
    "state", ["", "[]", "{}", '{"serial": "M0000001"}', '{"serial":"M0000001","at_ms":null}']
)
async def test_a_damaged_state_is_an_error_with_a_remedy(state: str) -> None:
    with pytest.raises(MeterError, match="damaged; remove it"):
        SimulatedMeteringUnit.restore(state, StillClock(T0), ConstantLoad(), TWO_WAY, T0)


async def test_another_units_state_is_refused() -> None:
    clock = StillClock(T0)
    state = SimulatedMeteringUnit(clock, ConstantLoad(), TWO_WAY, T0).snapshot()
    other = Nameplate(UnitKind.METERING, "SIM-1", "M0000002")
    with pytest.raises(MeterError, match="of metering unit M0000001, not M0000002"):
        SimulatedMeteringUnit.restore(state, clock, ConstantLoad(), other, T0)


async def test_readings_of_a_moving_bench_never_decrease() -> None:
    clock = BenchClock(T0)
    unit = SimulatedMeteringUnit(clock, LoadModel(9, 5.0), TWO_WAY, T0)
    samples: list[Sample] = []

    async def read() -> None:
        samples.append(await unit.read())

    await clock.advance(86_400, read)
    await asyncio.sleep(0)
    await read()
    assert samples == sorted(samples, key=lambda s: (s.forward_mwh, s.reverse_mwh))
    assert samples[-1].reverse_mwh > 0


@pytest.mark.parametrize(("power_w", "forward_wh", "reverse_wh"), [(500, 500, 0), (-500, 0, 500)])
async def test_the_drivers_unit_counts_on_while_nobody_runs_it(
    power_w: int, forward_wh: int, reverse_wh: int
) -> None:
    options = {"power_w": power_w}
    before = await driver(DriverContext(BenchClock(T0), options)).read()
    after = await driver(DriverContext(BenchClock(T0 + 3600), options)).read()
    assert before.forward_mwh + before.reverse_mwh > 0
    assert after.forward_mwh - before.forward_mwh == pytest.approx(1000 * forward_wh, abs=100)
    assert after.reverse_mwh - before.reverse_mwh == pytest.approx(1000 * reverse_wh, abs=100)


async def test_the_drivers_unit_is_new_where_the_clock_was_never_set() -> None:
    assert (await driver(DriverContext(BenchClock(0.0))).read()).forward_mwh < 100


def logging_unit(clock: StillClock, clock_error_s: float = 0.0) -> SimulatedMeteringUnit:
    return SimulatedMeteringUnit(
        clock,
        LoadModel(9, 5.0),
        TWO_WAY,
        T0,
        start_forward_mwh=777,
        keeps_snapshots=True,
        clock_error_s=clock_error_s,
    )


def flowed(until: float) -> tuple[int, int]:
    forward, reverse = LoadModel(9, 5.0).energy(round(T0 * 1000), round(until * 1000))
    return 777 + forward // 3600, reverse // 3600


@pytest.mark.parametrize("error_s", [-400.0, -1.5, 0.0, 1.5, 400.0])
async def test_a_unit_logs_the_half_hours_by_its_own_clock_and_tells_them_once(
    error_s: float,
) -> None:
    clock = StillClock(T0)
    unit = logging_unit(clock, error_s)
    assert (await unit.read()).snapshots == ()
    unit.failure = "no answer"
    clock.at += 2 * 3600
    with pytest.raises(UnitFailure):
        await unit.read()
    unit.failure = None
    told = (await unit.read()).snapshots
    first = 1800 * ((T0 + error_s) // 1800 + 1) - error_s
    assert [s.at for s in told] == [pytest.approx(first + 1800 * n, abs=1e-6) for n in range(4)]
    assert [(s.forward_mwh, s.reverse_mwh) for s in told] == [flowed(s.at) for s in told]
    assert (await unit.read()).snapshots == ()


async def test_a_log_does_not_change_what_the_registers_count() -> None:
    clock = StillClock(T0)
    logging = logging_unit(clock)
    clock.at += 5 * 86_400
    sample = await logging.read()
    assert (sample.forward_mwh, sample.reverse_mwh) == flowed(T0 + 5 * 86_400)
    assert len(sample.snapshots) == SNAPSHOTS_KEPT
    assert sample.snapshots[-1].at == T0 + 5 * 86_400 - (T0 % 1800)


async def test_the_stamps_of_a_log_follow_the_meters_clock() -> None:
    clock = StillClock(T0)
    unit = logging_unit(clock)
    clock.at += 1800
    clock.step(3600)
    at = 1800 * (T0 // 1800 + 1)
    assert (await unit.read()).snapshots == (UnitSnapshot(at + 3600, *flowed(at)),)


async def test_a_unit_claims_to_keep_its_registers_unless_told_otherwise() -> None:
    clock, load = StillClock(T0), ConstantLoad()
    lasting: MeteringUnit = SimulatedMeteringUnit(clock, load, TWO_WAY, T0)
    forgetful = SimulatedMeteringUnit(clock, load, TWO_WAY, T0, keeps_registers=False)
    assert (lasting.keeps_registers, forgetful.keeps_registers) == (True, False)
