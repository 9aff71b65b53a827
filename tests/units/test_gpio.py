"""GPIO lines: one suite over the virtual chips and both libraries' adapters, then what differs."""

import asyncio
import errno
import os
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import pytest
from gpio_rigs import CHIP, LINES, FakeRpi, GpiodRig, Rig, RpiRig, rig
from gpiod.line import Bias
from hand_clock import HandClock
from hypothesis import given
from hypothesis import strategies as st

from meter_runtime.bench.board.gpio import VirtualGpio
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.units.gpio import EDGES_KEPT, Edge, InputLine, LineSpec
from meter_runtime.units.gpio_gpiod import GpiodGpio
from meter_runtime.units.gpio_rpi import RpiGpio

LINE = LineSpec(CHIP, 17)
UPSIDE_DOWN = LineSpec(CHIP, 17, active_low=True)


@pytest.fixture(params=("virtual", "gpiod", "rpi"))
async def wired(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    wired = rig(request.param, request)
    yield wired
    wired.gpio.close()


def pulse(wired: Rig, times: int = 1) -> None:
    for _ in range(times):
        wired.drive(LINE.offset, True)
        wired.drive(LINE.offset, False)


async def test_an_input_shows_the_level(wired: Rig) -> None:
    line = wired.gpio.input(LINE)
    assert not line.active()
    wired.drive(LINE.offset, True)
    assert line.active()


async def test_active_low_turns_the_level_of_an_input_around(wired: Rig) -> None:
    line = wired.gpio.input(UPSIDE_DOWN)
    assert line.active()
    wired.drive(LINE.offset, True)
    assert not line.active()


@pytest.mark.parametrize("initial", [False, True])
@pytest.mark.parametrize("spec", [LINE, UPSIDE_DOWN])
async def test_an_output_drives_its_wire_from_the_moment_it_is_opened(
    wired: Rig, spec: LineSpec, initial: bool
) -> None:
    line = wired.gpio.output(spec, initial=initial)
    assert line.active() is initial
    assert wired.level(spec.offset) is (initial != spec.active_low)
    line.set(not initial)
    assert line.active() is not initial
    assert wired.level(spec.offset) is (initial == spec.active_low)


async def test_edges_come_in_order_and_numbered_from_one(wired: Rig) -> None:
    line = wired.gpio.input(LINE, edges=True)
    assert line.take() == []
    pulse(wired, 2)
    taken = line.take()
    assert [(edge.active, edge.sequence) for edge in taken] == [
        (True, 1),
        (False, 2),
        (True, 3),
        (False, 4),
    ]
    assert [edge.at_ns for edge in taken] == sorted(edge.at_ns for edge in taken)
    assert line.take() == []


async def test_edges_are_logical_too(wired: Rig) -> None:
    line = wired.gpio.input(UPSIDE_DOWN, edges=True)
    pulse(wired)
    assert [edge.active for edge in line.take()] == [False, True]


async def test_a_reader_waits_for_an_edge_and_gets_all_there_are(wired: Rig) -> None:
    line = wired.gpio.input(LINE, edges=True)
    waiting = asyncio.create_task(line.edges())
    await asyncio.sleep(0)
    assert not waiting.done()
    pulse(wired)
    async with asyncio.timeout(5):
        assert [edge.sequence for edge in await waiting] == [1, 2]
    pulse(wired)
    assert [edge.sequence for edge in await line.edges()] == [3, 4]


async def test_a_reader_that_is_cancelled_leaves_the_line_usable(wired: Rig) -> None:
    line = wired.gpio.input(LINE, edges=True)
    for turns in range(4):
        waiting = asyncio.create_task(line.edges())
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
    pulse(wired)
    assert len(await line.edges()) == 2


async def test_one_reader_at_a_time(wired: Rig) -> None:
    line = wired.gpio.input(LINE, edges=True)
    first = asyncio.create_task(line.edges())
    await asyncio.sleep(0)
    with pytest.raises(RuntimeError, match="has a reader already"):
        await line.edges()
    pulse(wired)
    async with asyncio.timeout(5):
        assert len(await first) == 2


async def test_closing_ends_the_wait_of_a_reader(wired: Rig) -> None:
    line = wired.gpio.input(LINE, edges=True)
    waiting = asyncio.create_task(line.edges())
    await asyncio.sleep(0)
    line.close()
    async with asyncio.timeout(5):
        with pytest.raises(MeterError, match=r"pinctrl-bcm2711 line 17: it was closed already"):
            await waiting


async def test_a_line_closed_under_its_reader_can_be_opened_and_read_anew(wired: Rig) -> None:
    for _ in range(3):
        line = wired.gpio.input(LINE, edges=True)
        waiting = asyncio.create_task(line.edges())
        await asyncio.sleep(0)
        line.close()
        line = wired.gpio.input(LINE, edges=True)
        again = asyncio.create_task(line.edges())
        await asyncio.sleep(0)
        with pytest.raises(MeterError, match="closed already"):
            await waiting
        pulse(wired)
        async with asyncio.timeout(5):
            assert [edge.sequence for edge in await again] == [1, 2]
        line.close()


async def test_edges_of_a_line_opened_without_them_are_a_mistake_of_the_program(wired: Rig) -> None:
    with pytest.raises(RuntimeError, match="was not opened for edges"):
        wired.gpio.input(LINE).take()


async def test_a_full_buffer_loses_the_oldest_edges_and_the_numbers_tell(wired: Rig) -> None:
    line = wired.gpio.input(LINE, edges=True)
    pulse(wired, wired.keeps)
    taken = line.take()
    assert [edge.sequence for edge in taken] == list(range(wired.keeps + 1, 2 * wired.keeps + 1))


async def test_a_line_is_held_once_and_free_again_after_closing(wired: Rig) -> None:
    line = wired.gpio.input(LINE)
    with pytest.raises(MeterError, match=r"pinctrl-bcm2711 line 17"):
        wired.gpio.output(LINE, initial=False)
    line.close()
    line.close()
    output = wired.gpio.output(LINE, initial=True)
    output.close()
    output.close()


async def test_a_closed_line_says_so(wired: Rig) -> None:
    output, line = wired.gpio.output(LineSpec(CHIP, 5), initial=True), wired.gpio.input(LINE)
    output.close()
    line.close()
    with pytest.raises(MeterError, match="line 5: it was closed already; open it again"):
        output.set(False)
    with pytest.raises(MeterError, match="line 17: it was closed already; open it again"):
        line.active()


async def test_closing_the_board_closes_its_lines(wired: Rig) -> None:
    line = wired.gpio.input(LINE)
    wired.gpio.close()
    with pytest.raises(MeterError, match="closed already"):
        line.active()
    wired.gpio.close()


async def test_a_chip_nobody_has_is_named_with_the_nearest(wired: Rig) -> None:
    with pytest.raises(MeterError, match=r'pinctrl-bcm2712 line 3: .*mean "pinctrl-bcm2711"'):
        wired.gpio.input(LineSpec("pinctrl-bcm2712", 3))


async def test_a_line_the_chip_does_not_have_is_refused(wired: Rig) -> None:
    with pytest.raises(MeterError, match=f"pinctrl-bcm2711 line {LINES}"):
        wired.gpio.input(LineSpec(CHIP, LINES))


@pytest.fixture
def chardev(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[GpiodRig]:
    chardev = GpiodRig(monkeypatch, tmp_path)
    yield chardev
    chardev.gpio.close()


async def test_gpiod_is_asked_for_pull_debouncing_and_a_name(chardev: GpiodRig) -> None:
    for offset, pull in enumerate(("none", "up", "down")):
        chardev.gpio.input(LineSpec(CHIP, offset, pull=pull), debounce_us=10_000)  # type: ignore[arg-type]
    settings = chardev.kernel.settings
    assert [settings[offset].bias for offset in range(3)] == [
        Bias.DISABLED,
        Bias.PULL_UP,
        Bias.PULL_DOWN,
    ]
    assert settings[0].debounce_period.total_seconds() == 0.01
    assert chardev.kernel.consumers == {"meter-runtime"}


async def test_gpiod_tells_who_holds_a_line(chardev: GpiodRig) -> None:
    chardev.gpio.input(LINE)
    with pytest.raises(MeterError, match=r'gpiochip1\): Device or resource busy; "coffee-machine"'):
        chardev.gpio.input(LINE)


@pytest.mark.parametrize(
    ("number", "advice"),
    [
        (errno.EACCES, "into the group gpio"),
        (errno.ENXIO, "it has no interrupts"),
        (errno.EINVAL, "check its offset"),
        (errno.ENODEV, "see gpiodetect"),
    ],
)
async def test_what_the_kernel_refuses_comes_with_advice(
    chardev: GpiodRig, number: int, advice: str
) -> None:
    chardev.kernel.fails = OSError(number, os.strerror(number))
    with pytest.raises(MeterError, match=f"{os.strerror(number)}; .*{advice}"):
        chardev.gpio.input(LINE)


async def test_a_chip_that_comes_back_under_another_number_is_found_again(
    chardev: GpiodRig,
) -> None:
    chardev.gpio.input(LINE).close()
    labels = chardev.kernel.labels
    [old] = [path for path, label in labels.items() if label == CHIP]
    del labels[old]
    with pytest.raises(MeterError, match="No such file or directory"):
        chardev.gpio.input(LINE)
    labels[old.replace("gpiochip1", "gpiochip2")] = CHIP
    chardev.gpio.input(LINE)


async def test_a_chip_that_goes_away_fails_the_lines_uses(chardev: GpiodRig) -> None:
    line = chardev.gpio.input(LINE, edges=True)
    output = chardev.gpio.output(LineSpec(CHIP, 5), initial=False)
    waiting = asyncio.create_task(line.edges())
    await asyncio.sleep(0)
    chardev.kernel.unplug()
    async with asyncio.timeout(5):
        with pytest.raises(MeterError, match="No such device"):
            await waiting
    for use in (line.active, line.take, lambda: output.set(True)):
        with pytest.raises(MeterError, match="No such device; check that the chip is there"):
            use()
    assert not output.active()


async def test_a_chip_we_may_not_open_is_not_called_missing(chardev: GpiodRig) -> None:
    chardev.kernel.denied = set(chardev.kernel.labels)
    with pytest.raises(MeterError, match=r"/gpiochip1: no permission; let the meter's user"):
        chardev.gpio.input(LINE)


async def test_files_that_are_no_chips_are_passed_over_by_the_real_library(tmp_path: Path) -> None:
    (tmp_path / "gpiochip0").touch()
    (tmp_path / "gpiochip1").symlink_to("/dev/null")
    with pytest.raises(MeterError, match=r"no GPIO chip in .* has this label; there are none"):
        GpiodGpio(tmp_path).input(LINE)


async def test_rpi_gpio_reaches_the_soc_only() -> None:
    with pytest.raises(UsageError, match=r"RPi\.GPIO reaches the lines of the SoC only; known"):
        RpiGpio(FakeRpi()).input(LineSpec("pcf8574", 0))


async def test_rpi_gpio_debounces_in_whole_milliseconds_or_not_at_all() -> None:
    rpi = RpiRig()
    rpi.gpio.input(LineSpec(CHIP, 4), edges=True)
    rpi.gpio.input(LineSpec(CHIP, 5), edges=True, debounce_us=1500)
    assert (rpi.library.bounce_ms[4], rpi.library.bounce_ms[5]) == (-666, 2)


async def test_what_rpi_gpio_raises_is_told_with_the_line() -> None:
    rpi = RpiRig()
    rpi.library.fails = RuntimeError("Failed to add edge detection")
    with pytest.raises(MeterError, match=r"line 17: RPi.GPIO says: Failed to add edge detection"):
        rpi.gpio.input(LINE, edges=True)
    rpi.library.fails = None
    line = rpi.gpio.input(LINE, edges=True)
    assert line.take() == []


async def test_an_edge_that_comes_while_the_line_is_given_back_is_nobodys() -> None:
    rpi = RpiRig()
    line = rpi.gpio.input(LINE, edges=True)
    call = rpi.library.callbacks[17]
    rpi.library.directions.clear()
    call(17)
    assert line.take() == []


async def test_without_the_library_it_is_said_what_to_install() -> None:
    with pytest.raises(MeterError, match=r"RPi\.GPIO is not installed; install it"):
        RpiGpio()


def debounced(debounce_us: int = 10_000) -> tuple[HandClock, VirtualGpio, InputLine]:
    clock = HandClock()
    gpio = VirtualGpio(clock, {CHIP: LINES})
    return clock, gpio, gpio.input(LINE, edges=True, debounce_us=debounce_us)


async def test_a_virtual_line_believes_what_has_lasted_and_stamps_it_then() -> None:
    clock, gpio, line = debounced()
    gpio.wire(CHIP, 17).drive(True)
    clock.at += 0.009
    assert not line.active()
    clock.at += 0.001
    assert line.active()
    assert line.take() == [Edge(1_000_010_000_000, True, 1)]


async def test_a_virtual_line_drops_what_does_not_last() -> None:
    clock, gpio, line = debounced()
    for _ in range(5):
        gpio.wire(CHIP, 17).drive(True)
        clock.at += 0.005
        gpio.wire(CHIP, 17).drive(False)
        clock.at += 0.005
    clock.at += 1
    assert line.take() == []


async def test_a_reader_is_woken_when_a_debounced_level_has_lasted() -> None:
    clock = HandClock()
    gpio = VirtualGpio(clock, {CHIP: LINES})
    line = gpio.input(LINE, edges=True, debounce_us=200_000)
    waiting = asyncio.create_task(line.edges())
    await asyncio.sleep(0)
    gpio.wire(CHIP, 17).drive(True)
    await clock.advance(0.5)
    [edge] = await waiting
    assert edge.active


async def test_a_pull_decides_where_nobody_drives() -> None:
    gpio = VirtualGpio(HandClock(), {CHIP: LINES})
    wire = gpio.wire(CHIP, 17)
    assert not wire.high
    line = gpio.input(LineSpec(CHIP, 17, pull="up"))
    assert line.active()
    wire.drive(False)
    assert not line.active()
    wire.drive(None)
    assert line.active()
    line.close()
    assert not wire.high


async def test_a_released_output_lets_its_wire_go() -> None:
    gpio = VirtualGpio(HandClock(), {CHIP: LINES})
    changes: list[bool] = []
    stop = gpio.wire(CHIP, 17).watch(lambda high, _: changes.append(high))
    output = gpio.output(LINE, initial=True)
    output.set(True)
    output.close()
    assert changes == [True, False]
    stop()
    stop()
    gpio.output(LINE, initial=True)
    assert changes == [True, False]


async def test_a_virtual_chip_can_fail() -> None:
    gpio = VirtualGpio(HandClock(), {CHIP: LINES})
    line, output = gpio.input(LINE), gpio.output(LineSpec(CHIP, 5), initial=True)
    gpio.failure = "No such device"
    for use in (line.active, lambda: output.set(False), lambda: gpio.input(LineSpec(CHIP, 6))):
        with pytest.raises(MeterError, match="No such device; check that the chip is there"):
            use()
    assert gpio.wire(CHIP, 5).high
    gpio.failure = None
    output.set(False)
    assert not gpio.wire(CHIP, 5).high


@given(st.lists(st.tuples(st.booleans(), st.integers(1, 40)), max_size=200))
def test_debounced_edges_alternate_and_end_with_the_level(moves: list[tuple[bool, int]]) -> None:
    async def run() -> None:
        clock, gpio, line = debounced()
        wire = gpio.wire(CHIP, 17)
        seen: list[Edge] = []
        for high, ms in moves:
            wire.drive(high)
            clock.at += ms / 1000
            if ms % 3 == 0:
                seen += line.take()
        clock.at += 1
        seen += line.take()
        assert [edge.active for edge in seen] == [n % 2 == 0 for n in range(len(seen))]
        assert [edge.sequence for edge in seen] == list(range(1, len(seen) + 1))
        stamps = [edge.at_ns for edge in seen]
        assert stamps == sorted(stamps)
        assert line.active() is wire.high
        assert len(seen) <= EDGES_KEPT

    asyncio.run(run())
