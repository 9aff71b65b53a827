"""Who brought an envelope, and on which way: the carrier's signature around it.

The Supervisory Control System wraps what it sends over MQTT, the hand-held terminal what it says at
the local port. A COSE_Sign1 (:mod:`~meter_runtime.aroute.cose`) by the carrier over a map::

    {1: version, 2: way, 3: at, 4: operator, 5: note, 6: envelope}

A carrier vouches for the way, never for the command: that is the issuer's.
"""

import enum
from dataclasses import dataclass, field
from typing import Annotated

import msgspec

from meter_runtime.aroute import cose
from meter_runtime.aroute.cbor import decode_record, encode_record
from meter_runtime.aroute.envelope import MAX_ENVELOPE_BYTES
from meter_runtime.aroute.identity import SigningKey

VERSION = 1

_CONTEXT = b"meter-runtime dispatch 1"


class Way(enum.StrEnum):
    """How a command comes to the meter."""

    CONTROL = "control"
    """From the Supervisory Control System, over MQTT."""
    TERMINAL = "terminal"
    """From a hand-held terminal, at the local port."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """An envelope on its way."""

    carrier: str
    """Name of the signer."""
    way: Way
    at: float
    """UTC seconds: when the carrier sent it."""
    operator: str
    """Who worked the carrier, at most 64 characters."""
    note: str
    """A work order's number or the like, at most 128 characters."""
    envelope: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class UnverifiedDispatch:
    """A dispatch whose signature nobody has looked at."""

    carrier: str
    way: Way
    body: "_Body" = field(repr=False)
    signed: cose.Signed = field(repr=False)

    def verify(self, public: bytes) -> Dispatch:
        """The dispatch, if the owner of ``public`` signed it; raises NotAuthenticError."""
        self.signed.verify(public, _CONTEXT)
        body = self.body
        return Dispatch(self.carrier, body.way, body.at, body.operator, body.note, body.envelope)


@dataclass(frozen=True, slots=True)
class _Body:
    """What is signed; the signer's name stands in the header."""

    way: Way
    at: Annotated[float, msgspec.Meta(ge=0, lt=2**40)]
    operator: Annotated[str, msgspec.Meta(max_length=64)]
    note: Annotated[str, msgspec.Meta(max_length=128)]
    envelope: Annotated[bytes, msgspec.Meta(max_length=MAX_ENVELOPE_BYTES)] = field(repr=False)


def wrap(dispatch: Dispatch, key: SigningKey) -> bytes:
    """The message to the meter; raises ValueError for what no meter would read."""
    body = _Body(
        dispatch.way, float(dispatch.at), dispatch.operator, dispatch.note, dispatch.envelope
    )
    return cose.sign(encode_record(VERSION, body), dispatch.carrier, _CONTEXT, key.sign)


def unwrap(message: bytes) -> UnverifiedDispatch:
    """The dispatch in a message, unverified; raises MalformedError."""
    signed = cose.read_signed(message)
    body = decode_record(signed.payload, VERSION, _Body)
    return UnverifiedDispatch(signed.kid, body.way, body, signed)
