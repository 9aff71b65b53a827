"""The Supervisory Control System: a sealed command is obeyed once, its result comes back once."""

import asyncio
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from contextlib import asynccontextmanager, closing
from dataclasses import replace
from pathlib import Path

import pytest
from headend_room import (
    FAST,
    METER,
    PATIENCE_S,
    LabMeter,
    Role,
    broker,
    identity_of,
    make_lab,
    result_of,
    running,
    sealed_command,
    until,
    whole,
)

from meter_runtime.aroute import results
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Way, unwrap
from meter_runtime.aroute.identity import SigningKey
from meter_runtime.aroute.messages import Topics
from meter_runtime.aroute.results import Result
from meter_runtime.comm.mqtt import Received
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend import scs_send
from meter_runtime.headend.lab import SCS, Lab
from meter_runtime.headend.relay_client import BusinessSide, RelayRefusedError
from meter_runtime.headend.relay_spool import Request
from meter_runtime.headend.scs import SupervisoryControl
from meter_runtime.headend.scs_store import Recorded, ScsStore

NOW = time.time()


@pytest.fixture
def lab(tmp_path: Path) -> Lab:
    return make_lab(tmp_path)


@pytest.fixture
def store(lab: Lab) -> Iterator[ScsStore]:
    with closing(ScsStore(lab.folder(SCS) / "scs.db")) as opened:
        yield opened


class HandRelay:
    """A relay in the test's hand."""

    def __init__(self) -> None:
        self.waiting: list[Request] = []
        self.answers: list[tuple[str, bytes]] = []
        self.trouble: MeterError | None = None

    async def fetch(self, limit: int) -> list[Request]:
        if self.trouble:
            raise self.trouble
        found, self.waiting = self.waiting[:limit], self.waiting[limit:]
        return found

    async def answer(self, request_id: str, result: bytes) -> None:
        if self.trouble:
            raise self.trouble
        self.answers.append((request_id, result))


class HandBearer:
    """A broker in the test's hand: what is published is in ``published``, with its expiry."""

    def __init__(self) -> None:
        self.connected = True
        self.takes = True
        self.published: list[tuple[str, bytes, int | None]] = []
        self.incoming: asyncio.Queue[Received] = asyncio.Queue()

    async def run(self) -> None:
        await asyncio.Event().wait()

    async def publish(
        self,
        topic: str,
        payload: bytes,
        *,
        retain: bool = False,
        expiry_s: int | None = None,
        timeout_s: float = 10,
    ) -> bool:
        assert not retain
        self.published.append((topic, payload, expiry_s))
        return self.takes

    async def receive(self) -> Received:
        return await self.incoming.get()

    def tell(self, lab: Lab, message: bytes, meter_id: str = METER) -> None:
        topic = Topics(lab.utility, meter_id).results
        self.incoming.put_nowait(Received(topic, message, False))


def a_request(lab: Lab, counter: int, **kwargs: float) -> Request:
    request_id, envelope, expiry = sealed_command(lab, counter, **kwargs)  # type: ignore[arg-type]
    return Request(request_id, METER, expiry, envelope)


def a_result(request: Request | None, code: Code = Code.OK, answers: bytes = b"") -> Result:
    return Result(
        meter_id=METER,
        command_id=None if request is None else bytes.fromhex(request.request_id),
        counter=None,
        code=code,
        credential_version=0,
        proof=None,
        applied_at=None,
        clock_trust="synced",
        diagnosis=None,
        details={},
        answer_to=results.answer_to(answers),
    )


def signed(result: Result, meter_id: str = METER) -> bytes:
    return results.sign(result, identity_of(meter_id))


@asynccontextmanager
async def controlled(
    lab: Lab, store: ScsStore
) -> AsyncIterator[tuple[SupervisoryControl, HandRelay, HandBearer]]:
    the_relay, bearer = HandRelay(), HandBearer()
    control = SupervisoryControl(lab, the_relay, bearer, store, pace=FAST, rng=random.Random(1))
    async with running(control.run()):
        yield control, the_relay, bearer


async def test_a_command_is_sent_as_the_same_bytes_until_it_is_answered(
    lab: Lab, store: ScsStore
) -> None:
    async with controlled(lab, store) as (control, the_relay, bearer):
        request = a_request(lab, 1)
        the_relay.waiting.append(request)
        await until(lambda: len(bearer.published) >= 3)
        assert len({message for _, message, _ in bearer.published}) == 1
        topic, message, expiry_s = bearer.published[0]
        assert topic == f"ar/v1/kansai/{METER}/cmd/{request.request_id}"
        assert expiry_s == 1
        around = unwrap(message).verify(lab.signing_key(SCS).public)
        assert (around.carrier, around.way) == (SCS, Way.CONTROL)
        assert around.envelope == request.envelope
        told = signed(a_result(request))
        bearer.tell(lab, told)
        await until(lambda: the_relay.answers)
        sent = len(bearer.published)
        bearer.tell(lab, told)
        await until(lambda: control.counters["duplicate_results"])
        await asyncio.sleep(0.3)
        assert the_relay.answers == [(request.request_id, told)]
        assert len(bearer.published) == sent


