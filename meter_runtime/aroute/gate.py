"""The gate: the one way by which a command reaches the meter, and by which its result leaves.

It checks in this order, and the first check that fails is the answer: size, form, carrier, seal,
issuer and signature (all of these: ``REJECTED``), meter, command id, counter, time window,
arguments, authority. What a command does is the :class:`Applier`'s business; only ``keys.rotate``
is the gate's own.

**A told result is final.** What is carried out, and what is refused as EXPIRED, CLOCK_UNTRUSTED,
BAD_FORMAT or NOT_PERMITTED, takes its counter with it and stays in the journal: the same id is
answered by the same bytes, whatever has changed since. WRONG_METER, DUPLICATE (this id was another
command's), STALE_COUNTER, NOT_YET and BUSY take nothing and are not kept: the same command may be
sent again. So it may when the journal could not be written (STORE_FAILED, ``{"reason":
"journal"}``). A body that was carried out needs no signature when it comes again, byte for byte:
so the retry of ``keys.rotate`` is answered, too, after the key that signed it is gone.

**First written, then done, then told.** Journal *pending*, issuer's counter, the thing itself, the
signed result into the journal, the answer. Whatever is cut off in between (power, or a cancelled
call) stays pending until :meth:`Gate.settle` finds out how it ended, at the latest when the same
command comes again.

**One at a time, in the order of arrival.** Up to authenticity a message is checked at once and
without waiting, so nobody unknown can stand in a known one's way; of authentic commands
:data:`MAX_WAITING` wait and further ones are BUSY. A command that comes again while it is waiting
or being carried out is passed over in silence: its result is on the way.

**Time.** Only a SYNCED clock counts: by a COARSE one, which runs behind after each power cut, the
meter would refuse the very command that sets it right. The counter protects from repetition
without any clock; what must not be done late is refused until there is one
(``CommandSpec.needs_clock``).
"""

import asyncio
import logging
import traceback
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

from meter_runtime.aroute import records
from meter_runtime.aroute.answers import Answers
from meter_runtime.aroute.cbor import MalformedError
from meter_runtime.aroute.commands import (
    COMMANDS,
    Arguments,
    BadArgumentsError,
    Code,
    RotateIssuerKey,
    parse_arguments,
)
from meter_runtime.aroute.cose import MAX_MESSAGE_BYTES, NotAuthenticError
from meter_runtime.aroute.dispatch import Way, unwrap
from meter_runtime.aroute.envelope import Command, SealedBody, unseal, verify
from meter_runtime.aroute.identity import MeterIdentity
from meter_runtime.aroute.records import Begun, Ended
from meter_runtime.aroute.results import Diagnosis, answer_to
from meter_runtime.aroute.trust import Trust
from meter_runtime.clock import Clock
from meter_runtime.clock import Trust as ClockTrust
from meter_runtime.errors import MeterError
from meter_runtime.storage.issuer_ledger import IssuerLedger
from meter_runtime.storage.journal import Entry, Journal, JournalFullError

log = logging.getLogger(__name__)

MAX_WAITING = 8
MAX_REASON = 200
"""Characters of an error that a result quotes."""

_NOT_SETTLED = "a command that was cut off is not settled yet: %s"
_INTERRUPTED: Mapping[str, Any] = {"reason": "interrupted"}


@dataclass(frozen=True, slots=True)
class Outcome:
    """What became of a command; ``details`` answer it."""

    code: Code
    details: Mapping[str, Any] = field(default_factory=dict)


class Applier(Protocol):
    """Whoever carries commands out."""

    async def apply(self, command: Command, arguments: Arguments) -> Outcome:
        """Carry out an authentic, fresh and permitted command; ``arguments`` are its own, typed.

        Others wait meanwhile: it comes to an end by itself, within a time that it knows.
        A MeterError becomes STORE_FAILED and a BadArgumentsError BAD_FORMAT, both with their text:
        it must quote no secret.
        """
        ...

    def proof(self, arguments: Arguments) -> bytes | None:
        """What proves to the issuer that the credentials these arguments say are stored.

        None where they say none. It goes into the result of a command that ends well, and before
        that into the journal: a power cut must not cost the issuer its proof.
        """
        ...

    def settle(self, name: str, before: int, counter: int) -> Outcome:
        """How a command ended whose end nobody saw; nothing is done any more.

        ``before`` is the version of the credentials when it was begun. Counters of two issuers may
        be alike: what was stored under this one before counts for nothing.
        """
        ...


