"""The collector: what is marked is stored, whatever happens to collectors, broker and disk."""

import asyncio
import json
import random
import sqlite3
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, closing
from pathlib import Path

import msgspec
import pytest
from headend_room import bearer_of, make_lab, running
from hypothesis import given
from hypothesis import strategies as st
from mdms_room import FIRST, CollectorProcess, ModelMeter, check_stored, until
from mosquitto_broker import MosquittoBroker

from meter_runtime.aroute.messages import Event, Mark, Reading, Readings, Topics, decode, encode
from meter_runtime.aroute.uplink_memory import MAX_SEQUENCE
from meter_runtime.bench.broker import EmbeddedBroker
from meter_runtime.comm.mqtt import MqttBearer, MqttSettings, Received
from meter_runtime.errors import MeterError
from meter_runtime.headend import collector_intake
from meter_runtime.headend.collector_intake import LAST_SLOT
from meter_runtime.headend.lab import MDMS, Lab
from meter_runtime.headend.mdms import Collector, Pace, subscriptions
from meter_runtime.headend.readings_store import FILE_NAME
from meter_runtime.headend.readings_view import ReadingsView

UTILITY = "kansai"
FAST = Pace(resend_s=0.2, trouble_s=0.02, complaint_s=60.0)


def readings(first: int, last: int, sequence: int = 1, meter_id: str = "M1") -> Readings:
    """Half-hours ``first`` to ``last``, each with a reading."""
    return Readings(
        meter_id=meter_id,
        unit="A",
        sequence=sequence,
        after=FIRST + first - 1,
        upto=FIRST + last,
        readings=tuple(
            Reading(slot, slot, None, 0) for slot in range(FIRST + first, FIRST + last + 1)
        ),
        sent_at=0.0,
    )


def received(message: Readings, topic: str | None = None) -> Received:
    return Received(
        topic or Topics(UTILITY, message.meter_id).readings, encode(message), retained=False
    )


class HandBearer:
    """A bearer in the test's hand."""

    def __init__(self) -> None:
        self._inbox: asyncio.Queue[Received] = asyncio.Queue()
        self.marks: list[tuple[str, Mark]] = []
        self.takes = True

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def publish(self, topic: str, payload: bytes, *, retain: bool = False) -> bool:
        assert retain
        if self.takes:
            self.marks.append((topic, decode(payload, Mark)))
        return self.takes

    async def receive(self) -> Received:
        return await self._inbox.get()

    def arrive(self, *messages: Received) -> None:
        for each in messages:
            self._inbox.put_nowait(each)


@asynccontextmanager
async def collecting(path: Path) -> AsyncIterator[tuple[HandBearer, Collector]]:
    bearer = HandBearer()
    collector = Collector(bearer, path, UTILITY, "one", pace=FAST, rng=random.Random(1))
    async with running(collector.run()):
        yield bearer, collector


def stored(path: Path, meter_id: str) -> dict[int, int]:
    with ReadingsView(path) as view:
        everything = view.readings(0, LAST_SLOT)
    return {each.slot: each.forward_dwh for each in everything if each.meter_id == meter_id}


