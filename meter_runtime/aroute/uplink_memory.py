"""What the uplink must still know after a restart, and when it is written down.

A restart tells the last :data:`BOOT_SLOTS` again anyway, as power may have failed between a
withdrawal and its correction. So the state is written only when a restart would otherwise tell too
little, or :data:`SPARE_SLOTS` more than it needs (once in three days), and once for each
:data:`SEQUENCE_BLOCK` messages (twenty days, on a quiet line). What a medium refuses is tried again
with the next message.
"""

import logging
import random
from typing import Protocol

from meter_runtime.errors import MeterError
from meter_runtime.storage.uplink_state import UplinkState

log = logging.getLogger(__name__)

BOOT_SLOTS = 96
"""Two days of half-hours are told again after a restart."""
SPARE_SLOTS = 48
SEQUENCE_BLOCK = 1024
"""Sequences set aside by one write, so that a restart never uses one twice."""
MAX_SEQUENCE = 2**53 - 1
_ANYWHERE = 2**32


class StateStore(Protocol):
    """Where the state outlives a restart; both raise MeterError when the medium fails."""

    def load(self) -> UplinkState | None: ...

    def save(self, state: UplinkState) -> None: ...


class UplinkMemory:
    """The state on ``store``, which is read at once (MeterError), and the message sequences.

    A meter that remembers nothing begins to count anywhere (``rng``): what the head-end still says
    of messages before must not be taken for an answer.
    """

    def __init__(self, store: StateStore, rng: random.Random) -> None:
        self._store = store
        self._saved = store.load()
        begin = rng.randrange(1, _ANYWHERE) if self._saved is None else self._saved.sequences
        self._next = self._reserved = begin
        self.failures = 0
        """Vain attempts to write."""

    def of(self, serial: str) -> UplinkState | None:
        """What was written down of this unit."""
        return self._saved if self._saved is not None and self._saved.serial == serial else None

    def used(self, sequence: int) -> bool:
        """A message may have borne this number."""
        return sequence < self._next

    def skip_to(self, sequence: int) -> bool:
        """Go on after this number; False where that leaves none."""
        if sequence > MAX_SEQUENCE - SEQUENCE_BLOCK:
            return False
        self._next = max(self._next, sequence + 1)
        return True

    def reserve(self) -> None:
        """Have a number ready; :meth:`keep` is to be called before it is used."""
        if self._next >= self._reserved:
            self._reserved = self._next + SEQUENCE_BLOCK

    def next_sequence(self) -> int:
        """A number that no message bore before."""
        sequence, self._next = self._next, self._next + 1
        return sequence

    def keep(
        self, serial: str, acknowledged: int, told: int, newest: int | None, reach: int
    ) -> None:
        """Write the state down, if a restart would tell too little without it, or far too much.

        ``newest`` and ``reach`` are of the history as a restart would find it.
        """
        recent = told if newest is None else newest - BOOT_SLOTS
        saved = self.of(serial)
        again_after = reach - 1 if saved is None else min(saved.acknowledged, recent)
        if (
            again_after > acknowledged
            or min(acknowledged, recent) - again_after >= SPARE_SLOTS
            or told > max(newest or 0, 0 if saved is None else saved.told)
            or self._saved is None
            or self._saved.sequences < self._reserved
        ):
            self._save(UplinkState(serial, acknowledged, told, self._reserved))

    def _save(self, state: UplinkState) -> None:
        try:
            self._store.save(state)
        except MeterError as failure:
            if not self.failures:
                log.error("%s; after a restart the utility is told more than it needs", failure)
            self.failures += 1
        else:
            self._saved = state
