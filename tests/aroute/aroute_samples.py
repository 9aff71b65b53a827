"""One meter, one issuer, one carrier, and what they say to each other."""

from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Dispatch, Way
from meter_runtime.aroute.envelope import Command
from meter_runtime.aroute.identity import MeterIdentity, SigningKey
from meter_runtime.aroute.results import Diagnosis, Result

METER_ID = "K5-A2C60-000123"
METER = MeterIdentity.from_device_key(bytes(range(32)))
OTHER_METER = MeterIdentity.from_device_key(bytes(32))
ISSUER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"issuer".ljust(32)))
CARRIER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"carrier".ljust(32)))

PASSWORD = "Q7XK2M9RTB4C"
PROOF_KEY = b"proof key of 16b"

COMMAND = Command(
    name="broute.rewrite_password",
    meter_id=METER_ID,
    command_id=bytes(range(16)),
    issuer="new-system",
    counter=1_234,
    not_before=1_795_143_600,
    expiry=1_795_230_000,
    arguments={"password": PASSWORD, "proof_key": PROOF_KEY},
    reason="customer moved",
)
DISPATCH = Dispatch(
    carrier="scs",
    way=Way.CONTROL,
    at=1_795_143_612.25,
    operator="関西 太郎",
    note="WO-2026-1107-33",
    envelope=b"sealed",
)
RESULT = Result(
    meter_id=METER_ID,
    command_id=bytes(range(16)),
    counter=1_234,
    code=Code.OK,
    credential_version=7,
    proof=bytes(16),
    applied_at=1_795_143_615.5,
    clock_trust="synced",
    diagnosis=Diagnosis(1, 15),
    details={"registers": {"forward_dwh": 123_456_789, "reverse_dwh": None}},
    answer_to=bytes(reversed(range(16))),
)


def command(**changes: Any) -> Command:
    """The sample with something else in it."""
    return replace(COMMAND, **changes)


def flipped(message: bytes) -> Iterator[bytes]:
    """The message with each of its bits turned over, one at a time."""
    for bit in range(8 * len(message)):
        other = bytearray(message)
        other[bit // 8] ^= 1 << bit % 8
        yield bytes(other)
