"""What the voltage service relies on, of every voltage unit there is a driver for."""

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

import pytest
from rigs import VOLTAGE, Ads1115, new

from meter_runtime.units.catalogue import shipped
from meter_runtime.units.contracts import OptionalFunction, UnitFailure, UnitKind, VoltageSample

T = TypeVar("T")
Maker = Callable[[], Ads1115]

HOST_S = 3.0
"""What a second of the clock may take where a loaded machine works for it."""

ACCURACY_MV = 250
"""A quarter of a volt: well within the band of 101 ± 6 V that it is for."""

every = pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda rig=rig, model=model: rig(new(model)), id=name)
        for name, (rig, models) in VOLTAGE.items()
        for model in models
    ],
)


async def within_a_second(rig: Ads1115, call: Awaitable[T]) -> T:
    """The call's result, which comes within a second of the clock."""
    task = asyncio.ensure_future(call)
    async with asyncio.timeout(HOST_S):
        assert await rig.room.clock.during(task) <= 1.0
    return task.result()


@every
async def test_its_nameplate_says_that_it_measures_voltage(make: Maker) -> None:
    rig = make()
    plate = (await within_a_second(rig, rig.build())).nameplate
    assert (plate.kind, plate.function) == (UnitKind.OPTIONAL, OptionalFunction.VOLTAGE)
    assert shipped().known(plate.kind, plate.model).contradictions(plate) == []


@every
@pytest.mark.parametrize("watts", [0, 6000, -6000])
async def test_it_says_what_a_voltmeter_would(make: Maker, watts: int) -> None:
    rig = make()
    unit = await within_a_second(rig, rig.build())
    rig.room.house.turn_to(watts)
    rig.room.clock.move(1)
    sample = await within_a_second(rig, unit.read())
    r, t = (rig.room.supply.flow(line).voltage_mv for line in (0, 1))
    for said, true in ((sample.r_n_mv, r), (sample.t_n_mv, t), (sample.r_t_mv, r + t)):
        assert type(said) is int
        assert abs(said - true) <= ACCURACY_MV


@every
async def test_a_silent_unit_fails_within_a_second_and_comes_back(make: Maker) -> None:
    rig = make()
    unit = await within_a_second(rig, rig.build())
    rig.silence()
    with pytest.raises(UnitFailure, match="CONTRACT0001"):
        await within_a_second(rig, unit.read())
    assert await within_a_second(rig, unit.self_test()) != []
    rig.wake()
    assert isinstance(await within_a_second(rig, unit.read()), VoltageSample)
    assert await within_a_second(rig, unit.self_test()) == []


@every
async def test_closing_it_twice_is_harmless(make: Maker) -> None:
    rig = make()
    unit = await within_a_second(rig, rig.build())
    await unit.close()
    await unit.close()


@every
async def test_detection_knows_its_unit_and_leaves_it_alone(make: Maker) -> None:
    rig = make()
    assert rig.driver is not None
    assert rig.driver.detect is not None
    unit = await within_a_second(rig, rig.build())
    before = await within_a_second(rig, unit.read())
    found = await within_a_second(rig, rig.driver.detect(rig.room.wires))
    assert found is not None
    assert found.function is OptionalFunction.VOLTAGE
    assert await within_a_second(rig, unit.read()) == before
    rig.silence()
    assert await within_a_second(rig, rig.driver.detect(rig.room.wires)) is None
