"""What the utility rewrites or revokes holds in the radio, and soon: whatever it does just then."""

import asyncio
import dataclasses
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

from meter_runtime import report
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.module.registers import Reg
from meter_runtime.bench.options import BenchOptions
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.broute.provisioning import Provisioning
from meter_runtime.comm.contracts import (
    LinkCredentials,
    LinkStarted,
    PeerJoining,
    PeerLeft,
    UnitFault,
)
from meter_runtime.secret import Secret

from .conftest import Home, eventually
from .terminal import Terminal

QUICK = BenchOptions(
    hems_modules=("bp35a1:pace=1ms", "bp35c2:pace=1ms"),
    meter_module="bp35a1:pace=1ms",
    air="fast",
)
NEW_PASSWORD = "NEWPASSWORD1"
NEW_ID = "FEDCBA98765432100123456789ABCDEF"
COUNTER = 7
READY_WITHIN_S = 2.0
"""From the command to a module that admits the home; without the scans, which take their time on
the air."""


class Utility:
    """What the A-route's handlers hold of a bench's meter."""

    def __init__(self, bench: Bench) -> None:
        self._bench = bench
        self.heard: list[object] = []
        for kind in (LinkStarted, PeerJoining, PeerLeft, UnitFault):
            bench.meter.bus.subscribe(kind, self.heard.append)

    @property
    def desk(self) -> Provisioning:
        meter = self._bench.meter

        async def changed(credentials: BRouteCredentials | None) -> None:
            await meter.crew.credentials_changed(credentials)
            await meter.keeper.review()

        return Provisioning(meter.credentials, changed, lambda: report.status(meter)["broute"])

    async def rewrite_unheard(self) -> None:
        """With no unit to bring it to."""
        credentials = LinkCredentials(self._bench.route_b_id, Secret(NEW_PASSWORD))
        await self.desk.provision(credentials, None, COUNTER)

    async def rewrite(self, password: str = NEW_PASSWORD, route_b_id: str | None = None) -> float:
        """How long it took until the radio admitted the new home, in seconds."""
        ids = route_b_id or self._bench.route_b_id
        self.heard.clear()
        began = asyncio.get_running_loop().time()
        await self.desk.provision(LinkCredentials(ids, Secret(password)), None, COUNTER)
        await eventually(lambda: any(isinstance(one, LinkStarted) for one in self.heard))
        return asyncio.get_running_loop().time() - began


@asynccontextmanager
async def town(options: BenchOptions = QUICK) -> AsyncIterator[tuple[Bench, Utility, Terminal]]:
    """A bench, its utility, and a home at the first module that has not joined."""
    async with Bench(options) as bench, Terminal(bench.tty).opened() as hems:
        yield bench, Utility(bench), hems


async def admits(bench: Bench, hems: Terminal, password: str, route_b_id: str = "") -> bool:
    """Whether a home with these gets in, all the way from its module's first command."""
    await hems.log_in(route_b_id or bench.route_b_id, password)
    await hems.tune()
    return await hems.knock()


def codes(bench: Bench) -> set[str]:
    return {finding["code"] for finding in bench.status()["combination"]["findings"]}


def shown(bench: Bench) -> dict[str, Any]:
    document: dict[str, Any] = bench.status()["broute"]
    return document


async def test_a_rewritten_password_drops_the_session_and_admits_only_its_holder() -> None:
    async with town() as (bench, utility, hems):
        old = bench.password
        await hems.join(bench.route_b_id, old)
        assert await hems.power() is not None
        took_s = await utility.rewrite()
        assert took_s <= READY_WITHIN_S
        assert any(isinstance(event, PeerLeft) for event in utility.heard)
        assert await hems.told("EVENT 26 ")
        assert shown(bench)["session"] is None

        assert not await admits(bench, hems, old)
        await eventually(lambda: shown(bench)["items"]["authentication"] == "failure")
        assert await admits(bench, hems, NEW_PASSWORD)
        assert await hems.power() is not None
        await eventually(lambda: shown(bench)["message"] == 1)


