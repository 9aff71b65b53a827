"""Issuing: counters that never come twice, passwords that lie nowhere, answers that are proved."""

import asyncio
import signal
import sys
import textwrap
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hand_clock import HandClock
from new_system_room import ACCEPTED, HARA, METER, MORI, NOW, SECOND, Keys, Room

from meter_runtime.aroute import results
from meter_runtime.aroute.commands import Arguments, Code, SetCredentials
from meter_runtime.aroute.dispatch import Dispatch, Way, wrap
from meter_runtime.aroute.envelope import Command
from meter_runtime.aroute.gate import Gate, Outcome
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.aroute.trust import load_trust
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend import issuing, register_requests
from meter_runtime.headend.answers import MEANINGS
from meter_runtime.headend.lab import NEW_SYSTEM, SCS
from meter_runtime.headend.register_contracts import ContractRecord, Credentials
from meter_runtime.headend.register_requests import State
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import Journal
from meter_runtime.storage.media import MemoryMedia


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Room]:
    room = Room(tmp_path)
    yield room
    room.close()


def credentials(room: Room) -> Credentials:
    return room.system.credentials(room.system.register.meter(METER))


def counters_sent(room: Room) -> list[int]:
    return [room.meter.read(envelope).counter for envelope in room.relay.envelopes.values()]


async def test_credentials_go_to_the_meter_and_their_proof_comes_back(room: Room) -> None:
    assert credentials(room) is Credentials.NONE
    request = await room.issue()
    assert request.state is State.SENT
    assert credentials(room) is Credentials.ISSUED
    command = room.meter.read(room.relay.envelopes[request.id])
    assert (command.name, command.meter_id, command.issuer, command.counter) == (
        "broute.set_credentials",
        METER,
        NEW_SYSTEM,
        1,
    )
    assert command.not_before < NOW < command.expiry
    assert command.arguments["accepted_on"] == ACCEPTED.isoformat()
    assert command.arguments["id"] == room.system.register.meter(METER).route_b_id

    assert (await room.poll(request)).state is State.SENT
    room.relay.results[request.id] = room.meter.obey(request.envelope)
    answered = await room.poll(request)
    assert (answered.state, answered.code) == (State.DONE, Code.OK)
    assert credentials(room) is Credentials.CONFIRMED
    assert room.system.register.meter(METER).credential_version == 1


async def test_a_password_is_capital_letters_and_digits_and_never_the_same(room: Room) -> None:
    passwords = set()
    for _ in range(5):
        await room.settled()
        assert room.meter.link is not None
        passwords.add(room.meter.link.password.reveal())
    assert len(passwords) == 5
    assert all(len(each) == 12 for each in passwords)
    assert set("".join(passwords)) <= set(issuing.PASSWORD_ALPHABET)


async def test_the_password_lies_in_no_file(room: Room, caplog: pytest.LogCaptureFixture) -> None:
    """Database, write-ahead log, audit head, relay's spool: nothing has it in clear."""
    caplog.set_level("DEBUG")
    for _ in range(3):
        request = await room.settled()
        assert room.meter.link is not None
        password = room.meter.link.password.reveal()
        shown = [repr(request), caplog.text, *map(repr, room.system.audit.entries())]
        assert not any(password in each for each in shown)
        stored = [file.read_bytes() for file in room.folder.rglob("*") if file.is_file()]
        assert any(file.name.endswith("-wal") for file in room.folder.iterdir())
        for form in (password, password.lower(), password[::-1]):
            for content in (*stored, *room.relay.envelopes.values(), *room.relay.results.values()):
                assert form.encode() not in content
                assert form.encode().hex().encode() not in content
                assert form.encode("utf-16-le") not in content


async def test_a_retry_is_the_same_id_and_the_same_bytes(room: Room) -> None:
    room.relay.away = True
    request = await room.issue()
    assert request.state is State.PREPARED
    assert "cannot be reached" in request.said
    assert credentials(room) is Credentials.REQUESTED
    await room.system.issuing.poll()
    assert room.relay.puts == []
    room.relay.away = False
    room.restart()
    assert (await room.poll(request)).state is State.SENT
    assert room.relay.envelopes == {request.id: request.envelope}


