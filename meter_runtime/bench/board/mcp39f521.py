"""An MCP39F521 at its frames and registers, on one line of a :class:`Supply`.

A request is answered at the read that follows it; a read without one is not acknowledged. What no
driver here uses is plain memory, and the EEPROM has its pages. Energy is counted while it is
enabled, and off by 2^(interval - 2) at another interval than 2, as the real chip's fault is.
Disabling clears the counters. Not modelled: calibration (gains are kept and do nothing), reactive
power and power factor, the no-load threshold, events, saving to flash, and how long an answer
takes.
"""

import struct
from collections.abc import Callable

from meter_runtime.bench.board.bus import Nak
from meter_runtime.bench.board.supply import Flow

DEFAULT_ADDRESS = 0x74

MWS_PER_COUNT = 3600

_OUTPUT = 0x02, struct.Struct("<HHHHHhIIII")
"""Status, version, voltage, frequency, analog input, power factor, current, three powers."""
_ENERGY = 0x1E, struct.Struct("<QQ")
_INTERVAL, _CONTROL = 0x9E, 0xDC
_READ_ONLY_UP_TO = 0x5E
_REGISTERS = 0x100
_PAGES, _PAGE = 32, 16
EEPROM_SIZE = _PAGES * _PAGE
_IMPORTING = 0x10
_FINE = 256
"""Parts of a milliwatt-second in which it counts, so that no interval's fault loses any."""


class Mcp39f521Chip:
    """The chip on ``line``, a tap of a supply.

    With ``kept`` the unit keeps it powered: it has counted all that its line shows. Without, it
    begins at 0, disabled, and forgets at each :meth:`power_off`. ``interval`` is the one in its
    flash, ``eeprom`` what its EEPROM holds (:data:`EEPROM_SIZE` bytes).
    """

    def __init__(
        self,
        line: Callable[[], Flow],
        *,
        kept: bool = True,
        interval: int = 2,
        version: int = 0xFC05,
        eeprom: bytes | None = None,
    ) -> None:
        self.eeprom = bytearray(b"\xff" * EEPROM_SIZE if eeprom is None else eeprom)
        """Outlives everything."""
        self._line = line
        self._kept = kept
        self._flash = {_INTERVAL: interval.to_bytes(2, "little"), _CONTROL: bytes((kept, 0))}
        self._version = version
        self._powered = True
        self._answer: bytes | None = None
        self._counted = [0, 0]
        self._seen = (0, 0)
        self._start_over()
        if kept:
            self._counted = [energy * _FINE for energy in self._seen]

    @property
    def counters_mwh(self) -> tuple[int, int]:
        """What the energy registers hold now."""
        self._count()
        return self._told(0), self._told(1)

    def power_off(self) -> None:
        """The chip's own supply fails; a kept one has another."""
        self._count()
        self._powered = self._kept

    def power_on(self) -> None:
        """Power is back; a chip that was without begins anew."""
        if not self._powered:
            self._powered = True
            self._start_over()

    def write(self, data: bytes) -> None:
        if not self._powered:
            raise Nak
        self._answer = self._take(data)

    def read(self, n: int) -> bytes:
        if not self._powered or self._answer is None:
            raise Nak
        answer, self._answer = self._answer, None
        return answer[:n].ljust(n, b"\xff")

    def _start_over(self) -> None:
        self._memory = bytearray(_REGISTERS)
        for register, held in self._flash.items():
            self._memory[register : register + len(held)] = held
        self._answer = None
        self._counted = [0, 0]
        flow = self._line()
        self._seen = flow.forward_mws, flow.reverse_mws

    def _take(self, frame: bytes) -> bytes | None:
        if len(frame) < 4 or frame[0] != 0xA5:
            return None
        if frame[1] != len(frame) or sum(frame[:-1]) % 256 != frame[-1]:
            return b"\x51"
        match list(frame[2:-1]):
            case [0x41, high, low, 0x4E, n]:
                return self._registers_told(high << 8 | low, n)
            case [0x41, high, low, 0x4D, n, *data] if len(data) == n:
                return self._store(high << 8 | low, bytes(data))
            case [0x42, page] if page < _PAGES:
                return _answer(bytes(self.eeprom[page * _PAGE : (page + 1) * _PAGE]))
            case [0x50, page, *data] if page < _PAGES and len(data) == _PAGE:
                self.eeprom[page * _PAGE : (page + 1) * _PAGE] = bytes(data)
                return b"\x06"
        return b"\x15"

    def _registers_told(self, register: int, n: int) -> bytes:
        if not 1 <= n <= 32 or register + n > _REGISTERS:
            return b"\x15"
        flow = self._count()
        at, layout = _ENERGY
        layout.pack_into(self._memory, at, self._told(0), self._told(1))
        at, layout = _OUTPUT
        layout.pack_into(
            self._memory,
            at,
            _IMPORTING if flow.power_mw >= 0 else 0,
            self._version,
            flow.voltage_mv // 100,
            flow.frequency_mhz,
            0,
            0x7FFF,
            flow.current_ma * 10,
            abs(flow.power_mw) // 10,
            0,
            abs(flow.power_mw) // 10,
        )
        return _answer(bytes(self._memory[register : register + n]))

    def _store(self, register: int, data: bytes) -> bytes:
        if register < _READ_ONLY_UP_TO or register + len(data) > _REGISTERS:
            return b"\x15"
        self._count()
        self._memory[register : register + len(data)] = data
        if not self._memory[_CONTROL] & 1:
            self._counted = [0, 0]
        return b"\x06"

    def _told(self, direction: int) -> int:
        return self._counted[direction] // (MWS_PER_COUNT * _FINE) % (1 << 64)

    def _count(self) -> Flow:
        """Let the counters catch up with the line; what flows in it now."""
        flow = self._line()
        if not self._powered:
            return flow
        now = flow.forward_mws, flow.reverse_mws
        if self._memory[_CONTROL] & 1:
            for direction in (0, 1):
                gained = (now[direction] - self._seen[direction]) * _FINE
                self._counted[direction] += gained * 4 >> self._memory[_INTERVAL]
        self._seen = now
        return flow


def _answer(data: bytes) -> bytes:
    frame = bytes((0x06, len(data) + 3)) + data
    return frame + bytes((sum(frame) % 256,))
