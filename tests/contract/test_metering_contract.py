"""What the metrology core relies on, of every metering unit there is a driver for."""

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rigs import METERING, S0, MeteringRig, Simulated, new

from meter_runtime.units import nameplate as record
from meter_runtime.units.catalogue import shipped
from meter_runtime.units.contracts import MeteringUnit, Sample, UnitFailure, UnitKind

T = TypeVar("T")
Maker = Callable[[], MeteringRig]

READ_S = 1.0
HOST_S = 3.0
"""What a second of the clock may take where a loaded machine works for it."""

MAKERS: list[Maker] = [
    (lambda rig=rig, model=model: rig(new(model)))  # type: ignore[misc]
    for rig, models in METERING.values()
    for model in models
]
NAMES = [f"{name}-{model}" for name, (_, models) in METERING.items() for model in models]

UNDETECTED = (Simulated, S0)
"""A load and a pulse output have nothing to be recognised by."""


@contextlib.asynccontextmanager
async def plugged(make: Maker) -> AsyncIterator[MeteringRig]:
    rig = make()
    try:
        yield rig
    finally:
        await rig.end()


@pytest.fixture(params=MAKERS, ids=NAMES)
async def rig(request: pytest.FixtureRequest) -> AsyncIterator[MeteringRig]:
    async with plugged(request.param) as made:
        yield made


async def within_a_second(rig: MeteringRig, call: Awaitable[T]) -> T:
    """The call's result, which comes within a second of the clock."""
    task = asyncio.ensure_future(call)
    async with asyncio.timeout(HOST_S):
        took_s = await rig.room.clock.during(task)
    assert took_s <= READ_S
    return task.result()


async def live(rig: MeteringRig, unit: MeteringUnit, watts: int, seconds: int) -> list[Sample]:
    """Let power flow, negative towards the grid, and read each second as the runtime does."""
    rig.room.house.turn_to(watts)
    samples = []
    for _ in range(seconds):
        rig.room.clock.move(1)
        samples.append(await within_a_second(rig, unit.read()))
    return samples


def counted(rig: MeteringRig) -> tuple[int, int]:
    """What a perfect unit of these ways would have counted, in mWh."""
    forward, reverse = rig.room.supply.registers
    return forward // 3600, reverse // 3600 if rig.room.nameplate.two_way else 0


class Flow:
    """What flowed and what was counted since it was made."""

    def __init__(self, rig: MeteringRig, sample: Sample) -> None:
        self._rig = rig
        self._sample = sample
        self._counted = counted(rig)

    def check(self, sample: Sample) -> None:
        """The unit's registers gained what flowed, as far as its resolution goes."""
        true = [now - then for now, then in zip(counted(self._rig), self._counted, strict=True)]
        gained = (
            sample.forward_mwh - self._sample.forward_mwh,
            sample.reverse_mwh - self._sample.reverse_mwh,
        )
        for ours, theirs in zip(gained, true, strict=True):
            assert abs(ours - theirs) <= self._rig.resolution_mwh, (gained, true)


async def test_its_nameplate_is_one_that_the_catalogue_and_an_eeprom_take(rig: MeteringRig) -> None:
    plate = (await rig.build()).nameplate
    assert plate.kind is UnitKind.METERING
    assert record.decode(record.encode(plate)).serial == "CONTRACT0001"
    model = shipped().known(plate.kind, plate.model)
    assert model.contradictions(plate) == []
    assert model.completed(plate).wiring is not None


async def test_a_reading_is_of_whole_numbers(rig: MeteringRig) -> None:
    unit = await rig.build()
    *_, sample = await live(rig, unit, 1800, 3)
    numbers = [sample.forward_mwh, sample.reverse_mwh, sample.power_w]
    numbers += [ma for ma in (sample.current_r_ma, sample.current_t_ma) if ma is not None]
    assert {type(number) for number in numbers} == {int}
    assert isinstance(unit.keeps_registers, bool)


async def test_its_registers_gain_what_flowed(rig: MeteringRig) -> None:
    unit = await rig.build()
    first = await within_a_second(rig, unit.read())
    flow = Flow(rig, first)
    for watts in (3600, 720, 0, 4800):
        *_, sample = await live(rig, unit, watts, 30)
        flow.check(sample)
    assert sample.forward_mwh > first.forward_mwh


async def test_power_and_currents_follow_the_load(rig: MeteringRig) -> None:
    unit = await rig.build()
    for watts in (3600, -3600) if rig.room.nameplate.two_way else (3600,):
        *_, sample = await live(rig, unit, watts, 12)
        assert sample.power_w == pytest.approx(watts, rel=0.03)
        for current in (sample.current_r_ma, sample.current_t_ma):
            assert current is None or current * watts > 0


