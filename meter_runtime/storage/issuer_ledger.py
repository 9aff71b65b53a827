"""What changes about the issuers of commands: the counter each has reached, and its present key.

Which issuers there are and which keys they begin with stands in the meter's trust file. A key is
replaced by a command, while that file goes on saying what was true when it was written; so the
file's key counts once, and again when it was edited since. Which one was seen last is remembered
by a mark, the first 8 bytes of its SHA-256.

Eight places, each a :class:`~meter_runtime.storage.twin.Twin` in write units of its own, so that
one issuer's commands never touch what is kept of another. A place's payload, big-endian::

    name 16 (UTF-8, zeros) | mark 8 | counter u64 | public key 32 | MAC 16

The MAC is HMAC-SHA256 over the place's index (u8) and all before it, cut to 16 bytes, under a key
derived from the device key: nobody gives himself a key by writing a file. What it cannot see: that
an old copy of the whole medium was put back.
"""

import contextlib
import hashlib
import hmac
import logging
import struct
from collections.abc import Mapping
from dataclasses import dataclass, replace

from meter_runtime.device_key import derive
from meter_runtime.errors import MeterError
from meter_runtime.storage.media import Media
from meter_runtime.storage.twin import Twin

log = logging.getLogger(__name__)

MAX_ISSUERS = 8
MAX_COUNTER = 2**64 - 1
NAME_SIZE = 16
KEY_SIZE = 32

_PURPOSE = "meter-runtime issuer ledger 1"
_MAGIC = b"Is"
_VERSION = 1
_MARK_SIZE = 8
_MAC_SIZE = 16
_RECORD = struct.Struct(f">{NAME_SIZE}s{_MARK_SIZE}sQ{KEY_SIZE}s")
_PAYLOAD_SIZE = _RECORD.size + _MAC_SIZE


@dataclass(frozen=True, slots=True)
class Standing:
    """How far one issuer has come. ``mark`` tells which configured key was seen last."""

    name: str
    mark: bytes
    counter: int
    public_key: bytes


