"""An FRAM chip on I²C as a medium: each byte durable at once, no pages, no wear to speak of.

For chips that take two address bytes and wait for nothing after a write, such as the MB85RC256V.
I²C has no checksum: what is written is read back and compared. What is read is not read twice;
whoever keeps something here guards it with a CRC that also knows where it lies, because a
disturbed address byte brings sound bytes from the wrong place.
"""

from meter_runtime.errors import MeterError
from meter_runtime.i2c import BusStuckError, I2CBus

FRAM_ADDRESS = 0x50
"""With A0, A1 and A2 low."""

FRAM_SIZE = 32768

CHUNK = 256
"""Data bytes of one transaction. The kernel takes 8192; not every adapter does."""

WRITE_TRIES = 3

_ADDRESSABLE = 1 << 16


class FramMedia:
    """The chip at ``address`` of ``bus``, which this medium owns and closes.

    Synchronous, like a file. A write of ``n`` bytes puts 2n + 7 on the bus, a read n + 4, each of
    nine bits: 0.9 ms for a record of 16 bytes and 2.3 ms for a checkpoint of 48 at 400 kHz (3.5
    and 9.3 ms at 100 kHz), 0.75 s (3 s) for the whole chip, which only a start reads. A disturbed
    write is tried :data:`WRITE_TRIES` times in all, a read twice. A stuck bus is not tried again:
    it has cost the kernel's time-out, about a second, once.
    """

    write_unit = 1

    def __init__(self, bus: I2CBus, address: int = FRAM_ADDRESS, size: int = FRAM_SIZE) -> None:
        if not 0 < size <= _ADDRESSABLE:
            raise ValueError(f"two address bytes reach {_ADDRESSABLE} bytes, not {size}")
        self.name = f"{bus.name} address {address:#04x}"
        self.size = size
        self._bus = bus
        self._address = address

    def read(self, offset: int, n: int) -> bytes:
        self._check_range(offset, n)
        return b"".join(
            self._read_chunk(at, min(CHUNK, offset + n - at))
            for at in range(offset, offset + n, CHUNK)
        )

    def write(self, offset: int, data: bytes) -> None:
        self._check_range(offset, len(data))
        for at in range(0, len(data), CHUNK):
            self._write_chunk(offset + at, data[at : at + CHUNK])

    def flush(self) -> None:
        """Nothing is held back: :meth:`write` has seen it on the chip."""

    def close(self) -> None:
        """Release the bus; does nothing the second time."""
        self._bus.close()

    def _read_chunk(self, offset: int, n: int) -> bytes:
        try:
            return self._fetch(offset, n)
        except BusStuckError:
            raise
        except MeterError:
            return self._fetch(offset, n)

    def _write_chunk(self, offset: int, chunk: bytes) -> None:
        for _ in range(WRITE_TRIES):
            try:
                self._bus.write(self._address, _place(offset) + chunk)
                if self._fetch(offset, len(chunk)) == chunk:
                    return
                trouble = MeterError(
                    f"{self.name}: {len(chunk)} bytes at {offset:#06x} read back otherwise than"
                    " written; tie WP to ground, shorten the wires, check power and pull-ups"
                )
            except BusStuckError:
                raise
            except MeterError as error:
                trouble = error
        raise trouble

    def _fetch(self, offset: int, n: int) -> bytes:
        return self._bus.transfer(self._address, _place(offset), n)

    def _check_range(self, offset: int, n: int) -> None:
        if offset < 0 or n < 0 or offset + n > self.size:
            raise ValueError(f"{self.name} has {self.size} bytes: {offset}+{n} is outside")


def _place(offset: int) -> bytes:
    return offset.to_bytes(2, "big")