async def test_a_message_is_stored_and_then_marked(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    async with collecting(path) as (bearer, collector):
        bearer.arrive(received(readings(1, 3)), received(readings(4, 4, 2)))
        await until(lambda: bool(bearer.marks) and bearer.marks[-1][1].sequence == 2)
        assert bearer.marks[-1] == (
            "ar/v1/kansai/M1/mark",
            Mark(unit="A", upto=FIRST + 4, sequence=2),
        )
        assert stored(path, "M1") == {FIRST + n: FIRST + n for n in range(1, 5)}
        assert collector.counters["stored"] == 2


async def test_many_messages_of_one_meter_are_answered_by_the_last_mark(tmp_path: Path) -> None:
    async with collecting(tmp_path / FILE_NAME) as (bearer, collector):
        bearer.arrive(*(received(readings(n, n, n)) for n in range(1, 201)))
        await until(lambda: collector.counters["stored"] == 200)
        await until(lambda: bool(bearer.marks) and bearer.marks[-1][1].sequence == 200)
        assert collector.counters["batches"] < 100
        assert len(bearer.marks) == collector.counters["marks"] == collector.counters["batches"]


async def test_a_locked_store_moves_no_mark_and_heals(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("meter_runtime.headend.sqlite_file.BUSY_S", 0.05)
    path = tmp_path / FILE_NAME
    async with collecting(path) as (bearer, collector):
        bearer.arrive(received(readings(1, 1)))
        await until(lambda: len(bearer.marks) == 1)
        with closing(sqlite3.connect(path)) as other:
            other.execute("BEGIN IMMEDIATE")
            for _ in range(2):
                failures = collector.counters["store_failures"]
                bearer.arrive(received(readings(2, 2, 2)))
                await until(lambda: collector.counters["store_failures"] > failures)  # noqa: B023
        assert len(bearer.marks) == 1
        bearer.arrive(received(readings(2, 2, 3)))
        await until(lambda: len(bearer.marks) == 2)
        assert bearer.marks[-1][1] == Mark(unit="A", upto=FIRST + 2, sequence=3)
    told = [record.message for record in caplog.records if record.levelname == "ERROR"]
    assert len(told) == 1
    assert "locked" in told[0]


async def test_a_store_that_cannot_be_opened_is_told(tmp_path: Path) -> None:
    collector = Collector(HandBearer(), tmp_path / "none" / FILE_NAME, UTILITY, "one")
    with pytest.raises(MeterError, match="cannot be opened"):
        await collector.run()


async def test_a_broken_chain_is_asked_for_once_in_a_while(tmp_path: Path) -> None:
    async with collecting(tmp_path / FILE_NAME) as (bearer, collector):
        bearer.arrive(received(readings(1, 1)))
        await until(lambda: len(bearer.marks) == 1)
        for sequence in range(2, 12):
            bearer.arrive(received(readings(5, 5, sequence)))
            await until(lambda: collector.counters["stored"] == sequence)  # noqa: B023
        await until(lambda: len(bearer.marks) == 2)
        assert bearer.marks[1][1] == Mark(unit="A", upto=FIRST + 1, sequence=2, resend=True)
        assert collector.counters["resends_held"] >= 1
        await asyncio.sleep(2 * FAST.resend_s)
        bearer.arrive(received(readings(5, 5, 20)))
        await until(lambda: bearer.marks[-1][1].sequence == 20)
        bearer.arrive(received(readings(2, 4, 21)))
        await until(lambda: bearer.marks[-1][1] == Mark(unit="A", upto=FIRST + 5, sequence=21))


async def test_a_mark_that_the_broker_did_not_take_is_counted(tmp_path: Path) -> None:
    async with collecting(tmp_path / FILE_NAME) as (bearer, collector):
        bearer.takes = False
        bearer.arrive(received(readings(1, 1)))
        await until(lambda: collector.counters["marks_unpublished"] == 1)
        bearer.takes = True
        bearer.arrive(received(readings(1, 1, 2)))
        await until(lambda: len(bearer.marks) == 1)


async def test_nonsense_is_counted_and_told_once_a_meter_and_stops_nobody(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    topic = Topics(UTILITY, "M1").readings
    async with collecting(tmp_path / FILE_NAME) as (bearer, collector):
        for payload in (b"", b"{}", b"[" * 60_000, b"\xff", b"x" * 70_000):
            bearer.arrive(Received(topic, payload, retained=False))
        bearer.arrive(Received("ar/v1/kansai/M1/mark", b"{}", retained=False))
        bearer.arrive(Received("elsewhere\nFORGED", b"{}", retained=False))
        bearer.arrive(received(readings(1, 1, meter_id="M2"), topic=topic))
        bearer.arrive(received(readings(1, 1)))
        await until(lambda: len(bearer.marks) == 1)
        assert collector.counters["bad"] == 8
    told = [record.message for record in caplog.records if "not stored" in record.message]
    assert len(told) == 2
    assert told[0].startswith("meter 'M1': ")
    assert not any("\n" in line for line in told)


async def test_events_are_stored(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    event = Event(meter_id="M1", number=1, at=5.0, trust="synced", kind="power", details={"s": 3})
    async with collecting(path) as (bearer, collector):
        for _ in range(2):
            bearer.arrive(Received(Topics(UTILITY, "M1").event, encode(event), retained=False))
        await until(lambda: collector.counters["stored"] == 2)
    with ReadingsView(path) as view:
        assert [json.loads(each)["details"] for each in view.events("M1")] == [{"s": 3}]


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"after": FIRST + 9}, "no half-hours"),
        ({"upto": FIRST}, "no half-hours"),
        ({"upto": LAST_SLOT + 1}, "no half-hours"),
        ({"unit": ""}, "unit is not"),
        ({"unit": "A\n"}, "unit is not"),
        ({"unit": "A" * 65}, "unit is not"),
        ({"sequence": MAX_SEQUENCE}, "leaves none"),
        ({"request": "ab"}, "belongs on"),
        ({"meter_id": "M2"}, "another meter"),
        ({"readings": (Reading(FIRST + 2, 1, 0, 0), Reading(FIRST + 1, 1, 0, 0))}, "out of order"),
        ({"readings": (Reading(FIRST + 2, 1, 0, 0),) * 2}, "out of order"),
        ({"readings": (Reading(FIRST, 1, 0, 0),)}, "out of order"),
        ({"readings": (Reading(FIRST + 3, 1, 0, 0),)}, "out of order"),
    ],
)
def test_what_a_meter_cannot_have_meant_is_not_let_in(
    changes: dict[str, object], reason: str
) -> None:
    good = readings(1, 2)
    assert collector_intake.read(received(good), UTILITY) == good
    wrong = msgspec.structs.replace(good, **changes)
    with pytest.raises(MeterError, match=reason):
        collector_intake.read(received(wrong, Topics(UTILITY, "M1").readings), UTILITY)


