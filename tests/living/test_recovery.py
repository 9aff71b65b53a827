"""What fails around a meter, each by itself: it serves again, and nobody had to help."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meter_runtime import config as cfg
from meter_runtime import report, runtime
from meter_runtime.bench.clock import BenchClock
from meter_runtime.bench.laboratory import DEVICE_KEY
from meter_runtime.bench.options import BenchOptions
from meter_runtime.comm.skstack.driver import LOOK_EVERY_S
from meter_runtime.runtime import Meter
from meter_runtime.units.board_profiles import GENERIC, load_profile
from meter_runtime.units.real_board import RealBoard

from .conftest import eventually
from .radio_room import RadioRoom, radio_room
from .terminal import Terminal

OPTIONS = BenchOptions()
CREDENTIALS = OPTIONS.credentials()
START = 1_800_000_000.0
HALF_HOUR_S, DAY_S = 1800, 86_400
ABNORMALITY = 4
RECOVERS_WITHIN_S = 10.0
ANSWERS_WITHIN_S = 0.5
ON = b"\x30"


@asynccontextmanager
async def serving(
    tmp_path: Path, clock: BenchClock, look_every_s: float = 0.2
) -> AsyncIterator[Meter]:
    """A meter on the room's module, until the end of the block; its state is in ``tmp_path``.

    It looks after its module far more often than in the field: a restart shows at once.
    """
    state = tmp_path / "state"
    state.mkdir(exist_ok=True)
    settings = cfg.Config(
        meter=cfg.Meter(id="M-1"),
        storage=cfg.Storage(state_dir=state),
        units=cfg.Units(
            metering=cfg.MeteringUnit(driver="simulated"),
            communication=cfg.CommunicationUnit(
                port=f"serial:{tmp_path / 'meter-module'}",
                options={"look_every_s": look_every_s},
            ),
        ),
        broute=cfg.BRoute(id=CREDENTIALS.route_b_id, password=CREDENTIALS.password),
    )
    stores, board = runtime.open_stores(settings), RealBoard(load_profile(GENERIC))
    meter = await runtime.build(settings, stores, clock, DEVICE_KEY, board=board)
    life = asyncio.create_task(meter.run())
    try:
        await starts(meter, 1)
        yield meter
    finally:
        meter.stop()
        await life


def counters(meter: Meter) -> dict[str, int]:
    found: dict[str, int] = report.status(meter)["broute"]["counters"]
    return found


async def starts(meter: Meter, times: int) -> None:
    """The link has come up so many times, and serves."""
    broute = meter.broute
    assert broute is not None
    await eventually(lambda: counters(meter).get("LinkStarted", 0) >= times and broute.link.started)


async def join(terminal: Terminal) -> None:
    await terminal.join(CREDENTIALS.route_b_id, CREDENTIALS.password.reveal())


async def reads_power_of(meter: Meter, terminal: Terminal) -> None:
    for _ in range(20):
        before = meter.metering.power_w
        if await terminal.power() == before == meter.metering.power_w:
            return
    raise AssertionError("the HEMS does not read what the meter measures")


@pytest.fixture
async def clock() -> BenchClock:
    return BenchClock(START)


@pytest.fixture
async def room(tmp_path: Path, clock: BenchClock) -> AsyncIterator[RadioRoom]:
    async with radio_room(tmp_path, clock) as room:
        yield room


@pytest.fixture
async def hems(room: RadioRoom) -> AsyncIterator[Terminal]:
    async with Terminal(str(room.hems.tty)).opened() as terminal:
        yield terminal


async def test_a_stopped_meter_starts_again_with_its_registers_and_history(
    tmp_path: Path, room: RadioRoom, clock: BenchClock, hems: Terminal
) -> None:
    async with serving(tmp_path, clock) as meter:
        await join(hems)
        with meter.metering.held():
            await clock.advance(DAY_S, meter.metering.poll)
        await reads_power_of(meter, hems)
        forward, reverse = meter.metering.forward_mwh, meter.metering.reverse_mwh
        newest = meter.metering.ring.newest()
        before = [report.history(meter, day, reverse=False) for day in (0, 1)]
    assert forward is not None
    assert reverse is not None
    assert newest is not None
    # The meter said good-bye.
    await hems.told("EVENT 26 ")

    async with serving(tmp_path, clock) as meter:
        assert meter.metering.ring.newest() == newest
        assert [report.history(meter, day, reverse=False) for day in (0, 1)] == before
        await eventually(lambda: meter.metering.forward_mwh is not None)
        assert (meter.metering.forward_mwh or 0) >= forward
        assert (meter.metering.reverse_mwh or 0) >= reverse
        await join(hems)
        await reads_power_of(meter, hems)


async def test_energy_that_flowed_while_the_meter_was_off_is_on_the_registers(
    tmp_path: Path, room: RadioRoom, clock: BenchClock
) -> None:
    async with serving(tmp_path, clock) as meter:
        forward = meter.metering.forward_mwh
    assert forward is not None

    async def nobody_reads() -> None:
        return None

    await clock.advance(DAY_S, nobody_reads)
    async with serving(tmp_path, clock) as meter:
        await eventually(lambda: (meter.metering.forward_mwh or 0) >= forward + 24 * 500_000)


async def test_a_module_that_was_reset_behind_the_meters_back_is_brought_up_again(
    tmp_path: Path, room: RadioRoom, clock: BenchClock, hems: Terminal
) -> None:
    async with serving(tmp_path, clock) as meter:
        await join(hems)
        room.meter.module.receive(b"SKRESET\r\n", clock.monotonic())
        await starts(meter, 2)
        await join(hems)
        await reads_power_of(meter, hems)
        assert counters(meter)["UnitFault"] == 1


async def test_a_module_that_lost_power_for_a_moment_is_brought_up_again(
    tmp_path: Path, room: RadioRoom, clock: BenchClock, hems: Terminal
) -> None:
    async with serving(tmp_path, clock) as meter:
        await join(hems)
        await room.meter.blink()
        await starts(meter, 2)
        assert meter.broute is not None
        assert meter.broute.link.session is None
        await join(hems)
        await reads_power_of(meter, hems)


async def test_a_module_that_is_pulled_out_and_put_back_is_brought_up_again(
    tmp_path: Path, room: RadioRoom, clock: BenchClock, hems: Terminal
) -> None:
    async with serving(tmp_path, clock) as meter:
        await join(hems)
        await room.meter.pull()
        await eventually(lambda: report.status(meter)["broute"]["message"] == ABNORMALITY)
        assert report.status(meter)["units"]["communication"]["state"] == "faulted"
        measured = meter.metering.forward_mwh
        await clock.advance(HALF_HOUR_S, meter.metering.poll)
        assert meter.metering.forward_mwh != measured, "metering waits for no radio"

        await room.meter.plug()
        await starts(meter, 2)
        await join(hems)
        await reads_power_of(meter, hems)


async def test_a_hems_may_close_its_device_and_open_it_again_within_a_session(
    tmp_path: Path, room: RadioRoom, clock: BenchClock, hems: Terminal
) -> None:
    async with serving(tmp_path, clock) as meter:
        await join(hems)
        hems.write(b"".join(hems.request(0xE7)))  # and gone before the answer
        hems.close()
        await eventually(lambda: counters(meter)["rx"] == 1)
        hems.open()
        await reads_power_of(meter, hems)
        assert counters(meter)["LinkStarted"] == 1


async def test_a_hems_module_that_is_pulled_out_and_put_back_joins_again(
    tmp_path: Path, room: RadioRoom, clock: BenchClock, hems: Terminal
) -> None:
    async with serving(tmp_path, clock) as meter:
        await join(hems)
        hems.close()
        await room.hems.pull()
        await clock.advance(HALF_HOUR_S, meter.metering.poll)
        await room.hems.plug()
        hems.open()
        await join(hems)
        await reads_power_of(meter, hems)
        assert counters(meter)["LinkStarted"] == 1


GARBAGE = {
    "noise": bytes(range(256)) * 4,
    "a line that never ends": b"\xff" * 20_000,
    "an answer nobody asked for": b"FAIL ER10\r\nOK\r\nESREG 0\r\n",
    "half a datagram": b"ERXUDP FE80:0000:0000:0000:0000:0000:0000:0202"
    b" FE80:0000:0000:0000:0000:0000:0000:0101 0E1A 0E1A 0000000000000202 1 0012 \x10\x81",
    "a datagram too long to be true": b"ERXUDP FE80:0000:0000:0000:0000:0000:0000:0202"
    b" FE80:0000:0000:0000:0000:0000:0000:0101 0E1A 0E1A 0000000000000202 1 FFFF ",
    "no ECHONET Lite": b"ERXUDP FE80:0000:0000:0000:0000:0000:0000:0202"
    b" FE80:0000:0000:0000:0000:0000:0000:0101 0E1A 0E1A 0000000000000202 1 0003 \x10\x81\x00\r\n",
    "a banner": b"EINFO\r\nEVER 1.2.10\r\n",
    "events of nowhere": b"EVENT 29 FE80::1\r\nEVENT\r\nEVENT ZZ\r\nEVENT 32\r\n",
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE.keys())
async def test_garbage_on_the_meters_uart_does_no_lasting_harm(
    tmp_path: Path, room: RadioRoom, clock: BenchClock, hems: Terminal, garbage: bytes
) -> None:
    async with serving(tmp_path, clock, look_every_s=LOOK_EVERY_S) as meter:
        await join(hems)
        room.meter.say(garbage)
        async with asyncio.timeout(RECOVERS_WITHIN_S):
            while not await answers(hems):
                pass  # a HEMS whose request was lost in the noise asks again
        await reads_power_of(meter, hems)
        assert counters(meter)["LinkStarted"] == 1
        assert counters(meter)["AuthOk"] == 1


async def answers(hems: Terminal) -> bool:
    """Whether the meter answers one request within a while."""
    hems.write(b"".join(hems.request(0x80)))
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(ANSWERS_WITHIN_S):
            return await hems.got(0x80) == ON
    return False
