"""The service to each home, step by step: what it says is what the meters have proved."""

import json
import random
import sqlite3
from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from pathlib import Path

import pytest
from new_system_room import ACCEPTED, HARA, ITO, METER, MORI, SECOND, Keys, Room

from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.cli import headend
from meter_runtime.cli.parser import Parser
from meter_runtime.clock import first_slot_of, jst_day, slot_start
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend import register_schema
from meter_runtime.headend.authority import NotPermittedError
from meter_runtime.headend.issuing import ANSWER_GRACE_S, VALID_S
from meter_runtime.headend.new_system import DATABASE
from meter_runtime.headend.register_contracts import ContractRecord, Credentials, EndReason
from meter_runtime.headend.register_requests import Request, State
from meter_runtime.headend.service_life import WITHIN_S, Life, Stage

CODE, NEXT = "C-1001", "C-1002"
DAY_S = 86_400.0
ACTIVE = 1
"""The diagnosis "active status"."""


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    room.now = float(slot_start(first_slot_of(ACCEPTED))) + 9 * 3600
    yield room
    room.close()


def life(room: Room, code: str = CODE, meter: str = METER) -> Life:
    return next(each for each in room.system.service.lives(code) if each.meter == meter)


def stage(room: Room, code: str = CODE) -> Stage:
    return life(room, code).stage


async def begin(room: Room, code: str = CODE) -> Request:
    (told,) = await room.system.service.begin(code, MORI)
    assert told.request is not None, told.said
    return told.request


async def end(room: Room, code: str = CODE) -> Request:
    (told,) = await room.system.service.end(code, MORI, EndReason.MOVED_OUT)
    assert told.request is not None, told.said
    return told.request


async def obeyed(room: Room, request: Request) -> Request:
    room.relay.results[request.id] = room.meter.obey(request.envelope)
    return await room.poll(request)


async def served(room: Room, code: str = CODE) -> Request:
    return await obeyed(room, await begin(room, code))


async def asked(room: Room, details: Mapping[str, object] | None = None) -> None:
    """The meter's status, as it is told on request."""
    request = await room.issue("broute.status")
    said = room.meter.obey(request.envelope, diagnosis=ACTIVE, details=details)
    room.relay.results[request.id] = said
    await room.poll(request)


def post(room: Room, request: Request, folder: Path) -> str:
    letter = folder / f"{request.id}.txt"
    room.system.letters.post(room.now, MORI, request.id, letter)
    return letter.read_text(encoding="utf-8")


def moves_in(room: Room, code: str = NEXT, accepted_on: date | None = None) -> None:
    """Another customer at the same supply point, from today."""
    on = accepted_on or jst_day(room.now)
    newcomer = ContractRecord(code, "Ueda Ken", "SP-1", accepted_on=on)
    room.system.register.add_contract(room.now, HARA, newcomer)


def moves_out(room: Room, code: str = CODE) -> None:
    room.system.register.end_contract(room.now, HARA, code)


def another_meter(room: Room, meter_id: str = SECOND) -> Keys:
    """A meter with keys of its own, enrolled; the register does not know it yet."""
    meter = Keys(meter_id, room.meter.issuer_public, MeterIdentity.from_device_key(bytes(32)))
    room.lab.enroll(meter_id, meter.identity.public)
    return meter


async def test_from_the_application_to_the_end(room: Room, tmp_path: Path) -> None:
    assert (stage(room), life(room).to_do) == (Stage.ACCEPTED, f"headend service begin {CODE}")
    request = await begin(room)
    assert "no answer yet: headend poll" in life(room).to_do
    await obeyed(room, request)
    assert stage(room) is Stage.PROVISIONED
    assert life(room).to_do == f"headend letter {request.id[:8]}"
    assert life(room).since == room.now
    post(room, request, tmp_path)
    assert (stage(room), life(room).to_do) == (Stage.POSTED, "")
    await asked(room)
    assert (stage(room), life(room).to_do) == (Stage.ACTIVE, "")

    rewritten = await room.settled("broute.rewrite_password")
    assert stage(room) is Stage.REWRITTEN
    assert life(room).to_do == f"headend letter {rewritten.id[:8]}"
    post(room, rewritten, tmp_path)
    await asked(room)
    assert stage(room) is Stage.ACTIVE

    revocation = await end(room)
    assert (revocation.command, stage(room)) == ("broute.revoke", Stage.ENDING)
    await obeyed(room, revocation)
    assert (stage(room), life(room).to_do) == (Stage.ENDED, "")
    assert room.system.register.meter(METER).credentials is Credentials.REVOKED


