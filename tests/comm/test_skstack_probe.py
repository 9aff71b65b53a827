"""Detection of a Wi-SUN module on the slot's UART, over real ports and the virtual modules."""

import asyncio
import contextlib
import os
import random
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from scripted_module import MAC as SCRIPTED_MAC
from scripted_module import ScriptedModule

from meter_runtime import config as cfg
from meter_runtime import runtime
from meter_runtime.bench.air import FAST, Air
from meter_runtime.bench.board.virtual_board import VirtualBoard
from meter_runtime.bench.laboratory import DEVICE_KEY
from meter_runtime.bench.module.core import VirtualModule
from meter_runtime.bench.module.port import LineFault, ModulePort
from meter_runtime.bench.module.profiles import PROFILES, parse_module_option
from meter_runtime.bench.module.uart import UartWrite
from meter_runtime.bench.options import BenchOptions
from meter_runtime.comm.contracts import LinkStarted
from meter_runtime.comm.ports import open_port
from meter_runtime.comm.pty import PtyPort
from meter_runtime.comm.skstack.dialects import DSE, SE, Dialect
from meter_runtime.comm.skstack.probe import BOUND_S, MAX_HEARD, Interview, detect
from meter_runtime.comm.skstack.unit import DRIVER
from meter_runtime.errors import MeterError
from meter_runtime.system_clock import SystemClock
from meter_runtime.units import catalogue
from meter_runtime.units.board import NoSuchWire, Wires
from meter_runtime.units.contracts import BRouteMedium, Nameplate, UnitFailure, UnitKind
from meter_runtime.units.discovery import Presence, SlotFinding, Wanted, discover_slot
from meter_runtime.units.keeper import SlotState

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="needs inotify")

MAC = bytes.fromhex("0200000000000101")
SERIAL = "000000000101"
QUESTION_S = 1.0
"""What discovery gives a driver, closing included."""
NOISE = (
    b"\x00\xff\r\n\r\nOK\r\nFAIL ER04\r\nEVER \r\nEINFO FE80 1 2\r\n"
    b"ERXUDP 1 2 3 4 5 6 7 04D0 \x1b[2J"
)


@asynccontextmanager
async def module_at(
    tty: Path, option: str = "bp35a1", *faults: LineFault
) -> AsyncIterator[VirtualModule]:
    """A virtual module on a serial device, until the end of the block."""
    clock = SystemClock()
    air = Air(clock, random.Random(1), FAST)
    module = VirtualModule(parse_module_option(option), MAC, random.Random(1), air.pace)
    port = PtyPort(str(tty))
    running = asyncio.create_task(ModulePort(module, port, air, clock, list(faults)).run())
    await asyncio.sleep(0)
    try:
        yield module
    finally:
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        await port.close()


@asynccontextmanager
async def at_far_end(tty: Path, act: Callable[[PtyPort], Awaitable[None]]) -> AsyncIterator[None]:
    """Something that is no module on a serial device."""
    port = PtyPort(str(tty))
    acting = asyncio.ensure_future(act(port))
    try:
        yield
    finally:
        acting.cancel()
        await asyncio.gather(acting, return_exceptions=True)
        await port.close()


def board_with(uart: str | None) -> VirtualBoard:
    return VirtualBoard(SystemClock(), {} if uart is None else {"communication": uart})


def slot_with(uart: str | None) -> Wires:
    board = board_with(uart)
    return Wires(board, board.socket("communication").profile)


def slot_at(tty: Path) -> Wires:
    return slot_with(f"serial:{tty}")


async def found_at(tty: Path) -> Nameplate | None:
    """What detection says, which has its bound."""
    began = time.monotonic()
    found = await detect(slot_at(tty))
    assert time.monotonic() - began < QUESTION_S
    return found


async def is_free(tty: Path) -> bool:
    """Nobody holds the port: it can be opened for oneself."""
    with contextlib.suppress(MeterError):
        port = await open_port(f"serial:{tty}")
        await port.close()
        return True
    return False


class OneByOne:
    """A line that carries single octets."""

    def to_module(self, data: bytes) -> bytes:
        return data

    def from_module(self, write: UartWrite) -> list[UartWrite]:
        return [replace(write, gap_s=0.0005)]


