"""Two chips, one meter: which direction counts where the lines flow opposite ways.

Each chip counts its own line's import and export; the meter's direction is that of the sum. While
line R takes 1500 W and line T gives 1000 W, the chips count both and the meter only 500 W forward.
What must not be counted twice over is the *circulation*: of the imports and the exports since the
last reading, the part that cancels out. The registers are the chips' sums less all circulation so
far; forward minus reverse is exact always.

Two readings cannot tell energy that flowed opposite ways at once from energy that turned round
between them. So:

* Up to :data:`NET_S` apart, it is taken for the former. Energy that turned round within T seconds
  is then missing from both registers, at most P * T / 2 of each where the power is below P: 0.83 Wh
  per turn at 6 kW and one second.
* Further apart, as after an outage, it is taken for the latter: both registers then hold what
  circulated meanwhile, at most the smaller of the two sums.

The circulation is kept in the EEPROM of line R's chip, 16 bytes a page, little-endian: circulation
(6), the sum of the imports when it was stored (6), a count of records (2), CRC-16/CCITT seeded 39F5
over these (2). It is stored each :data:`STORE_MWH`; that much is counted too much, at most, after
an end without warning. On houses whose lines agree nothing is ever stored.
"""

import logging
from binascii import crc_hqx

from meter_runtime.units.contracts import UnitFailure
from meter_runtime.units.metering.mcp39f521.chip import Mcp39f521
from meter_runtime.units.metering.mcp39f521.frames import PAGE_SIZE

log = logging.getLogger(__name__)

NET_S = 5.0
"""Readings come once a second; some may be missed."""

STORE_MWH = 10_000
"""10 Wh: some hundred times a day in a house of much circulation, over sixteen pages; what the
EEPROM endures is *unverified*."""

FIRST_PAGE = 16
PAGES_USED = 16

_SEED = 0x39F5
_COUNTS = 1 << 16


def encode(circulated_mwh: int, imported_mwh: int, count: int) -> bytes:
    """The record of a page."""
    body = b"".join(
        (
            circulated_mwh.to_bytes(6, "little"),
            imported_mwh.to_bytes(6, "little"),
            (count % _COUNTS).to_bytes(2, "little"),
        )
    )
    return body + crc_hqx(body, _SEED).to_bytes(2, "little")


def decode(page: bytes) -> tuple[int, int, int] | None:
    """Circulation, imports and count; None where a page holds no record."""
    if len(page) != PAGE_SIZE or crc_hqx(page[:14], _SEED) != int.from_bytes(page[14:], "little"):
        return None
    circulated, imported, count = (
        int.from_bytes(page[begin:end], "little") for begin, end in ((0, 6), (6, 12), (12, 14))
    )
    return circulated, imported, count


class Circulation:
    """What circulated between the lines so far, in mWh, kept in ``chip``."""

    def __init__(self, chip: Mcp39f521) -> None:
        self.mwh = 0
        self._chip = chip
        self._stored_mwh = 0
        self._count = 0
        self._failed = False

    async def load(self, imported_mwh: int) -> None:
        """Find the newest record; one made at higher imports is of counters long cleared."""
        pages = [await self._chip.read_page(FIRST_PAGE + page) for page in range(PAGES_USED)]
        records = [record for record in map(decode, pages) if record is not None]
        if not records:
            return
        around = records[0][2] - _COUNTS // 2
        circulated, imported, count = max(records, key=lambda each: (each[2] - around) % _COUNTS)
        self._count = count + 1
        if imported <= imported_mwh:
            self.mwh = self._stored_mwh = circulated

    def take(self, imported_mwh: int, exported_mwh: int, elapsed_s: float) -> None:
        """Account for what the chips counted between two readings."""
        if elapsed_s <= NET_S:
            self.mwh += max(0, min(imported_mwh, exported_mwh))

    async def store(self, imported_mwh: int, *, at_once: bool = False) -> None:
        """Store it where it has grown by enough, or ``at_once`` if at all; never raises."""
        if self.mwh - self._stored_mwh < (1 if at_once else STORE_MWH):
            return
        record = encode(self.mwh, imported_mwh, self._count)
        try:
            await self._chip.write_page(FIRST_PAGE + self._count % PAGES_USED, record)
        except UnitFailure as failure:
            if not self._failed:
                log.warning("what circulates between the lines is not stored: %s", failure)
            self._failed = True
            return
        self._failed = False
        self._stored_mwh = self.mwh
        self._count += 1
