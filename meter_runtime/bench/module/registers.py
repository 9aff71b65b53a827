"""The virtual registers SKSREG reads and writes: one table, and their values.

Owns names, ranges, print width, defaults and what SKSAVE keeps. What a register *does* is its
reader's business; those that report (frame counter, send time) are set by their owners.

Source: SKSTACK-IP command manuals as quoted by public client code.
"""

import enum
import re
from collections.abc import Mapping
from dataclasses import dataclass

from meter_runtime.bench.module.arguments import CommandError, hex_number
from meter_runtime.comm.skstack.dialects import Dialect
from meter_runtime.comm.skstack.replies import FailCode


class Reg(enum.IntEnum):
    """Register numbers: ``S02`` is 0x02."""

    CHANNEL = 0x02
    PAN_ID = 0x03
    FRAME_COUNTER = 0x07
    PAIRING_ID = 0x0A
    ANSWER_BEACONS = 0x15
    LIFETIME = 0x16
    AUTO_REAUTH = 0x17
    ICMP_ECHO = 0xA0
    ICMP_MESSAGES = 0xA1
    RSSI = 0xA2
    SIDE = 0xF0
    SEND_LIMITED = 0xFB
    SENT_MS = 0xFD
    ECHO = 0xFE
    AUTO_LOAD = 0xFF


@dataclass(frozen=True, slots=True)
class Register:
    """One register: its width when printed and the values it may be given."""

    digits: int
    lowest: int = 0
    highest: int = 1
    default: int = 0
    writable: bool = True
    dual_stack_only: bool = False


LOWEST_LIFETIME_S = 0x3C
DEFAULT_PAIRING_ID = "CCDDEEFF"
"""*Unverified*: the value client code uses as the manual's example."""

TABLE: Mapping[Reg, Register] = {
    Reg.CHANNEL: Register(2, lowest=0x21, highest=0x3C, default=0x21),
    Reg.PAN_ID: Register(4, highest=0xFFFF, default=0xFFFF),
    Reg.FRAME_COUNTER: Register(8, writable=False),
    Reg.ANSWER_BEACONS: Register(1),
    Reg.LIFETIME: Register(8, lowest=LOWEST_LIFETIME_S, highest=0xFFFF_FFFF),
    Reg.AUTO_REAUTH: Register(1, default=1),
    Reg.ICMP_ECHO: Register(1, default=1),
    Reg.ICMP_MESSAGES: Register(1, default=1),
    Reg.RSSI: Register(1),
    Reg.SIDE: Register(1, dual_stack_only=True),
    Reg.SEND_LIMITED: Register(1, writable=False),
    Reg.SENT_MS: Register(16, highest=0),
    Reg.ECHO: Register(1, default=1),
    Reg.AUTO_LOAD: Register(1),
}
"""The pairing ID S0A is text and stands apart. S16's default is the dialect's."""

NOT_SAVED = frozenset({Reg.FRAME_COUNTER, Reg.SEND_LIMITED, Reg.SENT_MS})


class Registers:
    """The registers of one module."""

    def __init__(self, dialect: Dialect, *, echo: bool) -> None:
        self._dialect = dialect
        self._echo = echo
        self._saved: tuple[dict[Reg, int], str] | None = None
        self._values: dict[Reg, int] = {}
        self.pairing_id = DEFAULT_PAIRING_ID
        self.reset()

    def reset(self) -> None:
        """Back to the state at power-up, which is the saved one where autoload says so."""
        self._values = {number: register.default for number, register in TABLE.items()}
        self._values[Reg.LIFETIME] = self._dialect.default_lifetime_s
        self._values[Reg.ECHO] = int(self._echo)
        self.pairing_id = DEFAULT_PAIRING_ID
        if self._saved is not None and self._saved[0][Reg.AUTO_LOAD]:
            self.load()

    def __getitem__(self, number: Reg) -> int:
        return self._values[number]

    def __setitem__(self, number: Reg, value: int) -> None:
        self._values[number] = value

    def save(self) -> None:
        """SKSAVE: keep what is not a reading."""
        kept = {number: value for number, value in self._values.items() if number not in NOT_SAVED}
        self._saved = kept, self.pairing_id

    def load(self) -> None:
        """SKLOAD; CommandError where nothing was saved."""
        if self._saved is None:
            raise CommandError(FailCode.EXECUTION)
        values, self.pairing_id = self._saved
        self._values.update(values)

    def erase(self) -> None:
        """SKERASE: forget what was saved."""
        self._saved = None

    def find(self, name: str) -> Reg:
        """``S2``, ``s02`` or ``S0002``; CommandError for none of ours."""
        found = re.fullmatch(r"S0{0,8}([0-9A-F]{1,2})", name.upper())
        try:
            number = Reg(int(found[1], 16)) if found else None
        except ValueError:
            number = None
        if number is None or not self._has(number):
            raise CommandError(FailCode.ARGUMENT_FORMAT)
        return number

    def text(self, number: Reg) -> str:
        """The value as ESREG prints it."""
        if number is Reg.PAIRING_ID:
            return self.pairing_id
        return f"{self._values[number]:0{TABLE[number].digits}X}"

    def write(self, number: Reg, text: str) -> None:
        """Set from a command's argument; CommandError for a value it cannot take."""
        if number is Reg.PAIRING_ID:
            if not re.fullmatch(r"[0-9A-Za-z]{8}", text):
                raise CommandError(FailCode.ARGUMENT_FORMAT)
            self.pairing_id = text.upper()
            return
        register = TABLE[number]
        if not register.writable:
            raise CommandError(FailCode.ARGUMENT_FORMAT)
        self._values[number] = hex_number(text, register.lowest, register.highest)

    def _has(self, number: Reg) -> bool:
        if number is Reg.PAIRING_ID:
            return True
        return self._dialect.has_side or not TABLE[number].dual_stack_only
