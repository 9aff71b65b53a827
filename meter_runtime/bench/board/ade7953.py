"""An ADE7953 at its registers, its two current channels on the lines of a :class:`Supply`.

What the datasheet says of communication is here: sizes by address, the energy registers that a
reading clears while RSTREAD is set, the three registers that remember the last communication, the
locked register 120, write protection, and that all is lost without power. Of the measuring, gains
work on energy, power and currents. Not modelled: phase, offsets, the no-load thresholds, line cycle
accumulation, interrupts, and that both channels share one voltage: each line has its own here.
"""

from collections.abc import Callable, Mapping, Sequence

from meter_runtime.bench.board.bus import Nak
from meter_runtime.bench.board.supply import Flow

DEFAULT_ADDRESS = 0x38

FULL_SCALE_MV = 250_000
FULL_SCALE_MA = 100_000
"""What the model's front end makes a full-scale input of."""

RMS_FULL_SCALE = 9_032_007
POWER_FULL_SCALE = 4_862_401
COUNTS_PER_S = 206_900

_FULL_SCALE_MW = FULL_SCALE_MV * FULL_SCALE_MA // 1000
_UNITY = 0x400000
_DEFAULTS = {
    0x004: 0x40,
    0x102: 0x8004,
    **dict.fromkeys((0x380, 0x381, 0x382, 0x38C, 0x38D, 0x38E), _UNITY),
}
_ENERGIES = (0x31E, 0x31F)
_POWERS = (0x312, 0x313)
_CURRENTS = (0x31A, 0x31B)
_POWER_GAINS = (0x382, 0x38E)
_CURRENT_GAINS = (0x380, 0x38C)
_VRMS, _PERIOD, _VERSION = 0x31C, 0x10E, 0x702
_READ_ONLY = {*_ENERGIES, *_POWERS, *_CURRENTS, _VRMS, _PERIOD, _VERSION}
_LCYCMODE, _RSTREAD = 0x004, 0x40
_UNLOCK, _LOCKED, _KEY = 0x0FE, 0x120, 0xAD
_WRITE_PROTECT = 0x040
_LAST_OP, _LAST_ADD = 0x0FD, 0x1FE
_LAST_DATA = (0x0FF, 0x1FF, 0x2FF, 0x3FF)
_PERIOD_HZ = 223_750

CALIBRATION: Mapping[str, int] = {
    f"{channel}_{name}": value
    for channel in "ab"
    for name, value in (
        ("energy_pwh", round(_FULL_SCALE_MW * 10**9 / 3600 / COUNTS_PER_S)),
        ("power_nw", round(_FULL_SCALE_MW * 10**6 / POWER_FULL_SCALE)),
        ("current_pa", round(FULL_SCALE_MA * 10**9 / RMS_FULL_SCALE)),
    )
}
"""What a nameplate must say of this front end."""


