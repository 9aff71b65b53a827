"""The Relay Server: who may do what on which port, and a bounded spool that loses nothing."""

import asyncio
import ssl
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import aiohttp
import pytest
from headend_room import METER, make_lab, sealed_command
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meter_runtime.comm.mqtt import TlsFiles
from meter_runtime.errors import MeterError
from meter_runtime.headend import relay
from meter_runtime.headend.lab import NEW_SYSTEM, SCS, Lab
from meter_runtime.headend.relay_client import BusinessSide, ControlSide, RelayRefusedError
from meter_runtime.headend.relay_spool import (
    KEPT_S,
    LEASE_S,
    MAX_BYTES,
    MAX_FETCH,
    MAX_LEASE_S,
    RefusedError,
    Request,
    Spool,
)

OTHERS = ("M-0002", "M-0003", "M-0004")
NOW = 1_800_000_000.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    return make_lab(tmp_path_factory.mktemp("relay"), meters=(METER, *OTHERS))


@pytest.fixture
def spool(tmp_path: Path) -> Iterator[Spool]:
    made = Spool(tmp_path / "spool.db", max_open=3, max_kept=5)
    yield made
    made.close()


@pytest.fixture
async def served(lab: Lab, spool: Spool) -> AsyncIterator[None]:
    async with relay.serve(lab, spool):
        yield


def request(
    name: str,
    *,
    meter_id: str | None = None,
    expiry: int = int(NOW) + 3600,
    envelope: bytes = b"sealed",
) -> Request:
    return Request(name, meter_id or f"M-{name}", expiry, envelope)


def test_the_same_request_once_more_is_well_and_another_under_its_id_is_not(spool: Spool) -> None:
    spool.put(request("a"), NOW)
    spool.put(request("a"), NOW + 1)
    with pytest.raises(RefusedError, match="another request") as wrong:
        spool.put(request("a", envelope=b"other"), NOW)
    assert wrong.value.status == 409
    assert [each.request_id for each in spool.fetch(10, NOW)] == ["a"]


def test_a_put_is_idempotent_when_the_spool_is_full_too(spool: Spool) -> None:
    for name in "abc":
        spool.put(request(name), NOW)
    spool.put(request("a"), NOW)
    with pytest.raises(RefusedError) as wrong:
        spool.put(request("d"), NOW)
    assert wrong.value.status == 429


def test_open_requests_and_all_requests_are_bounded(spool: Spool) -> None:
    for name in "abcde":
        spool.put(request(name), NOW)
        spool.answer(name, b"done", NOW)
    with pytest.raises(RefusedError) as wrong:
        spool.put(request("f"), NOW)
    assert wrong.value.status == 507
    later = NOW + KEPT_S + 1
    spool.put(request("f", expiry=int(later) + 60), later)
    with pytest.raises(RefusedError) as gone:
        spool.result("a")
    assert gone.value.status == 404


def test_an_expired_request_makes_room_and_is_not_fetched(spool: Spool) -> None:
    for name in "abc":
        spool.put(request(name, expiry=int(NOW) + 10), NOW)
    assert spool.fetch(10, NOW + 10) == []
    spool.put(request("d"), NOW + 10)
    # A result that comes late is still taken.
    spool.answer("a", b"late", NOW + 20)
    assert spool.result("a") == b"late"


@pytest.mark.parametrize(
    ("wrong", "status"),
    [
        (Request("", METER, int(NOW) + 1, b"x"), 400),
        (Request("a/b", METER, int(NOW) + 1, b"x"), 400),
        (Request("x" * 65, METER, int(NOW) + 1, b"x"), 400),
        (Request("a", "", int(NOW) + 1, b"x"), 400),
        (Request("a", METER, int(NOW), b"x"), 400),
        (Request("a", METER, int(NOW) + 10**9, b"x"), 400),
        (Request("a", METER, int(NOW) + 1, b""), 413),
        (Request("a", METER, int(NOW) + 1, bytes(MAX_BYTES + 1)), 413),
    ],
)
def test_what_cannot_be_a_request_is_refused(spool: Spool, wrong: Request, status: int) -> None:
    with pytest.raises(RefusedError) as why:
        spool.put(wrong, NOW)
    assert why.value.status == status
    assert spool.fetch(10, NOW) == []


def test_nobody_else_gets_a_request_while_its_lease_lasts(tmp_path: Path, spool: Spool) -> None:
    spool.put(request("a"), NOW)
    another = Spool(tmp_path / "spool.db")
    assert len(spool.fetch(1, NOW)) == 1
    assert another.fetch(1, NOW + LEASE_S - 1) == []
    assert len(another.fetch(1, NOW + LEASE_S)) == 1
    assert spool.fetch(1, NOW + LEASE_S + 2 * LEASE_S - 1) == []
    another.close()