async def test_a_new_attempt_takes_a_new_counter(room: Room) -> None:
    for _ in range(3):
        await room.settled()
        room.restart()
    assert counters_sent(room) == [1, 2, 3]
    assert len({request.id for request in room.system.requests.all()}) == 3


async def test_each_meter_has_its_own_counter(room: Room) -> None:
    """What one meter says of its counter must not use up another one's."""
    other = Keys(SECOND, room.meter.issuer_public, MeterIdentity.from_device_key(bytes(32)))
    room.lab.enroll(SECOND, other.identity.public)
    room.system.register.add_meter(NOW, HARA, SECOND, "SP-1")
    request = await room.issue("broute.status")
    command = room.meter.read(request.envelope)
    room.relay.results[request.id] = room.meter.answer(
        command, code=Code.STALE_COUNTER, details={"counter": register_requests.MAX_COUNTER}
    )
    await room.poll(request)
    with pytest.raises(MeterError, match="counter of issuer new-system is used up"):
        await room.issue("broute.status")
    untouched = await room.system.issuing.issue("broute.status", SECOND, by=MORI)
    assert untouched.counter == 1


async def test_one_change_of_credentials_at_a_time(room: Room) -> None:
    first = await room.issue()
    with pytest.raises(MeterError, match=f"set_credentials {first.id[:8]} is still open"):
        await room.issue("broute.rewrite_password")
    assert (await room.issue("broute.status")).state is State.SENT
    overtaking = await room.issue("broute.revoke")
    assert overtaking.counter > first.counter
    with pytest.raises(MeterError, match=r"broute\.revoke .* is still open"):
        await room.issue("broute.revoke")


async def test_a_refused_command_leaves_no_draft_and_the_way_is_free(room: Room) -> None:
    for code in set(Code) - {Code.OK, Code.STALE_COUNTER, Code.REJECTED}:
        request = await room.issue()
        command = room.meter.read(request.envelope)
        room.relay.results[request.id] = room.meter.answer(command, code=code)
        refused = await room.poll(request)
        assert (refused.state, refused.code) == (State.REFUSED, code)
        assert refused.said == MEANINGS[code]
        assert refused.draft is None
    assert credentials(room) is Credentials.NONE


async def test_a_rejected_command_is_known_without_its_id(room: Room) -> None:
    request = await room.issue()
    room.relay.results[request.id] = room.meter.answer(
        room.meter.read(request.envelope), code=Code.REJECTED, command_id=None
    )
    refused = await room.poll(request)
    assert (refused.state, refused.code) == (State.REFUSED, Code.REJECTED)


async def test_a_stale_counter_is_caught_up_with(room: Room) -> None:
    request = await room.issue()
    room.relay.results[request.id] = room.meter.answer(
        room.meter.read(request.envelope), code=Code.STALE_COUNTER, details={"counter": 41}
    )
    refused = await room.poll(request)
    assert refused.said == "the meter has seen counter 41; ours follows, issue it anew"
    assert (await room.issue()).counter == 42


async def test_a_counter_never_goes_back(room: Room) -> None:
    for _ in range(3):
        await room.settled()
    request = await room.issue()
    room.relay.results[request.id] = room.meter.answer(
        room.meter.read(request.envelope), code=Code.STALE_COUNTER, details={"counter": 2}
    )
    await room.poll(request)
    assert (await room.issue()).counter == 5


async def test_a_forged_answer_changes_nothing(room: Room) -> None:
    request = await room.issue()
    forger = Keys(METER, room.meter.issuer_public, MeterIdentity.from_device_key(bytes(32)))
    command = room.meter.read(request.envelope)
    room.relay.results[request.id] = forger.answer(command, proof=request.proof)
    looked_at = await room.poll(request)
    assert looked_at.state is State.SENT
    assert looked_at.said == "an answer came that the meter did not sign"
    assert looked_at.draft is not None
    entries = len(list(room.system.audit.entries()))
    await room.poll(request)
    assert len(list(room.system.audit.entries())) == entries


