"""Each row of the diagnosis, made by a fault of the bench, on the status and at the utility."""

from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

import pytest

from meter_runtime.aroute.messages import BRouteStatus, Event, decode
from meter_runtime.bench.laboratory import Bench
from meter_runtime.bench.options import BenchOptions
from meter_runtime.broute.status import REJOIN_GRACE_S, REWRITE_GRACE_S
from meter_runtime.cli.status import render

from .conftest import eventually
from .terminal import Terminal
from .utility_room import PROOF_KEY, Desk, desk

QUICK = BenchOptions(hems_modules=("bp35a1:echo=0,pace=1ms",), meter_module="bp35a1:pace=1ms")
NEW_PASSWORD = "NEWPASSWORD1"
DAY_S = 86_400.0
ITEMS = ("startup", "authentication", "connection", "communication_unit")
ACTIVE = (1, "clear", "clear", "clear", "normal")
REFUSED = (2, "clear", "failure", "failure", "normal")
UNCONNECTED = (3, "clear", "clear", "failure", "normal")
DOWN = (4, "failure", "clear", "failure", "abnormality")
ON_THE_RADIO = ["hems_off", "distance", "interference", "wrong_id"]


class Site:
    """A bench whose home has joined, and its utility."""

    def __init__(self, bench: Bench, hems: Terminal, office: Desk) -> None:
        self.bench = bench
        self.hems = hems
        self.office = office

    @property
    def status(self) -> dict[str, Any]:
        report: dict[str, Any] = self.bench.status()["broute"]
        return report

    @property
    def pushed(self) -> dict[str, Any]:
        """What the utility was told last, without having asked."""
        heard = self.office.recorder.heard[self.office.topics.broute_status]
        return decode(heard[-1], BRouteStatus).report if heard else {}

    @property
    def alarms(self) -> list[tuple[bool, int]]:
        """The alarms' beginnings and ends, with the message."""
        heard = self.office.recorder.heard[self.office.topics.event]
        events = (decode(payload, Event) for payload in heard)
        return [
            (event.details["alarm"], event.details["message"])
            for event in events
            if event.kind == "broute_alarm"
        ]

    async def shows(self, *wanted: object, alarm: bool, causes: list[str]) -> None:
        """On the spot, pushed, and when it is asked for."""

        def shown(report: dict[str, Any]) -> tuple[object, ...]:
            told = [cause["code"] for cause in report["causes"]]
            return (*row(report), report["alarm"], *told)

        everything = (*wanted, alarm, *causes)
        await eventually(lambda: shown(self.status) == everything)
        await eventually(lambda: bool(self.pushed) and shown(self.pushed) == everything)
        asked = await self.office.details("broute.status")
        assert (row(asked), asked["alarm"], asked["causes"]) == (wanted, alarm, causes)

    async def begin(self, fault: str, **settings: object) -> None:
        self.bench.inject(fault, **settings)  # type: ignore[arg-type]
        await self.bench.faults_at_work.settled()

    async def end(self) -> None:
        self.bench.clear()
        await self.bench.faults_at_work.settled()

    async def joins(self) -> None:
        await self.hems.join(self.bench.route_b_id, self.bench.password)
        await self.shows(*ACTIVE, alarm=False, causes=[])


def row(report: Mapping[str, Any]) -> tuple[object, ...]:
    """The message and the four items; of a row that the paper does not have, that as well."""
    items = report["items"] or {}
    undefined = ("undefined",) if report["undefined_combination"] else ()
    return (report["message"], *(items.get(name) for name in ITEMS), *undefined)


@asynccontextmanager
async def on_site(options: BenchOptions = QUICK) -> AsyncIterator[Site]:
    async with Bench(options) as bench, desk(bench) as office, Terminal(bench.tty).opened() as hems:
        yield Site(bench, hems, office)


@pytest.fixture
async def site() -> AsyncIterator[Site]:
    async with on_site() as found:
        await found.joins()
        yield found


async def test_a_wrong_password_is_a_failure_of_the_hems(site: Site) -> None:
    assert (await site.hems.ask("SKTERM"))[-1] == "OK"
    await site.hems.told("EVENT 27 ")
    await site.begin("auth-refused")
    assert not await site.hems.knock()
    assert not await site.hems.knock()
    await site.shows(*REFUSED, alarm=True, causes=["wrong_password"])
    assert site.status["failed_joins"] == 2
    assert "message 2: HEMS is failure  ALARM" in render(site.bench.status())
    await site.end()
    await site.joins()
    assert site.status["failed_joins"] == 0
    await eventually(lambda: bool(site.alarms) and site.alarms[-1] == (False, 1))


