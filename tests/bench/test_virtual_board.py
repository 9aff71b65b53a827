"""The bench's board: real discovery and real drivers on it, units that come and go, contacts."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from meter_runtime.bench.board.plugged import PulseOutputs, Switch, label
from meter_runtime.bench.body import MeterBody
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.options import BenchOptions
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.units.board import Wires
from meter_runtime.units.contracts import SwitchPosition, UnitFailure
from meter_runtime.units.discovery import Presence, SlotFinding, discover
from meter_runtime.units.drivers import DriverContext, load_driver

FITTED = 1_795_143_600.0
EXAMPLES = Path(__file__).parents[2] / "examples" / "units"
MWS_PER_MWH = 3600


class Radio:
    """Stands in for the module in a communication unit's case."""

    def __init__(self) -> None:
        self.plugged = True
        self.generation = 0

    async def plug(self) -> None:
        self.plugged = True

    async def unplug(self) -> None:
        self.plugged = False

    def renew(self) -> None:
        self.generation += 1


class Workbench:
    """A body, and what a meter would do with it."""

    def __init__(self, body: MeterBody, clock: BenchClock, radio: Radio) -> None:
        self.body = body
        self.clock = clock
        self.radio = radio

    async def found(self) -> dict[str, SlotFinding]:
        return await discover(self.body.board, {})

    async def unit(self, slot: str) -> Any:
        """What the driver makes of the unit in a slot."""
        finding = (await self.found())[slot]
        assert finding.presence is Presence.FOUND, finding.reason
        options = dict(self.body.units[slot].options)
        context = DriverContext(
            self.clock,
            options,
            wires=Wires(self.body.board, finding.slot),
            nameplate=finding.nameplate,
        )
        return await load_driver(finding.slot.kind, finding.driver).build(context)

    async def lives(self, seconds: float) -> None:
        async def visit() -> None:
            pass

        await self.clock.advance(seconds, visit)


@asynccontextmanager
async def workbench(folder: Path, units: str | None = None) -> AsyncIterator[Workbench]:
    clock, radio = BenchClock(FITTED), Radio()
    options = BenchOptions(units=None if units is None else EXAMPLES / f"{units}.toml")
    body = MeterBody(
        options,
        clock,
        folder,
        folder,
        radio=radio,
        new_radio=radio.renew,
        port=folder / "module",
    )
    await body.assemble()
    try:
        yield Workbench(body, clock, radio)
    finally:
        await body.close()


@pytest.mark.parametrize(
    ("units", "drivers"),
    [
        (None, {"communication": "skstack", "metering": "mcp39f521", "optional": ""}),
        (
            "two-way-60a",
            {"communication": "skstack", "metering": "mcp39f521", "optional": "relay"},
        ),
        ("one-way-pzem", {"communication": "skstack", "metering": "pzem004t", "optional": ""}),
        ("s0-pulses", {"communication": "skstack", "metering": "s0", "optional": ""}),
        ("voltage", {"communication": "skstack", "metering": "mcp39f521", "optional": "ads1115"}),
    ],
)
async def test_discovery_finds_what_is_plugged_in(
    tmp_path: Path, units: str | None, drivers: dict[str, str]
) -> None:
    async with workbench(tmp_path, units) as bench:
        found = await bench.found()
        assert {slot: finding.driver for slot, finding in found.items()} == drivers
        for slot, unit in bench.body.units.items():
            nameplate = found[slot].nameplate
            assert nameplate is not None
            assert nameplate.model == unit.nameplate.model
            assert found[slot].source == "eeprom"


