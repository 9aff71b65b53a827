"""The local port: who is let in and when, what is said, and what nobody can do to the meter."""

import asyncio
import contextlib
import json
import ssl
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from gate_room import METER, METER_ID, REWRITE, Room, carried, reading, sealed
from hand_clock import HandClock
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.aroute import local_port, presence
from meter_runtime.aroute.cbor import MalformedError
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Way
from meter_runtime.aroute.envelope import Command
from meter_runtime.aroute.events import CommandDone
from meter_runtime.aroute.local_frames import (
    ANSWERS,
    ASKS,
    HEADER_BYTES,
    MAX_ANSWERED,
    MAX_ASKED,
    Frame,
    FrameReader,
    Kind,
)
from meter_runtime.aroute.local_port import (
    IDLE_S,
    MAX_ASKED_PER_SESSION,
    PAUSE_S,
    SESSION_S,
    LocalPort,
    parse_listen,
)
from meter_runtime.aroute.local_status import local_status
from meter_runtime.aroute.presence import (
    HOLD_S,
    WINDOW_S,
    LocalPortOpened,
    Presence,
    TerminalConnected,
)
from meter_runtime.aroute.results import read
from meter_runtime.aroute.trust import load_trust
from meter_runtime.bench.board.gpio import VirtualGpio
from meter_runtime.clock import Trust
from meter_runtime.comm.mqtt import TlsFiles
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.events import EventBus
from meter_runtime.headend.certificates import Authority, Unit
from meter_runtime.headend.handheld_link import MeterLink, RefusedError, connect
from meter_runtime.headend.lab import NEW_SYSTEM, RELAY, SCS, Lab
from meter_runtime.units.board_profiles import load_profile, profile_names
from meter_runtime.units.gpio import InputLine, LineSpec

TERMINAL = "terminal-1"
BUTTON = LineSpec("virtual", 26, active_low=True, pull="up")
PATIENCE_S = 20.0
SECRETS = {"forward_wh": 1234.5, "password": "Q7XK2M9RTB4C", "peer": "fe80::1"}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Lab:
    lab = Lab.create(tmp_path_factory.mktemp("local-port") / "lab")
    lab.enroll(METER_ID, METER.public)
    return lab


class Doorstep:
    """A meter with its local port and its button, and whoever stands before it."""

    def __init__(
        self,
        lab: Lab,
        *,
        always: bool = False,
        listen: tuple[str, int] = ("127.0.0.1", 0),
        tls: TlsFiles | None = None,
    ) -> None:
        self.lab = lab
        trust = load_trust(lab.trust_file)
        self.room = Room(trust)
        self.clock: HandClock = self.room.clock
        self.bus = EventBus()
        self.gpio = VirtualGpio(self.clock, {"virtual": 32})
        self.told: list[object] = []
        for kind in (LocalPortOpened, TerminalConnected, CommandDone):
            self.bus.subscribe(kind, self.told.append)
        self.port = LocalPort(
            self.room.gate,
            trust,
            listen,
            tls or lab.meter(METER_ID).tls,
            status=lambda: {"meter_id": METER_ID},
            open_button=None if always else self._open_button,
            clock=self.clock,
            bus=self.bus,
        )

    def _open_button(self) -> InputLine:
        return self.gpio.input(BUTTON, edges=True, debounce_us=local_port.HOLD_US)

    async def hold_button(self, seconds: float = HOLD_S + 0.1) -> None:
        wire = self.gpio.wire(BUTTON.chip, BUTTON.offset)
        wire.drive(False)
        await self.clock.advance(seconds)
        wire.drive(None)
        await self.clock.advance(HOLD_S + 0.1)

    async def address(self) -> tuple[str, int]:
        await until(lambda: self.port.address is not None)
        assert self.port.address is not None
        return self.port.address

    @contextlib.asynccontextmanager
    async def visit(self, tls: TlsFiles | None = None) -> AsyncIterator[MeterLink]:
        tls = tls or self.lab.tls(f"terminals/{TERMINAL}")
        async with connect(await self.address(), tls, METER_ID) as link:
            yield link

    def order(self, command: Command = REWRITE, **changes: Any) -> bytes:
        """What the terminal says at the port: signed by the laboratory's keys."""
        told = replace(command, issuer=NEW_SYSTEM, **changes)
        return carried(
            sealed(told, by=self.lab.issuer_key(NEW_SYSTEM, METER_ID)),
            carrier=TERMINAL,
            way=Way.TERMINAL,
            by=self.lab.signing_key(f"terminals/{TERMINAL}"),
        )