def test_leases_of_what_stays_unanswered_grow_to_a_bound(spool: Spool) -> None:
    spool.put(request("a", expiry=int(NOW) + 10**6), NOW)
    at = NOW
    for lease in (30, 60, 120, 240, 480, MAX_LEASE_S, MAX_LEASE_S):
        assert len(spool.fetch(1, at)) == 1
        assert spool.fetch(1, at + lease - 1) == []
        at += lease


def test_what_was_never_fetched_comes_before_what_was(spool: Spool) -> None:
    for name in "ab":
        spool.put(request(name), NOW)
    spool.fetch(2, NOW)
    spool.put(request("c"), NOW + 1)
    later = NOW + LEASE_S
    assert [each.request_id for each in spool.fetch(10, later)] == ["c", "a", "b"]


def test_a_meters_requests_do_not_overtake_each_other(spool: Spool) -> None:
    for name in "ab":
        spool.put(request(name, meter_id=METER), NOW)
    spool.put(request("c", meter_id=METER, expiry=int(NOW) + 7200), NOW)

    def fetched(at: float) -> list[str]:
        return [each.request_id for each in spool.fetch(10, at)]

    assert fetched(NOW) == ["a"]
    assert fetched(NOW + 1) == []
    spool.answer("a", b"done", NOW + 2)
    assert fetched(NOW + 2) == ["b"]
    assert fetched(NOW + LEASE_S) == []
    # One that expires unanswered makes way.
    assert fetched(NOW + 3600) == ["c"]


def test_the_first_result_counts(spool: Spool) -> None:
    spool.put(request("a"), NOW)
    assert spool.result("a") is None
    spool.answer("a", b"first", NOW)
    spool.answer("a", b"first", NOW)
    with pytest.raises(RefusedError) as wrong:
        spool.answer("a", b"second", NOW)
    assert wrong.value.status == 409
    assert spool.result("a") == b"first"
    assert spool.fetch(10, NOW + 10**4) == []