@dataclass(frozen=True, slots=True)
class _Opened:
    """A message from a trusted carrier, sealed to this meter."""

    body: SealedBody
    mark: bytes
    answer_to: bytes

    @property
    def command_id(self) -> bytes:
        return self.body.routing.command_id


@dataclass(frozen=True, slots=True)
class _Refusal:
    """``final``: it takes the command's counter, and is kept."""

    code: Code
    final: bool
    details: Mapping[str, Any] = field(default_factory=dict)


class Gate:
    """Takes messages, has authentic commands carried out, gives signed results."""

    def __init__(
        self,
        meter_id: str,
        identity: MeterIdentity,
        trust: Trust,
        ledger: IssuerLedger,
        journal: Journal,
        *,
        applier: Applier,
        clock: Clock,
        credential_version: Callable[[], int],
        diagnosis: Callable[[], Diagnosis | None],
    ) -> None:
        self._meter_id = meter_id
        self._identity = identity
        self._answers = Answers(meter_id, identity, clock, credential_version, diagnosis)
        self._trust = trust
        self._ledger = ledger
        self._journal = journal
        self._applier = applier
        self._clock = clock
        self._credential_version = credential_version
        self._turn = asyncio.Lock()
        self._in_hand: dict[bytes, bytes] = {}
        """Marks of the commands that wait or are being carried out, by id."""
        self._unstored: dict[bytes, Ended] = {}
        """What ended and could not be written down yet; pending in the journal, so bounded."""
        ledger.enroll(
            {name: issuer.public_key for name, issuer in trust.issuers.items()}, self._reached()
        )

    @property
    def counters(self) -> dict[str, int]:
        """Answers by code since the start, and ``silent``, ``in_hand``, ``again`` (told anew)."""
        return dict(self._answers.counts)

    async def take(self, message: bytes, way: Way) -> bytes | None:
        """The signed result of the command in ``message``; None: no answer is due.

        Never raises for what a message says. When the call is cancelled the command stays pending.
        """
        try:
            opened = self._open(message, way)
            entry = self._journal.find(opened.command_id)
            if opened.mark == self._in_hand.get(opened.command_id):
                self._answers.counts["in_hand"] += 1
                return None
            if entry is not None and (told := self._told_before(entry, opened)):
                return told
            command = self._verified(opened.body)
        except (MalformedError, NotAuthenticError) as wrong:
            return self._answers.rejection(message, way, wrong)
        refusal = self._refusal(command, opened)
        if refusal is not None and not refusal.final:
            return self._answer(command, opened, refusal.code, refusal.details)
        if len(self._in_hand) > MAX_WAITING:
            return self._answer(command, opened, Code.BUSY)
        self._in_hand[command.command_id] = opened.mark
        try:
            async with self._turn:
                return await self._carry_out(command, opened)
        finally:
            del self._in_hand[command.command_id]

    def settle(self) -> list[bytes]:
        """Bring every command that was cut off to its end; the results, to be told.

        To be called at boot, and again whenever calls of :meth:`take` were cancelled.
        """
        results = []
        for entry in self._journal.pending():
            begun = records.decode(entry)
            if not isinstance(begun, Begun):
                log.error("the journal's entry %s makes no sense", entry.key.hex())
            elif entry.key not in self._in_hand:
                try:
                    results.append(self._settle(entry.key, begun))
                except MeterError as failure:
                    log.error(_NOT_SETTLED, failure)
        return results

    def _open(self, message: bytes, way: Way) -> _Opened:
        if len(message) > MAX_MESSAGE_BYTES:
            raise MalformedError(f"a message of more than {MAX_MESSAGE_BYTES} bytes")
        dispatch = unwrap(message)
        carrier = self._trust.carrier(dispatch.carrier, way)
        if carrier is None or dispatch.way is not way:
            raise NotAuthenticError("no carrier that is trusted on this way")
        body = unseal(dispatch.verify(carrier.public_key).envelope, self._identity)
        return _Opened(body, records.mark_of(body), answer_to(message))

    def _verified(self, body: SealedBody) -> Command:
        if self._trust.issuer(body.issuer) is None:
            raise NotAuthenticError("no issuer that is trusted")
        return verify(body, self._ledger.public_key(body.issuer))

    def _told_before(self, entry: Entry, opened: _Opened) -> bytes | None:
        """The result of this very body, which was verified when it came first."""
        record = records.decode(entry)
        if record is None or record.mark != opened.mark:
            return None
        if isinstance(record, Ended):
            self._answers.counts["again"] += 1
            return record.result
        try:
            return self._settle(entry.key, record)
        except MeterError as failure:
            log.error(_NOT_SETTLED, failure)
            return self._answers.result(
                Code.BUSY, entry.key, record.counter, opened.answer_to, details={}
            )

    def _refusal(self, command: Command, opened: _Opened) -> _Refusal | None:
        """What an authentic command fails at; None when it is to be carried out."""
        if command.meter_id != self._meter_id:
            return _Refusal(Code.WRONG_METER, final=False)
        held = self._in_hand.get(command.command_id, opened.mark)
        if held != opened.mark or self._journal.find(command.command_id) is not None:
            return _Refusal(Code.DUPLICATE, final=False)
        if command.counter <= self._ledger.counter(command.issuer):
            # An issuer that lost count learns where to go on: it has proven who it is.
            reached = self._ledger.counter(command.issuer)
            return _Refusal(Code.STALE_COUNTER, final=False, details={"counter": reached})
        spec = COMMANDS.get(command.name)
        if self._clock.trust is ClockTrust.SYNCED:
            now = self._clock.wall()
            if now < command.not_before:
                return _Refusal(Code.NOT_YET, final=False)
            if now > command.expiry:
                return _Refusal(Code.EXPIRED, final=True)
        elif spec is not None and spec.needs_clock:
            return _Refusal(Code.CLOCK_UNTRUSTED, final=True)
        if spec is None:
            return _Refusal(Code.BAD_FORMAT, final=True, details={"reason": "unknown command"})
        try:
            parse_arguments(spec, command.arguments)
        except BadArgumentsError as wrong:
            return _Refusal(Code.BAD_FORMAT, final=True, details=_reason(wrong))
        if not self._trust.permits(command.issuer, command.name):
            return _Refusal(Code.NOT_PERMITTED, final=True)
        return None

    async def _carry_out(self, command: Command, opened: _Opened) -> bytes:
        # What waited is checked again: a counter was used, or time has passed.
        refusal = self._refusal(command, opened)
        if refusal is not None and not refusal.final:
            return self._answer(command, opened, refusal.code, refusal.details)
        begun = self._intent(command, opened, refusal)
        try:
            self._journal.begin(command.command_id, records.encode(begun))
        except JournalFullError as full:
            log.warning("%s", full)
            return self._answer(command, opened, Code.BUSY)
        except MeterError as failure:
            log.error("a command is not begun: %s", failure)
            return self._answer(command, opened, Code.STORE_FAILED, {"reason": "journal"})
        outcome = await self._outcome(command, refusal)
        try:
            return self._end(command.command_id, begun, outcome)
        except MeterError as failure:
            # Not told as final before it is kept: it is asked for again, and then it may be.
            log.error("the result of a command is not stored: %s", failure)
            return self._answer(command, opened, Code.BUSY)

    def _intent(self, command: Command, opened: _Opened, refusal: _Refusal | None) -> Begun:
        rotates_to = proof = None
        if refusal is None:
            arguments = parse_arguments(COMMANDS[command.name], command.arguments)
            if isinstance(arguments, RotateIssuerKey):
                rotates_to = arguments.public_key
            else:
                proof = self._applier.proof(arguments)
        return Begun(
            issuer=command.issuer,
            counter=command.counter,
            mark=opened.mark,
            answer_to=opened.answer_to,
            name=command.name if command.name in COMMANDS else "",
            before=self._credential_version(),
            refused=None if refusal is None else refusal.code,
            rotates_to=rotates_to,
            proof=proof,
        )

    async def _outcome(self, command: Command, refusal: _Refusal | None) -> Outcome:
        """Take the counter, then do it."""
        try:
            self._ledger.advance(command.issuer, command.counter)
        except MeterError as failure:
            # The journal knows the counter, too; but nothing is done on one medium's word.
            log.error("%s: its counter is not stored: %s", command.name, failure)
            refusal = refusal or _Refusal(Code.STORE_FAILED, final=True, details=_reason(failure))
        if refusal is not None:
            return Outcome(refusal.code, refusal.details)
        try:
            arguments = parse_arguments(COMMANDS[command.name], command.arguments)
            if isinstance(arguments, RotateIssuerKey):
                self._ledger.rotate(command.issuer, arguments.public_key)
                return Outcome(Code.OK)
            return await self._applier.apply(command, arguments)
        except BadArgumentsError as wrong:
            return Outcome(Code.BAD_FORMAT, _reason(wrong))
        except MeterError as failure:
            log.error("%s failed: %s", command.name, failure)
            return Outcome(Code.STORE_FAILED, _reason(failure))
        except Exception as failure:  # whatever a handler does, its command has an end
            _log_crash(command.name, failure)
            return Outcome(Code.STORE_FAILED, {"reason": "internal"})

    def _settle(self, command_id: bytes, begun: Begun) -> bytes:
        """Raises MeterError where the journal cannot be written."""
        unstored = self._unstored.get(command_id)
        if unstored is not None:
            return self._keep(command_id, unstored)
        outcome = self._interrupted(begun)
        log.warning("%s was cut off: %s", begun.name or "a command", outcome.code)
        return self._end(command_id, begun, outcome)

    def _interrupted(self, begun: Begun) -> Outcome:
        if begun.refused is not None:
            return Outcome(begun.refused)
        if begun.rotates_to is not None:
            trusted = self._trust.issuer(begun.issuer) is not None
            if trusted and self._ledger.public_key(begun.issuer) == begun.rotates_to:
                return Outcome(Code.OK)
            return Outcome(Code.STORE_FAILED, _INTERRUPTED)
        try:
            return self._applier.settle(begun.name, begun.before, begun.counter)
        except Exception as failure:
            _log_crash(begun.name, failure)
            return Outcome(Code.STORE_FAILED, _INTERRUPTED)

    def _end(self, command_id: bytes, begun: Begun, outcome: Outcome) -> bytes:
        result = self._answers.result(
            outcome.code,
            command_id,
            begun.counter,
            begun.answer_to,
            details=outcome.details,
            proof=begun.proof if outcome.code is Code.OK else None,
        )
        return self._keep(command_id, Ended(begun.issuer, begun.counter, begun.mark, result))

    def _keep(self, command_id: bytes, ended: Ended) -> bytes:
        """The result, once it is in the journal; raises MeterError."""
        self._unstored[command_id] = ended
        self._journal.finish(command_id, records.encode(ended))
        del self._unstored[command_id]
        return ended.result

    def _answer(
        self,
        command: Command,
        opened: _Opened,
        code: Code,
        details: Mapping[str, Any] | None = None,
    ) -> bytes:
        """An answer that is not kept."""
        return self._answers.result(
            code, command.command_id, command.counter, opened.answer_to, details=details or {}
        )

    def _reached(self) -> dict[str, int]:
        """The highest counter of each issuer that the journal knows."""
        reached: dict[str, int] = {}
        for entry in self._journal.entries():
            record = records.decode(entry)
            if record is not None:
                reached[record.issuer] = max(reached.get(record.issuer, 0), record.counter)
        return reached


def _reason(failure: MeterError) -> dict[str, Any]:
    return {"reason": str(failure)[:MAX_REASON]}


def _log_crash(name: str, failure: BaseException) -> None:
    """Where it happened, and not what was said: an argument might be quoted."""
    where = "".join(traceback.format_tb(failure.__traceback__))
    log.error("%s failed with %s:\n%s", name, type(failure).__name__, where)