@pytest.mark.parametrize(
    ("units", "resolution_mwh"), [(None, 2), ("two-way-60a", 2), ("one-way-pzem", 1000)]
)
async def test_the_driver_reads_what_the_house_has_used(
    tmp_path: Path, units: str | None, resolution_mwh: int
) -> None:
    async with workbench(tmp_path, units) as bench:
        unit = await bench.unit("metering")
        before, counted = await unit.read(), bench.body.household.supply.registers
        await bench.lives(6 * 3600)
        after, now = await unit.read(), bench.body.household.supply.registers
        used = (now[0] - counted[0]) / MWS_PER_MWH
        assert after.forward_mwh - before.forward_mwh == pytest.approx(used, abs=resolution_mwh)
        await unit.close()


async def test_pulses_tell_the_energy_since_the_driver_counts(tmp_path: Path) -> None:
    async with workbench(tmp_path, "s0-pulses") as bench:
        unit = await bench.unit("metering")
        counted = bench.body.household.supply.registers[0]
        for _ in range(60):
            await bench.lives(60)
            await unit.read()
        used = (bench.body.household.supply.registers[0] - counted) / MWS_PER_MWH
        assert (await unit.read()).forward_mwh == pytest.approx(used, abs=1000)
        await unit.close()


async def test_while_a_unit_is_out_the_house_goes_on_and_nothing_is_counted(
    tmp_path: Path,
) -> None:
    async with workbench(tmp_path) as bench:
        await bench.body.unplug("metering")
        counted = bench.body.household.supply.registers
        assert (await bench.found())["metering"].presence is Presence.ABSENT
        await bench.lives(3600)
        assert bench.body.household.supply.registers == counted
        assert sum(bench.body.household.supply.house_mws) > 0
        await bench.body.plug("metering")
        assert (await bench.found())["metering"].presence is Presence.FOUND
        assert (await (await bench.unit("metering")).read()).forward_mwh == pytest.approx(
            counted[0] / MWS_PER_MWH, abs=100
        )


async def test_a_swapped_unit_is_another_one_of_the_model_also_after_a_restart(
    tmp_path: Path,
) -> None:
    serials: list[dict[str, str]] = []
    for _ in range(2):
        async with workbench(tmp_path, "two-way-60a") as bench:
            if not serials:
                for slot in bench.body.units:
                    await bench.body.swap(slot)
                assert bench.radio.generation == 1
            found = await bench.found()
            plates = [finding.nameplate for finding in found.values()]
            assert [plate.model for plate in plates if plate is not None] == [
                unit.nameplate.model for slot in found for unit in (bench.body.units[slot],)
            ]
            serials.append(
                {
                    slot: finding.nameplate.serial
                    for slot, finding in found.items()
                    if finding.nameplate
                }
            )
            given = {slot: unit.nameplate.serial for slot, unit in bench.body.units.items()}
            assert all(serials[-1][slot] != given[slot] for slot in given)
    assert serials[0] == serials[1]


async def test_an_unplugged_unit_takes_the_radio_with_it(tmp_path: Path) -> None:
    async with workbench(tmp_path) as bench:
        seen = [(bench.radio.plugged, bench.body.has_radio)]
        await bench.body.unplug("communication")
        seen.append((bench.radio.plugged, bench.body.has_radio))
        await bench.body.plug("communication")
        seen.append((bench.radio.plugged, bench.body.has_radio))
        assert seen == [(True, True), (False, False), (True, True)]


async def test_a_latching_relay_stays_as_it_is_without_power_and_out_of_its_slot(
    tmp_path: Path,
) -> None:
    async with workbench(tmp_path, "two-way-60a") as bench:
        (switch,) = bench.body.unit("optional").parts
        assert isinstance(switch, Switch)
        assert switch.relay is not None
        switch.relay.move_by_hand(SwitchPosition.OPEN)
        bench.body.power_off()
        bench.body.power_on()
        await bench.body.unplug("optional")
        await bench.body.plug("optional")
        unit = await bench.unit("optional")
        assert await unit.position() is SwitchPosition.OPEN
        await unit.close()


