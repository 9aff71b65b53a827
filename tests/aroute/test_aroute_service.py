"""The A-route over real brokers: all of it arrives, commands are answered, nothing waits for it."""

import asyncio
import contextlib
import gc
import logging
from collections.abc import AsyncIterator
from pathlib import Path

import pytest
from aroute_room import (
    SERIAL,
    TOPICS,
    House,
    Make,
    Utility,
    at_work,
    until,
)
from gate_room import METER, METER_ID, NOW, message, opening, reading
from mosquitto_broker import MosquittoBroker

from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.history import UnitHistory
from meter_runtime.aroute.messages import Mark, encode
from meter_runtime.aroute.results import read
from meter_runtime.bench.broker import EmbeddedBroker
from meter_runtime.comm.contracts import LinkStarted
from meter_runtime.comm.mqtt import MqttSettings
from meter_runtime.metrology.events import StorageFailed, Untrue, Withdraw
from meter_runtime.storage.ring import Record
from meter_runtime.units.contracts import Nameplate, UnitKind
from meter_runtime.units.keeper import UnitFitted
from meter_runtime.units.vacant import NOBODY, VacantSlot

FIRST = int(NOW // 1800)
HANDY = Nameplate(UnitKind.OPTIONAL, "SW-60", "S1")


@pytest.fixture(autouse=True)
async def _nothing_is_left() -> AsyncIterator[None]:
    before = asyncio.all_tasks()
    yield
    for _ in range(5):
        await asyncio.sleep(0)
    assert asyncio.all_tasks() - before - {asyncio.current_task()} == set()
    gc.collect()


@pytest.fixture
def mosquitto(tmp_path: Path) -> MosquittoBroker:
    return MosquittoBroker(tmp_path)


@pytest.fixture(params=["mosquitto", "embedded"])
async def make(request: pytest.FixtureRequest) -> AsyncIterator[Make]:
    """Settings for a client of either broker."""
    if request.param == "mosquitto":
        broker: MosquittoBroker = request.getfixturevalue("mosquitto")
        with broker:
            yield lambda client: MqttSettings(broker.host, broker.port, client)
        return
    async with EmbeddedBroker() as embedded:
        yield lambda client: MqttSettings(
            embedded.host,
            embedded.port,
            client,
            username=embedded.username,
            password=embedded.password,
        )


@contextlib.asynccontextmanager
async def connected(make: Make) -> AsyncIterator[tuple[House, Utility]]:
    """A meter and its utility, both with the broker."""
    house, utility = House(make), Utility(make)
    async with at_work(utility):
        await until(lambda: utility.bearer.connected)
        async with at_work(house.service):
            await until(lambda: utility.births and utility.diagnoses)
            yield house, utility


async def test_a_day_of_half_hours_is_stored_and_acknowledged(make: Make) -> None:
    async with connected(make) as (house, utility):
        await house.advance(24.1)
        assert len(house.stored()) >= 48
        await until(lambda: utility.has == house.stored() and house.uplink.queued == 0)
        report = house.service.report()
        assert report["connected"]
        assert report["queued"] == 0
        assert report["acknowledged_up_to"] == "2027-01-16T17:00:00+09:00"
        assert report["protocol"] in {"5", "3.1.1"}
        assert house.bus.failures == 0


async def test_a_meter_says_who_it_is_and_when_it_goes(make: Make) -> None:
    async with connected(make) as (house, utility):
        assert utility.births[-1].keys == METER.public.as_json()
        assert utility.presence[-1]
        house.units["optional"] = {"model": "SW-60"}
        house.bus.publish(UnitFitted("optional", UnitKind.OPTIONAL, HANDY))
        await until(lambda: utility.births[-1].units)
    house, utility = House(make), Utility(make)
    async with at_work(utility):
        # Retained: what was said last is known to whoever comes later.
        await until(lambda: utility.births and utility.presence)
        assert set(utility.presence) == {False}


async def test_a_command_is_answered_and_again_in_the_same_words(make: Make) -> None:
    async with connected(make) as (house, utility):
        told = opening(7)
        await utility.command(message(told), told.command_id)
        await until(lambda: len(utility.results) == 1)
        await utility.command(message(told), told.command_id)
        await until(lambda: len(utility.results) == 2)
        assert utility.results[0] == utility.results[1]
        assert read(utility.results[0], METER.public.signing).code is Code.OK
        assert len(house.hands.applied) == 1
        last = house.service.report()["last_command"]
        assert (last["id"], last["code"]) == (told.command_id.hex(), "OK")
        assert last["answered"].startswith("2027-01-")
        assert house.service.report()["counters"]["received"]["strays"] == 0
        await until(lambda: any(event.kind == "command_done" for event in utility.events))
        [done, *_] = [event for event in utility.events if event.kind == "command_done"]
        assert done.details == {"command_id": told.command_id.hex(), "code": "OK"}


async def test_a_command_that_the_broker_keeps_is_obeyed_once(make: Make) -> None:
    house, utility = House(make), Utility(make)
    async with at_work(utility):
        await until(lambda: utility.bearer.connected)
        told = opening(7)
        await utility.command(message(told), told.command_id, retain=True)
        async with at_work(house.service):
            await until(lambda: utility.results)
        house.boot()
        async with at_work(house.service):
            await until(lambda: len(utility.results) == 2)
        assert utility.results[0] == utility.results[1]
        assert len(house.hands.applied) == 1


async def test_half_hours_go_on_while_a_command_is_carried_out(make: Make) -> None:
    async with connected(make) as (house, utility):
        house.hands.hold = asyncio.Event()
        await utility.command(message(opening(7)), opening(7).command_id)
        await until(lambda: house.hands.applied)
        await house.advance(2)
        await until(lambda: house.uplink.queued == 0 and utility.has == house.stored())
        house.hands.hold.set()
        await until(lambda: utility.results)


async def test_a_command_does_not_wait_for_half_hours_that_nobody_marks(make: Make) -> None:
    async with connected(make) as (house, utility):
        utility.marking = False
        await house.advance(6 * 24)
        await utility.command(message(reading(7)), reading(7).command_id)
        await until(lambda: utility.results)
        assert house.uplink.queued > 250


async def test_what_a_power_cut_interrupted_is_told_after_it(make: Make) -> None:
    house, utility = House(make), Utility(make)
    async with at_work(utility):
        await until(lambda: utility.bearer.connected)
        async with at_work(house.service):
            await until(lambda: house.bearer.connected)
            house.hands.hold = asyncio.Event()
            await utility.command(message(opening(7)), opening(7).command_id)
            await until(lambda: house.hands.applied)
        assert not utility.results
        house.boot()
        async with at_work(house.service):
            await until(lambda: utility.results)
    result = read(utility.results[0], METER.public.signing)
    assert (result.code, result.command_id) == (Code.STORE_FAILED, opening(7).command_id)


async def test_a_history_is_published_on_request(make: Make) -> None:
    async with connected(make) as (house, utility):
        await house.advance(3)
        house.hands.before_end = lambda: house.uplink.request_history(
            FIRST + 1, FIRST + 3, b"\xab" * 16
        )
        await utility.command(message(opening(7)), opening(7).command_id)
        await until(lambda: utility.histories)
        [history] = utility.histories
        assert [each.slot for each in history.readings] == [FIRST + 1, FIRST + 2, FIRST + 3]
        assert history.request == "ab" * 16


async def test_events_come_in_order(make: Make) -> None:
    async with connected(make) as (house, utility):
        for number in range(5):
            house.bus.publish(StorageFailed(str(number)))
        await until(lambda: len(utility.events) >= 5)
        assert [event.details["reason"] for event in utility.events[:5]] == list("01234")
        assert utility.events[0].meter_id == METER_ID


async def test_a_diagnosis_is_told_when_it_changes_and_not_when_it_counts(make: Make) -> None:
    async with connected(make) as (house, utility):
        before = len(utility.diagnoses)
        session = {"peer": "fe80::1", "since": "a", "expires": "b"}
        house.broute = {"message": 1, "counters": {"n": 1}, "session": session}
        house.bus.publish(LinkStarted("fe80::2", ""))
        await until(lambda: len(utility.diagnoses) == before + 1)
        house.broute |= {"counters": {"n": 2}, "session": session | {"expires": "c"}}
        house.bus.publish(LinkStarted("fe80::2", ""))
        await asyncio.sleep(0.1)
        house.broute |= {"message": 2}
        house.bus.publish(LinkStarted("fe80::2", ""))
        await until(lambda: len(utility.diagnoses) == before + 2)
        assert [each.report["message"] for each in utility.diagnoses[before:]] == [1, 2]


async def test_what_makes_no_sense_is_counted(make: Make, caplog: pytest.LogCaptureFixture) -> None:
    async with connected(make) as (house, utility):
        for junk in (b"", b"{}", b'{"unit": 1}', b"\xff" * 100_000):
            await utility.bearer.publish(TOPICS.mark, junk)
        await utility.command(b"nonsense", b"\1" * 16)

        def counters() -> dict[str, int]:
            counted: dict[str, int] = house.service.report()["counters"]["received"]
            return counted

        await until(lambda: counters()["malformed"] >= 3 and counters()["commands"] == 1)
        await house.advance(1)
        await until(lambda: house.uplink.queued == 0)
    assert not [record for record in caplog.records if record.levelno >= logging.ERROR]


async def test_what_happens_while_the_broker_is_away_is_told_afterwards(
    mosquitto: MosquittoBroker,
) -> None:
    def make(client: str) -> MqttSettings:
        return MqttSettings(mosquitto.host, mosquitto.port, client)

    with mosquitto:
        async with connected(make) as (house, utility):
            await house.advance(2)
            house.hands.hold = asyncio.Event()
            await utility.command(message(opening(7)), opening(7).command_id)
            await until(lambda: house.hands.applied)
            for _ in range(2):
                mosquitto.kill()
                await until(lambda: not house.bearer.connected)
                house.hands.hold.set()
                await house.advance(30)
                house.bus.publish(StorageFailed("card"))
                assert house.uplink.queued >= 60
                assert not house.service.report()["connected"]
                mosquitto.start()
                await until(lambda: utility.has == house.stored() and not house.uplink.queued)
            await until(lambda: utility.results and utility.events)
            assert utility.presence[-1]


async def test_a_restart_tells_what_was_withdrawn_before_it(make: Make) -> None:
    async with connected(make) as (house, utility):
        await house.advance(10)
        await until(lambda: utility.has == house.stored() and not house.uplink.queued)
    gone = [FIRST + 4, FIRST + 5]
    house.metering.ring.withdraw(gone)
    house.boot()
    async with at_work(utility), at_work(house.service):
        await until(lambda: utility.has == house.stored())
        assert not set(gone) & utility.has.keys()


async def test_only_what_is_durable_is_told() -> None:
    house = House(lambda client: MqttSettings("127.0.0.1", 1, client))
    history = UnitHistory(house.metering)
    await house.advance(5)
    assert history.serial == SERIAL
    assert history.two_way
    assert isinstance(history.record(FIRST + 3), Record)
    house.ring_media.write = _refuse  # type: ignore[method-assign]
    await house.advance(2)
    newest = history.newest
    assert newest == FIRST + 14
    assert house.metering.record(newest) is not None
    assert history.record(newest) is None
    house.metering.recorder.withdraw(Withdraw(Untrue.FUTURE, NOW + 2 * 1800))
    assert house.metering.ring.get(FIRST + 3) is not None
    assert history.record(FIRST + 3) is None


async def test_of_a_unit_that_was_never_seen_nothing_is_told() -> None:
    house = House(lambda client: MqttSettings("127.0.0.1", 1, client))
    await house.advance(1)
    vacant = UnitHistory(house.metering_of(VacantSlot(SERIAL)))
    assert vacant.serial == SERIAL
    assert vacant.two_way is None
    assert UnitHistory(house.metering_of(VacantSlot(NOBODY))).serial is None


async def test_a_mark_of_another_meter_is_a_stray(make: Make) -> None:
    async with connected(make) as (house, utility):
        elsewhere = TOPICS.mark.replace(METER_ID, "other")
        await utility.bearer.publish(
            elsewhere, encode(Mark(unit=SERIAL, upto=2**30, sequence=2**50, resend=True))
        )
        await house.advance(1)
        await until(lambda: house.uplink.queued == 0)
        assert house.uplink.counters["marks_beyond"] == 0


def _refuse(offset: int, data: bytes) -> None:
    from meter_runtime.errors import MeterError

    raise MeterError("card: cannot write: gone; replace it")