async def test_a_session_that_expires_leaves_the_hems_unconnected(site: Site) -> None:
    await site.begin("expire")
    await site.shows(*UNCONNECTED, alarm=True, causes=ON_THE_RADIO)
    await site.joins()


async def test_a_hems_out_of_reach_is_unconnected_once_its_session_is_over(site: Site) -> None:
    await site.begin("out-of-range", module="hems0")
    await site.bench.advance(DAY_S / 2)
    assert row(site.status) == ACTIVE
    await site.bench.advance(DAY_S)
    await site.shows(*UNCONNECTED, alarm=True, causes=ON_THE_RADIO)
    await site.end()
    await site.joins()


async def test_a_meters_module_that_is_gone_is_an_abnormality(site: Site) -> None:
    await site.begin("unplug", module="meter")
    await site.shows(*DOWN, alarm=True, causes=["unit_down"])
    assert "unit fault" in render(site.bench.status())
    await site.end()
    await site.shows(*UNCONNECTED, alarm=False, causes=ON_THE_RADIO)
    assert site.status["expected_because"] == "rejoining"
    await site.joins()


async def test_a_home_that_never_comes_is_told_once_it_had_its_time() -> None:
    async with on_site() as site:
        await site.shows(*UNCONNECTED, alarm=False, causes=ON_THE_RADIO)
        await site.bench.advance(REJOIN_GRACE_S + 1)
        await site.shows(*UNCONNECTED, alarm=True, causes=ON_THE_RADIO)
        await eventually(lambda: site.alarms == [(True, 3)])


async def test_a_rewrite_is_expected_to_fail_until_the_home_has_the_new_password(
    site: Site,
) -> None:
    old = site.bench.password
    await site.office.command("broute.rewrite_password", password=NEW_PASSWORD, proof_key=PROOF_KEY)
    await site.shows(*UNCONNECTED, alarm=False, causes=["former_credentials", *ON_THE_RADIO])
    assert site.status["expected_because"] == "rewritten"
    await site.hems.log_in(site.bench.route_b_id, old)
    await site.hems.tune()
    assert not await site.hems.knock()
    await site.shows(*REFUSED, alarm=False, causes=["former_credentials", "wrong_password"])
    assert site.alarms == []
    await site.bench.advance(REWRITE_GRACE_S)
    await site.shows(*REFUSED, alarm=True, causes=["wrong_password"])
    await eventually(lambda: site.alarms == [(True, 2)])
    await site.hems.log_in(site.bench.route_b_id, NEW_PASSWORD)
    assert await site.hems.knock()
    await site.shows(*ACTIVE, alarm=False, causes=[])


async def test_who_is_not_served_is_told_why(site: Site) -> None:
    await site.bench.unplug_unit("communication")
    await eventually(lambda: site.status["message"] == 0)
    assert site.status["why_not"]["findings"] == ["U-03"]
    await eventually(lambda: site.pushed["message"] == 0)
    assert site.pushed["alarm"]
    assert "not in service: the combination of units forbids it  U-03  ALARM" in render(
        site.bench.status()
    )
    asked = await site.office.details("broute.status")
    assert asked["why_not"] == ["combination", "U-03"]
    await site.bench.plug_unit("communication")
    await site.shows(*UNCONNECTED, alarm=False, causes=ON_THE_RADIO)

    await site.office.command("broute.revoke")
    await eventually(lambda: site.pushed["message"] == 0)
    assert site.pushed["why_not"]["code"] == "revoked"
    assert not site.pushed["alarm"]
    assert (await site.office.command("broute.status")).diagnosis is not None


async def test_how_strongly_the_home_is_heard_is_told_where_the_module_tells() -> None:
    options = BenchOptions(hems_modules=QUICK.hems_modules, meter_module="bp35c2:pace=1ms")
    async with on_site(options) as site:
        await site.joins()
        assert await site.hems.power() is not None
        signal = site.status["signal"]
        assert -104.3 <= signal["min_dbm"] <= signal["mean_dbm"] <= signal["max_dbm"] < 0
        assert (await site.office.details("broute.status"))["signal"] == signal