@contextlib.asynccontextmanager
async def serving(doorstep: Doorstep) -> AsyncIterator[Doorstep]:
    task = asyncio.create_task(doorstep.port.run())
    await asyncio.sleep(0.01)
    try:
        yield doorstep
    finally:
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


async def test_a_command_is_brought_and_its_signed_result_taken_away(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door, door.visit() as link:
        assert link.meter == METER_ID
        result = read(await link.command(door.order()), METER.public.signing)
        assert (result.code, result.command_id) == (Code.OK, REWRITE.command_id)
        assert [each.name for each in door.room.hands.applied] == ["broute.rewrite_password"]
        assert CommandDone(REWRITE.command_id, Code.OK) in door.told


async def test_a_command_that_is_brought_twice_is_obeyed_once(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door:
        async with door.visit() as link:
            first = await link.command(door.order())
        async with door.visit() as link:
            assert await link.command(door.order()) == first
        assert len(door.room.hands.applied) == 1


async def test_what_the_control_side_signed_is_no_terminals(lab: Lab) -> None:
    """A terminal needs its own signature, and one for this way."""
    told = replace(REWRITE, issuer=NEW_SYSTEM)
    envelope = sealed(told, by=lab.issuer_key(NEW_SYSTEM, METER_ID))
    by_scs = carried(envelope, carrier=SCS, way=Way.CONTROL, by=lab.signing_key(SCS))
    async with serving(Doorstep(lab, always=True)) as door, door.visit() as link:
        for message in (by_scs, envelope, b"", b"\xff" * 4096):
            result = read(await link.command(message), METER.public.signing)
            assert (result.code, result.command_id) == (Code.REJECTED, None)
        assert door.room.hands.applied == []


async def test_beyond_a_few_refusals_the_meter_says_nothing(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door, door.visit() as link:
        for _ in range(5):
            assert read(await link.command(b"x"), METER.public.signing).code is Code.REJECTED
        with pytest.raises(RefusedError, match="says nothing"):
            await link.command(b"x")
        # Whoever is authentic is heard all the same.
        assert read(await link.command(door.order()), METER.public.signing).code is Code.OK


async def test_without_the_button_nobody_gets_in(lab: Lab) -> None:
    async with serving(Doorstep(lab)) as door:
        await door.hold_button(HOLD_S / 2)
        assert door.port.address is None
        assert door.port.report()["open"] is False
        await door.hold_button()
        where = await door.address()
        async with door.visit() as link:
            assert await link.status() == {"meter_id": METER_ID}
        assert door.port.report()["open"] is True
        await door.clock.advance(WINDOW_S)
        await until(lambda: door.port.address is None)
        with pytest.raises(MeterError, match="hold the meter's button"):
            async with connect(where, lab.tls(f"terminals/{TERMINAL}")):
                pass
        assert door.told.count(LocalPortOpened()) == 1


async def test_the_button_opens_it_again_and_keeps_it_open(lab: Lab) -> None:
    async with serving(Doorstep(lab)) as door:
        await door.hold_button()
        await door.address()
        await door.clock.advance(WINDOW_S - 60)
        await door.hold_button()
        await door.clock.advance(120)
        async with door.visit() as link:
            await link.status()
        await door.clock.advance(WINDOW_S)
        await asyncio.sleep(0.05)
        assert door.port.address is None
        await door.hold_button()
        async with door.visit() as link:
            await link.status()


async def test_a_button_that_is_stuck_does_not_keep_it_open(lab: Lab) -> None:
    async with serving(Doorstep(lab)) as door:
        door.gpio.wire(BUTTON.chip, BUTTON.offset).drive(False)
        await door.clock.advance(HOLD_S + 0.1)
        await door.address()
        await door.clock.advance(WINDOW_S + 1)
        await asyncio.sleep(0.05)
        assert door.port.report()["open"] is False


@pytest.mark.parametrize("role", [NEW_SYSTEM, SCS, "mdms"])
async def test_who_is_no_terminal_is_not_let_in(lab: Lab, role: str) -> None:
    async with serving(Doorstep(lab, always=True)) as door:
        with pytest.raises(RefusedError, match="of no terminal that is known"):
            async with door.visit(lab.tls(role)) as link:
                await link.status()
        await until(lambda: door.port.report()["counters"] == {"refused": 1})


async def test_a_terminal_that_the_trust_file_lost_is_not_let_in(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door:
        lab.add_terminal("stolen-1")  # the meter's trust was read before
        with pytest.raises(RefusedError, match="of no terminal that is known"):
            async with door.visit(lab.tls("terminals/stolen-1")) as link:
                await link.status()


async def test_a_terminals_name_alone_does_not_let_in(lab: Lab, tmp_path: Path) -> None:
    """By the authority, but of another kind: what a meter's stolen certificate could pretend."""
    Authority.open(lab.ca.parent).issue(tmp_path, "tls", TERMINAL, Unit.METER)
    pretending = TlsFiles(lab.ca, tmp_path / "tls.pem", tmp_path / "tls.key")
    async with serving(Doorstep(lab, always=True)) as door:
        with pytest.raises(RefusedError, match="of no terminal that is known"):
            async with door.visit(pretending) as link:
                await link.status()


async def test_a_server_of_the_laboratory_that_is_no_meter_is_not_talked_to(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True, tls=lab.tls(RELAY))) as door:
        with pytest.raises(MeterError, match='"relay" is no meter'):
            async with door.visit() as link:
                await link.status()


@pytest.mark.parametrize("name", [each for each in profile_names() if each != "generic"])
def test_every_board_has_a_button_on_a_line_of_its_own(name: str) -> None:
    board = load_profile(name)
    others = [
        line for slot in board.slots for line in (slot.presence, *slot.lines.values()) if line
    ]
    assert board.button is not None
    assert board.button.active_low
    assert board.button.offset not in {line.offset for line in others}


async def test_another_laboratorys_terminal_gets_no_tls(lab: Lab, tmp_path: Path) -> None:
    other = Lab.create(tmp_path / "lab")
    own = other.tls(f"terminals/{TERMINAL}")
    mixed = TlsFiles(lab.ca, own.certificate, own.key)
    async with serving(Doorstep(lab, always=True)) as door:
        with pytest.raises(MeterError, match=r"does not accept|connection broke"):
            async with door.visit(mixed) as link:
                await link.status()
        await until(lambda: door.port.report()["counters"] == {"refused": 1})
        await door.clock.advance(PAUSE_S)
        with pytest.raises(MeterError, match="no meter of this terminal's laboratory"):
            async with door.visit(own) as link:
                await link.status()


async def test_a_terminal_knows_which_meter_it_talks_to(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door:
        tls = lab.tls(f"terminals/{TERMINAL}")
        with pytest.raises(MeterError, match=f"this is meter {METER_ID}, and not M-2"):
            async with connect(await door.address(), tls, "M-2"):
                pass


async def test_after_a_stranger_the_next_one_waits_a_moment(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door:
        with contextlib.suppress(MeterError):
            async with door.visit(lab.tls(SCS)) as link:
                await link.status()
        waiting = asyncio.create_task(_status(door))
        await asyncio.sleep(0.1)
        assert not waiting.done()
        await door.clock.advance(PAUSE_S)
        assert await waiting == {"meter_id": METER_ID}


async def test_one_terminal_at_a_time(lab: Lab) -> None:
    lab_tls = lab.tls(f"terminals/{TERMINAL}")
    async with serving(Doorstep(lab, always=True)) as door:
        async with door.visit(lab_tls) as first:
            second = asyncio.create_task(_status(door))
            await asyncio.sleep(0.1)
            assert not second.done()
            await first.status()
        assert await second == {"meter_id": METER_ID}


async def test_a_terminal_that_says_nothing_is_dropped(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door, door.visit() as link:
        await link.status()
        await door.clock.advance(IDLE_S + 1)
        with pytest.raises(MeterError, match="connection broke"):
            await link.status()


async def test_a_terminal_does_not_stay_for_ever(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door, door.visit() as link:
        for _ in range(int(SESSION_S / 20)):
            await link.status()
            await door.clock.advance(20)
        with pytest.raises(MeterError, match="connection broke"):
            await link.status()


async def test_a_session_has_a_bounded_number_of_questions(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door, door.visit() as link:
        for _ in range(MAX_ASKED_PER_SESSION):
            await link.status()
        with pytest.raises(MeterError, match=r"connect again|connection broke"):
            await link.status()


async def test_who_pulls_the_cable_does_not_cut_the_command_off(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door:
        door.room.hands.hold = asyncio.Event()
        message = door.order()
        async with door.visit() as link:
            asking = asyncio.create_task(link.command(message))
            await until(lambda: door.room.hands.applied)
            asking.cancel()
        door.room.hands.hold.set()
        async with door.visit() as link:
            assert read(await link.command(message), METER.public.signing).code is Code.OK
        assert len(door.room.hands.applied) == 1


async def test_a_command_that_takes_long_is_asked_for_again(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door, door.visit() as link:
        door.room.hands.hold = asyncio.Event()
        asking = asyncio.create_task(link.command(door.order()))
        await until(lambda: door.room.hands.applied)
        await door.clock.advance(local_port.ANSWER_S)
        with pytest.raises(RefusedError, match="still at it"):
            await asking
        door.room.hands.hold.set()
        await asyncio.sleep(0.05)
        assert read(await link.command(door.order()), METER.public.signing).code is Code.OK


async def test_rubbish_inside_of_tls_ends_the_session_and_nothing_else(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door:
        context = lab.tls(f"terminals/{TERMINAL}").context()
        context.check_hostname = False
        for rubbish in (b"GET / HTTP/1.1\r\n\r\n", bytes([Kind.RESULT, 0, 0]), b"\x01\xff\xff"):
            reader, writer = await asyncio.open_connection(*await door.address(), ssl=context)
            writer.write(rubbish)
            async with asyncio.timeout(PATIENCE_S):
                assert await reader.read() == b""
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
        assert door.port.report()["counters"]["malformed"] == 3
        assert await _status(door) == {"meter_id": METER_ID}


async def test_who_speaks_no_tls_is_not_answered(lab: Lab) -> None:
    async with serving(Doorstep(lab, always=True)) as door:
        reader, writer = await asyncio.open_connection(*await door.address())
        writer.write(b"hello\r\n\r\n")
        async with asyncio.timeout(PATIENCE_S):
            with contextlib.suppress(OSError):
                assert b"hello" not in await reader.read()
        writer.close()
        await until(lambda: door.port.report()["counters"].get("refused"))
        await door.clock.advance(PAUSE_S)
        assert await _status(door) == {"meter_id": METER_ID}


async def test_a_meter_without_a_clock_lets_in_whoever_comes_to_set_it(lab: Lab) -> None:
    door = Doorstep(lab, always=True)
    door.clock.trust = Trust.UNSET
    context = door.port._context()
    assert context.verify_flags & 0x200000
    door.clock.trust = Trust.COARSE
    assert not door.port._context().verify_flags & 0x200000
    assert context.minimum_version is ssl.TLSVersion.TLSv1_3
    assert context.verify_mode is ssl.CERT_REQUIRED


async def test_a_reading_is_permitted_by_the_same_authority_as_from_afar(lab: Lab) -> None:
    """The local port is a way, not a right: this issuer may not read registers."""
    async with serving(Doorstep(lab, always=True)) as door, door.visit() as link:
        result = read(await link.command(door.order(reading())), METER.public.signing)
        assert result.code is Code.NOT_PERMITTED


def test_the_diagnosis_tells_nothing_of_the_home() -> None:
    clock = HandClock()
    broute = {"in_service": True, "message": 3, "session": SECRETS, "counters": {}, **SECRETS}
    inventory = {"units": {"metering": {"state": "fitted"}}, "findings": ["U-21"]}
    told = local_status(METER_ID, clock, broute, inventory)
    assert told["broute"] == {"in_service": True, "message": 3}
    text = json.dumps(told)
    assert not any(str(value) in text for value in SECRETS.values())


def test_certificates_that_cannot_be_used_are_told_at_once(lab: Lab, tmp_path: Path) -> None:
    door = Doorstep(lab)
    door.port.check()
    assert door.port.address is None
    tls = replace(lab.meter(METER_ID).tls, key=tmp_path / "none.key")
    with pytest.raises(UsageError, match="cannot be read"):
        Doorstep(lab, tls=tls).port.check()


async def test_an_address_that_is_not_there_stops_nothing_before_the_button(lab: Lab) -> None:
    """The terminal may bring the network; until then the meter has nothing to complain of."""
    door = Doorstep(lab, listen=("203.0.113.1", 8450))
    door.port.check()
    running = asyncio.create_task(door.port.run())
    await asyncio.sleep(0.01)
    assert not running.done()
    await door.hold_button()
    with pytest.raises(MeterError, match=r"203\.0\.113\.1 port 8450.*look at the network"):
        await running  # the supervisor starts it again, and presence is remembered
    assert door.port.report()["open"] is True


@pytest.mark.parametrize(
    ("text", "place"),
    [
        ("0.0.0.0:8450", ("0.0.0.0", 8450)),  # noqa: S104 - what a person writes
        ("[::]:8450", ("::", 8450)),
        ("192.168.7.2:0", ("192.168.7.2", 0)),
        ("[fe80::1%lo]:8450", ("fe80::1%lo", 8450)),
    ],
)
def test_where_to_listen(text: str, place: tuple[str, int]) -> None:
    assert parse_listen(text) == place


@pytest.mark.parametrize(
    "text",
    ["", "8450", ":8450", "::1", "host:8450", "1.2.3.4", "1.2.3.4:", "1.2.3.4:x", "1.2.3.4:65536"],
)
def test_where_not_to_listen(text: str) -> None:
    with pytest.raises(UsageError, match="write ADDRESS:PORT"):
        parse_listen(text)


@given(st.lists(st.floats(0, 2000), max_size=8), st.floats(0, 4000))
def test_it_is_open_for_a_while_after_the_last_press(presses: list[float], now: float) -> None:
    window = Presence()
    before = sorted(at for at in presses if at <= now)
    for at in before:
        window.pressed(at)
    expected = bool(before) and now < before[-1] + presence.WINDOW_S
    assert (window.left_s(now) > 0) is expected


frames = st.sampled_from(sorted(ASKS)).flatmap(
    lambda kind: st.builds(Frame, st.just(kind), st.binary(max_size=300))
)


@given(st.lists(frames, max_size=4), st.data())
def test_frames_come_out_as_they_went_in_however_they_are_cut(
    sent: list[Frame], data: st.DataObject
) -> None:
    line = b"".join(map(bytes, sent))
    reader, received = FrameReader(asks=True), []
    while line:
        size = data.draw(st.integers(1, len(line)))
        reader.take(line[:size])
        line = line[size:]
        while (frame := reader.next()) is not None:
            received.append(frame)
    assert received == sent
    assert reader.idle


def test_a_frame_that_is_cut_short_is_none_yet() -> None:
    whole = bytes(Frame(Kind.COMMAND, b"abc"))
    for size in range(len(whole)):
        reader = FrameReader(asks=True)
        for byte in whole[:size]:
            reader.take(bytes([byte]))
            assert reader.next() is None
        assert reader.idle is (size == 0)


@given(st.binary(min_size=HEADER_BYTES, max_size=64))
def test_whatever_comes_is_a_frame_or_ends_the_line(data: bytes) -> None:
    reader = FrameReader(asks=True)
    reader.take(data)
    try:
        frame = reader.next()
    except MalformedError:
        assert data[0] not in ASKS or int.from_bytes(data[1:3], "big") > MAX_ASKED
    else:
        assert frame is None or bytes(frame) == data[: HEADER_BYTES + len(frame.body)]


def test_neither_side_takes_the_others_part() -> None:
    for asks, kinds in ((True, ANSWERS), (False, ASKS)):
        for kind in kinds:
            reader = FrameReader(asks=asks)
            reader.take(bytes(Frame(kind)))
            with pytest.raises(MalformedError):
                reader.next()


def test_what_is_too_long_is_not_sent() -> None:
    for kind, most in ((Kind.COMMAND, MAX_ASKED), (Kind.DOCUMENT, MAX_ANSWERED)):
        assert bytes(Frame(kind, bytes(most)))
        with pytest.raises(ValueError, match="too long"):
            bytes(Frame(kind, bytes(most + 1)))


async def until(true: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not true():  # noqa: ASYNC110 - a real socket's doing
            await asyncio.sleep(0.01)


async def _status(door: Doorstep) -> dict[str, Any]:
    async with door.visit() as link:
        return await link.status()
