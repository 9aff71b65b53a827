"""What the switching service relies on, of every switching unit there is a driver for."""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from rigs import SWITCHING, Relay, new

from meter_runtime.units.catalogue import shipped
from meter_runtime.units.contracts import (
    OptionalFunction,
    SwitchingUnit,
    SwitchPosition,
    UnitFailure,
    UnitKind,
)

OPEN, CLOSED = SwitchPosition.OPEN, SwitchPosition.CLOSED

DRIVE_S = 3.0
"""By then a drive is over, and its position can be read."""

Maker = Callable[..., Relay]

every = pytest.mark.parametrize(
    "make",
    [
        pytest.param(lambda rig=rig, model=model, **found: rig(new(model), **found), id=model)
        for rig, models in SWITCHING.values()
        for model in models
    ],
)


async def through(rig: Relay, call: Coroutine[Any, Any, None]) -> None:
    """The drive, and a moment for the contacts to come to rest."""
    took_s = await rig.room.clock.during(task := asyncio.ensure_future(call))
    task.result()
    assert took_s <= DRIVE_S
    rig.room.clock.move(0.5)


async def build(rig: Relay) -> SwitchingUnit:
    return await rig.build()


@every
async def test_its_nameplate_says_what_it_switches(make: Maker) -> None:
    plate = (await build(make())).nameplate
    assert (plate.kind, plate.function) == (UnitKind.OPTIONAL, OptionalFunction.SWITCHING)
    assert plate.capacity_a in {60, 120}
    assert shipped().known(plate.kind, plate.model).contradictions(plate) == []


@every
@pytest.mark.parametrize("closed", [True, False])
async def test_nothing_moves_before_it_is_told_to(make: Maker, closed: bool) -> None:
    rig = make(closed=closed)
    unit = await build(rig)
    rig.room.clock.move(5)
    assert await unit.position() is (CLOSED if closed else OPEN)
    assert await unit.self_test() == []
    await unit.close()
    assert (rig.contacts, rig.operations) == (CLOSED if closed else OPEN, 0)


@every
async def test_it_opens_and_closes_and_says_so(make: Maker) -> None:
    rig = make()
    unit = await build(rig)
    for _ in range(3):
        await through(rig, unit.open_contacts())
        assert rig.contacts is await unit.position() is OPEN
        await through(rig, unit.close_contacts())
        assert rig.contacts is await unit.position() is CLOSED
    assert rig.mistreated == []


@every
async def test_driving_it_where_it_is_changes_nothing(make: Maker) -> None:
    rig = make()
    unit = await build(rig)
    await through(rig, unit.close_contacts())
    assert (rig.contacts, rig.operations, rig.mistreated) == (CLOSED, 0, [])


@every
async def test_a_cancelled_drive_leaves_nothing_driven(make: Maker) -> None:
    rig = make()
    unit = await build(rig)
    drive = asyncio.ensure_future(unit.open_contacts())
    await asyncio.sleep(0)
    drive.cancel()
    await asyncio.gather(drive, return_exceptions=True)
    rig.room.clock.move(60)
    assert rig.mistreated == []
    await through(rig, unit.open_contacts())
    assert await unit.position() is OPEN


@every
async def test_a_silent_unit_fails_and_comes_back(make: Maker) -> None:
    rig = make()
    unit = await build(rig)
    rig.silence()
    with pytest.raises(UnitFailure, match="CONTRACT0001"):
        await unit.position()
    with pytest.raises(UnitFailure, match="CONTRACT0001"):
        await through(rig, unit.open_contacts())
    rig.wake()
    assert await unit.position() is rig.contacts is CLOSED
    await through(rig, unit.open_contacts())
    assert await unit.position() is OPEN


@every
async def test_closing_it_twice_is_harmless_and_moves_nothing(make: Maker) -> None:
    rig = make()
    unit = await build(rig)
    await through(rig, unit.open_contacts())
    await unit.close()
    await unit.close()
    rig.room.clock.move(5)
    assert (rig.contacts, rig.mistreated) == (OPEN, [])
