"""The sealed command: signed by its issuer, then sealed to one meter.

One form for every way in, so that broker, relay and terminal never see what it says, and the meter
obeys only what is signed, fresh and addressed to it. A COSE_Encrypt
(:mod:`~meter_runtime.aroute.cose`) whose routing header is ``[version, meter id, command, command
id, expiry]`` and whose plaintext is a COSE_Sign1 by the issuer over a map::

    {1: version, 2: command, 3: meter id, 4: command id 16, 5: issuer, 6: counter u64,
     7: not-before, 8: expiry, 9: arguments, 10: reason}

Instants are UTC seconds. What the routing says must stand in the body, too. Whether a command is
fresh, meant for this meter and permitted is the gate's business, and what its arguments must be
that of :mod:`~meter_runtime.aroute.commands`.
"""

from collections.abc import Mapping
from dataclasses import astuple, dataclass, field
from typing import Annotated, Any

import msgspec

from meter_runtime.aroute import cose
from meter_runtime.aroute.cbor import MalformedError, decode_record, encode_record, from_values
from meter_runtime.aroute.cose import NotAuthenticError
from meter_runtime.aroute.identity import MeterIdentity, SigningKey

VERSION = 1
COMMAND_ID_SIZE = 16
MAX_ENVELOPE_BYTES = 3072
"""Leaves a carrier a kilobyte of a message for what it adds."""

_CONTEXT = b"meter-runtime command 1"

Name = Annotated[str, msgspec.Meta(pattern=r"\A[!-~]{1,64}\Z")]
"""Of a meter, a command, an issuer, a carrier: printable ASCII without spaces."""
CommandId = Annotated[bytes, msgspec.Meta(min_length=COMMAND_ID_SIZE, max_length=COMMAND_ID_SIZE)]
Unsigned = Annotated[int, msgspec.Meta(ge=0)]
"""To 2**64 - 1: more is no integer of CBOR."""


@dataclass(frozen=True, slots=True)
class Command:
    """What an issuer wants of a meter."""

    name: Name
    meter_id: Name
    command_id: CommandId
    """Random: a retry has the same, a new attempt another one."""
    issuer: Name
    counter: Unsigned
    """Rises with every command of an issuer to a meter."""
    not_before: Unsigned
    expiry: Unsigned
    arguments: Mapping[str, Any] = field(repr=False)
    """As they came, a password in clear: for ``commands.parse_arguments``, and nobody else."""
    reason: Annotated[str, msgspec.Meta(max_length=128)]


@dataclass(frozen=True, slots=True)
class Routing:
    """What those who carry an envelope may know of it."""

    version: int
    meter_id: Name
    command: Name
    command_id: CommandId
    expiry: Unsigned


@dataclass(frozen=True, slots=True)
class SealedBody:
    """An opened envelope: it was sealed to this meter, and nobody vouches yet for by whom."""

    issuer: str
    """Who claims to have signed it."""
    routing: Routing
    signed: cose.Signed = field(repr=False)


def seal(command: Command, issuer_key: SigningKey, to: bytes) -> bytes:
    """The envelope of ``command`` for the meter with the sealing key ``to``.

    Raises ValueError for a command that no meter would read.
    """
    body = encode_record(VERSION, command)
    signed = cose.sign(body, command.issuer, _CONTEXT, issuer_key.sign)
    envelope = cose.encrypt(signed, list(astuple(_routing_of(command))), to)
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise ValueError(f"an envelope of {len(envelope)} bytes is too long")
    return envelope


def routing(envelope: bytes) -> Routing:
    """Whom an envelope is for, as it says itself; raises MalformedError."""
    return _read(envelope)[0]


def unseal(envelope: bytes, identity: MeterIdentity) -> SealedBody:
    """Open an envelope; raises MalformedError and NotAuthenticError."""
    told, encrypted = _read(envelope)
    signed = cose.read_signed(encrypted.open(identity.open))
    return SealedBody(signed.kid, told, signed)


def verify(body: SealedBody, issuer_public: bytes) -> Command:
    """The command, if the owner of ``issuer_public`` signed it, in its own name and routed so.

    Raises NotAuthenticError, and MalformedError where the signer signed something else.
    """
    payload = body.signed.verify(issuer_public, _CONTEXT)
    command = decode_record(payload, VERSION, Command)
    if command.issuer != body.issuer or _routing_of(command) != body.routing:
        raise NotAuthenticError("what stands outside is not what was signed")
    return command


def _read(envelope: bytes) -> tuple[Routing, cose.Encrypted]:
    if len(envelope) > MAX_ENVELOPE_BYTES:
        raise MalformedError(f"envelope: more than {MAX_ENVELOPE_BYTES} bytes")
    encrypted = cose.read_encrypted(envelope)
    if not isinstance(encrypted.routing, list):
        raise MalformedError("envelope: no routing")
    told = from_values(encrypted.routing, Routing)
    if told.version != VERSION:
        raise MalformedError("envelope: of another version")
    return told, encrypted


def _routing_of(command: Command) -> Routing:
    return Routing(VERSION, command.meter_id, command.name, command.command_id, command.expiry)