async def test_it_begins_at_every_meter_of_the_supply_point(room: Room) -> None:
    second = another_meter(room)
    room.system.register.add_meter(room.now, HARA, SECOND, "SP-1")
    told = {each.meter: each.request for each in await room.system.service.begin(CODE, MORI)}
    first_request, second_request = told[METER], told[SECOND]
    assert first_request is not None
    assert second_request is not None
    room.relay.results[second_request.id] = second.obey(second_request.envelope)
    await obeyed(room, first_request)
    assert room.meter.link is not None
    assert second.link is not None
    assert room.meter.link != second.link
    assert {each.stage for each in room.system.service.lives(CODE)} == {Stage.PROVISIONED}
    ended = await room.system.service.end(CODE, MORI, EndReason.NOTICE)
    assert [each.meter for each in ended if each.request] == [METER, SECOND]


async def test_one_meter_that_cannot_be_told_keeps_no_other_one_waiting(room: Room) -> None:
    room.system.register.add_meter(room.now, HARA, "M-0000", "SP-1")
    unknown, known = await room.system.service.begin(CODE, MORI)
    assert unknown.failed
    assert "its keys are not enrolled" in unknown.said
    assert known.request is not None


async def test_to_begin_twice_issues_nothing_twice(room: Room) -> None:
    request = await begin(room)
    (again,) = await room.system.service.begin(CODE, MORI)
    assert again.failed
    assert "is still open" in again.said
    await obeyed(room, request)
    (again,) = await room.system.service.begin(CODE, MORI)
    assert (again.request, again.said, again.failed) == (None, "provisioned", False)
    assert [each.id for each in room.system.requests.all()] == [request.id]


async def test_nothing_begins_without_an_application_in_force(room: Room) -> None:
    moves_out(room)
    with pytest.raises(MeterError, match=f"contract {CODE} ended on"):
        await room.system.service.begin(CODE, MORI)
    register = room.system.register
    register.add_contract(room.now, HARA, ContractRecord(NEXT, "Ueda Ken", "SP-1"))
    assert room.system.service.lives(NEXT) == []
    with pytest.raises(MeterError, match="no application for the B-route was accepted"):
        await room.system.service.begin(NEXT, MORI)
    with pytest.raises(UsageError, match="no service that could end"):
        await room.system.service.end(NEXT, MORI, EndReason.NOTICE)
    assert room.system.requests.all() == []


@pytest.mark.parametrize("name", [HARA, ITO, "Abe"])
async def test_only_b_route_staff_begin_and_end(room: Room, name: str) -> None:
    with pytest.raises(NotPermittedError, match='takes the role "broute"'):
        await room.system.service.begin(CODE, name)
    with pytest.raises(NotPermittedError, match='takes the role "broute"'):
        await room.system.service.end(CODE, name, EndReason.MISUSE)
    assert room.system.register.contract(CODE).is_served
    tried = [each.details["tried"] for each in room.system.audit.entries(last=2)]
    assert tried == ["broute.set_credentials", "service end"]


async def test_an_end_has_one_reason_and_is_repeated_until_it_is_proved(room: Room) -> None:
    await served(room)
    first = await end(room)
    known = room.system.register.contract(CODE)
    assert (known.service_end, known.service_ended_on) == (
        EndReason.MOVED_OUT,
        jst_day(room.now),
    )
    with pytest.raises(UsageError, match='for "moved-out"'):
        await room.system.service.end(CODE, MORI, EndReason.MISUSE)
    (waiting,) = await room.system.service.end(CODE, MORI, EndReason.MOVED_OUT)
    assert (waiting.request, waiting.failed) == (None, False)

    room.now += VALID_S + ANSWER_GRACE_S + 1
    assert (await room.poll(first)).state is State.UNKNOWN
    assert (life(room).stage, life(room).late) == (Stage.ENDING, True)
    assert life(room).to_do.endswith(f"headend service end {CODE}")
    await obeyed(room, await end(room))
    assert stage(room) is Stage.ENDED


async def test_a_password_on_its_way_is_overtaken_by_the_end(room: Room) -> None:
    on_its_way = await begin(room)
    revocation = await end(room)
    assert revocation.counter > on_its_way.counter
    assert stage(room) is Stage.ENDING
    await obeyed(room, revocation)
    # The meter refuses what it sees only now: its counter is lower.
    stale = room.meter.answer(room.meter.read(on_its_way.envelope), code=Code.STALE_COUNTER)
    room.relay.results[on_its_way.id] = stale
    await room.poll(on_its_way)
    assert stage(room) is Stage.ENDED