async def test_momonga_reads_with_the_new_password() -> None:
    options = dataclasses.replace(QUICK, hems_modules=("bp35c2",))
    async with Bench(options) as bench:
        utility = Utility(bench)
        async with Home(bench).joined() as home:
            assert await home.get("instantaneous_power") is not None
            await utility.rewrite()
        async with Home(bench, password=NEW_PASSWORD).joined() as home:
            assert await home.get("instantaneous_power") is not None


async def test_a_rewritten_id_is_found_by_its_pairing_id_and_the_old_one_no_more() -> None:
    async with town() as (bench, utility, hems):
        old = bench.route_b_id
        assert await utility.rewrite(route_b_id=NEW_ID) <= READY_WITHIN_S
        await hems.log_in(old, NEW_PASSWORD)
        assert await hems.scan() is None
        assert await admits(bench, hems, NEW_PASSWORD, NEW_ID)
        assert await hems.power() is not None


async def test_a_join_that_is_half_way_does_not_get_in_by_the_old_password() -> None:
    async with town() as (bench, utility, hems):
        old = bench.password
        await hems.log_in(bench.route_b_id, old)
        await hems.tune()
        bench.inject("delay", module="hems0", seconds="300ms", traffic="pana")
        await bench.faults_at_work.settled()
        hems.write(f"SKJOIN {hems.peer}\r\n".encode())
        await eventually(lambda: any(isinstance(one, PeerJoining) for one in utility.heard))
        assert await utility.rewrite() <= READY_WITHIN_S
        bench.clear("delay")
        assert (await hems.told("EVENT 24 ", "EVENT 25 ")).startswith("EVENT 24")
        assert shown(bench)["session"] is None
        assert not await admits(bench, hems, old)
        assert await admits(bench, hems, NEW_PASSWORD)
        assert await hems.power() is not None


async def test_a_home_that_asks_all_the_time_is_cut_off_all_the_same() -> None:
    async with town() as (bench, utility, hems):
        await hems.join(bench.route_b_id, bench.password)

        async def ask_on() -> None:
            while True:
                hems.write(b"".join(hems.request(0xE7)))
                await asyncio.sleep(0.005)

        asking = asyncio.create_task(ask_on())
        try:
            await eventually(lambda: shown(bench)["counters"]["tx"] > 5)
            assert await utility.rewrite() <= READY_WITHIN_S
            told = shown(bench)["counters"]["tx"]
            await asyncio.sleep(0.1)
            assert shown(bench)["counters"]["tx"] == told
        finally:
            asking.cancel()
            await asyncio.gather(asking, return_exceptions=True)
        async with Terminal(bench.modules[1].tty, dual=True).opened() as other:
            assert await admits(bench, other, NEW_PASSWORD)
            assert await other.power() is not None


async def test_a_home_out_of_reach_does_not_keep_the_new_password_waiting() -> None:
    async with town() as (bench, utility, hems):
        await hems.join(bench.route_b_id, bench.password)
        bench.inject("out-of-range", module="hems0")
        await bench.faults_at_work.settled()
        # The end of a session is repeated to it, in vain, before the module gives up.
        assert await utility.rewrite() <= READY_WITHIN_S + 1.5
        bench.clear("out-of-range")
        assert await admits(bench, hems, NEW_PASSWORD)


async def test_what_is_rewritten_while_the_unit_is_out_holds_when_it_is_put_back() -> None:
    async with town() as (bench, utility, hems):
        await hems.join(bench.route_b_id, bench.password)
        await bench.unplug_unit("communication")
        await eventually(lambda: not shown(bench)["in_service"])
        await utility.rewrite_unheard()
        utility.heard.clear()
        await bench.plug_unit("communication")
        await eventually(lambda: any(isinstance(one, LinkStarted) for one in utility.heard))
        assert codes(bench) == set()
        assert not await admits(bench, hems, bench.password)
        assert await admits(bench, hems, NEW_PASSWORD)


