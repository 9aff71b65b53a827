"""What the utility provisioned for the home: ID, password and the day it was accepted.

The acceptance day is part of the record, because nothing from before it may be served (terms of
service, article 12 (3)): whoever changes the password changes the day in the same step, or the
last tenant's history leaks. The same record says how it came to be, so that a command's counter
changes with what the command set. Where it is kept is
:mod:`~meter_runtime.broute.credential_store`'s business.
"""

import struct
from dataclasses import dataclass, field
from datetime import date

from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError
from meter_runtime.secret import Secret

MARK_SIZE = 16
NO_MARK = bytes(MARK_SIZE)
"""The seed mark where nothing was ever taken over from a configuration."""

_VERSION = 1
_IN_SERVICE = 1
_REVOKED = 2
_RECORD = struct.Struct(f">BB{MARK_SIZE}sQI16s12s")
_NOTHING = (0, bytes(16), bytes(12))


@dataclass(frozen=True, slots=True)
class BRouteCredentials:
    """One customer's access to this meter."""

    link: LinkCredentials
    accepted_on: date | None = None
    """First JST day whose history is served; None when no limit was given."""


@dataclass(frozen=True, slots=True)
class Provisioned:
    """The stored record: whom the meter serves, and who said so.

    ``credentials`` is None when they were revoked. ``seed_mark`` tells which configuration was
    taken over last, :data:`NO_MARK` when none was. ``counter`` (u64) is that of the last A-route
    command that set or revoked them, 0 when none did.
    """

    credentials: BRouteCredentials | None
    seed_mark: bytes = field(default=NO_MARK, repr=False)
    counter: int = 0

    def encode(self) -> bytes:
        """The record as 58 bytes, big-endian; the ID's and the password's are in clear::

            version u8 = 1 | state u8 (1 in service, 2 revoked) | seed mark 16 | counter u64
            | accepted on u32 (days, 0001-01-01 is 1; 0 = no limit) | ID 16 | password 12 (ASCII)

        After a revocation the last three are zero. ValueError when a number is out of range.
        """
        if len(self.seed_mark) != MARK_SIZE or not 0 <= self.counter < 2**64:
            raise ValueError("a seed mark has 16 bytes and a counter 64 bits")
        if self.credentials is None:
            state, said = _REVOKED, _NOTHING
        else:
            state, said = _IN_SERVICE, _encode_credentials(self.credentials)
        return _RECORD.pack(_VERSION, state, self.seed_mark, self.counter, *said)

    @classmethod
    def decode(cls, record: bytes) -> "Provisioned":
        """Raises :class:`MeterError`, which quotes nothing of it, for any other record."""
        if record and record[0] > _VERSION:
            raise MeterError(
                f"the credentials were stored by a newer meter-runtime (record {record[0]}, this"
                f" one reads {_VERSION}); install that version"
            )
        if len(record) != _RECORD.size or record[0] != _VERSION:
            raise _unreadable()
        _, state, mark, counter, *said = _RECORD.unpack(record)
        if state == _IN_SERVICE:
            return cls(_decode_credentials(*said), mark, counter)
        if state == _REVOKED and tuple(said) == _NOTHING:
            return cls(None, mark, counter)
        raise _unreadable()


def _encode_credentials(credentials: BRouteCredentials) -> tuple[int, bytes, bytes]:
    link, day = credentials.link, credentials.accepted_on
    return (
        0 if day is None else day.toordinal(),
        bytes.fromhex(link.route_b_id),
        link.password.reveal().encode("ascii"),
    )


def _decode_credentials(day: int, route_b_id: bytes, password: bytes) -> BRouteCredentials:
    if not password.isascii():
        raise _unreadable()
    try:
        link = LinkCredentials(route_b_id.hex().upper(), Secret(password.decode("ascii")))
        return BRouteCredentials(link, date.fromordinal(day) if day else None)
    except (MeterError, ValueError, OverflowError):
        raise _unreadable() from None


def _unreadable() -> MeterError:
    return MeterError("the stored credentials make no sense; have them set again")
