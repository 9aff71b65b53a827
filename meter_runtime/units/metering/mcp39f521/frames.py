"""MCP39F521 frames and registers: bytes in, bytes out.

Every request and every answer is a frame that ends with the sum of the bytes before it, modulo
256. Register addresses are 16 bits, high byte first; what registers hold is little-endian.

=============  ==========================================================
read           ``A5 08 41 hi lo 4E n sum``, answered ``06 n+3 data sum``
write          ``A5 n+8 41 hi lo 4D n data sum``, answered ``06``
read page      ``A5 05 42 page sum``, answered ``06 13 data sum``
write page     ``A5 15 50 page data sum``, answered ``06``
=============  ==========================================================

A request that is no good is answered with one byte, 15 (not acknowledged) or 51 (its sum was
wrong). Pages are of the chip's EEPROM: 32 of 16 bytes.

The datasheet (DS20005442A) could not be read. All this is what four open drivers agree on that run
on real chips (UpbeatLabs drwattson, warpme, santosjmp, toitware powerplug), but for what is marked
*unverified*.
"""

import enum

HEADER = 0xA5
ACKNOWLEDGED = 0x06
NOT_ACKNOWLEDGED = 0x15
SUM_WRONG = 0x51

SET_ADDRESS = 0x41
READ_BYTES = 0x4E
WRITE_BYTES = 0x4D
READ_PAGE = 0x42
WRITE_PAGE = 0x50

MOST_BYTES = 32
"""The most that one frame reads or writes."""

PAGES = 32
PAGE_SIZE = 16

ANSWER_OVERHEAD = 3
"""Acknowledgement, length and sum around what was asked for."""


class Register(enum.IntEnum):
    """Where things are."""

    STATUS = 0x02
    VERSION = 0x04
    VOLTAGE = 0x06
    """u16, 0.1 V; then u16 line frequency in mHz, u16 analog input, s16 power factor."""
    CURRENT = 0x0E
    """u32, 0.1 mA."""
    ACTIVE_POWER = 0x12
    """u32, 10 mW, without its sign; then reactive and apparent power."""
    IMPORTED = 0x1E
    """u64 active energy from the grid; then u64 towards it."""
    GAIN_CURRENT = 0x60
    GAIN_VOLTAGE = 0x62
    GAIN_ACTIVE_POWER = 0x64
    PHASE = 0x76
    """s16: phase compensation."""
    RANGE = 0x82
    """u8 each: voltage, current and power, by how many bits a product is shifted right."""
    INTERVAL = 0x9E
    """u16: a computation takes 2 to this power line cycles."""
    ENERGY_CONTROL = 0xDC
    """u16, bit 0: energy is counted. Clearing it clears the counters (*unverified*)."""


class Status(enum.IntFlag):
    """Bits of the status register."""

    SAG = 1 << 0
    SURGE = 1 << 1
    OVER_CURRENT = 1 << 2
    OVER_POWER = 1 << 3
    IMPORTING = 1 << 4
    """*Unverified*: the active power's sign, 1 from the grid."""


MWH_PER_COUNT = 1
"""*Unverified*: what a count of the energy registers is worth, with the ranges set so that active
power comes in 10 mW. Two open drivers divide by 10^6 for kWh."""

COUNTING_INTERVAL = 2
"""At any other interval N the counters run off by a factor of 2^(N - 2): a known fault."""


_REFUSALS = {
    NOT_ACKNOWLEDGED: "it does not take the request (15)",
    SUM_WRONG: "the request reached it damaged (51)",
}


class FrameError(ValueError):
    """An answer that is none; the message says what is wrong with it.

    ``answered``: the chip said something, if only that it did not understand.
    """

    def __init__(self, reason: str, *, answered: bool = True) -> None:
        super().__init__(reason)
        self.answered = answered


def read_request(register: int, n: int) -> bytes:
    """Ask for ``n`` bytes, at most 32, from a register on."""
    if not 1 <= n <= MOST_BYTES:
        raise ValueError(f"a frame reads 1 to {MOST_BYTES} bytes, not {n}")
    return _framed(SET_ADDRESS, register >> 8, register & 0xFF, READ_BYTES, n)


def write_request(register: int, data: bytes) -> bytes:
    """Write ``data``, at most 32 bytes, from a register on."""
    if not 1 <= len(data) <= MOST_BYTES:
        raise ValueError(f"a frame writes 1 to {MOST_BYTES} bytes, not {len(data)}")
    return _framed(SET_ADDRESS, register >> 8, register & 0xFF, WRITE_BYTES, len(data), *data)


def page_read_request(page: int) -> bytes:
    """Ask for a page of the EEPROM, 0 to 31."""
    return _framed(READ_PAGE, _checked_page(page))


def page_write_request(page: int, data: bytes) -> bytes:
    """Write a page of the EEPROM, 16 bytes."""
    if len(data) != PAGE_SIZE:
        raise ValueError(f"a page has {PAGE_SIZE} bytes, not {len(data)}")
    return _framed(WRITE_PAGE, _checked_page(page), *data)


def content(answer: bytes, n: int) -> bytes:
    """The ``n`` bytes that an answer carries, 0 for a bare acknowledgement.

    Raises :class:`FrameError` for a refusal and for everything that is not such an answer.
    """
    if not answer:
        raise FrameError("it gave no answer", answered=False)
    if answer[0] != ACKNOWLEDGED:
        other = f"its answer begins with {answer[0]:02X} where 06 belongs"
        raise FrameError(_REFUSALS.get(answer[0], other), answered=answer[0] in _REFUSALS)
    if n == 0:
        return b""
    if len(answer) != n + ANSWER_OVERHEAD or answer[1] != len(answer):
        raise FrameError(f"its answer is not the {n + ANSWER_OVERHEAD} bytes it should be")
    if sum(answer[:-1]) & 0xFF != answer[-1]:
        raise FrameError("its answer came damaged: the sum is wrong")
    return answer[2:-1]


def answer_length(n: int) -> int:
    """How many bytes to read for an answer that carries ``n``."""
    return n + ANSWER_OVERHEAD if n else 1


def _framed(*body: int) -> bytes:
    frame = bytes((HEADER, len(body) + ANSWER_OVERHEAD, *body))
    return frame + bytes((sum(frame) & 0xFF,))


def _checked_page(page: int) -> int:
    if not 0 <= page < PAGES:
        raise ValueError(f"there are pages 0 to {PAGES - 1}, not {page}")
    return page