async def test_forged_answers_do_not_keep_a_request_open_for_ever(room: Room) -> None:
    request = await room.issue()
    room.relay.results[request.id] = b"forged"
    room.now = request.expiry + issuing.ANSWER_GRACE_S + 1
    assert (await room.poll(request)).state is State.UNKNOWN
    room.relay.results[request.id] = room.meter.obey(request.envelope)
    assert (await room.poll(request)).state is State.DONE


@pytest.mark.parametrize(
    "changes", [{"command_id": bytes(16)}, {"command_id": None}], ids=["another", "none"]
)
async def test_a_true_answer_to_another_command_changes_nothing(
    room: Room, changes: dict[str, Any]
) -> None:
    request = await room.issue()
    room.relay.results[request.id] = room.meter.obey(request.envelope, **changes)
    looked_at = await room.poll(request)
    assert looked_at.state is State.SENT
    assert looked_at.said == "an answer came that is of another command"


async def test_a_wrong_proof_is_no_confirmation(room: Room) -> None:
    request = await room.issue()
    command = room.meter.read(request.envelope)
    for proof in (bytes(16), None):
        room.relay.results[request.id] = room.meter.answer(command, proof=proof)
        unproven = await room.poll(request)
        assert unproven.state is State.UNPROVEN
        assert unproven.draft is None
        assert credentials(room) is Credentials.NONE


async def test_no_answer_in_time_is_unknown_and_a_late_one_still_counts(room: Room) -> None:
    request = await room.issue()
    room.now = request.expiry + issuing.ANSWER_GRACE_S
    assert (await room.poll(request)).state is State.SENT
    room.now += 1
    unknown = await room.poll(request)
    assert unknown.state is State.UNKNOWN
    assert "ask broute.status" in unknown.said
    assert credentials(room) is Credentials.NONE
    room.relay.results[request.id] = room.meter.obey(request.envelope)
    assert (await room.poll(request)).state is State.DONE
    assert credentials(room) is Credentials.CONFIRMED


async def test_what_stays_unknown_keeps_no_draft_for_ever(room: Room) -> None:
    request = await room.issue()
    room.now = request.expiry + issuing.ANSWER_GRACE_S + 1
    assert (await room.poll(request)).draft is not None
    room.now = request.expiry + issuing.LATE_ANSWER_S + 1
    assert (await room.poll(request)).draft is None


async def test_a_late_answer_does_not_undo_a_later_command(room: Room) -> None:
    early = await room.issue()
    room.now = early.expiry + issuing.ANSWER_GRACE_S + 1
    await room.poll(early)
    late_answer = room.meter.obey(early.envelope)
    later = await room.issue("broute.rewrite_password")
    room.relay.results[later.id] = room.meter.obey(later.envelope)
    assert (await room.poll(later)).state is State.DONE
    room.relay.results[early.id] = late_answer
    superseded = await room.poll(early)
    assert superseded.state is State.SUPERSEDED
    assert superseded.draft is None
    assert room.system.register.meter(METER).credential_version == 2


async def test_the_home_that_joins_makes_them_active(room: Room, tmp_path: Path) -> None:
    request = await room.settled()
    room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")
    assert credentials(room) is Credentials.POSTED
    for message, state in ((2, Credentials.POSTED), (1, Credentials.ACTIVE)):
        asked = await room.issue("broute.status")
        room.relay.results[asked.id] = room.meter.obey(asked.envelope, diagnosis=message)
        await room.poll(asked)
        assert credentials(room) is state


async def test_a_revocation_ends_them_and_their_letter(room: Room, tmp_path: Path) -> None:
    request = await room.settled()
    await room.settled("broute.revoke")
    assert credentials(room) is Credentials.REVOKED
    assert room.system.requests.find(request.id).state is State.SUPERSEDED
    with pytest.raises(MeterError, match="superseded"):
        room.system.letters.post(NOW, MORI, request.id, tmp_path / "letter.txt")
    with pytest.raises(MeterError, match=r"issue broute\.set_credentials"):
        await room.issue("broute.rewrite_password")


