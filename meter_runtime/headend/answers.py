"""What the meters answer: believed as far as it can be proved, and what follows from it.

An answer counts when the meter's enrolled key signed it and it names the request's id and counter.
OK counts for a password when the meter's proof is the expected one, too: then the meter's record
says so, and letters of passwords before it are destroyed.
"""

import hmac
from collections.abc import Callable, Mapping
from typing import Protocol

from meter_runtime.aroute import results
from meter_runtime.aroute.commands import Code
from meter_runtime.aroute.identity import PublicKeys
from meter_runtime.errors import MeterError
from meter_runtime.headend.register_books import Books
from meter_runtime.headend.register_contracts import Credentials
from meter_runtime.headend.register_requests import (
    CHANGES_CREDENTIALS,
    CREDENTIAL_COMMANDS,
    OPEN,
    Request,
    State,
)

_ACTIVE = 1
"""The diagnosis's message "active status"."""


class MeterKeys(Protocol):
    """The enrolled meters' public keys."""

    def meter_keys(self, meter_id: str) -> PublicKeys: ...


class Answers:
    """Judges answers and stores the verdict."""

    def __init__(
        self, issuer: str, books: Books, keys: MeterKeys, now: Callable[[], float]
    ) -> None:
        self._issuer = issuer
        self._database = books.database
        self._audit = books.audit
        self._register = books.register
        self._requests = books.requests
        self._keys = keys
        self._now = now

    def judge(self, request: Request, message: bytes) -> None:
        """Store what an answer to a request means; one that proves nothing changes nothing."""
        keys = self._keys.meter_keys(request.meter)
        try:
            result = results.read(message, keys.signing)
        except MeterError:
            self.note(request, request.state, "an answer came that the meter did not sign")
            return
        if not _is_of(result, request):
            self.note(request, request.state, "an answer came that is of another command")
            return
        with self._database.transaction():
            if self._requests.find(request.id).state not in (*OPEN, State.UNKNOWN):
                return  # another poll was faster
            state, said = self._verdict(request, result)
            self._requests.answered(
                request, at=self._now(), state=state, code=result.code, said=said, result=message
            )
            if state is not State.DONE:
                self._requests.destroy_draft(request)
            else:
                self._settle(request, result)
            if result.code is Code.STALE_COUNTER:
                self._requests.raise_counter(
                    self._issuer, request.meter, _counter_of(result, request)
                )
            self._audit.append(
                self._now(),
                request.by,
                "answer",
                request.meter,
                request=request.id,
                code=result.code,
                state=state,
                credential_version=result.credential_version,
            )
        self._audit.seal()
        self._database.scrub()

    def _verdict(self, request: Request, result: results.Result) -> tuple[State, str]:
        if result.code is Code.STALE_COUNTER:
            seen = _counter_of(result, request)
            return State.REFUSED, f"the meter has seen counter {seen}; ours follows, issue it anew"
        if result.code is not Code.OK:
            return State.REFUSED, MEANINGS[result.code]
        if request.proof is not None and not (
            result.proof is not None and hmac.compare_digest(request.proof, result.proof)
        ):
            return State.UNPROVEN, "the meter says OK and proves another password: look at it"
        if request.command in CHANGES_CREDENTIALS and self._settled_after(request):
            return State.SUPERSEDED, "obeyed, and a later command has been since"
        return State.DONE, ""

    def _settled_after(self, request: Request) -> bool:
        return any(
            each.counter > request.counter
            and each.command in CHANGES_CREDENTIALS
            and each.state in (State.DONE, State.POSTED)
            for each in self._requests.all(request.meter)
        )

    def _settle(self, request: Request, result: results.Result) -> None:
        """What a proved OK means for the meter's record and for the requests before it."""
        meter, version = self._register.meter(request.meter), result.credential_version
        now, theirs = self._now(), meter.contract
        if request.command in CREDENTIAL_COMMANDS:
            theirs = request.contract
            self._register.settle(now, meter.id, Credentials.CONFIRMED, version, theirs)
        elif request.command == "broute.revoke":
            self._register.settle(now, meter.id, Credentials.REVOKED, version, theirs)
        elif (
            meter.credentials is Credentials.POSTED
            and meter.credential_version == version
            and _joined(result)
        ):
            self._register.settle(now, meter.id, Credentials.ACTIVE, version, theirs)
        if request.command not in CHANGES_CREDENTIALS:
            return
        for each in self._requests.all(request.meter):
            if (
                each.counter < request.counter
                and each.state in (State.DONE, State.UNKNOWN)
                and each.draft is not None
            ):
                self._requests.destroy_draft(each)
                self._requests.note(each, State.SUPERSEDED, f"by {request.id[:8]}")

    def note(self, request: Request, state: State, said: str) -> None:
        """Something is to be said of a request that no proved answer came to."""
        if (request.state, request.said) == (state, said):
            return
        with self._database.transaction():
            self._requests.note(request, state, said)
            self._audit.append(
                self._now(), request.by, "no answer", request.meter, request=request.id, said=said
            )
        self._audit.seal()

    def forget_draft(self, request: Request) -> None:
        """Nobody will ever prove this password."""
        if request.draft is not None:
            with self._database.transaction():
                self._requests.destroy_draft(request)
            self._database.scrub()


MEANINGS: Mapping[Code, str] = {
    Code.OK: "obeyed",
    Code.DUPLICATE: "the meter knows this id with another content; issue it anew",
    Code.STALE_COUNTER: "the meter has seen a higher counter; issue it anew",
    Code.EXPIRED: "it reached the meter after its time; issue it anew",
    Code.NOT_YET: "the meter's clock is behind ours; look at its clock",
    Code.WRONG_METER: "another meter's keys are enrolled under this id",
    Code.REJECTED: "the meter does not know us or who carried it: compare its trust file and keys",
    Code.BAD_FORMAT: "the meter cannot read the arguments; is its program older than ours?",
    Code.NOT_PERMITTED: "the meter may not do this now, or not for this issuer",
    Code.UNIT_ABSENT: "the unit that it takes is not plugged in",
    Code.STORE_FAILED: "the meter could not store it; the former state stands",
    Code.BUSY: "the meter was busy; issue it anew",
    Code.CLOCK_UNTRUSTED: "the meter's clock is not set; adjust it first",
}
"""What an answer means to whoever issued the command, and what to do."""


def _is_of(result: results.Result, request: Request) -> bool:
    """A meter that could not authenticate the command names neither its id nor its counter."""
    if result.meter_id != request.meter:
        return False
    if result.code is Code.REJECTED and result.command_id is None:
        return True
    named = (result.command_id, result.counter)
    return named == (bytes.fromhex(request.id), request.counter)


def _counter_of(result: results.Result, request: Request) -> int:
    """The last counter that the meter took from this issuer; ours where it tells none."""
    told = result.details.get("counter")
    return told if isinstance(told, int) and told > 0 else request.counter


def _joined(result: results.Result) -> bool:
    return result.diagnosis is not None and result.diagnosis.message == _ACTIVE