class Noisy:
    """A line that puts noise before every answer, and loses what came first."""

    def __init__(self) -> None:
        self._lost = False

    def to_module(self, data: bytes) -> bytes:
        return data

    def from_module(self, write: UartWrite) -> list[UartWrite]:
        if b"EVER" in write.data and not self._lost:
            self._lost = True
            return [replace(write, data=write.data[:9])]
        return [replace(write, data=NOISE + b"\r\n" + write.data)]


class Talk:
    """What passed on the line."""

    def __init__(self) -> None:
        self.asked = bytearray()

    def to_module(self, data: bytes) -> bytes:
        self.asked += data
        return data

    def from_module(self, write: UartWrite) -> list[UartWrite]:
        return [write]


@pytest.mark.parametrize("echo", [0, 1])
@pytest.mark.parametrize("name", PROFILES)
async def test_every_product_is_found_with_echo_and_without(
    tmp_path: Path, name: str, echo: int
) -> None:
    tty = tmp_path / "module"
    async with module_at(tty, f"{name}:echo={echo}"):
        found = await found_at(tty)
        assert found == Nameplate(
            UnitKind.COMMUNICATION,
            "Wi-SUN module",
            SERIAL,
            fw_version=PROFILES[name].stack_version,
            driver="skstack",
            broute_medium=BRouteMedium.RADIO,
        )
        assert await is_free(tty)


def test_the_catalogue_knows_what_is_found() -> None:
    plate = Nameplate(UnitKind.COMMUNICATION, "Wi-SUN module", SERIAL)
    assert catalogue.shipped().driver(plate) == "skstack"


@pytest.mark.parametrize("name", ["bp35a1", "bp35c2"])
async def test_answers_may_come_octet_by_octet(tmp_path: Path, name: str) -> None:
    tty = tmp_path / "module"
    async with module_at(tty, name, OneByOne()):
        found = await found_at(tty)
    assert found is not None
    assert found.serial == SERIAL


async def test_noise_and_a_lost_answer_do_not_hide_a_module(tmp_path: Path) -> None:
    tty = tmp_path / "module"
    async with module_at(tty, "bp35a1", Noisy()):
        found = await found_at(tty)
    assert found is not None
    assert found.serial == SERIAL


@pytest.mark.parametrize(
    "left", [b"SKSREG S2 3", b"XYZZY", b"\x00\xff\x11", b"A" * 1000, b"SKSENDTO 1 "]
)
async def test_half_a_command_left_in_the_module_does_not_hide_it(
    tmp_path: Path, left: bytes
) -> None:
    tty = tmp_path / "module"
    async with module_at(tty, "rl7023-dss") as module:
        module.receive(left, 0.0)
        found = await found_at(tty)
    assert found is not None
    assert found.serial == SERIAL


@pytest.mark.parametrize("name", PROFILES)
async def test_the_module_is_left_as_it_was(tmp_path: Path, name: str) -> None:
    tty, talk = tmp_path / "module", Talk()
    async with module_at(tty, f"{name}:pace=1ms", talk) as module:
        for line in ("SKSREG SFE 0", "SKSREG S2 2F", "SKSREG S3 1234", "SKSREG SA2 1"):
            module.receive(line.encode() + b"\r\n", 0.0)
        await asyncio.sleep(0.05)
        before = remembered(module)
        assert await found_at(tty) is not None
        assert remembered(module) == before
        assert talk.asked == b"\r\nSKVER\r\nSKINFO\r\n"


def remembered(module: VirtualModule) -> dict[str, object]:
    """All that a command may change."""
    state = module.state
    registers = {
        name: list(value) if isinstance(value, list) else value
        for name, value in vars(state.registers).items()
    }
    return {
        "registers": repr(registers),
        "options": (state.option_byte, state.uart_byte),
        "credentials": state.credentials,
        "ports": list(state.udp_ports),
        "neighbours": repr(vars(state.neighbors)),
        "route_b_id": state.route_b_id,
    }


async def test_silence_is_nobody_within_the_bound(tmp_path: Path) -> None:
    async def silent(port: PtyPort) -> None:
        await asyncio.Event().wait()

    tty = tmp_path / "module"
    async with at_far_end(tty, silent):
        assert await found_at(tty) is None
        assert await is_free(tty)