async def test_a_new_customer_brings_a_new_day_with_the_password(room: Room) -> None:
    await room.settled()
    register = room.system.register
    register.end_contract(NOW, HARA, "C-1001")
    with pytest.raises(MeterError, match="SP-1 has no contract in force"):
        await room.issue("broute.rewrite_password")
    register.add_contract(NOW, HARA, ContractRecord("C-1002", "Ueda Ken", "SP-1"))
    with pytest.raises(MeterError, match="no application for the B-route was accepted"):
        await room.issue("broute.rewrite_password")
    moved_in = ACCEPTED.replace(day=20)
    register.apply_for_broute(NOW, HARA, "C-1002", moved_in)
    request = await room.settled("broute.rewrite_password")
    arguments = room.meter.read(request.envelope).arguments
    assert arguments["accepted_on"] == moved_in.isoformat()
    assert register.meter(METER).contract == "C-1002"


async def test_nobody_chooses_a_password(room: Room) -> None:
    with pytest.raises(UsageError, match="takes no arguments here"):
        await room.system.issuing.issue(
            "broute.set_credentials", METER, by=MORI, arguments={"password": "ABCDEFGHIJKL"}
        )
    assert room.system.requests.all() == []


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"name": "broute.setcredentials"}, 'did you mean "broute.set_credentials"'),
        ({"meter_id": "M-0007"}, 'no meter "M-0007" is registered'),
        ({"valid_s": 0}, "1 second to 30 days"),
        ({"valid_s": 31 * 86_400}, "1 second to 30 days"),
        ({"reason": "x" * 129}, "at most 128"),
        ({"reason": "a\nb"}, "printable"),
    ],
)
async def test_a_mistake_is_told_and_costs_no_counter(
    room: Room, changes: dict[str, Any], said: str
) -> None:
    wanted = {"name": "broute.status", "meter_id": METER, "by": MORI} | changes
    with pytest.raises(MeterError, match=said):
        await room.system.issuing.issue(**wanted)
    assert (await room.issue("broute.status")).counter == 1


async def test_a_meter_without_enrolled_keys_is_told_nothing(room: Room) -> None:
    room.system.register.add_meter(NOW, HARA, SECOND, "SP-1")
    with pytest.raises(MeterError, match=f"{SECOND}: its keys are not enrolled"):
        await room.system.issuing.issue("broute.status", SECOND, by=MORI)


async def test_a_request_is_named_by_how_its_id_begins(room: Room) -> None:
    request = await room.issue("broute.status")
    requests = room.system.requests
    for beginning in (request.id, request.id[:4], request.id[:9].upper()):
        assert requests.find(beginning).id == request.id
    for wrong in (request.id[:3], "", "%%%%", request.id[:4] + "g", request.id + "0"):
        with pytest.raises(MeterError, match="no request's id begins with"):
            requests.find(wrong)


async def test_two_programs_at_once_issue_one_change(room: Room) -> None:
    other = room.open()
    await room.issue()
    with pytest.raises(MeterError, match="still open"):
        await other.issuing.issue("broute.set_credentials", METER, by=MORI)
    status = await other.issuing.issue("broute.status", METER, by=MORI)
    assert status.counter == 2
    other.close()


@dataclass
class Obeying:
    """What a meter does behind its gate, as far as the answer tells."""

    link: LinkCredentials | None = None
    versions: int = 0

    async def apply(self, command: Command, arguments: Arguments) -> Outcome:
        if not isinstance(arguments, SetCredentials):
            return Outcome(Code.NOT_PERMITTED, {"reason": "not in service"})
        self.link = LinkCredentials(arguments.id, arguments.password)
        self.versions += 1
        return Outcome(Code.OK)

    def proof(self, arguments: Arguments) -> bytes | None:
        if not isinstance(arguments, SetCredentials):
            return None
        link = LinkCredentials(arguments.id, arguments.password)
        return results.proof_of(arguments.proof_key, link)

    def settle(self, name: str, before: int, counter: int) -> Outcome:
        return Outcome(Code.STORE_FAILED)


