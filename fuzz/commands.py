"""The gate: what a trusted issuer signed is obeyed once, and nothing else at all.

The input is tried as a message, as what a trusted carrier brings, as what somebody who cannot sign
sealed to this meter, and as what a trusted issuer signed: so deep no fuzzer would get by itself.
"""

from collections.abc import Callable, Coroutine
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from meter_runtime.aroute import cose, envelope
from meter_runtime.aroute.cbor import MalformedError, decode
from meter_runtime.aroute.commands import Arguments, Code
from meter_runtime.aroute.dispatch import Dispatch, Way, wrap
from meter_runtime.aroute.envelope import MAX_ENVELOPE_BYTES, Command
from meter_runtime.aroute.gate import Gate, Outcome
from meter_runtime.aroute.identity import MeterIdentity, SigningKey
from meter_runtime.aroute.results import MAX_RESULT_BYTES, Result, read
from meter_runtime.aroute.trust import Carrier, Issuer, Trust
from meter_runtime.clock import Timer
from meter_runtime.clock import Trust as ClockTrust
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import Journal
from meter_runtime.storage.media import MemoryMedia

NOW = 1_795_143_700
_DEVICE_KEY = bytes(range(32))
_METER = MeterIdentity.from_device_key(_DEVICE_KEY)
_ISSUER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"issuer".ljust(32)))
_CARRIER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"carrier".ljust(32)))
_TRUST = Trust(
    {"issuer": Issuer("issuer", _ISSUER.public, ("broute.*", "limit.set", "keys.rotate"))},
    {"carrier": Carrier("carrier", _CARRIER.public, Way.CONTROL)},
)
_CONTEXT = b"meter-runtime command 1"
_ARGUMENTS: dict[str, dict[str, Any]] = {
    "broute.rewrite_password": {"password": "ABCDEFGHIJKL", "proof_key": bytes(16)},
    "limit.set": {"limit_a": 40.5},
    "keys.rotate": {"public_key": bytes(range(32))},
}


def _envelope(name: str) -> bytes:
    command = Command(
        name=name,
        meter_id="METER",
        command_id=name.encode()[:16].ljust(16),
        issuer="issuer",
        counter=1,
        not_before=NOW - 100,
        expiry=NOW + 100,
        arguments=_ARGUMENTS.get(name, {}),
        reason="fuzz",
    )
    return envelope.seal(command, _ISSUER, _METER.public.sealing)


def _dispatch(sealed: bytes) -> bytes:
    return wrap(Dispatch("carrier", Way.CONTROL, NOW, "operator", "note", sealed), _CARRIER)


_ENVELOPES = tuple(_envelope(name) for name in (*_ARGUMENTS, "broute.status", "self_test"))
_MESSAGE = _dispatch(_ENVELOPES[0])
_GENUINE = {_MESSAGE, *_ENVELOPES}

SEEDS = (
    _MESSAGE,
    *(envelope.unseal(sealed, _METER).signed.payload for sealed in _ENVELOPES),
)


class _StillClock:
    trust = ClockTrust.SYNCED

    def monotonic(self) -> float:
        return 0.0

    def wall(self) -> float:
        return NOW

    def call_at(self, when: float, callback: Callable[[], None]) -> Timer:
        raise AssertionError("the gate waits for no time")

    def on_step(self, callback: Callable[[], None]) -> Callable[[], None]:
        raise AssertionError("the gate asks for the time when it needs it")


class _Hands:
    def __init__(self) -> None:
        self.applied: list[Command] = []

    async def apply(self, command: Command, arguments: Arguments) -> Outcome:
        self.applied.append(command)
        return Outcome(Code.OK)

    def proof(self, arguments: Arguments) -> bytes | None:
        return None

    def settle(self, name: str, before: int, counter: int) -> Outcome:
        raise AssertionError("nothing was cut off")


class _Room:
    """A meter that was never sent anything."""

    def __init__(self) -> None:
        self.hands = _Hands()
        self.journal = Journal.open(MemoryMedia(Journal.size_for(2, 1)))
        self._gate = Gate(
            "METER",
            _METER,
            _TRUST,
            IssuerLedger.open(MemoryMedia(IssuerLedger.size_for(1)), _DEVICE_KEY),
            self.journal,
            applier=self.hands,
            clock=_StillClock(),
            credential_version=lambda: 1,
            diagnosis=lambda: None,
        )

    def tell(self, message: bytes, way: Way = Way.CONTROL) -> bytes:
        answer = _at_once(self._gate.take(message, way))
        assert answer is not None, "silent after so few"
        assert len(answer) <= MAX_RESULT_BYTES
        return answer


def run(data: bytes) -> None:
    """Try it at every depth."""
    room = _Room()
    outside = [data]
    if len(data) <= MAX_ENVELOPE_BYTES:
        outside.append(_dispatch(data))
    if len(data) < MAX_ENVELOPE_BYTES // 2:
        routing = [1, "METER", "broute.rewrite_password", bytes(16), NOW + 100]
        outside.append(_dispatch(cose.encrypt(data, routing, _METER.public.sealing)))
    if data not in _GENUINE:
        for message in outside:
            assert _result(room.tell(message)).code is Code.REJECTED
        assert not room.hands.applied, "a forgery was obeyed"
        assert not room.journal.entries()
    if len(data) < MAX_ENVELOPE_BYTES // 2:
        _try_signed(_Room(), data)


def _try_signed(room: _Room, payload: bytes) -> None:
    signed = cose.sign(payload, "issuer", _CONTEXT, _ISSUER.sign)
    sealed = cose.encrypt(signed, _routing_in(payload), _METER.public.sealing)
    message = _dispatch(sealed)
    first = room.tell(message)
    result = _result(first)
    obeyed = len(room.hands.applied)
    assert obeyed <= (result.code is Code.OK)
    kept = len(room.journal.entries())
    assert (room.tell(message) == first) or not kept
    assert (len(room.hands.applied), len(room.journal.entries())) == (obeyed, kept), "twice"
    assert _result(room.tell(message, Way.TERMINAL)).code is Code.REJECTED


def _routing_in(payload: bytes) -> list[object]:
    """What the routing must say to agree with the body, where that has anything of the kind."""
    try:
        body = decode(payload)
    except MalformedError:
        body = None
    if not isinstance(body, dict):
        body = {}
    return [1, *(body.get(label) for label in (3, 2, 4, 8))]


def _at_once(taking: Coroutine[Any, Any, bytes | None]) -> bytes | None:
    """What comes of it; nothing here gives the gate a reason to wait."""
    try:
        taking.send(None)
    except StopIteration as done:
        answer: bytes | None = done.value
        return answer
    raise AssertionError("the gate waits")


def _result(answer: bytes) -> Result:
    return read(answer, _METER.public.signing)
