"""The driver ``pzem004t``: one PZEM-004T of version 3, a meter module on a UART by Modbus RTU.

It measures one line in one direction: it gives no sign, so energy that flows towards the grid looks
like energy that comes from it (*unverified*). It is no unit for a home that generates.

9600 baud, 8N1. Function 04 tells ten registers from 0 on, in one frame of 25 bytes with a CRC-16.
Facts are the maker's manual V1.0's ("Communication protocol", "Read the measurement result") as
dealers reprint it, and agree with the open drivers; *unverified* where it is said.

====  ============  ==========================================================
0     voltage       0.1 V; measured from 80 to 260 V
1 2   current       1 mA, low word first
3 4   power         0.1 W, low word first; from 0.4 W on
5 6   energy        1 Wh, low word first; kept without power
7     frequency     0.1 Hz; measured from 45 to 65 Hz
8     power factor  0.01
9     alarm         FFFF while the power is above its threshold, else 0
====  ============  ==========================================================

The energy counter ends at 9999.99 kWh and begins again at 0 (*unverified*): to the meter, which
counts on from where it stood, that is a unit that begins anew. Function 42 would clear it. Only
function 04 is ever sent.

Its measuring side lives from the line that it measures: on a dead line it is silent.

The waits for an answer are real time on any clock, since what answers is at the end of a real wire.
A frame does not say which request it answers: one that comes too late is taken for the answer to
the next request, and is then as old as the pause between the two.
"""

import asyncio
import importlib.util
import logging
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from meter_runtime.errors import MeterError, UsageError
from meter_runtime.units.board import Wires
from meter_runtime.units.contracts import Nameplate, Sample, UnitFailure, UnitKind, Wiring
from meter_runtime.units.drivers import Driver, DriverContext
from meter_runtime.units.options import Options

if TYPE_CHECKING:
    from pymodbus.client import AsyncModbusSerialClient
    from pymodbus.pdu import ModbusPDU

NAME = "pzem004t"
MODEL = "PZEM-004T"

BAUDRATE = 9600
READ_INPUT_REGISTERS = 0x04
REGISTERS = 10
GENERAL_ADDRESS = 0xF8
"""Every chip answers to it: for a line that has only one."""

ATTEMPTS = 2
REPLY_S = 0.4
"""Bound of one request: some 40 ms are on the wire, the rest is the chip's. *Unverified.*"""
READ_BOUND_S = 0.95
"""Bound of a reading, whatever becomes of the port."""

MWH_PER_WH = 1000
VOLTAGE_DV = range(3001)
MEASURED_VOLTAGE_DV = range(800, 2601)
FREQUENCY_DHZ = range(450, 651)
CURRENT_MA = range(120_001)
POWER_DW = range(300_001)
"""What a reading can be at most: 100 A and 23 kW, with some room. *Unverified.*"""
ALARMS = {0x0000: False, 0xFFFF: True}


@dataclass(frozen=True, slots=True)
class Reading:
    """What the ten registers say, in their own units."""

    voltage_dv: int
    current_ma: int
    power_dw: int
    energy_wh: int
    frequency_dhz: int
    power_factor_percent: int
    alarm: bool


def decode(registers: Sequence[int]) -> Reading:
    """The registers' values; ValueError says which one cannot be."""
    if len(registers) != REGISTERS:
        raise ValueError(f"{len(registers)} registers in place of {REGISTERS}")
    voltage, current, current_high, power, power_high, energy, energy_high = registers[:7]
    frequency, power_factor, alarm = registers[7:]
    reading = Reading(
        voltage,
        current_high << 16 | current,
        power_high << 16 | power,
        energy_high << 16 | energy,
        frequency,
        power_factor,
        ALARMS.get(alarm, False),
    )
    for name, value, possible in (
        ("voltage of {} dV", reading.voltage_dv, VOLTAGE_DV),
        ("current of {} mA", reading.current_ma, CURRENT_MA),
        ("power of {} dW", reading.power_dw, POWER_DW),
        ("frequency of {} dHz", reading.frequency_dhz, FREQUENCY_DHZ),
        ("power factor of {} %", reading.power_factor_percent, range(101)),
        ("alarm of {:#06x}", alarm, ALARMS),
    ):
        if value not in possible:
            raise ValueError(f"a {name.format(value)} cannot be")
    return reading