async def test_another_unit_serves_by_them_too_and_asks_to_have_them_set_again() -> None:
    async with town() as (bench, utility, hems):
        await bench.unplug_unit("communication")
        await eventually(lambda: not shown(bench)["in_service"])
        await utility.rewrite_unheard()
        utility.heard.clear()
        await bench.plug_unit("communication", another=True)
        await eventually(lambda: any(isinstance(one, LinkStarted) for one in utility.heard))
        assert codes(bench) == {"U-22"}
        assert await admits(bench, hems, NEW_PASSWORD)
        await utility.rewrite()
        assert codes(bench) == set()


async def test_a_module_that_lost_its_line_is_given_the_new_password_when_it_is_back() -> None:
    async with town() as (bench, utility, hems):
        await hems.join(bench.route_b_id, bench.password)
        bench.inject("unplug", module="meter")
        await bench.faults_at_work.settled()
        await eventually(lambda: any(isinstance(one, UnitFault) for one in utility.heard))
        await utility.rewrite_unheard()
        utility.heard.clear()
        bench.clear("unplug")
        await eventually(lambda: any(isinstance(one, LinkStarted) for one in utility.heard))
        assert not await admits(bench, hems, bench.password)
        assert await admits(bench, hems, NEW_PASSWORD)


async def test_after_a_revocation_nobody_is_answered_and_the_module_holds_nothing() -> None:
    async with town() as (bench, utility, hems):
        await hems.join(bench.route_b_id, bench.password)
        broute = bench.meter.broute
        assert broute is not None
        await utility.desk.revoke(COUNTER)
        assert shown(bench)["why_not"]["code"] == "revoked"
        assert (bench.meter.broute, broute.credentials) == (None, None)
        assert await hems.told("EVENT 26 ")
        await is_deserted(bench, hems)
        await bench.reboot()
        assert bench.meter.broute is None
        await is_deserted(bench, hems)


async def test_after_a_revocation_the_next_home_is_admitted_and_only_that() -> None:
    async with town() as (bench, utility, hems):
        await hems.join(bench.route_b_id, bench.password)
        desk = utility.desk
        # At once, as if both commands had waited: the first must not undo the second.
        await asyncio.gather(
            desk.revoke(COUNTER),
            desk.provision(LinkCredentials(NEW_ID, Secret(NEW_PASSWORD)), None, COUNTER + 1),
        )
        await eventually(lambda: shown(bench).get("link") is not None)
        await hems.log_in(bench.route_b_id, bench.password)
        assert await hems.scan() is None
        assert await admits(bench, hems, NEW_PASSWORD, NEW_ID)
        assert await hems.power() is not None


async def test_a_module_that_hears_nothing_when_it_is_revoked_forgets_once_it_hears_again() -> None:
    async with town() as (bench, utility, hems):
        await hems.join(bench.route_b_id, bench.password)
        bench.inject("no-ok", module="meter")
        bench.inject("fail-er10", module="meter", command="SKRESET")
        await bench.faults_at_work.settled()
        revoking = asyncio.create_task(utility.desk.revoke(COUNTER))
        await eventually(lambda: bench.meter.broute is None)
        assert shown(bench)["why_not"]["code"] == "revoked"
        bench.clear()
        await revoking
        await is_deserted(bench, hems)


async def test_a_unit_that_was_out_when_it_was_revoked_stays_silent_when_it_is_back() -> None:
    async with town() as (bench, utility, hems):
        await hems.join(bench.route_b_id, bench.password)
        await bench.unplug_unit("communication")
        await utility.desk.revoke(COUNTER)
        await bench.plug_unit("communication")
        await eventually(lambda: bench.status()["units"]["communication"]["state"] == "idle")
        await is_deserted(bench, hems)


async def is_deserted(bench: Bench, hems: Terminal) -> None:
    """No beacon, no join, and nothing in the module to join by."""
    module = bench.dongle("meter").module
    await eventually(lambda: module.state.credentials is None)
    assert not module.state.registers[Reg.ANSWER_BEACONS]
    await hems.log_in(bench.route_b_id, bench.password)
    assert await hems.scan() is None
    assert hems.peer
    assert not await hems.knock()