async def test_chips_without_a_buffer_forget_when_the_board_loses_power(tmp_path: Path) -> None:
    units = tmp_path / "units.toml"
    units.write_text(
        '[[unit]]\nslot = "metering"\nmodel = "MU-1P3W-60-2"\nserial = "M1"\n', "utf-8"
    )
    async with workbench(tmp_path, str(units.with_suffix(""))) as bench:
        unit = await bench.unit("metering")
        await bench.lives(3600)
        counted = await unit.read()
        assert counted.forward_mwh + counted.reverse_mwh > 1000
        bench.body.power_off()
        with pytest.raises(UnitFailure):
            await unit.read()
        bench.body.power_on()
        afterwards = await (await bench.unit("metering")).read()
        # Only what has flowed in the moment since.
        assert afterwards.forward_mwh + afterwards.reverse_mwh < 100


async def test_a_damaged_nameplate_is_told_and_a_blank_one_too(tmp_path: Path) -> None:
    async with workbench(tmp_path) as bench:
        unit = bench.body.unit("metering")
        label(unit, damaged=True)
        assert (await bench.found())["metering"].codes == ("U-23",)
        label(unit)
        assert (await bench.found())["metering"].presence is Presence.FOUND


async def test_a_contact_that_refuses_silences_its_own_slot_only(tmp_path: Path) -> None:
    async with workbench(tmp_path) as bench:
        unit = await bench.unit("metering")
        bench.body.board.socket("metering").contact.refuses = lambda: True
        with pytest.raises(UnitFailure):
            await unit.read()
        found = await bench.found()
        assert found["communication"].presence is Presence.FOUND
        assert found["metering"].presence is Presence.ABNORMAL
        bench.body.board.socket("metering").contact.refuses = None
        assert (await unit.read()).forward_mwh > 0


async def test_cut_pulse_wires_lose_energy_and_nobody_knows(tmp_path: Path) -> None:
    async with workbench(tmp_path, "s0-pulses") as bench:
        unit = await bench.unit("metering")
        (outputs,) = bench.body.unit("metering").parts
        assert isinstance(outputs, PulseOutputs)
        await bench.lives(3600)
        before = (await unit.read()).forward_mwh
        outputs.cut = True
        await bench.lives(3600)
        assert (await unit.read()).forward_mwh == before
        outputs.cut = False
        await bench.lives(3600)
        assert (await unit.read()).forward_mwh > before
        await unit.close()


async def test_a_board_that_was_closed_can_be_used_again(tmp_path: Path) -> None:
    async with workbench(tmp_path) as bench:
        bench.body.power_off()
        bench.body.power_on()
        assert (await bench.found())["metering"].presence is Presence.FOUND


async def test_two_units_do_not_go_into_one_slot(tmp_path: Path) -> None:
    async with workbench(tmp_path) as bench:
        socket = bench.body.board.socket("metering")
        with pytest.raises(MeterError, match="the metering slot is taken"):
            await socket.plug(bench.body.unit("metering"))
        with pytest.raises(UsageError, match='no slot "meterign"; did you mean "metering"'):
            bench.body.board.socket("meterign")
        with pytest.raises(MeterError, match="the optional slot is empty"):
            bench.body.unit("optional")


async def test_a_file_with_two_units_for_one_slot_is_refused(tmp_path: Path) -> None:
    units = tmp_path / "two.toml"
    unit = '[[unit]]\nslot = "optional"\nmodel = "OU-VOLT"\nserial = "V{}"\n'
    units.write_text(unit.format(1) + unit.format(2), "utf-8")
    with pytest.raises(UsageError, match="one optional slot; leave one unit"):
        async with workbench(tmp_path, str(units.with_suffix(""))):
            pass


async def test_a_damaged_memory_of_swaps_is_told(tmp_path: Path) -> None:
    (tmp_path / "swapped-units.json").write_text("[7]")
    with pytest.raises(MeterError, match="is damaged; remove it"):
        async with workbench(tmp_path):
            pass