class Pzem004tLine:
    """The chip behind its serial port, which is opened when first needed and after each failure."""

    def __init__(self, device: str, address: int, *, reply_s: float = REPLY_S) -> None:
        self.place = f"{device} address {address:#04x}"
        self._device = device
        self._address = address
        self._reply_s = reply_s
        self._client: AsyncModbusSerialClient | None = None
        self._turn = asyncio.Lock()
        self._closed = False

    async def ask(self) -> Reading:
        """The registers now; UnitFailure, which names port, address and reason."""
        try:
            async with asyncio.timeout(READ_BOUND_S), self._turn:
                reason = ""
                for _ in range(ATTEMPTS):
                    try:
                        return await self._ask_once()
                    except UnitFailure as failure:
                        reason = str(failure)
        except TimeoutError:
            reason = f"{self.place}: no reading within {READ_BOUND_S:g} s"
        raise UnitFailure(reason)

    def close(self) -> None:
        """Let go of the port. Harmless twice."""
        self._closed = True
        self._hang_up()

    async def _ask_once(self) -> Reading:
        from pymodbus.exceptions import ModbusException

        client = await self._open()
        answered = False
        try:
            answer = await client.read_input_registers(
                0, count=REGISTERS, device_id=_expected_from(self._address)
            )
            reading = self._reading_of(answer)
            answered = True
        except (ModbusException, OSError) as failure:
            raise UnitFailure(
                f"{self.place}: no answer: {_one_line(failure)}; check its wires, and that the"
                " line it measures is live"
            ) from failure
        finally:
            # A port that failed is opened anew, with nothing left in it in either direction.
            if not answered:
                self._hang_up()
        return reading

    def _reading_of(self, answer: "ModbusPDU") -> Reading:
        if answer.isError():
            raise UnitFailure(
                f"{self.place}: refused the request with exception {answer.exception_code}"
            )
        if answer.function_code != READ_INPUT_REGISTERS:
            raise UnitFailure(
                f"{self.place}: answered with function {answer.function_code:#04x}, which was not"
                " asked for"
            )
        try:
            return decode(answer.registers)
        except ValueError as nonsense:
            raise UnitFailure(f"{self.place}: {nonsense}") from None

    async def _open(self) -> "AsyncModbusSerialClient":
        from pymodbus.client import AsyncModbusSerialClient

        if self._closed:
            raise UnitFailure(f"{self.place}: the port was closed already")
        if self._client is not None and self._client.connected:
            return self._client
        self._hang_up()
        client = self._client = AsyncModbusSerialClient(
            self._device,
            baudrate=BAUDRATE,
            name=NAME,
            timeout=self._reply_s,
            retries=0,
            reconnect_delay=0,
            trace_pdu=self._addressed,
        )
        try:
            opened = await client.connect()
        except ValueError:
            opened = False
        if not opened:
            self._client = None
            raise UnitFailure(
                f"{self.place}: the port cannot be opened; check that it is there, that this user"
                " may use it, and that no other program does"
            )
        # The transport is set up in the next turn of the loop, and cannot be closed before.
        await asyncio.sleep(0)
        return client

    def _addressed(self, sending: bool, pdu: "ModbusPDU") -> "ModbusPDU":
        """What goes on the wire for a request: the address, where pymodbus was told "anybody"."""
        if not sending or pdu.dev_id == self._address:
            return pdu
        request = type(pdu)(dev_id=self._address, address=pdu.address, count=pdu.count)
        request.transaction_id = pdu.transaction_id
        return request

    def _hang_up(self) -> None:
        if self._client is not None:
            self._client.close()
            self._client = None


def _expected_from(address: int) -> int:
    """Whose answer pymodbus is to wait for; 0 is anybody's.

    Whether a chip answers to the general address with its own or with that one is *unverified*.
    """
    return 0 if address == GENERAL_ADDRESS else address


def _one_line(failure: Exception) -> str:
    return " ".join(str(failure).split())


class Pzem004tUnit:
    """A metering unit of one PZEM-004T, on one phase and two wires."""

    keeps_registers = True

    def __init__(self, nameplate: Nameplate, line: Pzem004tLine) -> None:
        self.nameplate = nameplate
        self._line = line

    async def read(self) -> Sample:
        reading = await self._ask()
        return Sample(
            forward_mwh=reading.energy_wh * MWH_PER_WH,
            reverse_mwh=0,
            power_w=(reading.power_dw + 5) // 10,
            current_r_ma=reading.current_ma,
            current_t_ma=None,
        )

    async def self_test(self) -> list[str]:
        """Whether it answers, and what it measures is within its range."""
        try:
            reading = await self._ask()
        except UnitFailure as failure:
            return [str(failure)]
        findings = []
        if reading.alarm:
            findings.append(f"{self._line.place}: its over-power alarm is set")
        if reading.voltage_dv not in MEASURED_VOLTAGE_DV:
            findings.append(
                f"{self._line.place}: {reading.voltage_dv / 10:.1f} V is outside of what it"
                " measures, 80 to 260 V"
            )
        return findings

    async def close(self) -> None:
        """Let go of the port; the chip counts on. Harmless twice."""
        self._line.close()

    async def _ask(self) -> Reading:
        try:
            return await self._line.ask()
        except UnitFailure as failure:
            raise UnitFailure(f"{MODEL} no. {self.nameplate.serial}: {failure}") from failure


