"""The keeper over the bench's board: units come, go, fall silent, and their drivers fail."""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

from fuzz.swap_room import LOAD, STAND_IN, START, UNITS, Board, Radio
from fuzz.virtual_time import LoopClock, in_virtual_time
from meter_runtime.bench.board.plugged import label
from meter_runtime.bench.body import MeterBody
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import sleep_until
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.events import EventBus
from meter_runtime.units import drivers
from meter_runtime.units.contracts import UnitFailure, UnitKind
from meter_runtime.units.discovery import Wanted
from meter_runtime.units.drivers import Driver, DriverContext
from meter_runtime.units.keeper import Keeper, Slot, SlotState, UnitFitted, UnitRemoved

METERING, OPTIONAL, COMMUNICATION = (
    UnitKind.METERING,
    UnitKind.OPTIONAL,
    UnitKind.COMMUNICATION,
)
FIRST = "M00000000001"


class Notes:
    """A crew that writes down what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.refuses: MeterError | None = None

    async def fit(self, slot: Slot) -> None:
        if self.refuses is not None and slot.profile.kind is METERING:
            raise self.refuses
        self.told.append(f"fit {slot.profile.name}")

    async def remove(self, slot: Slot) -> None:
        self.told.append(f"remove {slot.profile.name}")

    async def review(self, slots: Mapping[str, Slot]) -> None:
        self.told.append("review")

    def take(self) -> list[str]:
        """What was told since the last time."""
        told, self.told = self.told, []
        return told


class Bench:
    """A keeper, its board and its crew; the keeper runs in a task of its own."""

    def __init__(self, body: MeterBody, board: Board, clock: LoopClock, keeper: Keeper) -> None:
        self.body = body
        self.board = board
        self.clock = clock
        self.keeper = keeper
        self.crew = Notes()
        self.events: list[object] = []

    def slot(self, name: str) -> Slot:
        return self.keeper.slots[name]

    async def lives(self, seconds: float) -> None:
        await sleep_until(self.clock, self.clock.monotonic() + seconds)

    def silent(self, slot: str) -> None:
        """A unit's chips do not answer, and its user noticed."""
        self.body.board.socket(slot).contact.refuses = lambda: True
        self.keeper.suspect(self.slot(slot).profile.kind, "no answer")


@asynccontextmanager
async def bench(
    folder: Path,
    *,
    start: bool = True,
    presence: bool = True,
    wanted: Mapping[str, Wanted] | None = None,
) -> AsyncIterator[Bench]:
    """Three units on the board; without ``presence`` its slots have no such contacts."""
    file, load = folder / "units.toml", folder / "load.csv"
    file.write_text(UNITS, "utf-8")
    load.write_text(LOAD, "ascii")
    clock, radio, crew, bus = LoopClock(START), Radio(), Notes(), EventBus()
    body = MeterBody(
        BenchOptions(units=file, load=load),
        clock,
        folder,
        folder,
        radio=radio,
        new_radio=radio.renew,
        port=folder / "module",
    )
    await body.assemble()
    board = Board(body, radio)
    if not presence:
        slots = tuple(replace(slot, presence=None) for slot in board.profile.slots)
        board.profile = replace(board.profile, slots=slots)
    wishes = {"communication": Wanted(STAND_IN), **(wanted or {})}
    keeper = Keeper(board, wishes, crew, clock, bus=bus, rng=random.Random(1))
    one = Bench(body, board, clock, keeper)
    one.crew = crew
    for event in (UnitFitted, UnitRemoved):
        bus.subscribe(event, one.events.append)
    watching = None
    try:
        if start:
            await keeper.start()
            crew.take()
            watching = asyncio.create_task(keeper.run())
        yield one
    finally:
        if watching is not None:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
        await keeper.close()
        await body.close()


@pytest.fixture(autouse=True)
def stand_in(monkeypatch: pytest.MonkeyPatch) -> None:
    """The communication unit's driver is known by name."""
    monkeypatch.setitem(
        drivers.BUILT_IN[COMMUNICATION],
        STAND_IN,
        "fuzz.swap_room:DRIVER",
    )


