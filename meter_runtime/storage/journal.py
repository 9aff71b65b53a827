"""The journal: which commands were begun, and how those that ended have ended.

A command is written down before anything is done about it, and its outcome before it is told to
anyone. After a power cut each command that was begun is therefore *pending*, to be brought to its
end, or *done*, with the outcome to tell. What a command means is not this module's business.

Entries of 2 048 bytes, each in write units of its own, in no order of place. An entry, big-endian::

    magic 2 | version u8 | state u8 | sequence u64 | key 16 | length u16 | payload | CRC-32

and zeros. Of two entries with one key the higher sequence counts. A done entry is written to its
own place before the pending one is erased; where no place is free the oldest done entry gives
way, and a pending one never does. With ``p`` commands pending, the last ``depth - 1 - p`` outcomes
are found after a cut at any moment. Up to the CRC the frame stays the same in every format version;
one of format 1 took 512 bytes (:func:`~meter_runtime.storage.migration.migrate_journal`).

Entries are **not sealed**: a secret must not stand in them in clear.
"""

import enum
import logging
import struct
import zlib
from dataclasses import dataclass, field

from meter_runtime.errors import MeterError
from meter_runtime.storage.media import Media

log = logging.getLogger(__name__)

JOURNAL_DEPTH = 64
"""Entries of a meter's journal."""
KEY_SIZE = 16

_MAGIC = b"Jo"
_VERSION = 2
_ENTRY_SIZE = 2048
_HEAD = struct.Struct(">2sBBQ16sH")
_CRC = struct.Struct(">I")
MAX_PAYLOAD = _ENTRY_SIZE - _HEAD.size - _CRC.size
"""Bytes of an intent or an outcome: 2 014."""
_MIN_DEPTH = 2


class State(enum.IntEnum):
    """How far a command has come."""

    PENDING = 1
    DONE = 2


@dataclass(frozen=True, slots=True)
class Entry:
    """What the journal knows of one command.

    ``payload`` is the intent while it is pending and the outcome when it is done. ``sequence``
    orders the entries of one journal by when they were written.
    """

    key: bytes
    state: State
    sequence: int
    payload: bytes = field(repr=False)


class JournalFullError(MeterError):
    """As many commands are pending as the journal can hold; one must end first."""


