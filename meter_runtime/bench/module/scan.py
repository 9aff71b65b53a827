"""SKSCAN in progress: which channel, until when, and what an energy scan found so far.

The core transmits and prints; this is only the walk over the channels.
"""

import enum

FIRST_CHANNEL = 0x21
LAST_CHANNEL = 0x3C
CHANNEL_PAGE = 0x09


class ScanMode(enum.IntEnum):
    """SKSCAN's first argument."""

    ENERGY = 0
    PAIRING = 2
    """Active, with the pairing ID: only its holder answers."""
    ACTIVE = 3


def channels_of(mask: int) -> tuple[int, ...]:
    """The channels of a mask: bit 0 is channel 33, bits above channel 60 mean nothing."""
    return tuple(
        channel
        for channel in range(FIRST_CHANNEL, LAST_CHANNEL + 1)
        if mask >> (channel - FIRST_CHANNEL) & 1
    )


class Scan:
    """One walk over the channels of ``mask``, ``dwell_s`` on each, that begins at ``now``."""

    def __init__(self, mode: ScanMode, mask: int, dwell_s: float, now: float) -> None:
        self.mode = mode
        self.levels: list[tuple[int, int]] = []
        self.channel: int | None = None
        self.deadline = now
        self._dwell_s = dwell_s
        self._channels = iter(channels_of(mask))

    def advance(self, now: float) -> int | None:
        """Go to the next channel at :attr:`deadline`; None when all have been visited."""
        self.channel = next(self._channels, None)
        self.deadline = now + self._dwell_s
        return self.channel