@given(st.binary(max_size=200), st.sampled_from(["reading/30m", "reading/history", "event", "x"]))
def test_any_bytes_are_read_or_refused(payload: bytes, name: str) -> None:
    with pytest.raises(MeterError):
        collector_intake.read(Received(f"ar/v1/{UTILITY}/M1/{name}", payload, False), UTILITY)


def test_a_message_cut_off_anywhere_is_refused() -> None:
    whole = received(readings(1, 5))
    for length in range(len(whole.payload)):
        with pytest.raises(MeterError):
            collector_intake.read(Received(whole.topic, whole.payload[:length], False), UTILITY)


def meters_of(
    lab: Lab, path: Path, meter_ids: tuple[str, ...], rng: random.Random
) -> list[ModelMeter]:
    return [
        ModelMeter(
            meter_id,
            lab.utility,
            bearer_of(lab, lab.meter(meter_id).tls, meter_id, Topics(lab.utility, meter_id).mark),
            random.Random(rng.random()),
            lambda message: check_stored(path, message),
        )
        for meter_id in meter_ids
    ]


async def settled(meters: list[ModelMeter], path: Path) -> None:
    """Every meter's half-hours are marked, and the store is what the meters have."""
    await until(lambda: all(meter.uplink.queued == 0 for meter in meters), 90.0)
    for meter in meters:
        assert stored(path, meter.meter_id) == meter.profile.values


@pytest.mark.timeout(400)
async def test_collectors_killed_at_random_lose_nothing_and_invent_nothing(tmp_path: Path) -> None:
    ids = tuple(f"M{n}" for n in range(8))
    lab = make_lab(tmp_path, meters=ids)
    path = lab.folder(MDMS) / FILE_NAME
    rng = random.Random(20)
    with MosquittoBroker(tmp_path, lab=lab) as broker:
        collectors = [CollectorProcess(lab, "--name", f"collector-{n}") for n in range(3)]
        await asyncio.gather(*(each.start() for each in collectors))
        meters = meters_of(lab, path, ids, rng)

        async def live() -> None:
            while True:
                rng.choice(meters).live()
                await asyncio.sleep(rng.uniform(0, 0.02))

        async with running(*(meter.run() for meter in meters)):
            async with running(live()):
                for kill in range(20):
                    await asyncio.sleep(rng.uniform(0.05, 0.4))
                    victim = rng.choice(collectors)
                    await victim.kill()
                    await asyncio.sleep(rng.uniform(0, 0.3))
                    await victim.start()
                    if kill % 7 == 6:
                        broker.restart()
            await settled(meters, path)
        assert all(meter.marks > 5 for meter in meters)
        with closing(sqlite3.connect(path)) as database:
            by = database.execute("SELECT count(DISTINCT collector) FROM reading").fetchone()
        assert by == (3,)
        assert [await each.stop() for each in collectors] == [0, 0, 0]