async def test_what_only_repeats_our_words_is_no_module(tmp_path: Path) -> None:
    async def repeat(port: PtyPort) -> None:
        while True:
            port.write(await port.read())

    tty = tmp_path / "module"
    async with at_far_end(tty, repeat):
        assert await found_at(tty) is None


@pytest.mark.parametrize("said", [b"boot: 42 %\r\n", b"\x00" * 64, NOISE, b"EVER 1.2.10\r\nOK\r\n"])
async def test_what_babbles_is_no_module(tmp_path: Path, said: bytes) -> None:
    async def babble(port: PtyPort) -> None:
        while True:
            port.write(said)
            await asyncio.sleep(0.001)

    tty = tmp_path / "module"
    async with at_far_end(tty, babble):
        assert await found_at(tty) is None
        assert await is_free(tty)


async def test_a_stranger_that_talks_faster_than_any_uart_is_left_early() -> None:
    served = asyncio.Event()

    async def flood(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):
            while not writer.is_closing():
                writer.write(b"\r\n" * MAX_HEARD)
                await writer.drain()
        writer.close()
        served.set()

    server = await asyncio.start_server(flood, "127.0.0.1", 0)
    async with server:
        number = server.sockets[0].getsockname()[1]
        began = time.monotonic()
        assert await detect(slot_with(f"tcp:127.0.0.1:{number}")) is None
        assert time.monotonic() - began < BOUND_S
        await asyncio.wait_for(served.wait(), 5)


async def test_a_port_that_hangs_up_is_a_failure_of_the_wire() -> None:
    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_server(hang_up, "127.0.0.1", 0)
    async with server:
        number = server.sockets[0].getsockname()[1]
        with pytest.raises(UnitFailure, match=r"hung up|lost"):
            await detect(slot_with(f"tcp:127.0.0.1:{number}"))


async def test_a_port_that_is_not_there_is_told(tmp_path: Path) -> None:
    with pytest.raises(UnitFailure, match="no such port"):
        await detect(slot_at(tmp_path / "nowhere"))


async def test_a_port_that_another_program_holds_is_told_and_nothing_is_said_on_it(
    tmp_path: Path,
) -> None:
    tty, talk = tmp_path / "module", Talk()
    async with module_at(tty, "bp35a1", talk):
        holder = await open_port(f"serial:{tty}")
        try:
            with pytest.raises(UnitFailure, match="port in use by another program"):
                await detect(slot_at(tty))
        finally:
            await holder.close()
        assert not talk.asked
        assert await found_at(tty) is not None


async def test_a_slot_without_a_uart_says_so() -> None:
    with pytest.raises(NoSuchWire, match="no UART"):
        await detect(slot_with(None))


@pytest.mark.parametrize("after_s", [0.0, 0.003, 0.02, 0.1, 0.3])
async def test_a_cancelled_detection_lets_go_of_the_port(tmp_path: Path, after_s: float) -> None:
    async def silent(port: PtyPort) -> None:
        await asyncio.Event().wait()

    tty = tmp_path / "module"
    async with at_far_end(tty, silent):
        device = os.path.realpath(tty)
        detection = asyncio.create_task(detect(slot_at(tty)))
        await asyncio.sleep(after_s)
        detection.cancel()
        with pytest.raises(asyncio.CancelledError):
            await detection
        assert await is_free(tty)
        assert held(device) == 1, "the far end that PtyPort itself keeps open"


def held(device: str) -> int:
    """How often this process has the device open."""
    names = []
    for entry in Path("/proc/self/fd").iterdir():
        with contextlib.suppress(OSError):
            names.append(str(entry.readlink()))
    return names.count(device)


@given(noise=st.binary(max_size=200), cut=st.integers(1, 40), dialect=st.sampled_from([SE, DSE]))
def test_an_interview_in_any_pieces_after_any_noise_comes_to_the_same(
    noise: bytes, cut: int, dialect: Dialect
) -> None:
    interview, module = Interview(), ScriptedModule(dialect)
    interview.hear(noise.replace(b"EEDSCAN", b"") + b"\r\n")
    for _ in range(4):
        answer = module.receive(interview.question)
        for at in range(0, len(answer), cut):
            interview.hear(answer[at : at + cut])
    found = interview.nameplate()
    assert found is not None
    assert found.serial == SCRIPTED_MAC.hex().upper()[-12:]
    assert found.fw_version == "1.2.10"