async def test_reverse_energy_is_counted_by_two_way_units_only(rig: MeteringRig) -> None:
    unit = await rig.build()
    await live(rig, unit, 3600, 5)
    before = await within_a_second(rig, unit.read())
    flow = Flow(rig, before)
    *_, sample = await live(rig, unit, -3600, 30)
    flow.check(sample)
    if not rig.room.nameplate.two_way:
        assert (before.reverse_mwh, sample.reverse_mwh) == (0, 0)


@pytest.mark.parametrize("make", MAKERS, ids=NAMES)
@settings(max_examples=20, deadline=None)
@given(
    steps=st.lists(st.tuples(st.integers(-6000, 6000), st.integers(1, 5)), min_size=1, max_size=8)
)
def test_registers_never_fall_whatever_flows(make: Maker, steps: list[tuple[int, int]]) -> None:
    async def through() -> None:
        async with plugged(make) as rig:
            unit = await rig.build()
            samples = [await within_a_second(rig, unit.read())]
            flow = Flow(rig, samples[0])
            for watts, seconds in steps:
                samples += await live(rig, unit, watts, seconds)
                flow.check(samples[-1])
        for before, after in itertools.pairwise(samples):
            assert after.forward_mwh >= before.forward_mwh
            assert after.reverse_mwh >= before.reverse_mwh

    asyncio.run(through())


async def test_reading_resets_nothing(rig: MeteringRig) -> None:
    unit = await rig.build()
    *_, last = await live(rig, unit, 3600, 10)
    for _ in range(20):
        again = await within_a_second(rig, unit.read())
        assert (again.forward_mwh, again.reverse_mwh) == (last.forward_mwh, last.reverse_mwh)


async def test_a_unit_that_keeps_its_registers_goes_on_with_them(rig: MeteringRig) -> None:
    unit = await rig.build()
    *_, last = await live(rig, unit, 3600, 10)
    await unit.close()
    again = await (await rig.build()).read()
    if unit.keeps_registers:
        assert again.forward_mwh >= last.forward_mwh
    else:
        assert again.forward_mwh == 0


async def test_a_silent_unit_fails_within_a_second_and_comes_back_with_its_count(
    rig: MeteringRig,
) -> None:
    unit = await rig.build()
    *_, before = await live(rig, unit, 3600, 5)
    flow = Flow(rig, before)
    rig.silence()
    for _ in range(3):
        rig.room.clock.move(1)
        with pytest.raises(UnitFailure) as failure:
            await within_a_second(rig, unit.read())
        assert "CONTRACT0001" in str(failure.value)
    rig.wake()
    *_, sample = await live(rig, unit, 3600, 2)
    flow.check(sample)


async def test_a_healthy_unit_finds_nothing_wrong_with_itself(rig: MeteringRig) -> None:
    unit = await rig.build()
    await live(rig, unit, 500, 2)
    assert await within_a_second(rig, unit.self_test()) == []


async def test_closing_twice_is_harmless(rig: MeteringRig) -> None:
    unit = await rig.build()
    await live(rig, unit, 500, 2)
    await within_a_second(rig, unit.close())
    await within_a_second(rig, unit.close())


async def test_closing_a_unit_that_was_pulled_out_is_harmless(rig: MeteringRig) -> None:
    unit = await rig.build()
    await live(rig, unit, 500, 2)
    rig.silence()
    await within_a_second(rig, unit.close())


async def test_detection_knows_its_unit_and_leaves_it_alone(rig: MeteringRig) -> None:
    if rig.driver is None or rig.driver.detect is None:
        assert isinstance(rig, UNDETECTED)
        return
    unit = await rig.build()
    *_, before = await live(rig, unit, 3600, 5)
    if rig.room.slot.uart is not None:  # which one program has at a time
        await unit.close()
    found = await within_a_second(rig, rig.driver.detect(rig.room.wires))
    assert found is not None
    assert found.kind is UnitKind.METERING
    assert record.decode(record.encode(found)) == found
    if rig.room.slot.uart is not None:
        unit = await rig.build()
    after = await within_a_second(rig, unit.read())
    assert (after.forward_mwh, after.reverse_mwh) == (before.forward_mwh, before.reverse_mwh)
    await unit.close()
    rig.silence()
    assert await within_a_second(rig, rig.driver.detect(rig.room.wires)) is None
