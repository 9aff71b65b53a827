"""GPIO by the kernel's character devices, :mod:`meter_runtime.units.gpio_gpiod`."""

import contextlib
from collections.abc import Iterator
from itertools import pairwise
from statistics import median

from hwtest.inside.pulse_source import pulse_source
from hwtest.inside.simulated_gpio import SimulatedChip
from meter_runtime.errors import MeterError
from meter_runtime.units.gpio import EDGES_KEPT, Edge, LineSpec
from meter_runtime.units.gpio_gpiod import GpiodGpio

LABEL = "hwtest"
LINES = 8


@contextlib.contextmanager
def chip() -> Iterator[tuple[SimulatedChip, GpiodGpio]]:
    """A chip that is not the first, and the lines of the meter on it."""
    other = SimulatedChip("hwtest-other", 2)
    simulated = SimulatedChip(LABEL, LINES)
    gpio = GpiodGpio()
    try:
        yield simulated, gpio
    finally:
        gpio.close()
        simulated.unplug()
        other.unplug()


def line(offset: int, *, active_low: bool = False) -> LineSpec:
    return LineSpec(LABEL, offset, active_low)


def complaint(gpio: GpiodGpio, spec: LineSpec) -> str:
    """What a person is told who asks for this line."""
    try:
        gpio.input(spec).close()
    except MeterError as error:
        return str(error)
    raise AssertionError(f"{spec} opens")


async def lines_are_found_by_label() -> str:
    with chip() as (simulated, gpio):
        reading = gpio.input(line(3))
        for up in (True, False, True):
            simulated.pull(3, up=up)
            assert reading.active() is up
        inverted = gpio.input(line(4, active_low=True))
        assert inverted.active()
        simulated.pull(4, up=True)
        assert not inverted.active()
        assert "hwtest" in complaint(gpio, LineSpec("hwtset", 0))
        assert "no such line" in complaint(gpio, line(LINES))
        return f'"{LABEL}" is {simulated.name}: levels follow, active-low ones inverted'


async def a_taken_line_names_its_holder() -> str:
    with chip() as (_, gpio):
        gpio.output(line(1), initial=False)
        told = complaint(GpiodGpio(), line(1))
        assert '"meter-runtime" holds it' in told, told
        return told


async def outputs_drive_while_open() -> str:
    with chip() as (simulated, gpio):
        simulated.pull(2, up=True)
        driving = gpio.output(line(2), initial=False)
        assert not simulated.value(2)
        for active in (True, False):
            driving.set(active)
            assert simulated.value(2) is active
            assert driving.active() is active
        simulated.pull(2, up=True)
        assert not simulated.value(2), "the outside overcame a driven line"
        driving.close()
        assert simulated.value(2), "the line is driven after it was closed"
        inverted = gpio.output(line(5, active_low=True), initial=False)
        assert simulated.value(5)
        inverted.set(True)
        assert not simulated.value(5)
        return "initial level, both levels, active-low; the pull has the line once it is closed"


async def resistors_are_switched_on() -> str:
    with chip() as (simulated, gpio):
        pulled = [gpio.input(LineSpec(LABEL, 0, pull="up")), gpio.input(LineSpec(LABEL, 1))]
        assert simulated.pulled_up(0)
        assert [each.active() for each in pulled] == [True, False]
        gpio.input(LineSpec(LABEL, 2, pull="down"))
        assert not simulated.pulled_up(2)
        return "pull up and down reach the chip"


async def edges_have_kernel_time_and_numbers() -> str:
    pulses = 500
    with chip() as (simulated, gpio):
        async with pulse_source() as source:
            reading = gpio.input(line(6), edges=True)
            source.begin(pulses, 1.0, simulated.pull_file(6))
            edges: list[Edge] = []
            while len(edges) < 2 * pulses:
                edges += await reading.edges()
            began, ended = await source.finished()
    whole_and_in_order(edges, 2 * pulses)
    assert began <= edges[0].at_ns <= edges[-1].at_ns <= ended, "not of CLOCK_MONOTONIC"
    gaps = [later.at_ns - sooner.at_ns for sooner, later in pairwise(edges)]
    assert min(gaps) >= 1_000_000, "stamped when read, not when it happened"
    rate = len(edges) * 1e9 / (ended - began)
    return f"{len(edges)} of {2 * pulses} edges at {rate:.0f}/s, {median(gaps) / 1e6:.2f} ms apart"


async def edges_wait_for_their_reader() -> str:
    pulses = EDGES_KEPT // 2
    with chip() as (simulated, gpio):
        async with pulse_source() as source:
            reading = gpio.input(line(6), edges=True)
            began, ended = await source.pulse(pulses, 1.0, simulated.pull_file(6))
        edges = reading.take()
    whole_and_in_order(edges, 2 * pulses)
    waited_s = (ended - began) / 1e9
    return f"{len(edges)} edges in one piece after {waited_s:.1f} s in which nothing was read"


async def an_overflow_is_known_by_its_numbers() -> str:
    pulses = 700
    with chip() as (simulated, gpio):
        async with pulse_source() as source:
            reading = gpio.input(line(6), edges=True)
            await source.pulse(pulses, 1.0, simulated.pull_file(6))
        edges = reading.take()
    assert len(edges) == EDGES_KEPT, f"{len(edges)} were kept"
    first = 2 * pulses - EDGES_KEPT + 1
    assert [edge.sequence for edge in edges] == list(range(first, 2 * pulses + 1))
    return f"of {2 * pulses} unread edges the newest {EDGES_KEPT} are there, from number {first}"


async def the_kernel_debounces() -> str:
    pulses, half_ms = 20, 40.0
    with chip() as (simulated, gpio):
        async with pulse_source() as source:
            seen = {}
            for debounce_us in (0, 10_000):
                reading = gpio.input(line(7), edges=True, debounce_us=debounce_us)
                await source.pulse(pulses, half_ms, simulated.pull_file(7), "bouncing")
                seen[debounce_us] = reading.take()
                reading.close()
    assert len(seen[0]) > 2 * pulses, "the pulses did not bounce"
    whole_and_in_order(seen[10_000], 2 * pulses)
    return (
        f"{len(seen[0])} edges of {pulses} bouncing pulses; {2 * pulses} with 10 ms of debouncing"
    )


async def a_chip_that_goes_is_told() -> str:
    other = SimulatedChip("hwtest-going", 2)
    gpio = GpiodGpio()
    driving = gpio.output(LineSpec(other.label, 0), initial=False)
    other.unplug()
    try:
        driving.set(True)
    except MeterError as error:
        return str(error)
    finally:
        gpio.close()
    raise AssertionError("a line of no chip can be set")


def whole_and_in_order(edges: list[Edge], count: int) -> None:
    """All edges of a line that rose first: numbered from 1, alternating, one after the other."""
    assert [edge.sequence for edge in edges] == list(range(1, count + 1)), "edges are missing"
    assert [edge.active for edge in edges] == [True, False] * (count // 2), (
        "levels do not alternate"
    )
    stamps = [edge.at_ns for edge in edges]
    assert stamps == sorted(stamps), "time goes back"


CHECKS = (
    lines_are_found_by_label,
    a_taken_line_names_its_holder,
    outputs_drive_while_open,
    resistors_are_switched_on,
    edges_have_kernel_time_and_numbers,
    edges_wait_for_their_reader,
    an_overflow_is_known_by_its_numbers,
    the_kernel_debounces,
    a_chip_that_goes_is_told,
)
