"""A hundred days of one home: whoever lives there sees what is his, and nothing else, ever."""

import dataclasses
from datetime import datetime
from pathlib import Path

import pytest

from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.clock import JST, first_slot_of, jst_day, slot_at
from meter_runtime.headend.register_contracts import EndReason

from .conftest import eventually
from .tenancy_room import (
    HARA,
    MORI,
    Archive,
    Login,
    Utility,
    assert_deserted,
    free_lab,
    home,
    is_let_in,
    link_starts,
    midnight_after,
    pass_days,
)

FAST = "bp35a1:pace=1ms"
SATO, UEDA, ITO = "C-1001", "C-1002", "C-1003"


def options(lab: Path, start: datetime, **others: object) -> BenchOptions:
    """A meter that measured for somebody else before; its home has the minutes' data, too."""
    common = BenchOptions(
        hems_modules=(FAST,),
        meter_module=FAST,
        echonet_profile="aif-1.10",
        history_days=14,
        start=start,
        lab=lab,
    )
    return dataclasses.replace(common, **others)  # type: ignore[arg-type]


async def test_nobody_sees_what_is_not_his(tmp_path: Path) -> None:
    lab = free_lab(tmp_path)
    start = datetime(2026, 7, 1, 9, tzinfo=JST)
    async with Bench(options(lab.path, start)) as bench:
        utility, archive = Utility(lab, bench), Archive()
        utility.hands.gate_of[utility.meter] = bench
        archive.keep(bench)
        assert len(archive.values) > 14 * 48
        utility.system.register.add_meter(utility.now, HARA, utility.meter, "SP-1")
        first_password = Login(bench.route_b_id, bench.password)

        # Sato moves in. The letter tells what the meter holds, and from which day on.
        utility.moves_in(SATO, "Sato Hana")
        moved_in = first_slot_of(start.date())
        sato = await utility.begins(SATO)
        assert not await is_let_in(bench, first_password)
        async with home(bench, sato) as hems:
            assert await hems.sees_only(archive, moved_in) == 19
            await eventually(lambda: bench.status()["broute"]["message"] == 1)
            await utility.asks()
        assert utility.stage(SATO) == "active"
        await pass_days(bench, 12)

        # He loses the letter, and somebody comes with a terminal. His history is still his.
        lost, sato = sato, await utility.rewrites(on_site=True)
        assert not await is_let_in(bench, lost)
        async with home(bench, sato) as hems:
            assert await hems.sees_only(archive, moved_in) == 12 * 48 + 19
        await pass_days(bench, 18)

        # Once more, from afar, while his HEMS is joined: its session ends.
        async with home(bench, sato) as hems:
            lost, sato = sato, await utility.rewrites()
            assert await hems.terminal.told("EVENT 26 ")
        assert not await is_let_in(bench, lost)
        async with home(bench, sato) as hems:
            assert await hems.sees_only(archive, moved_in) == 30 * 48 + 19
        await pass_days(bench, 10)

        # Another communication unit serves on, and asks to have them set again (U-22).
        await bench.unplug_unit("communication")
        await eventually(lambda: not bench.status()["broute"]["in_service"])
        async with link_starts(bench):
            await bench.plug_unit("communication", another=True)
        assert _codes(bench) == {"U-22"}
        await utility.asks()
        assert "was replaced (U-22)" in utility.to_do(SATO)
        lost, sato = sato, await utility.rewrites()
        assert _codes(bench) == set()
        await utility.asks()
        assert utility.to_do(SATO) == ""
        async with home(bench, sato) as hems:
            assert await hems.sees_only(archive, moved_in) == 40 * 48 + 19

        # Another metering unit: nothing from before it (U-21), though all of that was his.
        await bench.replace_unit()
        archive, replaced = Archive(), slot_at(bench.clock.wall())
        await pass_days(bench, 5)
        async with home(bench, sato) as hems:
            assert await hems.sees_only(archive, replaced + 1) == 5 * 48

        # The whole meter goes. It is unscrewed at 9 o'clock and measures for nobody any more.
        former = utility.meter
        removed_at = datetime.fromtimestamp(utility.now, JST)

    workshop = options(lab.path, removed_at, seed=2, history_days=3)
    async with Bench(workshop) as bench:
        utility.bench, archive = bench, Archive()
        utility.hands.gate_of = {utility.meter: bench}
        hung_on = jst_day(utility.now)
        utility.system.register.replace_meter(utility.now, HARA, former, utility.meter)
        assert (utility.stage(SATO, former), utility.stage(SATO)) == ("ended", "accepted")
        replaced_meters, sato = sato, await utility.begins(SATO)
        assert sato.route_b_id != replaced_meters.route_b_id
        assert not await is_let_in(bench, replaced_meters)
        async with home(bench, sato) as hems:
            assert await hems.sees_only(archive, midnight_after(hung_on)) == 0
        await pass_days(bench, 20)
        async with home(bench, sato) as hems:
            assert await hems.sees_only(archive, midnight_after(hung_on)) == 19 * 48 + 19

            # Sato moves out: at once nobody is served, and nobody gets in.
            utility.moves_out(SATO)
            assert utility.stage(SATO) == "ending"
            await utility.system.service.end(SATO, MORI, EndReason.MOVED_OUT)
            await utility.system.issuing.poll()
            assert utility.stage(SATO) == "ended"
            assert await hems.terminal.told("EVENT 26 ")
            peer = hems.peer
        await assert_deserted(bench, sato, peer=peer)
        await bench.reboot()
        await assert_deserted(bench, sato)
        await pass_days(bench, 7)

        # Ueda, a week later.
        utility.moves_in(UEDA, "Ueda Ken")
        moved_in = first_slot_of(jst_day(utility.now))
        ueda = await utility.begins(UEDA)
        assert not await is_let_in(bench, sato)
        async with home(bench, ueda) as hems:
            assert await hems.sees_only(archive, moved_in) == 19
        await pass_days(bench, 14)
        async with home(bench, ueda) as hems:
            assert await hems.sees_only(archive, moved_in) == 14 * 48 + 19

        # He leaves, and Ito comes on the same day, without a minute between them: that day is
        # not Ito's, whatever it has measured.
        utility.moves_out(UEDA)
        utility.moves_in(ITO, "Ito Ren")
        left_on = jst_day(utility.now)
        ito = await utility.begins(ITO)
        assert (utility.stage(UEDA), utility.stage(ITO)) == ("ended", "letter posted")
        assert not await is_let_in(bench, ueda)
        async with home(bench, ito) as hems:
            assert await hems.sees_only(archive, midnight_after(left_on)) == 0
        await pass_days(bench, 14)
        async with home(bench, ito) as hems:
            assert await hems.sees_only(archive, midnight_after(left_on)) == 13 * 48 + 19
        assert (utility.now - start.timestamp()) // 86_400 == 100
        utility.system.close()


def _codes(bench: Bench) -> set[str]:
    return {finding["code"] for finding in bench.status()["combination"]["findings"]}


pytestmark = pytest.mark.timeout(120)