@pytest.mark.parametrize("protocol", ["5", "3.1.1"])
async def test_messages_are_shared_in_both_versions_and_a_dead_collector_gets_none(
    tmp_path: Path, protocol: str
) -> None:
    lab = make_lab(tmp_path)
    path = lab.folder(MDMS) / FILE_NAME
    with MosquittoBroker(tmp_path) as broker:

        def bearer(client_id: str) -> MqttBearer:
            settings = MqttSettings(
                broker.host,
                broker.port,
                client_id,
                protocol="5" if protocol == "5" else "3.1.1",
                session_expiry_s=0,
            )
            return MqttBearer(
                settings,
                subscriptions=subscriptions(UTILITY, shared=True) if "mdms" in client_id else [],
                rng=random.Random(1),
            )

        pairs = [(bearer(f"mdms-{name}"), name) for name in ("one", "two", "three")]
        collectors = [Collector(way, path, UTILITY, name, pace=FAST) for way, name in pairs]
        meter = bearer("meter")
        async with running(meter.run(), *(each.run() for each in collectors[:2])):
            async with running(collectors[2].run()):
                await asyncio.gather(
                    meter.wait_connected(), *(way.wait_connected() for way, _ in pairs)
                )
            first, second, gone = (each.counters for each in collectors)
            for number in range(1, 31):
                message = received(readings(number, number, number))
                assert await meter.publish(message.topic, message.payload)
            await until(lambda: first["stored"] + second["stored"] == 30)
            assert min(first["stored"], second["stored"]) == 15
            assert gone["stored"] == 0
    assert len(stored(path, "M1")) == 30


async def test_one_collector_serves_a_broker_that_cannot_share(tmp_path: Path) -> None:
    path = tmp_path / FILE_NAME
    async with EmbeddedBroker() as broker:

        def bearer(client_id: str, *filters: str) -> MqttBearer:
            settings = MqttSettings(
                broker.host,
                broker.port,
                client_id,
                username=broker.username,
                password=broker.password,
                protocol="3.1.1",
            )
            return MqttBearer(settings, subscriptions=filters, rng=random.Random(1))

        way = bearer("mdms", *subscriptions(UTILITY, shared=False))
        meter = ModelMeter(
            "M1",
            UTILITY,
            bearer("M1", Topics(UTILITY, "M1").mark),
            random.Random(5),
            lambda message: check_stored(path, message),
        )
        async with running(Collector(way, path, UTILITY, "one", pace=FAST).run(), meter.run()):
            for _ in range(60):
                meter.live()
                await asyncio.sleep(0.01)
            await settled([meter], path)
        assert meter.marks


async def test_the_command_collects_until_it_is_ended(tmp_path: Path) -> None:
    lab = make_lab(tmp_path, meters=("M1",))
    path, days = lab.folder(MDMS) / FILE_NAME, tmp_path / "days"
    options = ("--alone", "--parquet", str(days))
    with MosquittoBroker(tmp_path, lab=lab):
        process = CollectorProcess(lab, *options)
        await process.start()
        [meter] = meters_of(lab, path, ("M1",), random.Random(3))
        async with running(meter.run()):
            for _ in range(60):
                meter.live()
            await settled([meter], path)
        assert await process.stop() == 0
        process = CollectorProcess(lab, *options)
        await process.start()
        await until(lambda: bool(list(days.glob("*.parquet"))))
        assert await process.stop() == 0