async def test_what_the_meter_did_not_sign_is_ignored_and_counted(
    lab: Lab, store: ScsStore, tmp_path: Path
) -> None:
    lab.enroll("M-0002", identity_of("M-0002").public)
    async with controlled(lab, store) as (control, the_relay, bearer):
        request = a_request(lab, 1)
        the_relay.waiting.append(request)
        await until(lambda: bearer.published)
        result = a_result(request)
        bearer.tell(lab, b"")
        bearer.tell(lab, b"garbage" * 100)
        bearer.tell(lab, signed(result, "stranger"))
        bearer.tell(lab, signed(result)[:-1] + b"\0")
        bearer.tell(lab, signed(result), "M-0002")
        bearer.tell(lab, signed(result), "M-0003")
        bearer.incoming.put_nowait(Received("other/topic", signed(result), False))
        await until(lambda: control.counters["unverified"] == 7)
        # Another meter's own, true result for the same id is not this one's either.
        other = replace(result, meter_id="M-0002")
        bearer.tell(lab, signed(other, "M-0002"), "M-0002")
        await until(lambda: control.counters["foreign_results"] == 1)
        assert the_relay.answers == []
        bearer.tell(lab, signed(result))
        await until(lambda: the_relay.answers)


async def test_an_answer_that_names_no_command_is_told_by_the_message_it_answers(
    lab: Lab, store: ScsStore
) -> None:
    async with controlled(lab, store) as (control, the_relay, bearer):
        request = a_request(lab, 1)
        the_relay.waiting.append(request)
        await until(lambda: bearer.published)
        bearer.tell(lab, signed(a_result(None, Code.REJECTED, b"another message")))
        await until(lambda: control.counters["foreign_results"])
        rejected = signed(a_result(None, Code.REJECTED, bearer.published[0][1]))
        bearer.tell(lab, rejected)
        await until(lambda: the_relay.answers)
        assert the_relay.answers == [(request.request_id, rejected)]


@pytest.mark.parametrize("code", [Code.BUSY, Code.NOT_YET])
async def test_a_meter_that_cannot_now_is_asked_again(
    lab: Lab, store: ScsStore, code: Code
) -> None:
    async with controlled(lab, store) as (control, the_relay, bearer):
        request = a_request(lab, 1)
        the_relay.waiting.append(request)
        await until(lambda: bearer.published)
        bearer.tell(lab, signed(a_result(request, code)))
        await until(lambda: control.counters["new_results"])
        sent = len(bearer.published)
        await until(lambda: len(bearer.published) > sent)
        assert the_relay.answers == []
        bearer.tell(lab, signed(a_result(request)))
        await until(lambda: the_relay.answers)
        assert results.peek(the_relay.answers[0][1]).code is Code.OK


async def test_its_last_word_is_told_when_its_time_is_over(lab: Lab, store: ScsStore) -> None:
    async with controlled(lab, store) as (control, the_relay, bearer):
        request = a_request(lab, 1, valid_s=2)
        the_relay.waiting.append(request)
        await until(lambda: bearer.published)
        bearer.tell(lab, signed(a_result(request, Code.BUSY)))
        await until(lambda: the_relay.answers)
        assert time.time() >= request.expiry
        assert control.counters["answered"] == 1


async def test_an_expired_command_is_sent_no_more_and_a_late_result_is_still_told(
    lab: Lab, store: ScsStore
) -> None:
    async with controlled(lab, store) as (_, the_relay, bearer):
        request = a_request(lab, 1, valid_s=1)
        the_relay.waiting.append(request)
        await until(lambda: bearer.published and time.time() > request.expiry + 0.1)
        sent = len(bearer.published)
        await asyncio.sleep(0.5)
        assert len(bearer.published) == sent
        bearer.tell(lab, signed(a_result(request)))
        await until(lambda: the_relay.answers)


async def test_one_issuers_commands_to_a_meter_go_one_after_another(
    lab: Lab, store: ScsStore
) -> None:
    lab.enroll("M-0002", identity_of("M-0002").public)
    async with controlled(lab, store) as (_, the_relay, bearer):
        first, second = a_request(lab, 1), a_request(lab, 2)
        other_id, envelope, expiry = sealed_command(lab, 1, meter_id="M-0002")
        the_relay.waiting += [first, second, Request(other_id, "M-0002", expiry, envelope)]
        own = scs_send.issue(lab, store, "register.read", METER, {}, by="sato")

        def sent() -> set[str]:
            return {topic.rpartition("/")[2] for topic, _, _ in bearer.published}

        await until(lambda: sent() == {first.request_id, other_id, own})
        bearer.tell(lab, signed(a_result(first)))
        await until(lambda: second.request_id in sent())


