"""A PZEM-004T of version 3 at its registers, and the serial port that it answers on.

Function 03 tells the settings, 04 the measurements, 06 writes a setting, 42 clears the energy,
which is otherwise kept. What is not for it, or not whole by its CRC, it leaves unanswered.
Measurements are those of one line of a :class:`Supply`, at unity power factor; energy towards the
grid is not counted. Not modelled: calibration (function 41).

The pace of the port is real time even where the bench runs on virtual time, since a program on real
time waits at the other end.
"""

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Sequence

from meter_runtime.bench.board.supply import Flow
from meter_runtime.comm.pty import PtyPort
from meter_runtime.comm.streams import PortClosed

DEFAULT_ADDRESS = 0x01
GENERAL_ADDRESS = 0xF8

MWS_PER_WH = 3_600_000
COUNTER_WH = 10_000_000
"""Where the energy begins again at 0. *Unverified.*"""

BYTE_S = 10 / 9600
"""Start bit, eight data bits, stop bit."""

REQUESTS_KEPT = 64

_HEARD_MAX = 256


class Function(enum.IntEnum):
    """What it does; every other function is refused."""

    READ_SETTINGS = 0x03
    READ_INPUTS = 0x04
    WRITE_SETTING = 0x06
    CLEAR_ENERGY = 0x42


class Setting(enum.IntEnum):
    """Registers that keep what is written to them."""

    THRESHOLD_W = 1
    ADDRESS = 2


class Refusal(enum.IntEnum):
    """Modbus exceptions."""

    FUNCTION = 1
    REGISTER = 2
    VALUE = 3


class Pzem004tChip:
    """The chip on ``line``, a tap of a supply; ``energy_wh`` is what it has counted so far."""

    def __init__(
        self, line: Callable[[], Flow], *, address: int = DEFAULT_ADDRESS, energy_wh: int = 0
    ) -> None:
        self.address = address
        self.silent = False
        """The line that it measures, and lives from, is dead."""
        self.threshold_w = 25_000
        self.requests: deque[bytes] = deque(maxlen=REQUESTS_KEPT)
        """The last whole requests that it heard, whoever they were for."""
        self._line = line
        self._counted_mws = energy_wh * MWS_PER_WH
        self._seen_mws = line().forward_mws
        self._heard = bytearray()

    @property
    def energy_wh(self) -> int:
        """What the energy register holds now."""
        seen = self._line().forward_mws
        self._counted_mws += seen - self._seen_mws
        self._seen_mws = seen
        return self._counted_mws // MWS_PER_WH % COUNTER_WH

    @property
    def inputs(self) -> list[int]:
        """The ten measuring registers now."""
        flow, energy = self._line(), self.energy_wh
        power_dw = abs(flow.power_mw) // 100
        alarm = 0xFFFF if power_dw > self.threshold_w * 10 else 0
        return [
            flow.voltage_mv // 100,
            *_words(flow.current_ma),
            *_words(power_dw),
            *_words(energy),
            flow.frequency_mhz // 100,
            100 if power_dw else 0,
            alarm,
        ]

    def hear(self, octets: bytes) -> list[bytes]:
        """The answers to the requests that these octets complete."""
        self._heard += octets
        del self._heard[:-_HEARD_MAX]
        answers = []
        while (frame := self._next_frame()) is not None:
            self.requests.append(frame)
            if frame[0] in (self.address, GENERAL_ADDRESS) and not self.silent:
                answers.append(framed(frame[:1] + self._answer(frame[1], frame[2:-2])))
        return answers

    def _next_frame(self) -> bytes | None:
        """The next whole request; what cannot begin one is skipped."""
        while len(self._heard) >= 2:
            length = 4 if self._heard[1] == Function.CLEAR_ENERGY else 8
            if len(self._heard) < length:
                return None
            frame = bytes(self._heard[:length])
            if frame == framed(frame[:-2]):
                del self._heard[:length]
                return frame
            del self._heard[0]
        return None

    def _answer(self, function: int, request: bytes) -> bytes:
        first, second = int.from_bytes(request[:2], "big"), int.from_bytes(request[2:], "big")
        match function:
            case Function.READ_INPUTS:
                return _registers_told(function, self.inputs, first, second)
            case Function.READ_SETTINGS:
                settings = [0, self.threshold_w, self.address]
                return _registers_told(function, settings, first, second)
            case Function.WRITE_SETTING:
                refused = self._set(first, second)
                echo = bytes((function,)) + request
                return echo if refused is None else _refusal(function, refused)
            case Function.CLEAR_ENERGY:
                self._seen_mws, self._counted_mws = self._line().forward_mws, 0
                return bytes((function,))
        return _refusal(function, Refusal.FUNCTION)

    def _set(self, register: int, value: int) -> Refusal | None:
        match register:
            case Setting.THRESHOLD_W:
                self.threshold_w = value
            case Setting.ADDRESS if 0 < value < GENERAL_ADDRESS:
                self.address = value
            case Setting.ADDRESS:
                return Refusal.VALUE
            case _:
                return Refusal.REGISTER
        return None


class Pzem004tPort:
    """The chip at the far end of a pseudo-terminal, which ``link`` names; run it with :meth:`run`.

    ``spoil`` takes an answer and gives what the line makes of it, in pieces that come one by one;
    without it, answers come whole. A byte takes ``byte_s`` on the wire.
    """

    def __init__(self, chip: Pzem004tChip, link: str) -> None:
        self.chip = chip
        self.spoil: Callable[[bytes], Sequence[bytes]] | None = None
        self.byte_s = BYTE_S
        self.answer_after_s = 0.0
        self._port = PtyPort(link)

    @property
    def uri(self) -> str:
        """What a slot's ``uart`` says."""
        return f"serial:{self._port.link}"

    async def run(self) -> None:
        """Answer until the unit is pulled out."""
        try:
            while True:
                for answer in self.chip.hear(await self._port.read()):
                    await asyncio.sleep(self.answer_after_s)
                    await self._tell(answer)
        except PortClosed:
            return

    async def unplug(self) -> None:
        """Pull the unit out: its port hangs up, and its name is gone."""
        await self._port.close()

    async def _tell(self, answer: bytes) -> None:
        for piece in (answer,) if self.spoil is None else self.spoil(answer):
            await asyncio.sleep(len(piece) * self.byte_s)
            self._port.write(piece)


def framed(message: bytes) -> bytes:
    """A message with its CRC-16, low byte first, as Modbus RTU sends it."""
    crc = 0xFFFF
    for byte in message:
        crc ^= byte
        for _ in range(8):
            crc = crc >> 1 ^ (0xA001 if crc & 1 else 0)
    return message + crc.to_bytes(2, "little")


def _registers_told(function: int, registers: Sequence[int], first: int, count: int) -> bytes:
    if first >= len(registers) or first + count > len(registers):
        return _refusal(function, Refusal.REGISTER)
    if count == 0:
        return _refusal(function, Refusal.VALUE)
    told = b"".join(value.to_bytes(2, "big") for value in registers[first : first + count])
    return bytes((function, len(told))) + told


def _refusal(function: int, code: Refusal) -> bytes:
    return bytes((function | 0x80, code))


def _words(number: int) -> tuple[int, int]:
    """Low word first."""
    return number & 0xFFFF, number >> 16 & 0xFFFF