async def test_the_next_customer_takes_the_place_of_the_last_one_without_a_gap(room: Room) -> None:
    await served(room)
    moves_out(room)
    assert life(room).to_do == f"headend service end {CODE}"
    moves_in(room)
    assert stage(room, NEXT) is Stage.ACCEPTED
    request = await begin(room, NEXT)
    # Now the last one's end must not take the next one's credentials away.
    (told,) = await room.system.service.end(CODE, MORI, EndReason.MOVED_OUT)
    assert told.request is None
    await obeyed(room, request)
    assert (stage(room), stage(room, NEXT)) == (Stage.ENDED, Stage.PROVISIONED)
    (told,) = await room.system.service.end(CODE, MORI, EndReason.MOVED_OUT)
    assert (told.request, told.said) == (None, "ended")


async def test_a_password_that_may_have_been_obeyed_has_not_ended(room: Room) -> None:
    request = await begin(room)
    room.now += VALID_S + ANSWER_GRACE_S + 1
    await room.poll(request)
    moves_out(room)
    assert stage(room) is Stage.ENDING
    await obeyed(room, await end(room))
    assert stage(room) is Stage.ENDED


async def test_a_customer_may_apply_anew_once_his_former_service_is_over(room: Room) -> None:
    await served(room)
    revocation = await end(room)
    register, today = room.system.register, jst_day(room.now)
    with pytest.raises(MeterError, match=f"meter {METER} still serves by its former"):
        register.apply_for_broute(room.now, HARA, CODE, today)
    await obeyed(room, revocation)
    with pytest.raises(MeterError, match="its service ended on"):
        await room.system.service.begin(CODE, MORI)
    with pytest.raises(UsageError, match="is not older than that"):
        register.apply_for_broute(room.now, HARA, CODE, today - timedelta(days=1))
    register.apply_for_broute(room.now, HARA, CODE, today)
    assert stage(room) is Stage.ACCEPTED
    assert room.system.register.contract(CODE).service_end is None
    await served(room)
    assert stage(room) is Stage.PROVISIONED


async def test_the_last_customers_day_is_served_to_nobody_else(room: Room, tmp_path: Path) -> None:
    await served(room)
    room.now += 10 * DAY_S
    moves_out(room)
    today, tomorrow = jst_day(room.now), jst_day(room.now + DAY_S)
    moves_in(room, accepted_on=today)
    request = await served(room, NEXT)
    for command in (request, await room.settled("broute.rewrite_password")):
        arguments = room.meter.read(command.envelope).arguments
        assert arguments["accepted_on"] == tomorrow.isoformat()
    letter = post(room, room.system.requests.all(METER)[-1], tmp_path)
    assert tomorrow.isoformat() in letter
    assert today.isoformat() in letter  # its own date
    assert letter.count(today.isoformat()) == 1


async def test_a_later_application_counts_from_its_own_day(room: Room) -> None:
    moves_out(room)
    room.now += 5 * DAY_S
    moves_in(room)
    request = await served(room, NEXT)
    arguments = room.meter.read(request.envelope).arguments
    assert arguments["accepted_on"] == jst_day(room.now).isoformat()


async def test_a_replaced_meter_is_provisioned_anew(room: Room, tmp_path: Path) -> None:
    unposted = await served(room)
    room.now += 20 * DAY_S
    former_id = room.system.register.meter(METER).route_b_id
    meter = another_meter(room)
    hung = room.system.register.replace_meter(room.now, HARA, METER, SECOND)
    assert (hung.supply_point, hung.hung_on) == ("SP-1", jst_day(room.now))
    assert hung.route_b_id != former_id
    assert life(room).stage is Stage.ENDED
    assert life(room, meter=SECOND).stage is Stage.ACCEPTED
    (told,) = await room.system.service.begin(CODE, MORI)
    assert told.request is not None
    assert told.meter == SECOND
    arguments = meter.read(told.request.envelope).arguments
    assert arguments["accepted_on"] == jst_day(room.now + DAY_S).isoformat()
    with pytest.raises(MeterError, match=f"meter {METER} was removed on"):
        await room.issue("broute.rewrite_password")
    with pytest.raises(MeterError, match=f"meter {METER} was removed on .*; no letter"):
        post(room, unposted, tmp_path)
    with pytest.raises(UsageError, match=f"meter {METER} was removed on"):
        room.system.register.replace_meter(room.now, HARA, METER, "M-0003")
    with pytest.raises(UsageError, match=f'there is a meter "{METER}" already'):
        room.system.register.replace_meter(room.now, HARA, SECOND, METER)
    with pytest.raises(NotPermittedError):
        room.system.register.replace_meter(room.now, MORI, SECOND, "M-0003")


