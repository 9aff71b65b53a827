"""What the B-route relies on, of every communication unit there is a driver for."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass, replace
from typing import TypeVar

import pytest
from plc_rig import PlcRig
from radio_rig import METER_MAC, SkstackRig

from meter_runtime.comm.contracts import (
    AuthFailed,
    AuthOk,
    CommunicationUnit,
    LinkCredentials,
    LinkStarted,
    PeerLeft,
    UnitFault,
)
from meter_runtime.comm.skstack.modules import PRODUCTS
from meter_runtime.secret import Secret
from meter_runtime.units import nameplate as record
from meter_runtime.units.catalogue import shipped
from meter_runtime.units.contracts import BRouteMedium, UnitKind

E = TypeVar("E")

CREDENTIALS = LinkCredentials("0123456789ABCDEF0123456789ABCDEF", Secret("ABCDEFGHIJ12"))
OTHERS = replace(CREDENTIALS, password=Secret("ZYXWVUTSRQ98"))
START_S, JOIN_S, FAULT_S = 60.0, 60.0, 90.0

PLC = "g3plc"

every = pytest.mark.parametrize("profile", [*PRODUCTS, PLC])


def rig_of(profile: str) -> SkstackRig | PlcRig:
    return PlcRig() if profile == PLC else SkstackRig(profile)


@dataclass
class Link:
    """A unit at work."""

    rig: SkstackRig | PlcRig
    unit: CommunicationUnit

    async def event(self, kind: type[E], within_s: float, *, nth: int = 1) -> E:
        """The nth event of this kind, which comes in time."""
        await self.rig.clock.until(lambda: len(self.rig.told(kind)) >= nth, within_s)
        return self.rig.told(kind)[nth - 1]

    async def started(self, *, nth: int = 1) -> str:
        """The address at which the home finds it."""
        return (await self.event(LinkStarted, START_S, nth=nth)).address

    async def joined(self, credentials: LinkCredentials = CREDENTIALS) -> tuple[str, str]:
        """The home joins; the meter's address and the home's."""
        meter = await self.started()
        self.rig.home_joins(credentials, meter)
        return meter, (await self.event(AuthOk, JOIN_S)).peer


@contextlib.asynccontextmanager
async def link(profile: str) -> AsyncIterator[Link]:
    rig = rig_of(profile)
    unit = rig.build()
    listening = asyncio.create_task(rig.listen(unit))
    await unit.start(CREDENTIALS)
    try:
        yield Link(rig, unit)
    finally:
        await rig.clock.during(asyncio.ensure_future(unit.stop()))
        listening.cancel()
        await asyncio.gather(listening, return_exceptions=True)


@every
async def test_its_nameplate_and_medium_are_those_of_the_catalogue(profile: str) -> None:
    async with link(profile) as at:
        await at.started()
        plate = at.unit.nameplate
        assert plate.kind is UnitKind.COMMUNICATION
        assert record.decode(record.encode(plate)) == plate
        model = shipped().known(plate.kind, plate.model)
        assert model.contradictions(plate) == []
        assert model.broute_medium is BRouteMedium(at.unit.medium)
        assert at.unit.mac == METER_MAC
        assert {type(count) for count in at.unit.counters.values()} == {int}


@every
async def test_it_says_nothing_before_it_is_started(profile: str) -> None:
    rig = rig_of(profile)
    rig.build()
    rig.clock.move(60)
    assert rig.written == 0


@every
async def test_a_home_joins_and_datagrams_go_both_ways(profile: str) -> None:
    async with link(profile) as at:
        meter, home = await at.joined()
        for payload in (bytes(range(256)), b"\x10\x81" + b"\r\n" * 20):
            at.rig.home_sends(payload, meter)
            datagram = await asyncio.wait_for(at.unit.recv(), 1.0)
            assert (datagram.payload, datagram.peer) == (payload, home)
            sending = asyncio.ensure_future(at.unit.send(payload, home))
            await at.rig.clock.during(sending)
            assert sending.result() is True
            assert at.rig.home_received()[-1] == payload


@every
async def test_a_wrong_password_is_told_and_admits_nobody(profile: str) -> None:
    async with link(profile) as at:
        at.rig.home_joins(OTHERS, await at.started())
        await at.event(AuthFailed, JOIN_S)
        assert at.rig.told(AuthOk) == []


@every
async def test_nothing_is_sent_to_a_home_that_has_not_joined(profile: str) -> None:
    async with link(profile) as at:
        await at.started()
        sending = asyncio.ensure_future(
            at.unit.send(b"\x10\x81", "FE80:0000:0000:0000:021D:1290:1234:5678")
        )
        await at.rig.clock.during(sending)
        assert sending.result() is False
        assert at.rig.home_received() == []


@every
async def test_new_credentials_end_the_session_and_admit_only_their_holder(profile: str) -> None:
    async with link(profile) as at:
        await at.joined()
        await at.unit.set_credentials(OTHERS)
        await at.event(PeerLeft, JOIN_S)
        meter = await at.started(nth=2)
        at.rig.home_joins(CREDENTIALS, meter)
        await at.event(AuthFailed, JOIN_S)
        at.rig.home_joins(OTHERS, meter)
        await at.event(AuthOk, JOIN_S, nth=2)


@every
async def test_it_is_stopped_twice_and_started_again(profile: str) -> None:
    async with link(profile) as at:
        await at.joined()
        for _ in range(2):
            await at.rig.clock.during(asyncio.ensure_future(at.unit.stop()))
        written = at.rig.written
        at.rig.clock.move(600)
        assert at.rig.written == written
        await at.unit.start(CREDENTIALS)
        await at.started(nth=2)


@every
async def test_vacated_it_forgets_whom_a_program_before_had_it_admit(profile: str) -> None:
    async with link(profile) as at:
        meter, _ = await at.joined()
        at.rig.lose_host()
        await at.event(UnitFault, FAULT_S)
        await at.unit.stop()
        assert at.rig.admits_somebody()
        successor = at.rig.build()
        await successor.vacate()
        await at.rig.clock.until(lambda: not at.rig.admits_somebody(), START_S)
        await at.rig.clock.until(lambda: not at.rig.opened, START_S)
        at.rig.home_joins(CREDENTIALS, meter)
        at.rig.clock.move(60)
        assert not at.rig.admits_somebody()
        await successor.start(CREDENTIALS)
        await at.rig.clock.until(at.rig.admits_somebody, START_S)
        await at.rig.clock.during(asyncio.ensure_future(successor.stop()))


@every
async def test_a_module_that_is_pulled_out_is_told_and_comes_back(profile: str) -> None:
    async with link(profile) as at:
        await at.started()
        at.rig.unplug()
        await at.event(UnitFault, FAULT_S)
        at.rig.plug()
        meter = await at.started(nth=2)
        at.rig.home_joins(CREDENTIALS, meter)
        await at.event(AuthOk, JOIN_S)


@every
async def test_closing_it_twice_is_harmless_and_lets_go_of_its_port(profile: str) -> None:
    async with link(profile) as at:
        await at.joined()
        assert at.rig.opened
        for _ in range(2):
            closing = asyncio.ensure_future(at.unit.close())
            await at.rig.clock.during(closing)
            closing.result()
            assert not at.rig.opened
