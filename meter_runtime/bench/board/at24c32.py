"""An AT24C32: 4 KiB of EEPROM on I²C, as its datasheet describes the bus.

Two address bytes, high one first, the top four bits ignored; then data in either direction. A
read counts the address up and wraps at the end of the chip; a write wraps within its page of 32
bytes, the later byte winning. Data is taken in at the STOP: from then on the chip writes its page
and acknowledges nothing until it is done. A new chip is all FF.

A power cut while a page is written leaves the cells done so far, the one at work erased, and the
rest as they were; real silicon promises less (*unverified*).
"""

from collections.abc import Callable

from meter_runtime.bench.board.bus import Nak

SIZE = 4096
PAGE_SIZE = 32
WRITE_CYCLE_S = 0.005

_ADDRESS_BYTES = 2
_ERASED = 0xFF


class At24c32:
    """The chip; ``now`` is monotonic time in seconds. :attr:`content` outlives a power cut."""

    def __init__(self, now: Callable[[], float]) -> None:
        self.content = bytearray((_ERASED,)) * SIZE
        self.write_protected = False
        """WP is high: data is acknowledged and not kept, and no write cycle follows."""
        self.write_cycles = 0
        self._now = now
        self._latch = 0
        self._busy_until: float | None = None
        self._left: int | None = None

    def power_off_after(self, n_bytes: int) -> None:
        """Lose power once ``n_bytes`` more have been written; 0 is now."""
        self._left = n_bytes

    def power_on(self) -> None:
        """Power is back, and whatever was being written is over."""
        self._left = None
        self._busy_until = None

    def write(self, data: bytes) -> None:
        self._listening()
        if len(data) < _ADDRESS_BYTES:
            return
        self._latch = int.from_bytes(data[:_ADDRESS_BYTES], "big") % SIZE
        if len(data) > _ADDRESS_BYTES and not self.write_protected:
            self._program(data[_ADDRESS_BYTES:])

    def read(self, n: int) -> bytes:
        self._listening()
        found = bytes(self.content[(self._latch + i) % SIZE] for i in range(n))
        self._latch = (self._latch + n) % SIZE
        return found

    def _listening(self) -> None:
        busy = self._busy_until is not None and self._now() < self._busy_until
        if busy or self._left == 0:
            raise Nak

    def _program(self, data: bytes) -> None:
        page = self._latch - self._latch % PAGE_SIZE
        cells: dict[int, int] = {}
        for byte in data:
            cells[self._latch] = byte
            self._latch = page + (self._latch + 1) % PAGE_SIZE
        for cell, byte in cells.items():
            if self._left == 0:
                self.content[cell] = _ERASED
                return
            self.content[cell] = byte
            if self._left is not None:
                self._left -= 1
        self.write_cycles += 1
        self._busy_until = self._now() + WRITE_CYCLE_S
