"""From the New System to the doorstep and back: work order, terminal, local port, result."""

import argparse
import asyncio
import contextlib
import io
import json
import shutil
import sys
import time
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import replace
from datetime import date
from pathlib import Path
from typing import Any

import pytest
from hand_clock import HandClock
from new_system_room import HARA, ITO, METER, MORI, SECOND, RelayInMemory

from meter_runtime.aroute import results
from meter_runtime.aroute.commands import Arguments, Code, RewritePassword, SetCredentials
from meter_runtime.aroute.dispatch import Way, unwrap
from meter_runtime.aroute.envelope import Command
from meter_runtime.aroute.gate import Gate, Outcome
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.aroute.local_port import LocalPort
from meter_runtime.aroute.results import Diagnosis
from meter_runtime.aroute.trust import load_trust
from meter_runtime.cli import handheld, headend
from meter_runtime.cli.parser import Parser
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.events import EventBus
from meter_runtime.headend.authority import NotPermittedError, Role
from meter_runtime.headend.handheld import Order, Terminal
from meter_runtime.headend.handheld_link import parse_place
from meter_runtime.headend.lab import NEW_SYSTEM, SCS, Lab
from meter_runtime.headend.letters import DraftOpener
from meter_runtime.headend.meter_files import identity_document
from meter_runtime.headend.new_system import NewSystem
from meter_runtime.headend.qr_codes import split
from meter_runtime.headend.register_contracts import ContractRecord, Credentials, SupplyPoint
from meter_runtime.headend.register_requests import Request, State
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import Journal
from meter_runtime.storage.media import MemoryMedia

Output = pytest.CaptureFixture[str]
DEVICE_KEY = b"\x2a" * 32
METER_KEYS = MeterIdentity.from_device_key(DEVICE_KEY)
PATIENCE_S = 20.0
TANAKA = ("--by", "Tanaka")


class Home:
    """Holds the credentials that it was given; what the handlers do in a meter."""

    def __init__(self) -> None:
        self.link: LinkCredentials | None = None
        self.version = 0
        self.outcome = Code.OK

    async def apply(self, command: Command, arguments: Arguments) -> Outcome:
        if self.outcome is Code.OK and self._new(arguments) is not None:
            self.link, self.version = self._new(arguments), self.version + 1
        return Outcome(self.outcome)

    def proof(self, arguments: Arguments) -> bytes | None:
        link = self._new(arguments)
        if link is None or not isinstance(arguments, SetCredentials | RewritePassword):
            return None
        return results.proof_of(arguments.proof_key, link)

    def settle(self, name: str, before: int, counter: int) -> Outcome:
        return Outcome(Code.STORE_FAILED)

    def _new(self, arguments: Arguments) -> LinkCredentials | None:
        match arguments:
            case SetCredentials():
                return LinkCredentials(arguments.id, arguments.password)
            case RewritePassword() if self.link is not None:
                return LinkCredentials(self.link.route_b_id, arguments.password)
        return None


