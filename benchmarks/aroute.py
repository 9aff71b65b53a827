"""What the A-route costs: a command, a half-hour on its way, and a meter that is connected.

Commands are the password's rewriting, each another one, sealed by the New System's key and
dispatched by the control side's. The gate has its real stores, in memory and in files, and what it
carries out goes into a real vault; figures are from the message's bytes to the signed result's.
"""

import asyncio
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from benchmarks import aroute_reading, aroute_service
from benchmarks.row import Row
from meter_runtime.aroute.commands import Arguments, Code, RewritePassword
from meter_runtime.aroute.dispatch import Dispatch, Way, unwrap, wrap
from meter_runtime.aroute.envelope import Command, seal, unseal, verify
from meter_runtime.aroute.gate import Gate, Outcome
from meter_runtime.aroute.identity import MeterIdentity, SigningKey
from meter_runtime.aroute.results import proof_of, read
from meter_runtime.aroute.trust import Carrier, Issuer, Trust
from meter_runtime.bench.laboratory import DEVICE_KEY
from meter_runtime.bench.options import BenchOptions
from meter_runtime.broute.credential_store import CredentialStore
from meter_runtime.broute.credentials import BRouteCredentials
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import JOURNAL_DEPTH, Journal
from meter_runtime.storage.media import FILE_WRITE_UNIT, FileMedia, Media, MemoryMedia
from meter_runtime.storage.vault import Vault
from meter_runtime.system_clock import SystemClock

T = TypeVar("T")

COMMANDS = 300
TAKE_AIM_MS = 5.0

_METER_ID = "BENCHMARK"
_IDENTITY = MeterIdentity.from_device_key(DEVICE_KEY)
_ISSUER = SigningKey.generate()
_CARRIER = SigningKey.generate()
_TRUST = Trust(
    {"new-system": Issuer("new-system", _ISSUER.public, ("broute.*",))},
    {"scs": Carrier("scs", _CARRIER.public, Way.CONTROL)},
)
_PROOF_KEY = b"proof key of 16b"
_MEMORY_WRITE_UNIT = 1

Make = Callable[[str, int], Media]


def measure(
    commands: int = COMMANDS,
    readings: int = aroute_reading.READINGS,
    idle_s: float = aroute_service.IDLE_S,
) -> list[Row]:
    """Medians over the commands and the half-hours; the meters are idle for ``idle_s`` once."""
    return [
        *_commands(commands),
        *aroute_reading.measure(readings),
        *aroute_service.measure(idle_s),
    ]


def _commands(number: int) -> list[Row]:
    numbers = range(1, number + 1)
    seal_ms, envelopes = _each(numbers, lambda at: seal(_command(at), _ISSUER, _sealing()))
    dispatch_ms, messages = _each(envelopes, _dispatched)
    check_ms, opened = _each(messages, _check)
    assert [command.counter for command in opened] == list(numbers)
    with tempfile.TemporaryDirectory(prefix="meter-benchmark-") as scratch:

        def in_memory(name: str, size: int) -> Media:
            return MemoryMedia(size, name, write_unit=_MEMORY_WRITE_UNIT)

        def in_files(name: str, size: int) -> Media:
            return FileMedia(Path(scratch) / name, size)

        memory_ms = asyncio.run(_take(messages, in_memory, _MEMORY_WRITE_UNIT))
        files_ms = asyncio.run(_take(messages, in_files, FILE_WRITE_UNIT))
    return [
        Row("New System: sign and seal", seal_ms, "ms/command"),
        Row("control side: dispatch", dispatch_ms, "ms/command"),
        Row("message with a new password", float(len(messages[0])), "bytes"),
        Row("meter: open and verify", check_ms, "ms/command"),
        Row("meter: all of it, in memory", memory_ms, "ms/command", TAKE_AIM_MS),
        Row("meter: all of it, in files", files_ms, "ms/command"),
    ]


async def _take(messages: Sequence[bytes], make: Make, write_unit: int) -> float:
    """The gate's median time for these messages, and that it obeyed every one of them."""
    journal = make("journal", Journal.size_for(JOURNAL_DEPTH, write_unit))
    issuers = make("issuers", IssuerLedger.size_for(write_unit))
    vault = make("vault", Vault.size_for(write_unit))
    hands = _Hands(CredentialStore.open(Vault.open(vault, DEVICE_KEY), DEVICE_KEY))
    gate = Gate(
        _METER_ID,
        _IDENTITY,
        _TRUST,
        IssuerLedger.open(issuers, DEVICE_KEY),
        Journal.open(journal),
        applier=hands,
        clock=SystemClock(),
        credential_version=lambda: hands.credentials.version,
        diagnosis=lambda: None,
    )
    took = []
    for message in messages:
        began = time.perf_counter()
        answer = await gate.take(message, Way.CONTROL)
        took.append(time.perf_counter() - began)
        assert answer is not None
        result = read(answer, _IDENTITY.public.signing)
        assert result.code is Code.OK
        assert result.proof == proof_of(_PROOF_KEY, hands.last.link)
    assert hands.credentials.version == len(messages)
    for media in (journal, issuers, vault):
        if isinstance(media, FileMedia):
            media.close()
    return statistics.median(took) * 1e3


class _Hands:
    """Rewrites the password in the vault, and tells no radio of it."""

    def __init__(self, credentials: CredentialStore) -> None:
        self.credentials = credentials
        self.last = BRouteCredentials(BenchOptions().credentials())

    async def apply(self, command: Command, arguments: Arguments) -> Outcome:
        self.last = self._rewritten(arguments)
        self.credentials.rewrite(self.last, command.counter)
        return Outcome(Code.OK)

    def proof(self, arguments: Arguments) -> bytes | None:
        return proof_of(_PROOF_KEY, self._rewritten(arguments).link)

    def settle(self, name: str, before: int, counter: int) -> Outcome:
        raise AssertionError("nothing is cut off here")

    def _rewritten(self, arguments: Arguments) -> BRouteCredentials:
        assert isinstance(arguments, RewritePassword)
        return BRouteCredentials(LinkCredentials(self.last.link.route_b_id, arguments.password))


def _command(number: int) -> Command:
    now = int(time.time())
    return Command(
        name="broute.rewrite_password",
        meter_id=_METER_ID,
        command_id=number.to_bytes(16, "big"),
        issuer="new-system",
        counter=number,
        not_before=now - 300,
        expiry=now + 3600,
        arguments={"password": f"PASSWORD{number:04}", "proof_key": _PROOF_KEY},
        reason="the letter was lost",
    )


def _sealing() -> bytes:
    return _IDENTITY.public.sealing


def _dispatched(envelope: bytes) -> bytes:
    return wrap(Dispatch("scs", Way.CONTROL, time.time(), "Mori", "", envelope), _CARRIER)


def _check(message: bytes) -> Command:
    """What the meter does until it knows who says what: two signatures, one seal."""
    envelope = unwrap(message).verify(_CARRIER.public).envelope
    return verify(unseal(envelope, _IDENTITY), _ISSUER.public)


def _each(given: Sequence[int] | Sequence[bytes], do: Callable[..., T]) -> tuple[float, list[T]]:
    """The median time in ms, and what came of each."""
    took, made = [], []
    for each in given:
        began = time.perf_counter()
        made.append(do(each))
        took.append(time.perf_counter() - began)
    return statistics.median(took) * 1e3, made
