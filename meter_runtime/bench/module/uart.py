"""The module's mouth: replies to bytes, one write per answer, in order and bounded.

Knows the state's print settings (hex payloads, RSSI) and that nothing may be printed into the
report of a scan. When a write leaves is the shell's business.
"""

from collections import deque
from dataclasses import dataclass

from meter_runtime.bench.module.registers import Reg
from meter_runtime.bench.module.state import ModuleState
from meter_runtime.comm.skstack.replies import Reply, encode_reply

MAX_WRITES = 1024
"""Writes kept for a host that does not read; the oldest give way."""


@dataclass(frozen=True, slots=True)
class UartWrite:
    """One write to the host, not before ``after_s`` seconds of real time after the one before.

    The first of a series counts from the moment it was taken.
    """

    data: bytes
    after_s: float
    gap_s: float = 0.0
    """Real time between two octets, where the line dribbles."""


class UartOutput:
    """What the host is to be told."""

    def __init__(self, state: ModuleState, pace_s: float) -> None:
        self.lost = 0
        """Writes that no host fetched in time."""
        self._state = state
        self._pace_s = pace_s
        self._writes: deque[UartWrite] = deque()
        self._held: deque[bytes] | None = None

    def encode(self, *replies: Reply) -> bytes:
        """Replies as this module prints them now."""
        dialect = self._state.profile.dialect
        rssi = bool(self._state.registers[Reg.RSSI])
        return b"".join(
            encode_reply(reply, dialect, hex_data=self._state.hex_data, rssi=rssi)
            for reply in replies
        )

    def write(self, data: bytes) -> None:
        """One write, now."""
        if len(self._writes) >= MAX_WRITES:
            self._writes.popleft()
            self.lost += 1
        self._writes.append(UartWrite(data, self._pace_s))

    def announce(self, *replies: Reply) -> None:
        """One write the host did not ask for; waits while announcements are held."""
        if self._held is None:
            self.write(self.encode(*replies))
        else:
            self._held.append(self.encode(*replies))

    def hold(self) -> None:
        """Keep announcements back, as during a scan."""
        self._held = deque(maxlen=MAX_WRITES)

    def release(self) -> None:
        """Write the announcements that were kept back."""
        held, self._held = self._held, None
        for data in held or ():
            self.write(data)

    def drop_held(self) -> None:
        """Forget the announcements that were kept back."""
        self._held = None

    def take(self) -> list[UartWrite]:
        """The writes since last asked, in order."""
        writes = list(self._writes)
        self._writes.clear()
        return writes
