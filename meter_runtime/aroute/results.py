"""What became of a command, signed by the meter: the answer that can be proved afterwards.

A COSE_Sign1 (:mod:`~meter_runtime.aroute.cose`) by the meter, which signs in its id, over
a map::

    {1: version, 2: meter id, 3: command id | null, 4: counter | null, 5: code,
     6: credential version, 7: proof 16 | null, 8: applied at | null, 9: clock trust,
     10: [message, items] | null, 11: details, 12: answer to 16}

Instants are UTC seconds. Command id and counter are null where nothing could be authenticated.
"""

import enum
import hashlib
import hmac
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, Protocol

import msgspec

from meter_runtime.aroute import cose
from meter_runtime.aroute.cbor import decode_record, encode, encode_record
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.cose import NotAuthenticError
from meter_runtime.aroute.envelope import CommandId, Name, Unsigned
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.secret import Secret

VERSION = 1
MAX_RESULT_BYTES = 1900
MAX_DETAILS_BYTES = 1400
"""Of the details, encoded."""
PROOF_SIZE = 16
ANSWER_TO_SIZE = 16

_CONTEXT = b"meter-runtime result 1"

_Instant = Annotated[float, msgspec.Meta(ge=0, lt=2**40)]


class Item(enum.IntFlag):
    """The diagnosis's four items; a bit that is set says "clear" (of the unit: "normal")."""

    STARTUP = 1
    AUTHENTICATION = 2
    CONNECTION = 4
    COMMUNICATION_UNIT = 8


class Diagnosis(msgspec.Struct, frozen=True, array_like=True, forbid_unknown_fields=True):
    """The B-route's diagnosis in two numbers."""

    message: Annotated[int, msgspec.Meta(ge=0, le=4)]
    """1 to 4 as in the utility's table; 0: not in service."""
    items: Annotated[int, msgspec.Meta(ge=0, le=15)]
    """Bits of :class:`Item`."""


class Credentials(Protocol):
    """The B-route credentials that a proof is made of."""

    @property
    def route_b_id(self) -> str: ...

    @property
    def password(self) -> Secret: ...


@dataclass(frozen=True, slots=True)
class Result:
    """How a command ended."""

    meter_id: Name
    command_id: CommandId | None
    counter: Unsigned | None
    code: Code
    credential_version: Unsigned
    """How often the meter's credentials were stored; 0: never."""
    proof: Annotated[bytes, msgspec.Meta(min_length=PROOF_SIZE, max_length=PROOF_SIZE)] | None
    """:func:`proof_of` what the meter stored."""
    applied_at: _Instant | None
    clock_trust: Annotated[str, msgspec.Meta(max_length=16)]
    diagnosis: Diagnosis | None
    details: Mapping[str, Any]
    """What was asked for, by name."""
    answer_to: Annotated[bytes, msgspec.Meta(min_length=ANSWER_TO_SIZE, max_length=ANSWER_TO_SIZE)]
    """:func:`answer_to` the message."""


def sign(result: Result, identity: MeterIdentity) -> bytes:
    """The message; raises ValueError where it or its details are too long, or are no result."""
    details = len(encode(result.details))
    if details > MAX_DETAILS_BYTES:
        raise ValueError(
            f"a result's details have {MAX_DETAILS_BYTES} bytes at most, not {details}"
        )
    payload = encode_record(VERSION, result)
    message = cose.sign(payload, result.meter_id, _CONTEXT, identity.sign)
    if len(message) > MAX_RESULT_BYTES:
        raise ValueError(f"a result has {MAX_RESULT_BYTES} bytes at most, not {len(message)}")
    return message


def read(message: bytes, signing_public: bytes) -> Result:
    """The result, if the owner of ``signing_public`` signed it.

    Raises MalformedError and NotAuthenticError.
    """
    signed = cose.read_signed(message)
    signed.verify(signing_public, _CONTEXT)
    return _result_in(signed)


def peek(message: bytes) -> Result:
    """The result as it stands there, unauthenticated; raises as :func:`read`."""
    return _result_in(cose.read_signed(message))


def answer_to(message: bytes) -> bytes:
    """Names the message, whole as it came, that a result answers."""
    return hashlib.sha256(message).digest()[:ANSWER_TO_SIZE]


def proof_of(proof_key: bytes, credentials: Credentials) -> bytes:
    """That somebody has these credentials: HMAC-SHA256 of ID and password, its first 16 bytes.

    The issuer draws ``proof_key`` at random for each command and keeps only the expected proof.
    """
    told = credentials.route_b_id + credentials.password.reveal()
    return hmac.digest(proof_key, told.encode(), "sha256")[:PROOF_SIZE]


def _result_in(signed: cose.Signed) -> Result:
    result = decode_record(signed.payload, VERSION, Result)
    if signed.kid != result.meter_id:
        raise NotAuthenticError("a result in another meter's name")
    return result
