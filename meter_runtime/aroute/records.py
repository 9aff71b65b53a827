"""What the gate writes into the journal: that a command is begun, and how it ended.

MessagePack arrays (:mod:`msgspec`), fields only ever added at the end. The journal is not sealed,
so no argument of a command stands in them; a body's mark tells two commands apart without saying
anything of either, because it covers the issuer's signature, which nobody else has seen.
"""

from hashlib import sha256

import msgspec

from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.envelope import SealedBody
from meter_runtime.storage.journal import Entry, State

MARK_SIZE = 16


class Begun(msgspec.Struct, frozen=True, array_like=True):
    """A command that is about to be carried out, or whose refusal is about to be told."""

    issuer: str
    counter: int
    mark: bytes
    """Of the signed body (:func:`mark_of`)."""
    answer_to: bytes
    """What the result will say that it answers."""
    name: str
    """Empty where no command has this name."""
    before: int
    """Version of the credentials when it was begun."""
    refused: Code | None = None
    rotates_to: bytes | None = None
    """The issuer's next public key, of ``keys.rotate``."""
    proof: bytes | None = None
    """What the result proves with, where the command ends well; it is no secret."""


class Ended(msgspec.Struct, frozen=True, array_like=True):
    """A command that is done, and the signed result as it is told."""

    issuer: str
    counter: int
    mark: bytes
    result: bytes


def mark_of(body: SealedBody) -> bytes:
    """16 bytes that only this signed body has."""
    signed = body.signed
    return sha256(signed.protected + signed.payload + signed.signature).digest()[:MARK_SIZE]


def encode(record: Begun | Ended) -> bytes:
    """The journal entry's payload."""
    return msgspec.msgpack.encode(record)


def decode(entry: Entry) -> Begun | Ended | None:
    """The record in an entry; None for what this program did not write."""
    try:
        if entry.state is State.PENDING:
            return msgspec.msgpack.decode(entry.payload, type=Begun)
        return msgspec.msgpack.decode(entry.payload, type=Ended)
    except msgspec.MsgspecError:
        return None