@pytest.mark.parametrize(
    ("details", "version", "said"),
    [
        ({"provisioned": False}, 1, "the meter holds no credentials"),
        ({"provisioned": True}, 7, "holds others than those that it proved"),
        ({"provisioned": True, "set_again": True}, 1, "communication unit was replaced"),
        ({"provisioned": True}, 1, ""),
    ],
)
async def test_credentials_that_have_to_be_set_again_are_told(
    room: Room, tmp_path: Path, details: dict[str, bool], version: int, said: str
) -> None:
    post(room, await served(room), tmp_path)
    await asked(room)
    room.meter.version = version
    room.now += 1
    await asked(room, details)
    told = life(room)
    assert (told.stage, told.late) == (Stage.ACTIVE, bool(said))
    assert said in told.to_do
    await room.settled()
    room.now += 1
    assert life(room).to_do.startswith("headend letter ")


async def test_a_status_of_former_credentials_makes_none_active(room: Room, tmp_path: Path) -> None:
    post(room, await served(room), tmp_path)
    before = await room.issue("broute.status")
    told = room.meter.obey(before.envelope, diagnosis=ACTIVE)
    post(room, await room.settled("broute.rewrite_password"), tmp_path)
    room.relay.results[before.id] = told
    await room.poll(before)
    assert stage(room) is Stage.POSTED


async def test_what_is_late_is_told(room: Room, tmp_path: Path) -> None:
    def is_late_after(some: Stage) -> bool:
        """Not one second before; the clock stays there."""
        since = life(room).since
        assert since is not None
        assert stage(room) is some
        room.now = since + WITHIN_S[some]
        before = life(room).late
        room.now += 1
        return life(room).late and not before

    assert is_late_after(Stage.ACCEPTED)
    request = await served(room)
    assert is_late_after(Stage.PROVISIONED)
    post(room, request, tmp_path)
    assert life(room).to_do == ""
    assert is_late_after(Stage.POSTED)
    assert "has not joined" in life(room).to_do
    await asked(room)
    room.now += 1_000 * DAY_S
    assert not life(room).late
    await room.settled("broute.rewrite_password")
    assert is_late_after(Stage.REWRITTEN)
    moves_out(room)
    assert is_late_after(Stage.ENDING)


async def test_a_refusal_is_told_until_something_was_done(room: Room) -> None:
    request = await begin(room)
    command = room.meter.read(request.envelope)
    room.relay.results[request.id] = room.meter.answer(command, code=Code.STORE_FAILED)
    await room.poll(request)
    told = life(room)
    assert (told.stage, told.late) == (Stage.ACCEPTED, True)
    assert "is refused: the meter could not store it" in told.to_do
    await served(room)
    assert not life(room).late


@pytest.mark.parametrize("seed", range(12))
async def test_what_is_said_to_have_ended_has(room: Room, seed: int) -> None:
    """Whatever was issued, lost, overtaken or answered late: no meter serves a former customer of
    whom the New System says that his service is over.
    """
    rng = random.Random(seed)
    at_sea: list[Request] = []
    holds: str | None = None
    counter = 0
    present: str | None = CODE
    codes = [CODE]
    for _ in range(40):
        room.now += rng.choice((60.0, 3_600.0, 30_000.0))
        match rng.randrange(7):
            case 0 | 1 if present is not None:
                told = await room.system.service.begin(present, MORI)
                at_sea += [each.request for each in told if each.request is not None]
            case 2:
                told = await room.system.service.end(rng.choice(codes), MORI, EndReason.MOVED_OUT)
                at_sea += [each.request for each in told if each.request is not None]
                over = None if present is None else room.system.register.contract(present)
                if over is not None and not over.is_served:
                    if over.ended_on is None:
                        moves_out(room, over.code)
                    present = None
            case 3 if present is not None:
                moves_out(room, present)
                present = None
            case 4 if present is None:
                present = f"C-{2000 + len(codes)}"
                codes.append(present)
                moves_in(room, present)
            case 5 | 6 if at_sea:
                # The meter hears of one of them, perhaps late; its answer may be lost.
                request = at_sea.pop(rng.randrange(len(at_sea)))
                command = room.meter.read(request.envelope)
                if command.counter > counter and room.now < command.expiry:
                    counter = command.counter
                    is_revocation = request.command == "broute.revoke"
                    holds = None if is_revocation else request.contract
                    answer = room.meter.obey(request.envelope)
                else:
                    answer = room.meter.answer(command, code=Code.STALE_COUNTER)
                if rng.random() < 0.7:
                    room.relay.results[request.id] = answer
            case _:
                pass
        await room.system.issuing.poll()
        if holds is not None:
            assert stage(room, holds) is not Stage.ENDED
            # Whoever does what is told comes to the end of it: nothing is left without a word.
            assert life(room, holds).to_do or room.system.register.contract(holds).is_served