class IssuerLedger:
    """The standings of up to :data:`MAX_ISSUERS` issuers on one medium."""

    def __init__(self, media: Media, mac_key: bytes) -> None:
        size = Twin.size_for(_PAYLOAD_SIZE, media.write_unit)
        self._name = media.name
        self._mac_key = mac_key
        self._twins = tuple(
            Twin(media, place * size, _MAGIC, _VERSION, _PAYLOAD_SIZE)
            for place in range(MAX_ISSUERS)
        )
        self._standings: dict[int, Standing] = {}
        self._places: dict[str, int] = {}
        self._lost: list[int] = []
        self.damaged = 0
        """Places that held something when the ledger was opened, and nothing to be believed."""

    @classmethod
    def open(cls, media: Media, key: bytes) -> "IssuerLedger":
        """The ledger on ``media`` under the device key ``key``.

        Raises :class:`MeterError`, with the medium untouched, when a newer program wrote to it.
        """
        ledger = cls(media, derive(key, _PURPOSE))
        ledger._load()
        return ledger

    @staticmethod
    def size_for(write_unit: int) -> int:
        """Bytes taken on a medium with this write unit."""
        return MAX_ISSUERS * Twin.size_for(_PAYLOAD_SIZE, write_unit)

    def enroll(self, configured: Mapping[str, bytes], reached: Mapping[str, int]) -> None:
        """Take over the trust file's issuers, by name their public keys; at most eight.

        ``reached`` says which counters are known from elsewhere: a standing is never below. A
        medium that fails now is logged and hinders nobody: the next :meth:`advance` tells.

        An issuer that has left the file keeps its place until another needs it. Should it return
        after that, its counter begins anew: it is to be given another key then.
        """
        if len(configured) > MAX_ISSUERS:
            raise ValueError(f"a ledger holds {MAX_ISSUERS} issuers, not {len(configured)}")
        if self.damaged:
            log.error(
                "%s: damaged: what is kept of %d issuers cannot be believed; their counters go on"
                " from what the journal knows, their keys are the trust file's",
                self._name,
                self.damaged,
            )
        for name, public_key in configured.items():
            place = self._places.get(name)
            kept = None if place is None else self._standings[place]
            standing = _after_file(kept, name, public_key, reached.get(name, 0))
            if standing == kept:
                continue
            if place is None:
                place = self._free_place(configured)
            self._put(place, standing)
            try:
                self._save(place)
            except MeterError as failure:
                log.error("%s", failure)

    def counter(self, name: str) -> int:
        """The last counter of an enrolled issuer; 0 when it has sent nothing yet."""
        return self._standings[self._places[name]].counter

    def public_key(self, name: str) -> bytes:
        """The key by which an enrolled issuer signs now."""
        return self._standings[self._places[name]].public_key

    def advance(self, name: str, counter: int) -> None:
        """Raise an issuer's counter; durable on return. A lower one changes nothing.

        Raises :class:`MeterError` when the medium fails; until the next start it is raised then
        all the same.
        """
        place = self._places[name]
        standing = self._standings[place]
        if counter > standing.counter:
            self._put(place, replace(standing, counter=counter))
            self._save(place)

    def rotate(self, name: str, public_key: bytes) -> None:
        """Replace an issuer's key; durable on return.

        Raises :class:`MeterError` when the medium fails: the key before then stands.
        """
        place = self._places[name]
        before = self._standings[place]
        self._put(place, replace(before, public_key=public_key))
        try:
            self._save(place)
        except MeterError:
            # Else the next start might find the key whose storing was reported as failed.
            self._put(place, before)
            with contextlib.suppress(MeterError):
                self._save(place)
            raise

    def _load(self) -> None:
        for place, twin in enumerate(self._twins):
            payload = twin.load()
            standing = None if payload is None else self._decode(place, payload)
            if standing is not None and standing.name not in self._places:
                self._put(place, standing)
            elif payload is not None or twin.damaged:
                self._lost.append(place)
        self.damaged = len(self._lost)

    def _put(self, place: int, standing: Standing) -> None:
        self._standings[place] = standing
        self._places[standing.name] = place

    def _save(self, place: int) -> None:
        self._twins[place].save(self._encode(place, self._standings[place]))

    def _free_place(self, configured: Mapping[str, bytes]) -> int:
        """A place that was damaged, else one never used, else that of an issuer who has left."""
        if self._lost:
            return self._lost.pop(0)
        for place in range(MAX_ISSUERS):
            if place not in self._standings:
                return place
        gone = next(name for name in self._places if name not in configured)
        log.warning("%s: %s is no issuer any more and gives way", self._name, gone)
        return self._places.pop(gone)

    def _encode(self, place: int, standing: Standing) -> bytes:
        record = _RECORD.pack(
            standing.name.encode(), standing.mark, standing.counter, standing.public_key
        )
        return record + self._mac(place, record)

    def _decode(self, place: int, payload: bytes) -> Standing | None:
        record, mac = payload[: _RECORD.size], payload[_RECORD.size :]
        if not hmac.compare_digest(mac, self._mac(place, record)):
            return None
        name, mark, counter, public_key = _RECORD.unpack(record)
        return Standing(name.rstrip(b"\0").decode(), mark, counter, public_key)

    def _mac(self, place: int, record: bytes) -> bytes:
        return hmac.digest(self._mac_key, bytes((place,)) + record, "sha256")[:_MAC_SIZE]


def _after_file(kept: Standing | None, name: str, public_key: bytes, reached: int) -> Standing:
    """The standing of an issuer whose key in the trust file is this one."""
    mark = hashlib.sha256(public_key).digest()[:_MARK_SIZE]
    if kept is None:
        return Standing(name, mark, reached, public_key)
    counter = max(kept.counter, reached)
    if kept.mark != mark:
        log.info("the trust file's key of %s is new and replaces the one before", name)
        return Standing(name, mark, counter, public_key)
    return replace(kept, counter=counter)