@given(st.lists(st.binary(max_size=80), max_size=30))
def test_no_octets_upset_an_interview(pieces: list[bytes]) -> None:
    interview = Interview()
    for piece in pieces:
        interview.hear(piece)
    assert interview.question in (b"SKVER\r\n", b"SKINFO\r\n", b"")


async def test_discovery_finds_a_bare_module_that_nobody_configured(tmp_path: Path) -> None:
    tty = tmp_path / "module"
    async with module_at(tty, "bp35c2"):
        finding = await asked(tty, Wanted())
    assert (finding.presence, finding.driver, finding.source) == (
        Presence.FOUND,
        "skstack",
        "detect",
    )
    assert finding.nameplate is not None
    assert finding.nameplate.serial == SERIAL


async def test_discovery_asks_at_the_port_that_the_configuration_names(tmp_path: Path) -> None:
    tty = tmp_path / "module"
    async with module_at(tty):
        finding = await asked(None, Wanted(options={"port": f"serial:{tty}"}))
    assert (finding.presence, finding.source) == (Presence.FOUND, "detect")
    assert finding.trail[-1].where.endswith(f"serial:{tty}")


async def test_a_driver_named_with_its_port_is_believed_and_the_port_left_alone(
    tmp_path: Path,
) -> None:
    wanted = Wanted("skstack", {"port": f"serial:{tmp_path / 'later'}"})
    finding = await asked(None, wanted)
    assert (finding.presence, finding.source) == (Presence.FOUND, "configuration")
    assert not [each for each in finding.trail if each.what == "driver skstack"]


async def test_an_empty_uart_is_an_empty_slot_even_for_the_driver_that_was_named(
    tmp_path: Path,
) -> None:
    async def silent(port: PtyPort) -> None:
        await asyncio.Event().wait()

    tty = tmp_path / "module"
    async with at_far_end(tty, silent):
        finding = await asked(tty, Wanted("skstack"))
    assert finding.presence is Presence.ABSENT


async def asked(tty: Path | None, wanted: Wanted) -> SlotFinding:
    """What discovery says of a virtual board's communication slot with this UART."""
    board = board_with(None if tty is None else f"serial:{tty}")
    slot = board.socket("communication").profile
    return await discover_slot(board, replace(slot, presence=None), wanted)


async def test_the_runtime_serves_over_a_module_that_it_found_by_itself(tmp_path: Path) -> None:
    credentials = BenchOptions().credentials()
    settings = cfg.Config(
        meter=cfg.Meter(id="M-1"),
        storage=cfg.Storage(state_dir=tmp_path),
        units=cfg.Units(
            metering=cfg.MeteringUnit(driver="simulated"),
            communication=cfg.CommunicationUnit(driver="auto"),
        ),
        broute=cfg.BRoute(id=credentials.route_b_id, password=credentials.password),
    )
    tty, clock = tmp_path / "module", SystemClock()
    async with module_at(tty, "bp35a1:pace=1ms"):
        board = VirtualBoard(clock, {"communication": f"serial:{tty}"})
        for name in ("communication", "metering"):
            line = board.socket(name).profile.presence
            assert line is not None
            board.wire(line).drive(not line.active_low)
        stores = runtime.open_stores(settings)
        meter = await runtime.build(settings, stores, clock, DEVICE_KEY, board=board)
        slot = meter.keeper.slots["communication"]
        assert slot.state is SlotState.ACTIVE
        assert slot.nameplate is not None
        assert slot.nameplate.serial == SERIAL
        serving = asyncio.Event()
        meter.bus.subscribe(LinkStarted, lambda _: serving.set())
        life = asyncio.create_task(meter.run())
        try:
            await asyncio.wait_for(serving.wait(), 10)
        finally:
            meter.stop()
            await life


def test_the_driver_can_be_asked() -> None:
    assert DRIVER.detect is detect