class Ade7953Chip:
    """The chip on one or two ``lines``, taps of a supply. A new one counts from 0."""

    def __init__(self, lines: Sequence[Callable[[], Flow]], *, version: int = 3) -> None:
        self._lines = lines
        self._version = version
        self._powered = True
        self._start_over()

    def power_off(self) -> None:
        """The chip's supply fails: everything is forgotten."""
        self._powered = False

    def power_on(self) -> None:
        """Power is back."""
        self._powered = True
        self._start_over()

    def counts(self, channel: int) -> int:
        """The energy counter, as far as it has run: it has no end here."""
        self._count()
        grain = CALIBRATION["a_energy_pwh"] * 3600 * _UNITY
        return self._energy[channel] * 10**9 // grain

    def write(self, data: bytes) -> None:
        if not self._powered:
            raise Nak
        if len(data) < 2:
            return
        self._pointer = int.from_bytes(data[:2], "big")
        value = data[2:]
        if value and len(value) == _size(self._pointer):
            self._store(self._pointer, int.from_bytes(value, "big"))
            self._remember(0xCA, value)

    def read(self, n: int) -> bytes:
        if not self._powered:
            raise Nak
        size = _size(self._pointer)
        value = self._value(self._pointer) % (1 << 8 * size)
        told = value.to_bytes(size, "big")
        self._remember(0x35, told)
        return told[:n].ljust(n, b"\xff")

    def _start_over(self) -> None:
        self._registers = dict(_DEFAULTS)
        self._pointer = 0
        self._unlocked = False
        self._last = (0, 0, b"")
        self._energy = [0, 0]
        self._cleared_at = [0, 0]
        self._seen = [self._net(channel) for channel in (0, 1)]

    def _store(self, register: int, value: int) -> None:
        protection = self._registers.get(_WRITE_PROTECT, 0)
        group = min(_size(register), 3) - 1
        if register != _WRITE_PROTECT and protection >> group & 1:
            return
        if register == _LOCKED and not self._unlocked:
            return
        self._unlocked = register == _UNLOCK and value == _KEY
        if register in _READ_ONLY or register in (_LAST_OP, _LAST_ADD, *_LAST_DATA):
            return
        self._count()
        self._registers[_alias(register)] = value

    def _remember(self, operation: int, data: bytes) -> None:
        if self._pointer not in (_LAST_OP, _LAST_ADD, *_LAST_DATA):
            self._last = (operation, self._pointer, data)

    def _value(self, register: int) -> int:
        if register == _LAST_OP:
            return self._last[0]
        if register == _LAST_ADD:
            return self._last[1]
        if register in _LAST_DATA:
            return int.from_bytes(self._last[2][-_size(register) :], "big")
        if register == _VERSION:
            return self._version
        register = _alias(register)
        if register in _ENERGIES:
            return self._energy_told(_ENERGIES.index(register))
        if register in _POWERS:
            channel = _POWERS.index(register)
            gained = self._flow(channel).power_mw * self._registers[_POWER_GAINS[channel]]
            return gained * POWER_FULL_SCALE // (_FULL_SCALE_MW * _UNITY)
        if register in _CURRENTS:
            channel = _CURRENTS.index(register)
            gained = self._flow(channel).current_ma * self._registers[_CURRENT_GAINS[channel]]
            return gained * RMS_FULL_SCALE // (FULL_SCALE_MA * _UNITY)
        if register == _VRMS:
            return self._flow(0).voltage_mv * RMS_FULL_SCALE // FULL_SCALE_MV
        if register == _PERIOD:
            return _PERIOD_HZ * 1000 // self._flow(0).frequency_mhz - 1
        return self._registers.get(register, 0)

    def _energy_told(self, channel: int) -> int:
        """24 bits, sign-extended; cleared by this reading while RSTREAD is set."""
        counts = self.counts(channel)
        value = (counts - self._cleared_at[channel] + (1 << 23)) % (1 << 24) - (1 << 23)
        if self._registers[_LCYCMODE] & _RSTREAD:
            self._cleared_at[channel] = counts
        return value

    def _count(self) -> None:
        for channel in (0, 1):
            now = self._net(channel)
            gain = self._registers[_POWER_GAINS[channel]]
            self._energy[channel] += (now - self._seen[channel]) * gain
            self._seen[channel] = now

    def _net(self, channel: int) -> int:
        flow = self._flow(channel)
        return flow.forward_mws - flow.reverse_mws

    def _flow(self, channel: int) -> Flow:
        """A channel that nothing is connected to sees no current."""
        if channel < len(self._lines):
            return self._lines[channel]()
        flow = self._lines[0]()
        return Flow(0, 0, 0, 0, flow.voltage_mv, flow.frequency_mhz)


def _size(register: int) -> int:
    return 1 if register >= 0x700 else min(register >> 8, 3) + 1


def _alias(register: int) -> int:
    """24-bit registers are the 32-bit ones by another address."""
    return register + 0x100 if register >> 8 == 2 else register