class Street:
    """A laboratory whose New System knows one meter, and that meter with its local port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.lab = Lab.create(folder / "lab")
        self.lab.enroll(METER, METER_KEYS.public)
        self.relay = RelayInMemory()
        with self.system() as system:
            system.staff.add(0, "Abe", frozenset({Role.ADMINISTRATOR}), None)
            for name, role in {
                HARA: Role.REGISTRAR,
                MORI: Role.BROUTE,
                ITO: Role.OPERATOR,
            }.items():
                system.staff.add(0, name, frozenset({role}), "Abe")
            system.register.add_supply_point(0, HARA, SupplyPoint("SP-1", "1-2-3 Nakanoshima"))
            contract = ContractRecord("C-1001", "Sato Hana", "SP-1", accepted_on=date(2026, 11, 1))
            system.register.add_contract(0, HARA, contract)
            system.register.add_meter(0, HARA, METER, "SP-1")
        self.home = Home()
        self.clock = HandClock()
        self.clock.offset = time.time() - self.clock.at
        trust = load_trust(self.lab.trust_file)
        self.gate = Gate(
            METER,
            METER_KEYS,
            trust,
            IssuerLedger.open(MemoryMedia(IssuerLedger.size_for(1)), DEVICE_KEY),
            Journal.open(MemoryMedia(Journal.size_for(64, 1))),
            applier=self.home,
            clock=self.clock,
            credential_version=lambda: self.home.version,
            diagnosis=lambda: Diagnosis(3, 11),
        )
        self.port = LocalPort(
            self.gate,
            trust,
            ("127.0.0.1", 0),
            self.lab.meter(METER).tls,
            status=lambda: {
                "clock": {"now": "2026-11-22T12:00:00+09:00", "trust": "synced"},
                "broute": {"message": 3, "text": "HEMS is\x1b[2J unconnected"},
                "units": {"metering": {"model": "K5", "state": "fitted"}, "optional": None},
                "findings": [],
            },
            open_button=None,
            clock=self.clock,
            bus=EventBus(),
        )

    def system(self) -> NewSystem:
        return NewSystem.open(self.lab, relay=self.relay)

    def terminal(self) -> Terminal:
        return Terminal.of_lab(self.lab, "terminal-1")

    def file(self, name: str) -> Path:
        return self.folder / name

    @contextlib.asynccontextmanager
    async def meter(self) -> AsyncIterator[str]:
        """The meter serves; gives where."""
        task = asyncio.create_task(self.port.run())
        try:
            async with asyncio.timeout(PATIENCE_S):
                while self.port.address is None:  # noqa: ASYNC110 - a socket's doing
                    await asyncio.sleep(0.01)
            yield "{}:{}".format(*self.port.address)
        finally:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

    async def on_site(self, name: str = "broute.set_credentials", **more: Any) -> Request:
        with self.system() as system:
            return await system.issuing.issue(name, METER, by=MORI, on_site=True, **more)


@pytest.fixture
def street(tmp_path: Path) -> Street:
    return Street(tmp_path)


def _run(module: Any, words: Sequence[str]) -> int:
    parser = Parser(prog="meter-runtime")
    module.register(parser.add_subparsers(parser_class=Parser))
    args: argparse.Namespace = parser.parse_args(words)
    status: int = module.run(args)
    return status


def office(street: Street, *words: str) -> int:
    """``meter-runtime headend ... --lab``."""
    return _run(headend, ["headend", *words, "--lab", str(street.lab.path)])


def field(street: Street, *words: str) -> int:
    """``meter-runtime handheld ... --lab``."""
    return _run(handheld, ["handheld", *words, "--lab", str(street.lab.path)])


async def away(act: Callable[..., int], street: Street, *words: str) -> int:
    """The command in a thread: the meter that it talks to is on this loop."""
    return await asyncio.to_thread(act, street, *words)


async def test_a_work_order_ends_as_a_request_from_afar_does(
    street: Street, capsys: Output
) -> None:
    order, answer, letter = (street.file(name) for name in ("o.png", "o.result", "letter.txt"))
    issue = ("issue", "broute.set_credentials", "--meter", METER, "--by", MORI, "--on-site")
    assert await away(office, street, *issue, "--out", str(order), "--json") == 0
    request = json.loads(capsys.readouterr().out)
    assert request["state"] == "on site"
    assert street.relay.puts == []
    assert order.stat().st_mode & 0o777 == 0o600

    assert field(street, "load", str(order)) == 0
    assert request["id"][:8] in capsys.readouterr().out
    async with street.meter() as place:
        assert await away(field, street, "deliver", request["id"][:6], "--at", place, *TANAKA) == 0
    shown = capsys.readouterr().out
    assert "OK: It was carried out." in shown
    assert "the meter's own" in shown
    assert "3 HEMS is unconnected" in shown

    assert field(street, "export", request["id"], "--out", str(answer)) == 0
    assert await away(office, street, "take-result", str(answer)) == 0
    assert "done, OK" in capsys.readouterr().out
    with street.system() as system:
        assert system.credentials(system.register.meter(METER)) is Credentials.CONFIRMED
    # The terminal is blind, so the customer learns the password as ever.
    assert office(street, "letter", request["id"], "--out", str(letter), "--by", MORI) == 0
    assert street.home.link is not None
    password = street.home.link.password.reveal()
    assert password in letter.read_text().replace(" ", "")
    with street.system() as system:
        assert system.requests.find(request["id"]).state is State.POSTED


async def test_a_password_is_in_no_file_of_terminal_or_order_and_on_no_screen(
    street: Street, capsys: Output
) -> None:
    request = await street.on_site()
    for name in ("o.pdf", "o.txt", "o.png"):
        assert (
            office(street, "work-order", request.id, "--out", str(street.file(name)), "--by", MORI)
            == 0
        )
    assert office(street, "work-order", request.id, "--by", MORI) == 0
    assert field(street, "load", str(street.file("o.txt"))) == 0
    async with street.meter() as place:
        assert await away(field, street, "deliver", request.id, "--at", place, *TANAKA) == 0
    for words in (("show", request.id), ("show", "--json"), ("log",), ("log", "--json")):
        assert field(street, *words) == 0
    assert street.home.link is not None
    password, route_b_id = street.home.link.password.reveal(), street.home.link.route_b_id
    kept = [path for path in street.lab.folder("terminals/terminal-1").rglob("*") if path.is_file()]
    kept += [street.file(name) for name in ("o.pdf", "o.txt", "o.png")]
    assert any(path.suffix == ".order" for path in kept)
    content = b"".join(path.read_bytes() for path in kept) + capsys.readouterr().out.encode()
    for secret in (password, route_b_id):
        for form in (secret, secret.lower(), " ".join(secret), secret.encode().hex()):
            assert form.encode() not in content
    # Neither could the terminal's keys open it.
    with street.system() as system:
        draft = system.requests.find(request.id).draft
        assert draft is not None
        opened = DraftOpener(street.lab.folder(NEW_SYSTEM) / "letter.key").open(request.id, draft)
        assert opened.password.reveal() == password


async def test_what_is_brought_twice_changes_nothing(street: Street, capsys: Output) -> None:
    request = await street.on_site()
    with street.terminal() as terminal:
        terminal.load(time.time(), [request.envelope])
    async with street.meter() as place:
        for _ in range(2):
            assert await away(field, street, "deliver", request.id, "--at", place, *TANAKA) == 0
    assert street.home.version == 1
    answer = street.file("a.result")
    assert field(street, "export", request.id, "--out", str(answer)) == 0
    for _ in range(2):
        assert await away(office, street, "take-result", str(answer)) == 0


async def test_a_work_order_may_be_written_for_what_the_relay_has_too(street: Street) -> None:
    with street.system() as system:
        request = await system.issuing.issue("broute.set_credentials", METER, by=MORI)
        assert request.state is State.SENT
        order = system.work_orders.write(system.now(), MORI, request.id, None)
        assert order.parts == split(request.envelope)
        assert system.requests.find(request.id).state is State.SENT


async def test_an_order_on_its_way_is_not_made_stale_by_a_later_command(street: Street) -> None:
    request = await street.on_site()
    with street.system() as system:
        with pytest.raises(MeterError, match=f"work order {request.id[:8]} is on its way"):
            await system.issuing.issue("broute.status", METER, by=MORI)
        await system.issuing.issue("broute.revoke", METER, by=MORI)  # it waits for nobody


async def test_an_order_that_nobody_takes_is_recalled(street: Street, capsys: Output) -> None:
    request = await street.on_site()
    assert office(street, "work-order", request.id, "--recall", "--by", MORI) == 0
    with street.system() as system:
        await system.issuing.poll()
        assert system.requests.find(request.id).state is State.SENT
        assert street.relay.envelopes[request.id] == request.envelope
        with pytest.raises(MeterError, match="no work order to recall"):
            system.work_orders.recall(time.time(), MORI, request.id)


async def test_an_order_is_never_polled_at_the_relay_and_ends_with_its_time(
    street: Street,
) -> None:
    request = await street.on_site(valid_s=100)
    street.relay.away = True
    with street.system() as system:
        assert (await system.issuing.poll())[0].state is State.ON_SITE
    street.relay.away = False
    late = NewSystem.open(street.lab, relay=street.relay, now=lambda: time.time() + 1000)
    with late as system:
        assert (await system.issuing.poll())[0].state is State.UNKNOWN
        with pytest.raises(MeterError, match="nothing left to do"):
            system.work_orders.write(system.now(), MORI, request.id, None)
    # Obeyed in time, brought back late: it counts.
    async with street.meter() as place:
        with street.terminal() as terminal:
            terminal.load(time.time(), [request.envelope])
        assert await away(field, street, "deliver", request.id, "--at", place, *TANAKA) == 0
    with street.terminal() as terminal:
        answer = terminal.answer(terminal.find(request.id))
        assert answer is not None
        message = (terminal.folder / "results" / f"{request.id}.result").read_bytes()
    with street.system() as system:
        assert system.issuing.take(message).state is State.DONE


async def test_only_those_who_may_issue_it_write_the_order(street: Street) -> None:
    request = await street.on_site()
    with street.system() as system:
        for somebody in (ITO, HARA, "Abe"):
            with pytest.raises(NotPermittedError, match='takes the role "broute"'):
                system.work_orders.write(time.time(), somebody, request.id, None)
        told = [(each.what, each.subject) for each in system.audit.entries()]
        assert told.count(("refused", request.id)) == 3
        system.work_orders.write(time.time(), MORI, request.id, None)
        assert [each.what for each in system.audit.entries()][-1] == "work order"
        system.audit.check()


async def test_a_result_that_proves_nothing_is_not_taken(street: Street) -> None:
    request = await street.on_site()
    with street.terminal() as terminal:
        (order,) = terminal.load(time.time(), [request.envelope])
        sent = terminal.sign(time.time(), order, "Tanaka")
    street.home.outcome = Code.OK
    good = await street.gate.take(sent, Way.TERMINAL)
    assert good is not None
    forger = MeterIdentity.from_device_key(bytes(32))
    forged = results.sign(results.peek(good), forger)
    rejected = await street.gate.take(b"nonsense", Way.TERMINAL)
    assert rejected is not None
    with street.system() as system:
        with pytest.raises(MeterError, match="the meter did not sign"):
            system.issuing.take(forged)
        with pytest.raises(MeterError, match="names no request"):
            system.issuing.take(rejected)
        with pytest.raises(MeterError):
            system.issuing.take(good[:-1])
        assert system.requests.find(request.id).state is State.ON_SITE
        assert system.issuing.take(good).state is State.DONE


async def test_a_refusal_of_the_meters_is_an_end_too(street: Street, capsys: Output) -> None:
    request = await street.on_site()
    street.home.outcome = Code.UNIT_ABSENT
    with street.terminal() as terminal:
        terminal.load(time.time(), [request.envelope])
    async with street.meter() as place:
        assert await away(field, street, "deliver", request.id, "--at", place, *TANAKA) == 1
    answer = street.file("a.result")
    assert field(street, "export", request.id, "--out", str(answer)) == 0
    assert await away(office, street, "take-result", str(answer)) == 1
    with street.system() as system:
        after = system.requests.find(request.id)
        assert (after.state, after.draft) == (State.REFUSED, None)


async def test_the_terminal_signs_who_brought_it_and_the_meter_demands_it(street: Street) -> None:
    request = await street.on_site()
    with street.terminal() as terminal:
        (order,) = terminal.load(time.time(), [request.envelope])
        at = time.time()
        message = terminal.sign(at, order, "Tanaka")
        with pytest.raises(UsageError, match="1 to 64 printable"):
            terminal.sign(at, order, "Tana\nka")
    unverified = unwrap(message)
    signed = unverified.verify(street.lab.signing_key("terminals/terminal-1").public)
    assert (signed.way, signed.carrier, signed.operator) == (Way.TERMINAL, "terminal-1", "Tanaka")
    assert signed.note == f"work order {request.id[:8]}"
    assert await street.gate.take(message, Way.CONTROL) is not None
    assert street.home.version == 0  # REJECTED: not by this way


async def test_an_answer_of_another_meter_or_order_is_no_answer(street: Street) -> None:
    request = await street.on_site()
    with street.terminal() as terminal:
        (order,) = terminal.load(time.time(), [request.envelope])
        sent = terminal.sign(time.time(), order, "Tanaka")
        said = await street.gate.take(sent, Way.TERMINAL)
        assert said is not None
        forged = results.sign(results.peek(said), MeterIdentity.from_device_key(bytes(32)))
        with pytest.raises(MeterError, match="did not sign this answer"):
            terminal.take(time.time(), order, "Tanaka", sent, forged)
        rejected = await street.gate.take(b"nonsense", Way.TERMINAL)
        assert rejected is not None
        with pytest.raises(MeterError, match="another message"):
            terminal.take(time.time(), order, "Tanaka", sent, rejected)
        result = results.peek(said)
        earlier = results.sign(replace(result, command_id=bytes(16)), METER_KEYS)
        with pytest.raises(MeterError, match="another order"):
            terminal.take(time.time(), order, "Tanaka", sent, earlier)
        neighbour = results.sign(replace(result, meter_id=SECOND), METER_KEYS)
        with pytest.raises(MeterError, match=f"this is meter {SECOND}"):
            terminal.take(time.time(), order, "Tanaka", sent, neighbour)
        assert terminal.answer(order) is None
        assert terminal.take(time.time(), order, "Tanaka", sent, said).verified is True
        assert [each.what for each in terminal.log.entries()] == [
            "loaded",
            "delivers",
            *["no answer"] * 4,
            "answer",
        ]


async def test_a_terminals_folder_stands_alone(street: Street, capsys: Output) -> None:
    """Copied to the terminal it needs nothing of the laboratory."""
    alone = street.file("van")
    shutil.copytree(street.lab.folder("terminals/terminal-1"), alone)
    request = await street.on_site()
    order = street.file("o.txt")
    with street.system() as system:
        system.work_orders.write(time.time(), MORI, request.id, order)

    def act(_: Street, *words: str) -> int:
        return _run(handheld, ["handheld", *words, "--folder", str(alone)])

    assert act(street, "load", str(order)) == 0
    async with street.meter() as place:
        assert await away(act, street, "deliver", request.id, "--at", place, *TANAKA, "--json") == 0
        told = json.loads(capsys.readouterr().out.partition("\n")[2])
        assert (told["answer"]["code"], told["answer"]["verified"]) == ("OK", None)
        (alone / "meters").mkdir()
        identity = identity_document(METER, METER_KEYS.public)
        (alone / "meters" / f"{METER}.json").write_bytes(identity)
        assert await away(act, street, "deliver", request.id, "--at", place, *TANAKA, "--json") == 0
        assert json.loads(capsys.readouterr().out)["answer"]["verified"] is True
    assert act(street, "log", "--check") == 0
    assert "none missing" in capsys.readouterr().out


async def test_the_diagnosis_is_read_and_cannot_harm_the_screen(
    street: Street, capsys: Output
) -> None:
    async with street.meter() as place:
        assert await away(field, street, "status", "--at", place, *TANAKA, "--meter", METER) == 0
        shown = capsys.readouterr().out
        assert "\x1b" not in shown
        assert "B-route       3 HEMS is" in shown
        assert await away(field, street, "status", "--at", place, *TANAKA, "--json") == 0
        assert json.loads(capsys.readouterr().out)["broute"]["message"] == 3
        with pytest.raises(MeterError, match=f"this is meter {METER}, and not {SECOND}"):
            await away(field, street, "status", "--at", place, *TANAKA, "--meter", SECOND)
    with street.terminal() as terminal:
        whats = [(each.what, each.subject, each.on_behalf_of) for each in terminal.log.entries()]
        assert whats == [("read status", METER, "Tanaka")] * 2


async def test_an_order_for_another_meter_is_not_given_to_this_one(street: Street) -> None:
    street.lab.enroll(SECOND, MeterIdentity.from_device_key(bytes(32)).public)
    with street.system() as system:
        system.register.add_meter(0, HARA, SECOND, "SP-1")
        request = await system.issuing.issue(
            "broute.set_credentials", SECOND, by=MORI, on_site=True
        )
    with street.terminal() as terminal:
        terminal.load(time.time(), [request.envelope])
    async with street.meter() as place:
        with pytest.raises(MeterError, match=f"this is meter {METER}, and not {SECOND}"):
            await away(field, street, "deliver", request.id, "--at", place, *TANAKA)
    assert street.gate.counters == {}


@contextlib.contextmanager
def typed(monkeypatch: pytest.MonkeyPatch, *lines: str) -> Iterator[None]:
    with monkeypatch.context() as patched:
        patched.setattr(sys, "stdin", io.StringIO("".join(f"{line}\n" for line in lines)))
        yield


async def test_a_scanner_types_parts_and_is_told_what_is_missing(
    street: Street, monkeypatch: pytest.MonkeyPatch, capsys: Output
) -> None:
    request = await street.on_site(reason="x" * 128)
    parts = split(request.envelope)
    assert len(parts) == 2, "an order that needs two codes"
    with typed(monkeypatch, parts[1]), pytest.raises(MeterError, match="part 1 of 2 is missing"):
        field(street, "load", "-")
    with typed(monkeypatch, "hello", parts[1].lower(), "", parts[1], parts[0], "never read"):
        assert field(street, "load", "-") == 0
    with typed(monkeypatch, "hello"), pytest.raises(MeterError, match="no code of a work order"):
        field(street, "load", "-")
    capsys.readouterr()
    assert field(street, "show") == 0
    assert capsys.readouterr().out.count("broute.set_credentials") == 1


def test_codes_that_hold_something_else_are_no_orders(street: Street) -> None:
    file = street.file("other.txt")
    file.write_text("\n".join(split(b"no envelope")))
    with pytest.raises(MeterError, match="hold no work order"):
        field(street, "load", str(file))
    file.write_text("nothing")
    with pytest.raises(MeterError, match="no code of a work order in it"):
        field(street, "load", str(file))


async def test_orders_are_found_forgotten_and_logged(street: Street, capsys: Output) -> None:
    request = await street.on_site()
    with street.terminal() as terminal:
        (order,) = terminal.load(time.time(), [request.envelope])
        assert terminal.load(time.time(), [request.envelope]) == [order]
        assert terminal.orders() == [order]
        assert str(request.envelope) not in repr(order)
        for beginning in ("", "3", request.id[:3], "zzzz", "*"):
            with pytest.raises(MeterError, match="no order's id begins"):
                terminal.find(beginning)
        with pytest.raises(MeterError, match="has not answered it yet"):
            terminal.export(time.time(), order, street.file("x"))
    assert field(street, "forget", request.id) == 0
    assert field(street, "show") == 0
    assert capsys.readouterr().out.endswith("no orders\n")
    with street.terminal() as terminal:
        assert [each.what for each in terminal.log.entries()] == ["loaded", "forgotten"]


async def test_the_terminals_log_shows_what_was_taken_out(street: Street) -> None:
    import sqlite3

    request = await street.on_site()
    with street.terminal() as terminal:
        terminal.load(time.time(), [request.envelope])
        terminal.sign(time.time(), terminal.find(request.id), "Tanaka")
    with sqlite3.connect(street.lab.folder("terminals/terminal-1") / "log.db") as database:
        database.execute("DROP TRIGGER audit_stays")
        database.execute("DELETE FROM audit WHERE number = 2")
    database.close()
    with pytest.raises(MeterError, match="entry 2 is missing"):
        field(street, "log", "--check")


def test_a_name_from_outside_reaches_no_other_file(street: Street) -> None:
    alone = street.file("van")
    shutil.copytree(street.lab.folder("terminals/terminal-1"), alone)
    (alone / "meters").mkdir()
    (street.file("evil.json")).write_bytes(identity_document("../../evil", METER_KEYS.public))
    with Terminal(alone) as terminal:
        order = Order("00" * 16, "../../evil", "broute.status", 0, b"")
        assert terminal._keys(order.meter) is None


@pytest.mark.parametrize(
    ("words", "says"),
    [
        (("show",), "which terminal"),
        (("show", "--lab", "x", "--folder", "y"), "which terminal"),
        (("show", "--folder", "y", "--terminal", "z"), "has its own"),
        (("deliver", "3f2a", "--at", "nowhere:x", *TANAKA, "--lab", "x"), "is no local port"),
    ],
)
def test_a_mistake_is_one_line(words: tuple[str, ...], says: str) -> None:
    with pytest.raises(UsageError, match=says) as wrong:
        _run(handheld, ["handheld", *words])
    assert "\n" not in str(wrong.value)


def test_a_lost_terminal_is_out_of_every_trust_file(street: Street, capsys: Output) -> None:
    from meter_runtime.cli import keys

    words = ["keys", "terminal", str(street.lab.path), "terminal-1", "--lost"]
    log = street.lab.folder("terminals/terminal-1") / "log.db"
    with street.terminal():
        assert log.exists()
    assert _run(keys, words) == 0
    assert "give each meter its trust file anew" in capsys.readouterr().out
    for file in (street.lab.trust_file, street.lab.meter(METER).trust):
        assert load_trust(file).carrier("terminal-1", Way.TERMINAL) is None
    assert not log.exists()
    assert (street.lab.path / "terminals" / ".lost-terminal-1" / "log.db").exists()
    with pytest.raises(UsageError, match="no terminal is called"):
        _run(keys, words)
    assert _run(keys, words[:-1]) == 0, "the name is free for its successor"
    with pytest.raises(UsageError, match="one of this name already"):
        _run(keys, words)


def test_another_roles_folder_is_no_terminal(street: Street) -> None:
    with pytest.raises(UsageError, match="not a terminal's certificate"):
        Terminal(street.lab.folder(SCS))


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("192.168.7.2", ("192.168.7.2", 8450)),
        ("meter.local:99", ("meter.local", 99)),
        ("[fe80::1]", ("fe80::1", 8450)),
        ("[fe80::1]:99", ("fe80::1", 99)),
    ],
)
def test_where_the_meter_is(text: str, place: tuple[str, int]) -> None:
    assert parse_place(text) == place


def test_every_action_explains_itself(capsys: Output) -> None:
    for module, actions in (
        (handheld, ("load", "show", "deliver", "status", "export", "forget", "log", "press")),
        (headend, ("work-order", "take-result")),
    ):
        name = module.__name__.rpartition(".")[2]
        for action in actions:
            with pytest.raises(SystemExit):
                _run(module, [name, action, "--help"])
            assert f"meter-runtime {name} {action}" in capsys.readouterr().out.split("example")[1]
