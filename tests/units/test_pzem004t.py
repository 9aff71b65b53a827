"""The PZEM-004T driver over a model of the chip on a pseudo-terminal, and what disturbs it.

These ports are real, and so is their time: waits are of milliseconds, and each has its bound.
"""

import asyncio
import importlib.util
import logging
import os
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from i2c_slot import EagerClock, Steps

from meter_runtime.bench.board.pzem004t import (
    COUNTER_WH,
    Pzem004tChip,
    Pzem004tPort,
    framed,
)
from meter_runtime.bench.board.supply import Supply
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.units.board import BoardProfile, NoSuchWire, SlotProfile, Wires
from meter_runtime.units.buses import AsyncI2C
from meter_runtime.units.contracts import (
    MeteringUnit,
    Nameplate,
    Sample,
    UnitFailure,
    UnitKind,
    Wiring,
)
from meter_runtime.units.drivers import DriverContext
from meter_runtime.units.gpio import Gpio
from meter_runtime.units.metering.pzem004t import (
    DRIVER,
    GENERAL_ADDRESS,
    Pzem004tLine,
    Pzem004tUnit,
    Reading,
    decode,
    device_of,
    load_pymodbus,
)

PLATE = Nameplate(
    UnitKind.METERING,
    "MU-2W-30",
    "P00000000031",
    wiring=Wiring.ONE_PHASE_TWO_WIRE,
    two_way=False,
)
HASTY_S = 0.2
"""Bound of a request where a test wants it to pass; an answer takes some milliseconds."""

READ = bytes((0x04, 0x00, 0x00, 0x00, 0x0A))


class UartBoard:
    """A board whose slot has a UART and nothing else."""

    def __init__(self, uart: str | None) -> None:
        self.slot = SlotProfile("metering", UnitKind.METERING, uart=uart)
        self.profile = BoardProfile("test", "one UART", (self.slot,))

    @property
    def gpio(self) -> Gpio:
        raise NotImplementedError

    def i2c(self, bus: str) -> AsyncI2C:
        raise NotImplementedError

    def close(self) -> None:
        """Nothing is open."""

    @property
    def wires(self) -> Wires:
        return Wires(self, self.slot)


class House:
    """The chip on a supply, and the port at whose far end the driver is."""

    def __init__(self, directory: Path, *, watts: int = 720, **chip: int) -> None:
        self.clock = EagerClock()
        self.supply = Supply(
            self.clock.monotonic,
            Steps(self.clock.at, [(3600, watts)], r_ma=watts * 10),
            self.clock.at,
            wiring=Wiring.ONE_PHASE_TWO_WIRE,
            two_way=False,
        )
        self.chip = Pzem004tChip(self.supply.tap(), **chip)
        self.link = str(directory / "pzem")
        self.port = Pzem004tPort(self.chip, self.link)
        self.port.byte_s = 0.0
        self.board = UartBoard(self.port.uri)
        self._serving = asyncio.create_task(self.port.run())

    def context(self, plate: Nameplate | None = PLATE, **options: Any) -> DriverContext:
        return DriverContext(self.clock, options, wires=self.board.wires, nameplate=plate)

    async def unit(self, **options: Any) -> Pzem004tUnit:
        unit: Pzem004tUnit = await DRIVER.build(self.context(**options))
        return unit

    def hasty(self, address: int = GENERAL_ADDRESS) -> Pzem004tUnit:
        """A unit that soon loses its patience."""
        return Pzem004tUnit(PLATE, Pzem004tLine(self.link, address, reply_s=HASTY_S))

    async def unplug(self) -> None:
        await self.port.unplug()
        await self._serving

    def plug(self) -> None:
        self.port = Pzem004tPort(self.chip, self.link)
        self.port.byte_s = 0.0
        self._serving = asyncio.create_task(self.port.run())


@asynccontextmanager
async def house(directory: Path, **how: int) -> AsyncIterator[House]:
    load_pymodbus()
    it = House(directory, **how)
    try:
        yield it
    finally:
        await it.unplug()


# Reading


async def test_a_sample_says_what_the_line_does(tmp_path: Path) -> None:
    async with house(tmp_path, watts=720, energy_wh=123_456) as home:
        unit: MeteringUnit = await home.unit()
        home.clock.at += 3600
        assert await unit.read() == Sample(124_176_000, 0, 720, 7200, None)
        assert await unit.self_test() == []
        assert unit.keeps_registers
        await unit.close()