async def test_trouble_at_the_relay_or_the_broker_is_outlived(
    lab: Lab, store: ScsStore, caplog: pytest.LogCaptureFixture
) -> None:
    async with controlled(lab, store) as (control, the_relay, bearer):
        the_relay.trouble = MeterError("the relay is away")
        bearer.takes = False
        request = a_request(lab, 1)
        the_relay.waiting.append(request)
        await until(lambda: control.counters["relay_failed"] >= 3)
        the_relay.trouble = None
        await until(lambda: control.counters["not_taken"] >= 3)
        bearer.takes = True
        await until(lambda: control.counters["sent"])
        the_relay.trouble = RelayRefusedError("full disk", 507)
        bearer.tell(lab, signed(a_result(request)))
        await until(lambda: control.counters["answer_failed"] >= 2)
        assert the_relay.answers == []
        the_relay.trouble = None
        await until(lambda: the_relay.answers)
    assert caplog.text.count("the relay is away") == 1


async def test_a_relay_that_has_an_answer_already_is_not_asked_forever(
    lab: Lab, store: ScsStore
) -> None:
    async with controlled(lab, store) as (control, the_relay, bearer):
        request = a_request(lab, 1)
        the_relay.waiting.append(request)
        await until(lambda: bearer.published)
        the_relay.trouble = RelayRefusedError("another result", 409)
        bearer.tell(lab, signed(a_result(request)))
        await until(lambda: control.counters["told_before"])
        assert store.untold(10, time.time() + 100) == []


async def test_what_cannot_be_sent_hinders_nothing_else(lab: Lab, store: ScsStore) -> None:
    async with controlled(lab, store) as (control, the_relay, bearer):
        lab.enroll("M-0009", identity_of("M-0009").public)
        gone_id, envelope, expiry = sealed_command(lab, 1, meter_id="M-0009")
        lab.meter("M-0009").path.rename(lab.path / "moved away")
        request = a_request(lab, 1)
        the_relay.waiting += [
            Request("bad", METER, expiry, b"no envelope"),
            Request(gone_id, "M-0009", expiry, envelope),
            request,
        ]
        await until(lambda: bearer.published)
        assert control.counters["malformed"] == 1
        await until(lambda: control.counters["unsendable"] >= 1)
        assert {topic.rpartition("/")[2] for topic, _, _ in bearer.published} == {
            request.request_id
        }
        (lab.path / "moved away").rename(lab.path / "meters" / "M-0009")
        await until(lambda: len({topic for topic, _, _ in bearer.published}) == 2)


def test_what_was_taken_in_is_there_after_a_restart(lab: Lab, store: ScsStore) -> None:
    request = a_request(lab, 1)
    store.fetched(request, NOW)
    (task,) = store.due(10, NOW)
    store.sending(task, b"message", results.answer_to(b"message"))
    store.close()
    with closing(ScsStore(lab.folder(SCS) / "scs.db")) as again:
        again.fetched(request, NOW)
        (found,) = again.due(10, NOW)
        assert found.message == b"message"
        rejected = a_result(None, Code.REJECTED, b"message")
        assert again.record(rejected, b"signed", NOW) is Recorded.NEW
        assert again.record(rejected, b"signed", NOW) is Recorded.DUPLICATE
        assert [each.result for each in again.untold(10, NOW)] == [b"signed"]


def test_the_store_forgets_after_a_month(lab: Lab, store: ScsStore) -> None:
    request = a_request(lab, 1)
    store.fetched(request, NOW)
    store.purge(request.expiry + 29 * 86_400)
    assert store.task(request.request_id).meter_id == METER
    store.purge(request.expiry + 31 * 86_400)
    with pytest.raises(MeterError, match="no such command"):
        store.task(request.request_id)


def test_counters_rise_through_restarts_and_never_lie_below_the_clock(
    lab: Lab, store: ScsStore
) -> None:
    seen: list[int] = []

    def seal(counter: int) -> bytes:
        seen.append(counter)
        return sealed_command(lab, counter)[1]

    for now in (1000.5, 1000.6, 900.0):
        store.issue(METER, seal, operator="", note="", now=now)
    with closing(ScsStore(lab.folder(SCS) / "scs.db")) as again:
        again.issue(METER, seal, operator="", note="", now=2000.0)
    assert seen == [1000, 1001, 1002, 2000]


def test_a_command_that_cannot_be_sealed_leaves_nothing(lab: Lab, store: ScsStore) -> None:
    def fail(counter: int) -> bytes:
        raise MeterError("no")

    with pytest.raises(MeterError, match="no"):
        store.issue(METER, fail, operator="", note="", now=NOW)
    assert store.own(10) == []