class Journal:
    """The commands of one medium, by key."""

    def __init__(self, media: Media) -> None:
        if _ENTRY_SIZE % media.write_unit:
            raise ValueError(f"{media.name}: entries of {_ENTRY_SIZE} bytes share a write unit")
        self.depth = media.size // _ENTRY_SIZE
        if self.depth < _MIN_DEPTH:
            raise ValueError(f"{media.name}: a journal has at least {_MIN_DEPTH} entries")
        self._media = media
        self._slots: dict[bytes, int] = {}
        self._entries: dict[bytes, Entry] = {}
        self._sequence = 0
        self.corrupt = 0
        """Places that held something unreadable when the journal was opened."""

    @classmethod
    def open(cls, media: Media) -> "Journal":
        """The journal on ``media``; as deep as the medium is large.

        Raises :class:`MeterError`, with the medium untouched, when a newer program wrote to it.
        """
        journal = cls(media)
        journal._recover()
        return journal

    @staticmethod
    def size_for(depth: int, write_unit: int) -> int:
        """Bytes that ``depth`` entries take; ValueError where write units do not divide one."""
        if _ENTRY_SIZE % write_unit:
            raise ValueError(f"entries of {_ENTRY_SIZE} bytes do not fit units of {write_unit}")
        return depth * _ENTRY_SIZE

    def begin(self, key: bytes, intent: bytes) -> None:
        """Write down that the command ``key`` is about to be carried out; durable on return.

        ValueError when the key is known already or anything is too long, :class:`JournalFullError`
        when nothing may give way, :class:`MeterError` when the medium fails: not begun then.
        """
        if len(key) != KEY_SIZE:
            raise ValueError(f"a key has {KEY_SIZE} bytes, not {len(key)}")
        if key in self._entries:
            raise ValueError(f"the command {key.hex()} was begun already")
        _check_payload(intent)
        # One place stays out of their reach: without it none of them could ever be finished.
        if len(self.pending()) >= self.depth - 1:
            raise self._full()
        self._put(State.PENDING, key, intent)

    def finish(self, key: bytes, outcome: bytes) -> None:
        """Write down how a pending command ended; durable on return.

        ValueError when it is not pending or the outcome is too long, :class:`MeterError` when the
        medium fails: still pending then.
        """
        entry = self._entries.get(key)
        if entry is None or entry.state is not State.PENDING:
            raise ValueError(f"the command {key.hex()} is not pending")
        _check_payload(outcome)
        pending_at = self._slots[key]
        self._put(State.DONE, key, outcome)
        self._erase(pending_at)

    def pending(self) -> tuple[Entry, ...]:
        """The commands begun and not finished, in the order of their beginning."""
        return tuple(self._in_state(State.PENDING))

    def entries(self) -> tuple[Entry, ...]:
        """All that is known, in the order in which it was written."""
        return tuple(sorted(self._entries.values(), key=lambda entry: entry.sequence))

    def find(self, key: bytes) -> Entry | None:
        """What is known of this command; None when it was never begun or has given way."""
        return self._entries.get(key)

    def _in_state(self, state: State) -> list[Entry]:
        entries = (entry for entry in self._entries.values() if entry.state is state)
        return sorted(entries, key=lambda entry: entry.sequence)

    def _put(self, state: State, key: bytes, payload: bytes) -> None:
        """Store an entry where nothing is lost by it; known only once it is durable."""
        slot = self._make_room()
        self._sequence += 1
        entry = Entry(key, state, self._sequence, payload)
        try:
            self._media.write(slot * _ENTRY_SIZE, _encode(entry))
            self._media.flush()
        except MeterError:
            # Else the next start might find an entry whose writing was reported as failed.
            self._erase(slot)
            raise
        self._entries[key] = entry
        self._slots[key] = slot

    def _make_room(self) -> int:
        # A free place may still hold the pending entry of a command that is done: these go first,
        # or such an entry would count again once its done entry has given way.
        taken = set(self._slots.values())
        for slot in range(self.depth):
            if slot not in taken:
                return slot
        done = self._in_state(State.DONE)
        if not done:
            raise self._full()
        del self._entries[done[0].key]
        return self._slots.pop(done[0].key)

    def _full(self) -> JournalFullError:
        return JournalFullError(
            f"{self._media.name}: {len(self.pending())} commands are pending, and it holds no"
            " more; wait until one of them has ended"
        )

    def _erase(self, slot: int) -> None:
        try:
            self._media.write(slot * _ENTRY_SIZE, bytes(_ENTRY_SIZE))
            self._media.flush()
        except MeterError as failure:
            log.warning("%s: an entry is not erased yet: %s", self._media.name, failure)

    def _recover(self) -> None:
        found: list[tuple[int, Entry]] = []
        for slot in range(self.depth):
            raw = self._media.read(slot * _ENTRY_SIZE, _ENTRY_SIZE)
            entry = _decode(raw, self._media.name)
            if entry is not None:
                found.append((slot, entry))
            elif any(raw):
                self.corrupt += 1
        superseded: list[int] = []
        for slot, entry in sorted(found, key=lambda one: one[1].sequence):
            if entry.key in self._slots:
                superseded.append(self._slots[entry.key])
            self._entries[entry.key] = entry
            self._slots[entry.key] = slot
            self._sequence = entry.sequence
        if self.corrupt:
            log.warning("%s: %d entries cannot be read", self._media.name, self.corrupt)
        for slot in superseded:
            self._erase(slot)


def _check_payload(payload: bytes) -> None:
    if len(payload) > MAX_PAYLOAD:
        raise ValueError(f"an entry holds {MAX_PAYLOAD} bytes, not {len(payload)}")


def _encode(entry: Entry) -> bytes:
    body = (
        _HEAD.pack(_MAGIC, _VERSION, entry.state, entry.sequence, entry.key, len(entry.payload))
        + entry.payload
    )
    return (body + _CRC.pack(zlib.crc32(body))).ljust(_ENTRY_SIZE, b"\0")


def _decode(raw: bytes, name: str) -> Entry | None:
    magic, version, state, sequence, key, length = _HEAD.unpack_from(raw)
    if magic != _MAGIC or length > MAX_PAYLOAD:
        return None
    end = _HEAD.size + length
    if _CRC.unpack_from(raw, end)[0] != zlib.crc32(raw[:end]):
        return None
    if version > _VERSION:
        raise MeterError(
            f"{name}: written by a newer meter-runtime (format {version}, this one reads"
            f" {_VERSION}); install that version, or move the file away"
        )
    if version != _VERSION or state not in tuple(State):
        return None
    return Entry(key, State(state), sequence, raw[_HEAD.size : end])
