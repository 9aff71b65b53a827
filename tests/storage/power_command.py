"""The life of a meter that is sent commands, and what it owes after a power cut.

Vault, issuer ledger and journal under the real gate and the real handlers. A number names a
command: its counter, its id and the password that it sets follow from it. What sealing draws by lot
inside HPKE is different in each process; nothing but a few bytes of the journal depends on it.
"""

import asyncio
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from datetime import date
from functools import lru_cache
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from power import Contents, Cut, PowerCutMedia, Supply
from power_metering import HandClock

from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.dispatch import Dispatch, Way, wrap
from meter_runtime.aroute.envelope import Command, seal
from meter_runtime.aroute.gate import Gate
from meter_runtime.aroute.handlers import Handlers
from meter_runtime.aroute.identity import MeterIdentity, SigningKey
from meter_runtime.aroute.results import Result, proof_of, read
from meter_runtime.aroute.trust import Carrier, Issuer, Trust
from meter_runtime.broute.credential_store import CredentialStore
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.secret import Secret
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import Journal
from meter_runtime.storage.vault import Vault

DEPTH = 6
"""Of the journal: every outcome of a life is still there."""
REFUSED = 2
"""This command is one that its issuer may not give."""
ROTATES = 5
"""This one replaces the issuer's key; all others rewrite the password."""
ONE = (1,)
SEVERAL = (1, REFUSED, 3)
ROTATION = (ROTATES, ROTATES + 1)

_METER_ID = "K5-A2C60-000123"
_DEVICE_KEY = bytes(range(32))
_METER = MeterIdentity.from_device_key(_DEVICE_KEY)
_ISSUER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"i" * 32))
_NEXT = SigningKey(Ed25519PrivateKey.from_private_bytes(b"n" * 32))
_CARRIER = SigningKey(Ed25519PrivateKey.from_private_bytes(b"c" * 32))
_TRUST = Trust(
    {"new-system": Issuer("new-system", _ISSUER.public, ("broute.*", "keys.*"))},
    {"scs": Carrier("scs", _CARRIER.public, Way.CONTROL)},
)
_NOW = 1_800_068_400.0
_ID = "00112233445566778899AABBCCDDEEFF"
_PROOF_KEY = bytes(16)
_WHAT: Mapping[int, tuple[str, Mapping[str, Any]]] = {
    REFUSED: ("self_test", {}),
    ROTATES: ("keys.rotate", {"public_key": _NEXT.public}),
}
_VAULT, _LEDGER, _JOURNAL = range(3)
_NOT_HERE: Any = None
"""What these commands do not reach."""


def command_id(number: int) -> bytes:
    return bytes((0xC0 + number,)) * 16


def password(number: int) -> str:
    return f"{number:012}"


@lru_cache
def message(number: int, key: SigningKey, *, disguised: bool = False) -> bytes:
    """The command as it comes, each time the same; ``disguised``: under another id."""
    rewrite = {"password": password(number), "proof_key": _PROOF_KEY}
    name, arguments = _WHAT.get(number, ("broute.rewrite_password", rewrite))
    told = Command(
        name=name,
        meter_id=_METER_ID,
        command_id=bytes(15) + bytes((number,)) if disguised else command_id(number),
        issuer="new-system",
        counter=number,
        not_before=int(_NOW) - 60,
        expiry=int(_NOW) + 3600,
        arguments=arguments,
        reason="",
    )
    envelope = seal(told, key, _METER.public.sealing)
    return wrap(Dispatch("scs", Way.CONTROL, _NOW, "", "", envelope), _CARRIER)


def credentials(number: int) -> BRouteCredentials:
    return BRouteCredentials(LinkCredentials(_ID, Secret(password(number))), date(2026, 4, 1))


class StoredOnly:
    """The service to the home, as far as it outlives a power cut."""

    def __init__(self, store: CredentialStore) -> None:
        self._store = store

    @property
    def version(self) -> int:
        return self._store.version

    @property
    def counter(self) -> int:
        record = self._store.current()
        return 0 if record is None else record.counter

    @property
    def credentials(self) -> LinkCredentials | None:
        record = self._store.current()
        return None if record is None or record.credentials is None else record.credentials.link

    @property
    def accepted_on(self) -> date | None:
        record = self._store.current()
        if record is None or record.credentials is None:
            return None
        return record.credentials.accepted_on

    async def provision(
        self, credentials: LinkCredentials, accepted_on: date | None, counter: int
    ) -> None:
        self._store.rewrite(BRouteCredentials(credentials, accepted_on), counter)

    async def revoke(self, counter: int) -> None:
        self._store.rewrite(None, counter)

    def report(self) -> Mapping[str, Any]:
        return {}


