"""The New System's books: who may do what, what is registered, and the log that proves it."""

import sqlite3
from collections.abc import Iterator
from datetime import date
from pathlib import Path

import pytest
from new_system_room import ACCEPTED, HARA, ITO, METER, MORI, NOW, Room

from meter_runtime.aroute.commands import COMMANDS
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend.authority import NotPermittedError, Role, parse_roles, role_for
from meter_runtime.headend.new_system import AUDIT_HEAD, DATABASE
from meter_runtime.headend.register_contracts import ContractRecord, Credentials, SupplyPoint


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


def tampered(room: Room, *statements: str) -> None:
    """The log's file, changed by somebody who can write it and knows SQL."""
    room.system.close()
    with sqlite3.connect(room.folder / DATABASE) as database:
        for statement in ("DROP TRIGGER audit_stands", "DROP TRIGGER audit_stays", *statements):
            database.execute(statement)
    database.close()
    room.system = room.open()


@pytest.mark.parametrize("role", list(Role))
async def test_only_b_route_staff_issue_b_route_commands(room: Room, role: Role) -> None:
    room.system.staff.add(NOW, "Kato", frozenset({role}), "Abe")
    for command in COMMANDS:
        wanted = role_for(command)
        assert (wanted is Role.BROUTE) == command.startswith("broute.")
        if role is wanted:
            room.system.staff.require("Kato", wanted, command)
            continue
        with pytest.raises(NotPermittedError, match="Kato may not do this; it takes the role"):
            await room.system.issuing.issue(command, METER, by="Kato")
        *_, last = room.system.audit.entries()
        told = (last.what, last.on_behalf_of, last.details)
        assert told == ("refused", "Kato", {"tried": command})
    assert room.system.requests.all() == []
    assert room.relay.puts == []


async def test_somebody_unknown_issues_nothing(room: Room) -> None:
    with pytest.raises(UsageError, match='called "Moni Aoi"; did you mean "Mori Aoi"'):
        await room.issue(by="Moni Aoi")
    assert room.system.requests.all() == []


async def test_what_the_meters_take_from_the_control_side_is_not_issued_here(room: Room) -> None:
    with pytest.raises(UsageError, match=r"switch\.open: .* control side"):
        await room.system.issuing.issue("switch.open", METER, by=ITO)


def test_a_command_that_nobody_may_issue_is_nobodys() -> None:
    assert role_for("broute") is None
    assert role_for("firmware.write") is None


def test_roles_are_given_by_another_administrator(room: Room) -> None:
    staff = room.system.staff
    with pytest.raises(NotPermittedError, match="may not give roles to himself"):
        staff.add(NOW, "Abe", parse_roles(["broute", "administrator"]), "Abe")
    with pytest.raises(NotPermittedError, match='takes the role "administrator"'):
        staff.add(NOW, "Kato", parse_roles(["broute"]), MORI)
    with pytest.raises(UsageError, match="add --by ADMINISTRATOR"):
        staff.add(NOW, "Kato", parse_roles(["broute"]), None)
    with pytest.raises(UsageError, match='no role is called "broote"; did you mean "broute"'):
        parse_roles(["broote"])
    assert {person.name for person in staff.people()} == {"Abe", HARA, MORI, ITO}


def test_a_supply_point_has_one_contract_at_a_time_and_several_meters(room: Room) -> None:
    register = room.system.register
    newcomer = ContractRecord("C-1002", "Ueda Ken", "SP-1")
    with pytest.raises(UsageError, match=r"SP-1 has contract C-1001; end it first"):
        register.add_contract(NOW, HARA, newcomer)
    assert register.end_contract(NOW, HARA, "C-1001") == []
    register.add_contract(NOW, HARA, newcomer)
    second = register.add_meter(NOW, HARA, "M-0002", "SP-1")
    first = register.meter(METER)
    assert second.supply_point == first.supply_point
    assert second.route_b_id != first.route_b_id
    with pytest.raises(UsageError, match="has this route-B ID"):
        register.add_meter(NOW, HARA, "M-0003", "SP-1", first.route_b_id)


async def test_the_end_of_a_contract_names_the_meters_whose_credentials_still_hold(
    room: Room,
) -> None:
    await room.settled()
    (left,) = room.system.register.end_contract(NOW, HARA, "C-1001")
    assert (left.id, left.credentials) == (METER, Credentials.CONFIRMED)


