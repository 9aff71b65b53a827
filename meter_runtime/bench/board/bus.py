"""A virtual I²C bus: chips at addresses, and what goes wrong between them and their master.

It does not model time, arbitration or clock stretching: a transaction is whole and instant.
"""

import errno
import os
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Protocol

from meter_runtime.errors import MeterError
from meter_runtime.i2c import failure

TRANSACTIONS_KEPT = 256
"""How many of the last transactions a test can look at."""


class Nak(Exception):  # noqa: N818 - an answer on the wire
    """Raised by a chip: it did not acknowledge."""


class Chip(Protocol):
    """One chip's side of a transaction. What a read answers may depend on the write before it."""

    def write(self, data: bytes) -> None:
        """Take what follows the address byte; raises :class:`Nak`."""
        ...

    def read(self, n: int) -> bytes:
        """Answer with exactly ``n`` bytes; raises :class:`Nak`."""
        ...


@dataclass(frozen=True, slots=True)
class Transaction:
    """What crossed the bus, as the receiving side saw it; ``failed`` when it came to no end."""

    address: int
    written: bytes
    read: bytes
    failed: bool = False


class VirtualI2C:
    """An :class:`~meter_runtime.i2c.I2CBus` of models, with the kernel's errors.

    Nobody at an address, or a chip that does not acknowledge, is EREMOTEIO; a stuck bus is
    ETIMEDOUT. :attr:`chips` may change while it runs, as when a unit is pulled and plugged in.
    """

    def __init__(self, name: str, chips: Mapping[int, Chip]) -> None:
        self.name = name
        self.chips = dict(chips)
        self.stuck = False
        """While true, SDA is held low and every transaction times out."""
        self.transactions: deque[Transaction] = deque(maxlen=TRANSACTIONS_KEPT)
        """The last ones, oldest first."""
        self._naks: dict[int, int] = {}
        self._flips: dict[int, int] = {}
        self._crossed = 0
        self._closed = False

    def nak(self, address: int, count: int = 1) -> None:
        """The next ``count`` transactions with this address are not acknowledged."""
        self._naks[address] = count

    def flip(self, nth: int, bit: int = 0) -> None:
        """Invert ``bit`` of the ``nth`` byte from now: 0 is the next one in either direction.

        Bytes that follow an address byte are counted, whatever their address.
        """
        at = self._crossed + nth
        self._flips[at] = self._flips.get(at, 0) ^ 1 << bit

    def write(self, address: int, data: bytes) -> None:
        self._run(address, data, None)

    def read(self, address: int, n: int) -> bytes:
        return self._run(address, None, n)

    def transfer(self, address: int, data: bytes, n: int) -> bytes:
        return self._run(address, data, n)

    def close(self) -> None:
        self._closed = True

    def _run(self, address: int, data: bytes | None, n: int | None) -> bytes:
        if self._closed:
            raise MeterError(f"{self.name}: it was closed already; open it again")
        written = read = b""
        reason = None
        try:
            chip = self._addressed(address)
            if data is not None:
                written = self._cross(data)
                chip.write(written)
            if n is not None:
                read = self._cross(chip.read(n))
        except Nak:
            reason = errno.ETIMEDOUT if self.stuck else errno.EREMOTEIO
        self.transactions.append(Transaction(address, written, read, reason is not None))
        if reason is not None:
            raise failure(self.name, address, OSError(reason, os.strerror(reason)))
        return read

    def _addressed(self, address: int) -> Chip:
        naks = self._naks.get(address, 0)
        if naks:
            self._naks[address] = naks - 1
        if self.stuck or naks or address not in self.chips:
            raise Nak
        return self.chips[address]

    def _cross(self, data: bytes) -> bytes:
        start, self._crossed = self._crossed, self._crossed + len(data)
        if not self._flips:
            return data
        seen = bytearray(data)
        for at in range(start, self._crossed):
            seen[at - start] ^= self._flips.pop(at, 0)
        return bytes(seen)