@pytest.mark.parametrize(
    ("name", "given", "said"),
    [
        ("register.raed", {}, 'did you mean "register.read"'),
        ("broute.revoke", {}, "from the business side alone"),
        ("limit.set", {"limit_a": 500}, "limit.set"),
        ("limit.set", {}, "limit_a"),
        ("history.read", {"first": 10, "last": 5}, "last is not"),
    ],
)
def test_a_wrong_command_is_refused_before_anything_is_signed(
    lab: Lab, store: ScsStore, name: str, given: dict[str, object], said: str
) -> None:
    with pytest.raises(MeterError, match=said):
        scs_send.issue(lab, store, name, METER, given, by="sato")
    with pytest.raises(UsageError, match="is not enrolled"):
        scs_send.issue(lab, store, "self_test", "nobody", {}, by="sato")
    assert store.own(10) == []


def test_arguments_are_json_where_they_are_json() -> None:
    assert scs_send.read_arguments(["a=1", "b=null", "c=text", 'd="1"', "e=a=b"]) == {
        "a": 1,
        "b": None,
        "c": "text",
        "d": "1",
        "e": "a=b",
    }
    for wrong in (["a"], ["=1"], ["a=1", "a=2"]):
        with pytest.raises(UsageError):
            scs_send.read_arguments(wrong)


async def test_a_command_of_either_side_reaches_a_meter_that_comes_later(
    lab: Lab, store: ScsStore
) -> None:
    business = BusinessSide.of(lab)
    async with whole(lab, store):
        request_id, envelope, expiry = sealed_command(lab, 1)
        await business.put(request_id, envelope, meter_id=METER, expiry=expiry)
        own = scs_send.issue(lab, store, "register.read", METER, {}, by="sato")
        await until(lambda: store.task(own).sent >= 2)
        meter = LabMeter(lab)
        async with running(meter.serve()):
            told = results.read(
                await result_of(business, request_id), lab.meter_keys(METER).signing
            )
            assert (told.code, told.command_id) == (Code.OK, bytes.fromhex(request_id))
            await until(lambda: store.task(own).final)
            document = scs_send.document(lab, store.task(own))
            assert document["result"]["code"] == "OK"
            assert document["result"]["details"] == {"name": "register.read"}
        assert set(meter.applier.applied.values()) == {1}
        assert len(meter.applier.applied) == 2


async def test_a_command_signed_by_a_stranger_comes_back_rejected(
    lab: Lab, store: ScsStore
) -> None:
    business, meter = BusinessSide.of(lab), LabMeter(lab)
    async with whole(lab, store), running(meter.serve()):
        request_id, envelope, expiry = sealed_command(lab, 1, key=SigningKey.generate())
        await business.put(request_id, envelope, meter_id=METER, expiry=expiry)
        told = results.read(await result_of(business, request_id), lab.meter_keys(METER).signing)
        assert (told.code, told.command_id) == (Code.REJECTED, None)
        assert not meter.applier.applied


async def test_relay_and_scs_killed_at_any_moment_lose_and_repeat_nothing(lab: Lab) -> None:
    rng = random.Random(20261122)
    business, meter = BusinessSide.of(lab), LabMeter(lab)
    roles = [Role(lab, "relay"), Role(lab, "scs")]
    put: list[str] = []

    async def insist(step: Callable[[], Awaitable[None]]) -> None:
        async with asyncio.timeout(PATIENCE_S):
            while True:
                try:
                    return await step()
                except MeterError:
                    await asyncio.sleep(0.1)

    async def order() -> None:
        for counter in range(1, 13):
            request_id, envelope, expiry = sealed_command(lab, counter)
            await insist(
                lambda i=request_id, e=envelope, x=expiry: business.put(  # type: ignore[misc]
                    i, e, meter_id=METER, expiry=x
                )
            )
            put.append(request_id)
            await asyncio.sleep(rng.uniform(0, 0.5))

    async def kill() -> None:
        for _ in range(6):
            await asyncio.sleep(rng.uniform(0.2, 1.2))
            role = rng.choice(roles)
            await role.kill()
            await role.start()

    async with broker(lab), running(meter.serve()):
        for role in roles:
            await role.start()
        try:
            await asyncio.gather(order(), kill())
            answers = [await result_of(business, request_id) for request_id in put]
        finally:
            for role in roles:
                await role.kill()
    told = [results.read(each, lab.meter_keys(METER).signing) for each in answers]
    assert [each.code for each in told] == [Code.OK] * 12
    assert [each.command_id for each in told] == [bytes.fromhex(each) for each in put]
    assert meter.applier.applied == {bytes.fromhex(each): 1 for each in put}