class GatedMeter:
    """A meter with the real gate, to whom the control side brings what is at the relay."""

    def __init__(self, room: Room) -> None:
        self.obeying = Obeying()
        self._room = room
        clock = HandClock()
        clock.offset = NOW - clock.at
        self._gate = Gate(
            METER,
            room.meter.identity,
            load_trust(room.lab.trust_file),
            IssuerLedger.open(MemoryMedia(IssuerLedger.size_for(1)), bytes(32)),
            Journal.open(MemoryMedia(Journal.size_for(64, 1))),
            applier=self.obeying,
            clock=clock,
            credential_version=lambda: self.obeying.versions,
            diagnosis=lambda: None,
        )

    async def serve(self) -> None:
        """Every request that waits at the relay is answered."""
        key = self._room.lab.signing_key(SCS)
        for request_id, envelope in self._room.relay.envelopes.items():
            if request_id not in self._room.relay.results:
                dispatch = Dispatch(SCS, Way.CONTROL, NOW, "", "", envelope)
                answer = await self._gate.take(wrap(dispatch, key), Way.CONTROL)
                assert answer is not None
                self._room.relay.results[request_id] = answer


async def test_the_meters_own_gate_obeys_and_its_answers_are_believed(room: Room) -> None:
    meter = GatedMeter(room)
    request = await room.issue()
    await meter.serve()
    assert (await room.poll(request)).state is State.DONE
    assert meter.obeying.link is not None
    assert meter.obeying.link.route_b_id == room.system.register.meter(METER).route_b_id

    refused = await room.issue("broute.rewrite_password")
    await meter.serve()
    answered = await room.poll(refused)
    assert (answered.state, answered.code) == (State.REFUSED, Code.NOT_PERMITTED)
    assert credentials(room) is Credentials.CONFIRMED


async def test_a_register_restored_from_an_old_copy_catches_up_with_the_meter(room: Room) -> None:
    meter = GatedMeter(room)
    room.system.close()
    copy = {file: file.read_bytes() for file in room.folder.iterdir() if file.is_file()}
    room.system = room.open()
    await room.issue()
    await meter.serve()
    room.system.close()
    for file, content in copy.items():
        file.write_bytes(content)
    room.system = room.open()
    stale = await room.issue()
    assert stale.counter == 1
    await meter.serve()
    assert (await room.poll(stale)).code == Code.STALE_COUNTER
    again = await room.issue()
    await meter.serve()
    assert (await room.poll(again)).state is State.DONE


_KILLED = textwrap.dedent(
    """
    import asyncio, os, signal, sys
    from pathlib import Path
    from meter_runtime.headend.lab import Lab
    from meter_runtime.headend.new_system import NewSystem

    class Relay:
        async def put(self, request_id, envelope, *, meter_id, expiry):
            if {before}:
                os.kill(os.getpid(), signal.SIGKILL)
            Path(sys.argv[2]).joinpath(request_id).write_bytes(envelope)
            os.kill(os.getpid(), signal.SIGKILL)

        async def result(self, request_id):
            return None

    with NewSystem.open(Lab.open(Path(sys.argv[1])), relay=Relay()) as system:
        asyncio.run(
            system.issuing.issue("broute.rewrite_password", "{meter}", by="{by}")
        )
    """
)


@pytest.mark.parametrize("before", [True, False], ids=["before the put", "after the put"])
async def test_a_kill_around_the_put_uses_no_counter_twice(
    room: Room, tmp_path: Path, *, before: bool
) -> None:
    """The process is killed, not asked to end: what it had stored is all that is left."""
    room.now = time.time()  # the other process has the real time
    await room.settled()
    room.system.close()
    arrived = tmp_path / "arrived"
    arrived.mkdir()
    program = _KILLED.format(before=before, meter=METER, by=MORI)
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-c", program, str(room.lab.path), str(arrived)
    )
    assert await asyncio.wait_for(process.wait(), 60) == -signal.SIGKILL
    room.system = room.open()
    (request,) = [each for each in room.system.requests.all() if each.state is State.PREPARED]
    assert request.counter == 2
    for file in arrived.iterdir():
        assert (file.name, file.read_bytes()) == (request.id, request.envelope)

    again = await room.poll(request)
    assert again.state is State.SENT
    assert room.relay.envelopes[request.id] == request.envelope
    room.relay.results[request.id] = room.meter.obey(request.envelope)
    assert (await room.poll(request)).state is State.DONE
    assert (await room.issue()).counter == 3
    room.system.audit.check()