def test_the_register_is_changed_by_registrars_only(room: Room) -> None:
    register = room.system.register
    for change in (
        lambda: register.add_supply_point(NOW, MORI, SupplyPoint("SP-2", "elsewhere")),
        lambda: register.add_contract(NOW, MORI, ContractRecord("C-2", "Ueda", "SP-1")),
        lambda: register.apply_for_broute(NOW, MORI, "C-1001", date(2020, 1, 1)),
        lambda: register.add_meter(NOW, MORI, "M-2", "SP-1"),
        lambda: register.end_contract(NOW, MORI, "C-1001"),
    ):
        with pytest.raises(NotPermittedError, match='takes the role "registrar"'):
            change()
    assert register.contract("C-1001").accepted_on == ACCEPTED


def test_everything_is_there_after_a_restart(room: Room) -> None:
    before = (room.system.register.contracts(), room.system.register.meters())
    room.restart()
    assert (room.system.register.contracts(), room.system.register.meters()) == before


def test_the_files_are_their_owners_alone(room: Room) -> None:
    for name in (DATABASE, AUDIT_HEAD, "letter.key", "letter.pub"):
        assert (room.folder / name).stat().st_mode & 0o077 == 0, name


def test_a_register_of_a_newer_program_is_left_alone(room: Room) -> None:
    room.system.close()
    with sqlite3.connect(room.folder / DATABASE) as database:
        database.execute("PRAGMA user_version=7")
    database.close()
    with pytest.raises(MeterError, match="schema 7, this one has 2"):
        room.open()


def test_what_is_no_register_is_told_in_one_line(room: Room) -> None:
    room.system.close()
    for file in room.folder.glob(f"{DATABASE}*"):
        file.unlink()
    (room.folder / DATABASE).write_bytes(b"no database at all" * 100)
    with pytest.raises(MeterError, match="not a database"):
        room.open()


async def test_the_log_says_who_did_what_for_whom(room: Room) -> None:
    await room.settled()
    told = [(each.on_behalf_of, each.what, each.subject) for each in room.system.audit.entries()]
    assert told[-2:] == [(MORI, "broute.set_credentials", METER), (MORI, "answer", METER)]
    assert all(each.who for each in room.system.audit.entries())
    assert [each.number for each in room.system.audit.entries(last=2)] == [
        len(told) - 1,
        len(told),
    ]


def test_a_whole_log_passes(room: Room) -> None:
    head = room.system.audit.check()
    assert head.number == len(list(room.system.audit.entries()))


def test_the_log_is_neither_changed_nor_shortened_in_passing(room: Room) -> None:
    room.system.close()
    database = sqlite3.connect(room.folder / DATABASE)
    for statement in ("UPDATE audit SET who = 'nobody'", "DELETE FROM audit"):
        with pytest.raises(sqlite3.IntegrityError, match="the audit log is not"):
            database.execute(statement)
    database.close()
    room.system = room.open()


def test_an_entry_that_was_changed_shows(room: Room) -> None:
    tampered(room, "UPDATE audit SET on_behalf_of = 'Ito' WHERE number = 3")
    with pytest.raises(MeterError, match="entry 3 is not what was written"):
        room.system.audit.check()


def test_an_entry_that_was_taken_out_shows(room: Room) -> None:
    tampered(room, "DELETE FROM audit WHERE number = 3")
    with pytest.raises(MeterError, match="entry 3 is missing"):
        room.system.audit.check()


def test_an_entry_taken_out_with_the_gap_closed_shows(room: Room) -> None:
    tampered(
        room,
        "DELETE FROM audit WHERE number = 3",
        "UPDATE audit SET number = number - 1 WHERE number > 3",
    )
    with pytest.raises(MeterError, match="entry 3 is not what was written"):
        room.system.audit.check()


def test_entries_taken_off_the_end_show(room: Room) -> None:
    last = room.system.audit.check().number
    assert last > 5
    tampered(room, "DELETE FROM audit WHERE number > 5")
    with pytest.raises(MeterError, match=f"there were {last} at least"):
        room.system.audit.check()


def test_a_log_whose_head_is_gone_is_not_believed(room: Room) -> None:
    (room.folder / AUDIT_HEAD).unlink()
    with pytest.raises(MeterError, match=r"audit\.head: is gone"):
        room.system.audit.check()


def test_an_older_head_is_true_too(room: Room) -> None:
    head = (room.folder / AUDIT_HEAD).read_bytes()
    room.system.viewed("contracts")
    (room.folder / AUDIT_HEAD).write_bytes(head)
    room.system.audit.check()