class Meter:
    """What begins anew at each power-on."""

    def __init__(self, media: tuple[PowerCutMedia, ...], runner: asyncio.Runner) -> None:
        self._runner = runner
        self.store = CredentialStore.open(Vault.open(media[_VAULT], _DEVICE_KEY), _DEVICE_KEY)
        self.ledger = IssuerLedger.open(media[_LEDGER], _DEVICE_KEY)
        self.journal = Journal.open(media[_JOURNAL])
        self._service = StoredOnly(self.store)
        self._gate = Gate(
            _METER_ID,
            _METER,
            _TRUST,
            self.ledger,
            self.journal,
            applier=Handlers(
                self._service,
                *(_NOT_HERE, _NOT_HERE, _NOT_HERE, _NOT_HERE, _NOT_HERE, _NOT_HERE),
            ),
            clock=HandClock(_NOW),
            credential_version=lambda: self.store.version,
            diagnosis=lambda: None,
        )

    @property
    def password(self) -> int:
        """Which command's password is in force."""
        link = self._service.credentials
        assert link is not None, "there are no credentials"
        return int(link.password.reveal())

    def settle(self) -> list[bytes]:
        return self._gate.settle()

    def ask(self, number: int, known: "Known") -> bytes:
        """The answer to a command that was signed when it came first."""
        key = _NEXT if number > ROTATES and known.rotated else _ISSUER
        return self._take(message(number, key))

    def replay(self, number: int, known: "Known") -> bytes:
        """The answer to its counter, used again."""
        return self._take(message(number, _NEXT if known.rotated else _ISSUER, disguised=True))

    def _take(self, told: bytes) -> bytes:
        answer = self._runner.run(self._gate.take(told, Way.CONTROL))
        assert answer is not None, "the meter is silent"
        return answer

    def knows(self, number: int) -> bool:
        return self.journal.find(command_id(number)) is not None


@dataclass(frozen=True, slots=True)
class Known:
    """The password in force, by its command; the results that were told; what is still asked."""

    password: int = 0
    told: Mapping[int, bytes] = field(default_factory=dict)
    asked: int | None = None

    def then(self, number: int, answer: bytes) -> "Known":
        done = number not in _WHAT and _is_ok(answer)
        told = {**self.told, number: answer}
        return Known(number if done else self.password, told)

    @property
    def rotated(self) -> bool:
        """The issuer was told that its next key counts."""
        return ROTATES in self.told and _is_ok(self.told[ROTATES])

    @property
    def stores(self) -> int:
        """How often the credentials were stored."""
        return 1 + sum(n not in _WHAT and _is_ok(answer) for n, answer in self.told.items())


class CommandLife:
    """One run of a meter: what was cut off is settled, then commands come one after another."""

    def __init__(
        self,
        contents: Contents,
        write_unit: int,
        numbers: tuple[int, ...],
        known: Known,
        runner: asyncio.Runner,
    ) -> None:
        self.supply = Supply(contents, write_unit)
        self._write_unit = write_unit
        self._runner = runner
        self._began: list[tuple[int, int | None, Known]] = [(0, None, known)]
        meter = Meter(self.supply.media, runner)
        meter.settle()
        for number in numbers:
            self._began.append((self.supply.now, number, known))
            known = known.then(number, meter.ask(number, known))
            assert meter.password == known.password
        self._began.append((self.supply.now, None, known))

    @classmethod
    def new(
        cls, numbers: tuple[int, ...], write_unit: int, runner: asyncio.Runner
    ) -> "CommandLife":
        sizes = (
            Vault.size_for(write_unit),
            IssuerLedger.size_for(write_unit),
            Journal.size_for(DEPTH, write_unit),
        )
        supply = Supply(tuple(bytes(size) for size in sizes), write_unit)
        Meter(supply.media, runner).store.seed(credentials(0))
        return cls(supply.contents, write_unit, numbers, Known(), runner)

    def after(self, cut: Cut, contents: Contents) -> Iterator["CommandLife"]:
        _, doing, known = next(b for b in reversed(self._began) if b[0] <= cut.at)
        asked = known.asked if doing is None else doing
        meter = Meter(Supply(contents, self._write_unit).media, self._runner)
        found = meter.password
        assert found in (known.password, doing), "neither the old password nor the new one"
        assert not meter.store.unerased
        assert meter.ledger.damaged == 0
        assert meter.ledger.counter("new-system") >= max(known.told, default=0), "it went back"
        begun = asked is not None and meter.knows(asked)
        rotated = meter.ledger.public_key("new-system") == _NEXT.public
        assert rotated == known.rotated or ROTATES in (doing, asked)
        settled = meter.settle()
        assert len(settled) <= 1, "one command at a time"
        assert meter.settle() == []
        assert meter.password == found, "settling does nothing"
        for number, answer in known.told.items():
            assert meter.ask(number, known) == answer, f"{number} was told otherwise"
        if asked is not None:
            first = meter.ask(asked, known)
            done = not begun or (rotated if asked == ROTATES else found == asked)
            _check_asked(asked, _result(first), done=done)
            assert meter.ask(asked, known) == first
            known_after = known.then(asked, first)
        else:
            known_after = known
        assert meter.store.version == known_after.stores, "stored twice, or not at all"
        assert meter.password == known_after.password, "a result says otherwise"
        assert (meter.ledger.public_key("new-system") == _NEXT.public) == known_after.rotated
        for number in known_after.told:
            again = _result(meter.replay(number, known_after))
            assert again.code is Code.STALE_COUNTER, "a counter is accepted twice"
        following = (*(() if asked is None else (asked,)), max(known_after.told, default=0) + 1)
        next_known = replace(known, password=found, asked=asked)
        yield CommandLife(contents, self._write_unit, following, next_known, self._runner)


def _check_asked(number: int, result: Result, *, done: bool) -> None:
    """The result of a command that is asked for again."""
    assert (result.command_id, result.counter) == (command_id(number), number)
    if number == REFUSED:
        assert result.code is Code.NOT_PERMITTED
        return
    assert result.code is (Code.OK if done else Code.STORE_FAILED), f"{result.code}"
    if number not in _WHAT:
        proof = proof_of(_PROOF_KEY, credentials(number).link)
        assert result.proof == (proof if done else None)


def _is_ok(answer: bytes) -> bool:
    return _result(answer).code is Code.OK


def _result(answer: bytes) -> Result:
    return read(answer, _METER.public.signing)
