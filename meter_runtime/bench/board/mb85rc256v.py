"""An MB85RC256V: 32 KiB of ferroelectric memory on I²C, as its datasheet describes the bus.

Two address bytes, high one first, its top bit ignored; then data in either direction. The address
counts up with each byte and wraps at the end; a read without an address goes on where the last
access ended. There are no pages and no write time: each byte is kept at its acknowledgement.
Not modelled: the device ID.
"""

from meter_runtime.bench.board.bus import Nak

SIZE = 32768
DEFAULT_ADDRESS = 0x50
"""With A0, A1 and A2 low."""

_ADDRESS_BYTES = 2


class Mb85rc256v:
    """The chip, or a smaller one of its family; :attr:`content` outlives a power cut."""

    def __init__(self, size: int = SIZE) -> None:
        self.content = bytearray(size)
        self._size = size
        self.write_protected = False
        """WP is high: data is acknowledged and not kept (*unverified*: it may be refused)."""
        self.stored = 0
        """Data bytes written into the array so far."""
        self._latch = 0
        self._left: int | None = None

    def power_off_after(self, n_bytes: int) -> None:
        """Lose power once ``n_bytes`` more have been stored; 0 is now."""
        self._left = n_bytes

    def power_on(self) -> None:
        """Power is back; the address is undefined then, here all ones."""
        self._left = None
        self._latch = self._size - 1

    def write(self, data: bytes) -> None:
        self._powered()
        if len(data) < _ADDRESS_BYTES:
            return
        self._latch = int.from_bytes(data[:_ADDRESS_BYTES], "big") % self._size
        for byte in data[_ADDRESS_BYTES:]:
            self._powered()
            if not self.write_protected:
                self.content[self._latch] = byte
                self.stored += 1
                if self._left is not None:
                    self._left -= 1
            self._latch = (self._latch + 1) % self._size

    def read(self, n: int) -> bytes:
        self._powered()
        start, self._latch = self._latch, (self._latch + n) % self._size
        found = self.content[start : start + n]
        while len(found) < n:
            found += self.content[: n - len(found)]
        return bytes(found)

    def _powered(self) -> None:
        if self._left == 0:
            raise Nak