def test_all_is_there_after_a_restart(tmp_path: Path, spool: Spool) -> None:
    spool.put(request("a"), NOW)
    spool.put(request("b"), NOW)
    spool.answer("b", b"done", NOW)
    spool.close()
    again = Spool(tmp_path / "spool.db")
    assert again.fetch(10, NOW) == [request("a")]
    assert again.result("b") == b"done"
    again.close()


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.lists(st.tuples(st.sampled_from("pfaf"), st.integers(0, 3)), max_size=30))
def test_no_request_is_held_twice_and_none_has_two_results(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    spool = Spool(tmp_path_factory.mktemp("spool") / "spool.db")
    held: dict[str, float] = {}
    results: dict[str, bytes] = {}
    put: set[str] = set()
    now = NOW
    for what, number in steps:
        now += 7
        name = str(number)
        match what:
            case "p":
                spool.put(request(name), now)
                put.add(name)
            case "f":
                for each in spool.fetch(2, now):
                    assert each.request_id not in results
                    assert held.get(each.request_id, 0) <= now
                    held[each.request_id] = now + LEASE_S
            case "a" if name in put:
                result = f"{name} {now}".encode()
                if name in results:
                    with pytest.raises(RefusedError):
                        spool.answer(name, result, now)
                else:
                    spool.answer(name, result, now)
                    results[name] = result
    for name in put:
        assert spool.result(name) == results.get(name)
    spool.close()


@pytest.mark.usefixtures("served")
async def test_a_request_goes_through_and_its_result_comes_back(lab: Lab) -> None:
    business, control = BusinessSide.of(lab), ControlSide.of(lab)
    request_id, envelope, expiry = sealed_command(lab, 1)
    await business.put(request_id, envelope, meter_id=METER, expiry=expiry)
    await business.put(request_id, envelope, meter_id=METER, expiry=expiry)
    assert await business.result(request_id) is None
    assert await control.fetch() == [Request(request_id, METER, expiry, envelope)]
    assert await control.fetch() == []
    await control.answer(request_id, b"signed")
    assert await business.result(request_id) == b"signed"
    with pytest.raises(RelayRefusedError, match="another result") as wrong:
        await control.answer(request_id, b"forged")
    assert wrong.value.status == 409


@pytest.mark.usefixtures("served")
async def test_each_port_is_for_its_own_side(lab: Lab) -> None:
    address = lab.relay
    for role in (SCS, "mdms", "terminals/terminal-1", "relay"):
        with pytest.raises(RelayRefusedError, match="for the business side") as wrong:
            await BusinessSide(address, lab.tls(role)).result("x")
        assert wrong.value.status == 403
    for tls in (lab.tls(NEW_SYSTEM), lab.meter(METER).tls):
        with pytest.raises(RelayRefusedError, match="for the control side") as wrong:
            await ControlSide(address, tls).fetch()
        assert wrong.value.status == 403
    # Even the right certificate finds nothing of the other side's on its own port.
    swapped = type(address)(address.host, address.control_port, address.business_port)
    with pytest.raises(RelayRefusedError) as wrong:
        await BusinessSide(swapped, lab.tls(SCS)).result("x")
    assert wrong.value.status == 404
    with pytest.raises(RelayRefusedError) as wrong:
        await ControlSide(swapped, lab.tls(NEW_SYSTEM)).fetch()
    assert wrong.value.status == 404


@pytest.mark.usefixtures("served")
async def test_tls_refuses_who_has_no_certificate_of_the_laboratory(
    lab: Lab, tmp_path: Path
) -> None:
    foreign = make_lab(tmp_path).tls(NEW_SYSTEM)
    stranger = BusinessSide(lab.relay, TlsFiles(lab.ca, foreign.certificate, foreign.key))
    with pytest.raises(MeterError) as wrong:
        await stranger.result("x")
    assert not isinstance(wrong.value, RelayRefusedError)
    misled = BusinessSide(lab.relay, foreign)
    with pytest.raises(MeterError, match="not of this laboratory"):
        await misled.result("x")
    nobody = ssl.create_default_context(cafile=str(lab.ca))
    async with aiohttp.ClientSession() as session:
        with pytest.raises(aiohttp.ClientError):
            await session.get(f"https://localhost:{lab.relay.business_port}/", ssl=nobody)


@pytest.mark.usefixtures("served")
async def test_a_relay_refuses_what_is_no_envelope_for_the_meter_that_is_named(lab: Lab) -> None:
    business = BusinessSide.of(lab)
    request_id, envelope, expiry = sealed_command(lab, 1)
    for body, meter_id, when, said in (
        (b"garbage", METER, expiry, "no envelope"),
        (envelope[:-1], METER, expiry, "no envelope"),
        (envelope, "M-0002", expiry, "another meter or expiry"),
        (envelope, METER, expiry + 1, "another meter or expiry"),
    ):
        with pytest.raises(RelayRefusedError, match=said) as wrong:
            await business.put(request_id, body, meter_id=meter_id, expiry=when)
        assert wrong.value.status == 400
    with pytest.raises(RelayRefusedError) as wrong:
        await business.put(request_id, bytes(MAX_BYTES + 1), meter_id=METER, expiry=expiry)
    assert wrong.value.status == 413
    with pytest.raises(RelayRefusedError, match="no such request"):
        await business.result(request_id)


@pytest.mark.usefixtures("served")
async def test_a_full_relay_says_so_in_one_line(lab: Lab) -> None:
    business = BusinessSide.of(lab)
    for counter in range(3):
        request_id, envelope, expiry = sealed_command(lab, counter)
        await business.put(request_id, envelope, meter_id=METER, expiry=expiry)
    request_id, envelope, expiry = sealed_command(lab, 3)
    with pytest.raises(RelayRefusedError, match="come again later") as wrong:
        await business.put(request_id, envelope, meter_id=METER, expiry=expiry)
    assert wrong.value.status == 429
    assert "\n" not in str(wrong.value)


@pytest.mark.usefixtures("served")
async def test_two_fetchers_never_hold_one_request(lab: Lab) -> None:
    business, control = BusinessSide.of(lab), ControlSide.of(lab)
    for meter_id in OTHERS:
        request_id, envelope, expiry = sealed_command(lab, 1, meter_id=meter_id)
        await business.put(request_id, envelope, meter_id=meter_id, expiry=expiry)
    fetched = await asyncio.gather(*(control.fetch(2) for _ in range(6)))
    ids = [each.request_id for some in fetched for each in some]
    assert len(ids) == len(set(ids)) == 3


async def test_a_relay_that_is_not_there_is_one_line(lab: Lab) -> None:
    with pytest.raises(MeterError, match="cannot be reached; is the relay running") as wrong:
        await BusinessSide.of(lab).result("x")
    assert str(wrong.value).startswith(f"https://localhost:{lab.relay.business_port}: ")


async def test_a_port_that_is_taken_is_one_line(lab: Lab, spool: Spool) -> None:
    async with relay.serve(lab, spool):
        with pytest.raises(MeterError, match="cannot listen on port"):
            async with relay.serve(lab, spool):
                pass


async def test_the_largest_list_there_can_be_is_read(lab: Lab, tmp_path: Path) -> None:
    large = Spool(tmp_path / "large.db")
    expiry = int(time.time()) + 600
    for number in range(MAX_FETCH):
        one = Request(f"{number:064}", f"{number:064}", expiry, bytes(MAX_BYTES))
        large.put(one, time.time())
    async with relay.serve(lab, large):
        assert len(await ControlSide.of(lab).fetch()) == MAX_FETCH
    large.close()