class Clumsy:
    """A driver ``mcp39f521`` that does as it is told, then as the real one."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.tries: list[float] = []
        self.fault: Exception | str | None = None
        self._real = drivers.load_driver(METERING, "mcp39f521")
        driver = Driver(self._build, self._real.detect)
        monkeypatch.setattr("meter_runtime.units.metering.mcp39f521.DRIVER", driver)

    async def _build(self, context: DriverContext) -> Any:
        self.tries.append(context.clock.monotonic())
        if isinstance(self.fault, Exception):
            raise self.fault
        if self.fault == "hangs":
            await asyncio.Event().wait()
        return await self._real.build(context)


@pytest.fixture
def clumsy(monkeypatch: pytest.MonkeyPatch) -> Clumsy:
    return Clumsy(monkeypatch)


@in_virtual_time
async def test_metering_is_put_to_work_first_and_the_combination_is_reviewed_once(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path, start=False) as one:
        await one.keeper.start()
        assert one.crew.take() == ["fit metering", "fit optional", "fit communication", "review"]
        assert [slot.state for slot in one.keeper.slots.values()] == [SlotState.ACTIVE] * 3
        assert [type(event) for event in one.events] == [UnitFitted] * 3


@in_virtual_time
async def test_nothing_is_reviewed_while_nothing_changes(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await one.lives(120)
        assert one.crew.take() == []


@in_virtual_time
async def test_an_unplugged_unit_is_off_duty_within_a_second_and_back_when_it_is_plugged_in(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as one:
        await one.body.unplug("metering")
        await one.lives(1)
        assert one.crew.take() == ["remove metering", "review"]
        assert (one.slot("metering").state, one.slot("metering").unit) == (SlotState.REMOVED, None)
        await one.lives(3600)
        assert one.crew.take() == []
        await one.body.plug("metering")
        await one.lives(1)
        assert one.crew.take() == ["fit metering", "review"]
        assert one.slot("metering").state is SlotState.ACTIVE


@in_virtual_time
async def test_a_swap_between_two_looks_is_noticed(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        await one.body.unplug("metering")
        await one.lives(0.1)
        await one.body.swap("metering")
        await one.lives(1)
        assert one.crew.take() == ["remove metering", "fit metering", "review"]
        plate = one.slot("metering").nameplate
        assert plate == one.body.unit("metering").nameplate
        assert plate is not None
        assert plate.serial != FIRST


@in_virtual_time
async def test_a_silent_unit_that_is_still_there_is_left_at_work(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        one.keeper.suspect(METERING, "no answer")
        assert one.slot("metering").state is SlotState.SILENT
        await one.lives(1.2)
        one.keeper.trust(METERING)
        assert (one.slot("metering").state, one.slot("metering").reason) == (SlotState.ACTIVE, "")
        await one.lives(60)
        assert one.crew.take() == []


@in_virtual_time
async def test_a_unit_silent_for_longer_gets_its_driver_started_again(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        before = one.slot("metering").unit
        one.keeper.suspect(METERING, "no answer")
        await one.lives(5)
        assert one.crew.take() == ["remove metering", "fit metering", "review"]
        assert one.slot("metering").unit is not before
        assert one.slot("metering").state is SlotState.ACTIVE


@in_virtual_time
async def test_a_communication_unit_that_is_silent_keeps_its_driver(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        one.keeper.suspect(COMMUNICATION, "no answer")
        await one.lives(600)
        assert one.crew.take() == []
        assert one.slot("communication").state is SlotState.SILENT


@in_virtual_time
async def test_a_silent_unit_with_another_in_its_place_is_replaced(tmp_path: Path) -> None:
    async with bench(tmp_path, presence=False) as one:
        await one.body.swap("metering")
        await one.lives(60)
        assert one.crew.take() == []  # nobody can tell
        one.keeper.suspect(METERING, "no answer")
        await one.lives(1)
        assert one.crew.take() == ["remove metering", "fit metering", "review"]
        assert one.slot("metering").nameplate == one.body.unit("metering").nameplate


@in_virtual_time
async def test_a_silent_unit_that_is_gone_is_removed_and_looked_for(tmp_path: Path) -> None:
    async with bench(tmp_path, presence=False) as one:
        await one.body.unplug("metering")
        one.keeper.suspect(METERING, "no answer")
        await one.lives(1)
        assert one.slot("metering").state is SlotState.SILENT
        await one.lives(6)
        assert one.crew.take() == ["remove metering", "review"]
        assert one.slot("metering").state is SlotState.REMOVED
        await one.body.plug("metering")
        await one.lives(61)
        assert one.crew.take()[-2:] == ["fit metering", "review"]


@in_virtual_time
async def test_a_unit_that_answers_while_it_is_asked_who_it_is_stays_at_work(
    tmp_path: Path,
) -> None:
    async with bench(tmp_path) as one:
        one.silent("metering")
        await one.lives(2)
        one.board.copper["i2c-1"].moves.clear()  # the next question takes its time
        await one.lives(2)
        assert one.slot("metering").state is SlotState.SILENT
        one.body.board.socket("metering").contact.refuses = None
        one.keeper.trust(METERING)
        await one.lives(2)
        assert one.crew.take() == []
        assert one.slot("metering").state is SlotState.ACTIVE


@pytest.mark.parametrize("fault", [ValueError("a bug"), UnitFailure("no answer"), "hangs"])
def test_a_driver_that_fails_costs_its_slot_only_and_is_tried_again_ever_more_rarely(
    tmp_path: Path, clumsy: Clumsy, fault: Exception | str
) -> None:
    @in_virtual_time
    async def lived() -> None:
        clumsy.fault = fault
        async with bench(tmp_path, start=False) as one:
            await one.keeper.start()
            assert one.crew.take() == ["fit optional", "fit communication", "review"]
            assert one.slot("metering").state is SlotState.ABNORMAL
            watching = asyncio.create_task(one.keeper.run())
            await one.lives(200)
            pauses = [after - before for before, after in pairwise(clumsy.tries)]
            for pause, least in zip(pauses, (1, 2, 5, 15, 60, 60), strict=False):
                assert least <= pause <= least + 4.5
            assert len(pauses) >= 5
            assert one.crew.take() == []
            clumsy.fault = None
            await one.lives(65)
            assert one.crew.take() == ["fit metering", "review"]
            watching.cancel()

    lived()


@in_virtual_time
async def test_another_unit_is_not_kept_waiting_for_the_one_before(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        one.silent("metering")
        await one.lives(120)
        assert one.slot("metering").state is SlotState.ABNORMAL
        await one.body.unplug("metering")
        await one.lives(1)
        assert one.slot("metering").state is SlotState.ABSENT
        one.body.board.socket("metering").contact.refuses = None
        await one.body.plug("metering")
        await one.lives(1)
        assert one.slot("metering").state is SlotState.ACTIVE


@in_virtual_time
async def test_an_unreadable_unit_is_forgotten_when_it_is_unplugged(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        unit = one.body.unit("optional")
        await one.body.unplug("optional")
        label(unit, damaged=True)
        await one.lives(1)
        await one.body.plug("optional")
        await one.lives(2)
        assert one.crew.take()[-1] == "review"
        assert one.slot("optional").state is SlotState.ABNORMAL
        await one.body.unplug("optional")
        await one.lives(1)
        assert one.crew.take() == ["review"]
        assert one.slot("optional").state is SlotState.ABSENT


@in_virtual_time
async def test_an_id_eeprom_that_hangs_makes_no_other_unit_of_it(tmp_path: Path) -> None:
    async with bench(tmp_path, presence=False) as one:
        one.board.copper["i2c-1"].moves.clear()
        one.keeper.suspect(METERING, "no answer")
        await one.lives(1.2)  # the EEPROM's time is over, the chips are asked
        one.board.copper["i2c-1"].moves.set()
        await one.lives(30)
        plate = one.slot("metering").nameplate
        assert plate is not None
        assert plate.serial == FIRST


@in_virtual_time
async def test_a_wrong_option_is_told_at_the_start_and_lets_go_of_everything(
    tmp_path: Path,
) -> None:
    wrong = {"optional": Wanted("relay", {"pulse": 7})}
    async with bench(tmp_path, start=False, wanted=wrong) as one:
        with pytest.raises(UsageError, match="pulse"):
            await one.keeper.start()
        assert all(slot.unit is None for slot in one.keeper.slots.values())
        line = one.board.profile.slots[0].presence
        assert line is not None
        one.board.gpio.input(line).close()  # nobody holds it


@in_virtual_time
async def test_a_wrong_option_costs_a_unit_that_comes_later_its_slot(tmp_path: Path) -> None:
    wrong = {"optional": Wanted("auto", {"pulse": 7})}
    async with bench(tmp_path, start=False, wanted=wrong) as one:
        await one.body.unplug("optional")
        await one.keeper.start()
        await one.body.plug("optional")
        await one.lives(1.5)
        await one.keeper.look()
        assert one.slot("optional").state is SlotState.ABNORMAL
        assert "pulse" in one.slot("optional").reason
        assert one.crew.take()[-1] == "review"


@in_virtual_time
async def test_a_unit_the_crew_cannot_use_is_abnormal_and_let_go_of(tmp_path: Path) -> None:
    async with bench(tmp_path, start=False) as one:
        one.crew.refuses = MeterError("the ring is damaged; restore it")
        await one.keeper.start()
        slot = one.slot("metering")
        assert (slot.state, slot.unit) == (SlotState.ABNORMAL, None)
        assert slot.reason == "the ring is damaged; restore it"


@in_virtual_time
async def test_closing_lets_go_of_every_unit_and_line(tmp_path: Path) -> None:
    async with bench(tmp_path, start=False) as one:
        await one.keeper.start()
        communication = one.slot("communication").unit
        await one.keeper.close()
        assert communication.closed
        assert all(slot.unit is None for slot in one.keeper.slots.values())
        for slot in one.board.profile.slots:
            for line in (slot.presence, *slot.lines.values()):
                if line is not None:
                    one.board.gpio.input(line).close()
        await one.keeper.close()


@in_virtual_time
async def test_while_it_is_held_the_keeper_looks_only_when_it_is_told_to(tmp_path: Path) -> None:
    async with bench(tmp_path) as one:
        with one.keeper.held():
            await one.lives(1)
            await one.body.unplug("metering")
            await one.lives(60)
            assert one.crew.take() == []
            await one.keeper.look()
            assert one.crew.take() == ["remove metering", "review"]