def load_pymodbus() -> None:
    """Import pymodbus, which takes a while, and keep its log lines out of the meter's own.

    Raises MeterError where it is not installed.
    """
    # Without pyserial, pymodbus fails at the first use only.
    if not all(importlib.util.find_spec(each) for each in ("pymodbus", "serial")):
        raise MeterError(
            f"the {NAME} driver needs pymodbus and pyserial; install them:"
            " pip install 'meter-runtime[rpi]'"
        )
    importlib.import_module("pymodbus.client")
    # It reports every lost frame as an error of its own. Whoever wants that sets the level.
    its_log = logging.getLogger("pymodbus")
    if its_log.level == logging.NOTSET:
        its_log.setLevel(logging.CRITICAL)


def device_of(port: str) -> str:
    """The device of a port, ``serial:DEVICE`` or its path; UsageError for any other."""
    scheme, colon, rest = port.partition(":")
    device, _, settings = rest.partition("?") if colon else (port, "", "")
    if (scheme == "serial" or not colon) and device.startswith("/"):
        if settings in ("", f"baudrate={BAUDRATE}"):
            return device
        raise UsageError(
            f"the {NAME} driver: port {port!r}: the chip speaks at {BAUDRATE} baud; write"
            f" serial:{device}"
        )
    raise UsageError(
        f"the {NAME} driver: port {port!r} is no serial port; write for example serial:/dev/ttyUSB0"
    )


async def detect(wires: Wires) -> Nameplate | None:
    """A chip that answers on the slot's UART as only this one does, on a line that is live.

    It has no serial number that could be read. One request is sent, which changes nothing.
    """
    device = device_of(wires.uart())
    await asyncio.to_thread(load_pymodbus)
    line = Pzem004tLine(device, GENERAL_ADDRESS)
    try:
        reading = await line.ask()
    except UnitFailure:
        return None
    finally:
        line.close()
    if reading.voltage_dv not in MEASURED_VOLTAGE_DV:
        return None
    return _plain_nameplate(f"PZEM@{GENERAL_ADDRESS:02x}")


async def build(context: DriverContext) -> Pzem004tUnit:
    """The unit, once its chip has answered. The options:

    * ``port``, ``serial:DEVICE``: the slot's UART where it is not given;
    * ``address``, 1 to 248: :data:`GENERAL_ADDRESS` where it is not given;
    * ``serial`` of a unit that has no nameplate.

    UsageError tells what is wrong with them, UnitFailure that nobody answers, or that the nameplate
    promises what the chip does not do.
    """
    options = Options(NAME, context.options)
    port = options.text("port", 200)
    address = options.integer("address", 1, GENERAL_ADDRESS) or GENERAL_ADDRESS
    nameplate = context.nameplate
    if nameplate is None:
        nameplate = _plain_nameplate(options.text("serial", 12) or f"PZEM@{address:02x}")
    options.end()
    if port is None:
        if context.wires is None:
            raise UsageError(f"the {NAME} driver needs a port; give one, or the board's profile")
        port = context.wires.uart()
    device = device_of(port)
    if nameplate.two_way or nameplate.wiring not in (None, Wiring.ONE_PHASE_TWO_WIRE):
        raise UnitFailure(
            f"{MODEL} no. {nameplate.serial}: it measures one way and on two wires, and its"
            " nameplate says otherwise; label the unit again"
        )
    await asyncio.to_thread(load_pymodbus)
    unit = Pzem004tUnit(
        replace(nameplate, wiring=Wiring.ONE_PHASE_TWO_WIRE), Pzem004tLine(device, address)
    )
    try:
        await unit.read()
    except BaseException:
        await unit.close()
        raise
    return unit


def _plain_nameplate(serial: str) -> Nameplate:
    """Of a unit that has none we could read."""
    return Nameplate(
        UnitKind.METERING,
        MODEL,
        serial,
        maker="Peacefair",
        driver=NAME,
        wiring=Wiring.ONE_PHASE_TWO_WIRE,
        two_way=False,
    )


DRIVER = Driver(build=build, detect=detect)
