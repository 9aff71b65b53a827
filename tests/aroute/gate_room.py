"""A meter's gate with all its stores, whoever may command it, and whoever may not."""

import asyncio
from collections.abc import Callable
from dataclasses import replace
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hand_clock import HandClock

from meter_runtime.aroute.commands import Arguments, Code, RewritePassword
from meter_runtime.aroute.dispatch import Dispatch, Way, wrap
from meter_runtime.aroute.envelope import Command, seal
from meter_runtime.aroute.gate import Gate, Outcome
from meter_runtime.aroute.identity import MeterIdentity, SigningKey
from meter_runtime.aroute.results import Diagnosis, Result, read
from meter_runtime.aroute.trust import Carrier, Issuer, Trust
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import JOURNAL_DEPTH, Journal
from meter_runtime.storage.media import MemoryMedia

METER_ID = "K5-A2C60-000123"
DEVICE_KEY = bytes(range(32))
METER = MeterIdentity.from_device_key(DEVICE_KEY)
PASSWORD = "Q7XK2M9RTB4C"
PROOF_KEY = b"proof key of 16b"
PROOF = b"proof of 16 byte"
NOW = HandClock().wall()


def key_of(name: str) -> SigningKey:
    """Always the same key for one name."""
    return SigningKey(Ed25519PrivateKey.from_private_bytes(name.encode().ljust(32, b".")))


NEW_SYSTEM = Issuer(
    "new-system", key_of("new-system").public, ("broute.*", "keys.rotate", "switch.open")
)
CONTROL_ROOM = Issuer("control-room", key_of("control-room").public, ("register.read", "switch.*"))
SCS = Carrier("scs", key_of("scs").public, Way.CONTROL)
HANDY = Carrier("handy-7", key_of("handy-7").public, Way.TERMINAL)
TRUST = Trust(
    {issuer.name: issuer for issuer in (NEW_SYSTEM, CONTROL_ROOM)},
    {carrier.name: carrier for carrier in (SCS, HANDY)},
)

REWRITE = Command(
    name="broute.rewrite_password",
    meter_id=METER_ID,
    command_id=bytes(range(16)),
    issuer="new-system",
    counter=7,
    not_before=int(NOW) - 60,
    expiry=int(NOW) + 3600,
    arguments={"password": PASSWORD, "proof_key": PROOF_KEY},
    reason="customer moved",
)


def command(number: int = 7, **changes: Any) -> Command:
    """A command whose counter is ``number``, and whose id follows from it."""
    given = {"counter": number, "command_id": number.to_bytes(16, "big"), **changes}
    return replace(REWRITE, **given)


def opening(number: int = 7, **changes: Any) -> Command:
    """``switch.open``, which needs a clock."""
    return command(number, **{"name": "switch.open", "arguments": {}, **changes})


def reading(number: int = 7, **changes: Any) -> Command:
    """``register.read`` by the other issuer."""
    given = {"name": "register.read", "arguments": {}, "issuer": "control-room", **changes}
    return command(number, **given)


def rotation(number: int, to: SigningKey, **changes: Any) -> Command:
    """``keys.rotate``."""
    given = {"name": "keys.rotate", "arguments": {"public_key": to.public}, **changes}
    return command(number, **given)


def sealed(told: Command, *, by: SigningKey | None = None, to: bytes = b"") -> bytes:
    """The envelope, by the issuer's own key and to the meter unless told otherwise."""
    return seal(told, by or key_of(told.issuer), to or METER.public.sealing)


def carried(
    envelope: bytes, *, carrier: str = "scs", way: Way = Way.CONTROL, by: SigningKey | None = None
) -> bytes:
    """The message: the envelope as its carrier brings it."""
    dispatch = Dispatch(carrier, way, NOW, "operator", "WO-1", envelope)
    return wrap(dispatch, by or key_of(carrier))


def message(told: Command, *, by: SigningKey | None = None) -> bytes:
    """A command as the Supervisory Control System sends it."""
    return carried(sealed(told, by=by))


class Hands:
    """Carries commands out by writing them down."""

    def __init__(self) -> None:
        self.applied: list[Command] = []
        self.settled: list[tuple[str, int, int]] = []
        self.outcome = Outcome(Code.OK)
        self.raises: BaseException | None = None
        self.hold: asyncio.Event | None = None
        """While it is there and not set, nothing comes to an end."""
        self.before_end: Callable[[], object] = lambda: None

    async def apply(self, command: Command, arguments: Arguments) -> Outcome:
        self.applied.append(command)
        if self.hold is not None:
            await self.hold.wait()
        if self.raises is not None:
            raise self.raises
        self.before_end()
        return self.outcome

    def proof(self, arguments: Arguments) -> bytes | None:
        return PROOF if isinstance(arguments, RewritePassword) else None

    def settle(self, name: str, before: int, counter: int) -> Outcome:
        self.settled.append((name, before, counter))
        return Outcome(Code.STORE_FAILED, {"reason": "interrupted"})


class Room:
    """One meter over its life; :meth:`reboot` begins it anew on the same media."""

    def __init__(self, trust: Trust = TRUST, journal: MemoryMedia | None = None) -> None:
        self.clock = HandClock()
        self.hands = Hands()
        self.trust = trust
        self.version = 3
        self.journal_medium = journal or MemoryMedia(Journal.size_for(JOURNAL_DEPTH, 1), "journal")
        self.ledger_medium = MemoryMedia(IssuerLedger.size_for(1), "issuers")
        self.gate = self.reboot()

    def reboot(self) -> Gate:
        """What the meter knows in memory is gone."""
        self.ledger = IssuerLedger.open(self.ledger_medium, DEVICE_KEY)
        self.journal = Journal.open(self.journal_medium)
        self.gate = Gate(
            METER_ID,
            METER,
            self.trust,
            self.ledger,
            self.journal,
            applier=self.hands,
            clock=self.clock,
            credential_version=lambda: self.version,
            diagnosis=lambda: Diagnosis(1, 15),
        )
        return self.gate

    async def tell(self, told: Command) -> Result:
        """What the meter answers to a command from the control side."""
        return result_in(await self.gate.take(message(told), Way.CONTROL))

    async def code(self, told: Command) -> Code:
        return (await self.tell(told)).code

    @property
    def kept(self) -> bytes:
        """All that is on the media."""
        media = (self.journal_medium, self.ledger_medium)
        return b"".join(medium.read(0, medium.size) for medium in media)


def result_in(answer: bytes | None) -> Result:
    """A signed result, its signature checked."""
    assert answer is not None, "the meter is silent"
    return read(answer, METER.public.signing)