async def test_a_reading_is_one_request(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = await home.unit()
        home.chip.requests.clear()
        await unit.read()
        await unit.read()
        assert list(home.chip.requests) == [framed(bytes((GENERAL_ADDRESS,)) + READ)] * 2
        await unit.close()


async def test_energy_is_the_supplys_to_the_watt_hour(tmp_path: Path) -> None:
    async with house(tmp_path, watts=1234) as home:
        unit = await home.unit()
        for hours in (0.1, 1, 7.3, 24):
            home.clock.at += hours * 3600
            sample = await unit.read()
            assert sample.forward_mwh == home.supply.registers[0] // 3_600_000 * 1000
            assert sample.reverse_mwh == 0
        await unit.close()


async def test_the_registers_are_the_chips_own_and_outlive_the_driver(tmp_path: Path) -> None:
    async with house(tmp_path, energy_wh=5000) as home:
        first = await home.unit()
        await first.close()
        home.clock.at += 3600
        second = await home.unit()
        assert (await second.read()).forward_mwh == 5_720_000
        await second.close()


async def test_a_counter_at_its_end_is_told_as_it_is(tmp_path: Path) -> None:
    async with house(tmp_path, energy_wh=COUNTER_WH - 1) as home:
        unit = await home.unit()
        assert (await unit.read()).forward_mwh == (COUNTER_WH - 1) * 1000
        home.clock.at += 10
        assert (await unit.read()).forward_mwh == 1000
        await unit.close()


async def test_nothing_but_the_measurements_is_ever_asked_for(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        assert DRIVER.detect is not None
        assert await DRIVER.detect(home.board.wires) is not None
        unit = await home.unit()
        await unit.read()
        await unit.self_test()
        await unit.close()
        assert {request[1] for request in home.chip.requests} == {0x04}


@pytest.mark.parametrize("address", [1, 0x42, 247])
async def test_a_chip_with_an_address_is_asked_by_it(tmp_path: Path, address: int) -> None:
    async with house(tmp_path, address=address) as home:
        unit = await home.unit(address=address)
        assert (await unit.read()).power_w == 720
        assert home.chip.requests[-1][0] == address
        await unit.close()


@pytest.mark.parametrize("own", [0x01, 0xF7])
async def test_an_answer_from_the_chips_own_address_will_do(tmp_path: Path, own: int) -> None:
    async with house(tmp_path) as home:
        home.port.spoil = lambda answer: [framed(bytes((own,)) + answer[1:-2])]
        unit = await home.unit()
        assert (await unit.read()).power_w == 720
        await unit.close()


async def test_findings_of_the_self_test(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = home.hasty()
        home.chip.threshold_w = 500
        assert "over-power alarm" in (await unit.self_test())[0]
        home.chip.silent = True
        assert "no answer" in (await unit.self_test())[0]
        await unit.close()


# Disturbance


async def test_an_answer_may_come_byte_by_byte(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = await home.unit()
        home.port.spoil = lambda answer: [answer[at : at + 1] for at in range(len(answer))]
        home.port.byte_s = 0.0005
        assert (await unit.read()).power_w == 720
        await unit.close()


async def test_a_damaged_byte_never_becomes_a_sample(tmp_path: Path) -> None:
    async def damage(nth: int) -> None:
        directory = tmp_path / str(nth)
        directory.mkdir()
        async with house(directory) as home:
            unit = home.hasty(1)
            right = await unit.read()
            damaged: list[bytes] = []

            def once(answer: bytes) -> Sequence[bytes]:
                if damaged:
                    return [answer]
                damaged.append(answer[:nth] + bytes((answer[nth] ^ 0x10,)) + answer[nth + 1 :])
                return damaged

            home.port.spoil = once
            assert await unit.read() == right
            assert damaged
            await unit.close()

    await asyncio.gather(*(damage(nth) for nth in range(25)))


async def test_lasting_damage_is_told_and_over_when_it_is_over(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = home.hasty()
        home.port.spoil = lambda answer: [answer[:-1] + bytes((answer[-1] ^ 1,))]
        with pytest.raises(
            UnitFailure, match=r"PZEM-004T no\. P00000000031: .*/pzem address 0xf8: no answer"
        ):
            await unit.read()
        home.port.spoil = None
        assert (await unit.read()).power_w == 720
        await unit.close()


@pytest.mark.parametrize(
    "garbage", [b"\x00", b"\xff\xff", bytes(range(40)), b"\x01\x04\x14", b"\xf8\x84"]
)
async def test_garbage_before_an_answer_is_healed_or_told(tmp_path: Path, garbage: bytes) -> None:
    async with house(tmp_path) as home:
        unit = home.hasty()
        right = await unit.read()
        home.port.spoil = lambda answer: [garbage + answer]
        try:
            assert await unit.read() == right
        except UnitFailure as failure:
            assert "P00000000031" in str(failure)  # noqa: PT017
        home.port.spoil = None
        assert await unit.read() == right
        await unit.close()


@settings(max_examples=40)
@given(
    noise=st.lists(
        st.binary(min_size=1, max_size=60)
        | st.binary(max_size=40).map(lambda rest: framed(b"\x01" + rest))
        | st.binary(max_size=40).map(lambda rest: framed(b"\x01\x04" + rest)),
        min_size=1,
        max_size=4,
    )
)
def test_whatever_comes_is_told_within_its_bound(
    noise: list[bytes], tmp_path_factory: pytest.TempPathFactory
) -> None:
    async def scenario(directory: Path) -> None:
        broken: list[dict[str, Any]] = []
        asyncio.get_running_loop().set_exception_handler(lambda _, what: broken.append(what))
        async with house(directory) as home:
            unit = Pzem004tUnit(PLATE, Pzem004tLine(home.link, 1, reply_s=0.01))
            home.port.spoil = lambda answer: noise
            with pytest.raises(UnitFailure, match="P00000000031"):
                await unit.read()
            await unit.close()
        assert broken == []

    asyncio.run(scenario(tmp_path_factory.mktemp("noise")))


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        (bytes((0x01, 0x84, 0x02)), "exception 2"),
        (bytes((0x01, 0x03, 20)) + bytes(20), "function 0x03"),
        (bytes((0x01, 0x04, 18)) + bytes(18), "9 registers in place of 10"),
        (bytes((0x01, 0x04, 20)) + bytes(20), "frequency of 0 dHz cannot be"),
        (bytes((0x01, 0x04, 19)) + bytes(19), "9 registers in place of 10"),
        (bytes((0x02, 0x04, 20)) + bytes(20), "no answer"),
    ],
)
async def test_a_whole_answer_of_no_sense_is_told(tmp_path: Path, answer: bytes, said: str) -> None:
    async with house(tmp_path) as home:
        unit = home.hasty(1)
        home.port.spoil = lambda _: [framed(answer)]
        with pytest.raises(UnitFailure, match=said):
            await unit.read()
        await unit.close()


async def test_a_silent_chip_is_told_within_a_second(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = await home.unit()
        home.chip.silent = True
        began = time.monotonic()
        with pytest.raises(UnitFailure, match="the line it measures is live"):
            await unit.read()
        assert time.monotonic() - began < 1.0
        home.chip.silent = False
        assert (await unit.read()).power_w == 720
        await unit.close()


async def test_a_late_answer_is_a_reading_of_a_moment_ago(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = home.hasty()
        home.port.answer_after_s = 3 * HASTY_S
        with pytest.raises(UnitFailure):
            await unit.read()
        home.port.answer_after_s = 0.0
        home.clock.at += 36_000
        readings = [(await unit.read()).forward_mwh for _ in range(4)]
        assert readings == sorted(readings)
        assert readings[-1] == 7_200_000
        await unit.close()


async def test_a_chip_at_another_address_is_not_heard(tmp_path: Path) -> None:
    async with house(tmp_path, address=7) as home:
        with pytest.raises(UnitFailure, match="address 0x08"):
            await home.hasty(8).read()


async def test_a_unit_that_is_pulled_out_is_told_and_comes_back(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = home.hasty()
        await unit.read()
        await home.unplug()
        with pytest.raises(UnitFailure, match="cannot be opened"):
            await unit.read()
        home.plug()
        assert (await unit.read()).power_w == 720
        await unit.close()


async def test_a_unit_that_is_pulled_out_while_it_answers_is_told(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = home.hasty()
        answering = asyncio.Event()

        def half(answer: bytes) -> Sequence[bytes]:
            answering.set()
            return [answer[:12]]

        home.port.spoil = half
        reading = asyncio.create_task(unit.read())
        await answering.wait()
        await home.port.unplug()
        with pytest.raises(UnitFailure):
            await reading
        await unit.close()


async def test_a_far_end_that_nobody_serves_is_bounded() -> None:
    load_pymodbus()
    master, slave = os.openpty()
    unit = Pzem004tUnit(PLATE, Pzem004tLine(os.ttyname(slave), 1, reply_s=0.01))
    try:
        for _ in range(20):
            with pytest.raises(UnitFailure, match="no answer"):
                await unit.read()
    finally:
        await unit.close()
        os.close(slave)
        os.close(master)


async def test_a_port_that_another_program_holds_is_told(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        first, second = home.hasty(), home.hasty()
        await first.read()
        with pytest.raises(UnitFailure, match="no other program"):
            await second.read()
        await first.close()
        assert (await second.read()).power_w == 720
        await second.close()


async def test_readings_at_once_take_turns(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = await home.unit()
        samples = await asyncio.gather(*(unit.read() for _ in range(5)))
        assert {sample.power_w for sample in samples} == {720}
        await unit.close()


async def test_a_cancelled_reading_leaves_the_next_one_alone(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = await home.unit()
        for turns in range(12):
            reading = asyncio.create_task(unit.read())
            for _ in range(turns):
                await asyncio.sleep(0)
            reading.cancel()
            await asyncio.wait({reading})
        assert (await unit.read()).power_w == 720
        await unit.close()


async def test_a_closed_unit_says_so(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        unit = await home.unit()
        await unit.close()
        await unit.close()
        with pytest.raises(UnitFailure, match="closed already"):
            await unit.read()


async def test_what_goes_wrong_on_the_line_stays_out_of_the_log(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="meter_runtime")
    async with house(tmp_path) as home:
        unit = home.hasty()
        home.port.spoil = lambda answer: [answer[:-1], b"?"]
        with pytest.raises(UnitFailure):
            await unit.read()
        home.chip.silent = True
        with pytest.raises(UnitFailure):
            await unit.read()
        await unit.close()
    assert not [each for each in caplog.records if each.name.startswith("pymodbus")]


# Recognising it


async def test_a_chip_is_recognised(tmp_path: Path) -> None:
    async with house(tmp_path, address=9) as home:
        assert DRIVER.detect is not None
        found = await DRIVER.detect(home.board.wires)
        assert found is not None
        assert (found.model, found.driver, found.two_way) == ("PZEM-004T", "pzem004t", False)
        assert found.wiring is Wiring.ONE_PHASE_TWO_WIRE
        unit = await DRIVER.build(home.context(found))
        assert (await unit.read()).power_w == 720
        await unit.close()


async def test_silence_and_others_are_not_recognised_within_a_second(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        assert DRIVER.detect is not None
        for answer in ([], [b"OK\r\n"], [framed(bytes((0xF8, 0x04, 20)) + bytes(20))]):
            home.port.spoil = lambda _, answer=answer: answer
            began = time.monotonic()
            assert await DRIVER.detect(home.board.wires) is None
            assert time.monotonic() - began < 1.0


async def test_a_slot_without_a_port_or_with_none_there_has_no_unit(tmp_path: Path) -> None:
    assert DRIVER.detect is not None
    with pytest.raises(NoSuchWire, match="UART"):
        await DRIVER.detect(UartBoard(None).wires)
    assert await DRIVER.detect(UartBoard(f"serial:{tmp_path}/nobody").wires) is None
    (tmp_path / "file").write_bytes(b"")
    assert await DRIVER.detect(UartBoard(f"serial:{tmp_path}/file").wires) is None


# Options and nameplate


async def test_a_port_of_its_own_needs_no_slot(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        options = {"port": home.port.uri, "serial": "LAB2"}
        unit = await DRIVER.build(DriverContext(home.clock, options))
        assert unit.nameplate.serial == "LAB2"
        await unit.close()


async def test_nobody_there_is_told_and_the_port_let_go(tmp_path: Path) -> None:
    async with house(tmp_path) as home:
        home.chip.silent = True
        with pytest.raises(UnitFailure, match="no answer"):
            await home.unit()
        home.chip.silent = False
        await (await home.unit()).close()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"adress": 1}, 'did you mean "address"'),
        ({"address": 249}, "from 1 to 248"),
        ({"address": "1"}, "whole number"),
        ({"port": "tcp:host:1"}, "no serial port"),
        ({"port": "ttyUSB0"}, "no serial port"),
        ({"port": "serial:/dev/ttyUSB0?baudrate=115200"}, "9600 baud"),
    ],
)
async def test_wrong_options_are_refused(options: dict[str, Any], said: str) -> None:
    context = DriverContext(EagerClock(), options, nameplate=PLATE)
    with pytest.raises(UsageError, match=said):
        await DRIVER.build(context)


async def test_a_unit_without_port_and_slot_is_refused() -> None:
    with pytest.raises(UsageError, match="needs a port"):
        await DRIVER.build(DriverContext(EagerClock(), nameplate=PLATE))


@pytest.mark.parametrize(
    "plate",
    [
        Nameplate(UnitKind.METERING, "M", "S", wiring=Wiring.ONE_PHASE_TWO_WIRE, two_way=True),
        Nameplate(UnitKind.METERING, "M", "S", wiring=Wiring.ONE_PHASE_THREE_WIRE, two_way=False),
    ],
)
async def test_a_nameplate_that_promises_more_is_refused(plate: Nameplate) -> None:
    context = DriverContext(EagerClock(), {"port": "/dev/nobody"}, nameplate=plate)
    with pytest.raises(UnitFailure, match="label the unit again"):
        await DRIVER.build(context)


def test_what_is_not_installed_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MeterError, match=r"pip install 'meter-runtime\[rpi\]'"):
        load_pymodbus()


def test_a_port_is_a_path_or_a_serial_uri() -> None:
    assert device_of("/dev/ttyUSB0") == "/dev/ttyUSB0"
    assert device_of("serial:/dev/ttyUSB0") == "/dev/ttyUSB0"
    assert device_of("serial:/dev/serial/by-id/a:b?baudrate=9600") == "/dev/serial/by-id/a:b"


# Registers


@given(
    st.builds(
        Reading,
        voltage_dv=st.integers(0, 3000),
        current_ma=st.integers(0, 120_000),
        power_dw=st.integers(0, 300_000),
        energy_wh=st.integers(0, 0xFFFF_FFFF),
        frequency_dhz=st.integers(450, 650),
        power_factor_percent=st.integers(0, 100),
        alarm=st.booleans(),
    )
)
def test_registers_are_read_low_word_first(said: Reading) -> None:
    words = [
        half
        for number in (said.current_ma, said.power_dw, said.energy_wh)
        for half in (number & 0xFFFF, number >> 16)
    ]
    rest = [said.frequency_dhz, said.power_factor_percent, 0xFFFF if said.alarm else 0]
    assert decode([said.voltage_dv, *words, *rest]) == said


@given(st.lists(st.integers(0, 0xFFFF), max_size=12))
def test_registers_of_no_sense_are_told_by_name(registers: list[int]) -> None:
    try:
        reading = decode(registers)
    except ValueError as nonsense:
        assert "cannot be" in str(nonsense) or "in place of" in str(nonsense)  # noqa: PT017
    else:
        assert reading.voltage_dv <= 3000
        assert 450 <= reading.frequency_dhz <= 650


# The model


def chip(**how: int) -> Pzem004tChip:
    clock = EagerClock()
    supply = Supply(
        clock.monotonic, Steps(clock.at, [(60, 500)]), clock.at, wiring=Wiring.ONE_PHASE_TWO_WIRE
    )
    return Pzem004tChip(supply.tap(), **how)


def test_frames_have_the_crc_of_modbus() -> None:
    # The manual's example request, as it is quoted everywhere.
    assert framed(bytes.fromhex("f8040000000a")) == bytes.fromhex("f8040000000a6464")


@given(cuts=st.lists(st.integers(1, 40), max_size=20), lead=st.binary(max_size=5))
def test_the_model_hears_a_request_in_any_pieces(cuts: list[int], lead: bytes) -> None:
    model = chip()
    stream = lead + framed(bytes((0x01,)) + READ) + framed(bytes((0x02,)) + READ)
    answers, at = [], 0
    for size in [*cuts, len(stream)]:
        answers += model.hear(stream[at : at + size])
        at += size
    if not lead:
        assert len(answers) == 1
    assert all(answer == framed(answer[:-2]) for answer in answers)


@pytest.mark.parametrize(
    ("request_", "answer"),
    [
        ("01 41 3721", None),
        ("01 05 0000 0000", "01 85 01"),
        ("01 04 0008 0003", "01 84 02"),
        ("01 04 0000 0000", "01 84 03"),
        ("01 03 0001 0002", "01 03 04 61a8 0001"),
        ("01 06 0002 00f8", "01 86 03"),
        ("01 06 0003 0001", "01 86 02"),
        ("01 06 0001 0064", "01 06 0001 0064"),
        ("01 42", "01 42"),
        ("00 06 0001 0064", None),
    ],
)
def test_the_model_answers_as_modbus_demands(request_: str, answer: str | None) -> None:
    told = chip().hear(framed(bytes.fromhex(request_)))
    assert told == ([] if answer is None else [framed(bytes.fromhex(answer))])


def test_the_model_forgets_energy_only_when_it_is_told_to() -> None:
    model = chip(energy_wh=77)
    model.hear(framed(b"\x01\x42") + framed(b"\x02\x42")[:-1])
    assert model.energy_wh == 0