async def test_a_register_of_the_first_version_is_brought_up_to_date(room: Room) -> None:
    await served(room)
    room.system.close()
    file = room.folder / DATABASE
    with sqlite3.connect(file) as database:
        for column in ("service_ended_on", "service_end", "service_end_note"):
            database.execute(f"ALTER TABLE contract DROP COLUMN {column}")
        for column in ("settled_at", "hung_on", "removed_on"):
            database.execute(f"ALTER TABLE meter DROP COLUMN {column}")
        # A column with a reference is not dropped: the table is made anew without it.
        database.execute("PRAGMA foreign_keys=OFF")
        database.execute(
            "CREATE TABLE former (id TEXT PRIMARY KEY, supply_point TEXT NOT NULL REFERENCES"
            " supply_point, route_b_id TEXT NOT NULL UNIQUE, credentials TEXT NOT NULL,"
            " credential_version INTEGER, contract TEXT REFERENCES contract) STRICT"
        )
        database.execute(
            "INSERT INTO former SELECT id, supply_point, route_b_id, credentials,"
            " credential_version, contract FROM meter"
        )
        database.execute("DROP TABLE meter")
        database.execute("ALTER TABLE former RENAME TO meter")
        database.execute("PRAGMA user_version=1")
    database.close()
    room.system = room.open()
    known = room.system.register.meter(METER)
    assert (known.credentials, known.contract) == (Credentials.CONFIRMED, CODE)
    assert (known.settled_at, known.hung_on, known.removed_on) == (None, None, None)
    told = life(room)
    assert (told.stage, told.since, told.late) == (Stage.PROVISIONED, None, False)
    await obeyed(room, await end(room))
    assert stage(room) is Stage.ENDED
    room.restart()
    assert register_schema.VERSION == 2
    assert stage(room) is Stage.ENDED


def command(room: Room, *words: str) -> int:
    """``meter-runtime headend service …``; no relay runs."""
    parser = Parser(prog="meter-runtime")
    headend.register(parser.add_subparsers(parser_class=Parser))
    return headend.run(parser.parse_args(["headend", *words, "--lab", str(room.lab.path)]))


def test_the_commands_tell_and_do_all_of_it(room: Room, capsys: pytest.CaptureFixture[str]) -> None:
    another_meter(room)
    by_mori = ("--by", MORI)
    assert command(room, "service", "begin", CODE, *by_mori) == 1
    told = capsys.readouterr().out
    assert told.startswith(f"{METER}: ")
    assert "broute.set_credentials prepared: " in told  # it is stored, and the relay is away

    assert command(room, "meter", "replace", METER, SECOND, "--by", HARA) == 0
    assert f"headend service begin {CODE} --by NAME" in capsys.readouterr().out
    assert command(room, "service", "list", "--open", "--json") == 0
    (open_life,) = json.loads(capsys.readouterr().out)
    assert (open_life["meter"], open_life["stage"]) == (SECOND, "accepted")
    assert open_life["to_do"] == f"headend service begin {CODE}"

    end_it = ("service", "end", CODE, "--note", "by telephone")
    with pytest.raises(UsageError, match='did you mean "notice"'):
        command(room, *end_it, "--reason", "notise", *by_mori)
    assert command(room, *end_it, "--reason", "notice", *by_mori) == 0
    assert command(room, "service", "show", CODE) == 0
    told = capsys.readouterr().out
    assert ", notice (by telephone)" in told
    assert f"meter {METER}: ended" in told
    assert command(room, "service", "show", CODE, "--json") == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["reason"], shown["note"]) == ("notice", "by telephone")
    assert command(room, "service", "list", "--open") == 0
    assert capsys.readouterr().out == "none\n"
    viewed = [each.what for each in room.system.audit.entries(last=3)]
    assert viewed == ["viewed service", "viewed service", "viewed services"]


@pytest.mark.parametrize("action", ["begin", "end", "show", "list"])
def test_each_action_explains_itself(
    room: Room, action: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as ended:
        command(room, "service", action, "--help")
    assert ended.value.code == 0
    assert f"meter-runtime headend service {action} " in capsys.readouterr().out
