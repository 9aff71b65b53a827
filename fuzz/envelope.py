"""The A-route's sealed and signed messages: whatever comes, it is refused in form.

The input is tried as a message, and then as what stands inside one: as a payload that a genuine
signer signed and a body that was sealed to this meter, which no fuzzer would find by itself.
"""

from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meter_runtime.aroute import cose, dispatch, envelope, results
from meter_runtime.aroute.cbor import MalformedError, decode, encode
from meter_runtime.aroute.commands import COMMANDS, BadArgumentsError, Code, parse_arguments
from meter_runtime.aroute.cose import NotAuthenticError
from meter_runtime.aroute.dispatch import Dispatch, Way
from meter_runtime.aroute.envelope import Command
from meter_runtime.aroute.identity import MeterIdentity, SigningKey
from meter_runtime.aroute.results import Diagnosis, Result

METER = MeterIdentity.from_device_key(bytes(range(32)))
ISSUER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"issuer".ljust(32)))
CARRIER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"carrier".ljust(32)))

ROUTING = [1, "METER", "broute.rewrite_password", bytes(16), 1_795_230_000]
_COMMAND = Command(
    name="broute.rewrite_password",
    meter_id="METER",
    command_id=bytes(16),
    issuer="issuer",
    counter=1,
    not_before=1_795_143_600,
    expiry=1_795_230_000,
    arguments={"password": "ABCDEFGHIJKL", "proof_key": bytes(16)},
    reason="moved",
)
_ENVELOPE = envelope.seal(_COMMAND, ISSUER, METER.public.sealing)
_DISPATCH = dispatch.wrap(
    Dispatch("carrier", Way.CONTROL, 1_795_143_600.5, "operator", "note", _ENVELOPE), CARRIER
)
_RESULT = results.sign(
    Result(
        meter_id="METER",
        command_id=bytes(16),
        counter=1,
        code=Code.OK,
        credential_version=2,
        proof=bytes(16),
        applied_at=1_795_143_601.5,
        clock_trust="synced",
        diagnosis=Diagnosis(1, 15),
        details={"a": [None, True, 1.5]},
        answer_to=bytes(16),
    ),
    METER,
)
_GENUINE = {_ENVELOPE, _DISPATCH, _RESULT}

SEEDS = (
    _ENVELOPE,
    _DISPATCH,
    _RESULT,
    envelope.unseal(_ENVELOPE, METER).signed.payload,
    cose.read_signed(_DISPATCH).payload,
    cose.read_signed(_RESULT).payload,
    encode(_COMMAND.arguments),
)


def run(data: bytes) -> None:
    """Try it at every depth; only what was signed here authenticates."""
    for read in (_read_envelope, _read_dispatch, _read_result):
        assert _refused(read, data) or data in _GENUINE, "a forgery was believed"
    for inner in (results.peek, _sealed, _signed_command, _signed_dispatch, _signed_result):
        _refused(inner, data)
    if not _refused(decode, data):
        value = decode(data)
        assert encode(value) == data
        if isinstance(value, dict):
            _parse(value)


def _refused(read: Callable[[bytes], object], data: bytes) -> bool:
    try:
        read(data)
    except (MalformedError, NotAuthenticError):
        return True
    return False


def _read_envelope(data: bytes) -> Command:
    envelope.routing(data)
    return envelope.verify(envelope.unseal(data, METER), ISSUER.public)


def _read_dispatch(data: bytes) -> Dispatch:
    return dispatch.unwrap(data).verify(CARRIER.public)


def _read_result(data: bytes) -> Result:
    return results.read(data, METER.public.signing)


def _sealed(body: bytes) -> None:
    """As what somebody who cannot sign sealed to this meter."""
    _read_envelope(cose.encrypt(body, ROUTING, METER.public.sealing))


def _signed_command(payload: bytes) -> None:
    message = cose.sign(payload, "issuer", b"meter-runtime command 1", ISSUER.sign)
    told = _read_envelope(cose.encrypt(message, ROUTING, METER.public.sealing))
    assert (told.name, told.issuer) == (ROUTING[2], "issuer")


def _signed_dispatch(payload: bytes) -> None:
    told = _read_dispatch(cose.sign(payload, "carrier", b"meter-runtime dispatch 1", CARRIER.sign))
    assert told.carrier == "carrier"


def _signed_result(payload: bytes) -> None:
    told = _read_result(cose.sign(payload, "METER", b"meter-runtime result 1", METER.sign))
    assert told.meter_id == "METER"


def _parse(arguments: dict[Any, Any]) -> None:
    for spec in COMMANDS.values():
        try:
            parse_arguments(spec, arguments)
        except BadArgumentsError:
            continue
