"""The service to each home from the accepted application to its end, meter by meter.

Nothing of it is kept twice: a :class:`Life` is read off the contract, the meter's credentials and
the requests, so that it cannot say other than they do. What somebody has to do next stands in it,
and whether that is late. How long each step may take is this project's own, in :data:`WITHIN_S`;
only the letter's five business days are published.
"""

import enum
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date

from meter_runtime.aroute.results import peek
from meter_runtime.clock import first_slot_of, slot_start
from meter_runtime.errors import MeterError
from meter_runtime.headend.authority import NotPermittedError
from meter_runtime.headend.issuing import CLOCK_SLACK_S, Issuing
from meter_runtime.headend.register_books import Books
from meter_runtime.headend.register_contracts import (
    ContractRecord,
    Credentials,
    EndReason,
    MeterRecord,
)
from meter_runtime.headend.register_requests import (
    CHANGES_CREDENTIALS,
    CREDENTIAL_COMMANDS,
    OPEN,
    Request,
    State,
)

REVOKE = "broute.revoke"
OBEYED = (State.DONE, State.POSTED, State.SUPERSEDED)
FAILED = (State.REFUSED, State.UNPROVEN, State.UNKNOWN)
_DAY_S = 86_400.0


class Stage(enum.StrEnum):
    """How far the service at one meter has come."""

    ACCEPTED = "accepted"
    """The meter holds nothing of this customer's yet."""
    PROVISIONED = "provisioned"
    """It has proved that it holds his credentials; he does not know them."""
    POSTED = "letter posted"
    ACTIVE = "active"
    """The home has joined since."""
    REWRITTEN = "rewritten"
    """It has proved another password than the one he knows; then again *letter posted*."""
    ENDING = "ending"
    """The service is over, and the meter may not know."""
    ENDED = "ended"


WITHIN_S: Mapping[Stage, float] = {
    Stage.ACCEPTED: 3 * _DAY_S,
    Stage.PROVISIONED: _DAY_S,
    Stage.REWRITTEN: _DAY_S,
    # Five business days until a letter counts as received (article 9 (2)), and a week to join.
    Stage.POSTED: 14 * _DAY_S,
    Stage.ENDING: _DAY_S,
}
"""A stage that has something after it is late after so long."""
ANSWER_WITHIN_S = 3_600.0
"""A meter that has not answered a command for so long is out of reach."""


@dataclass(frozen=True, slots=True)
class Life:
    """The service of one contract at one meter."""

    contract: str
    meter: str
    stage: Stage
    since: float | None
    """UTC seconds; None where nobody wrote it down."""
    to_do: str = ""
    """What comes next, where somebody has to do it."""
    late: bool = False
    request: Request | None = None
    """The last command that was to change its credentials."""


@dataclass(frozen=True, slots=True)
class Told:
    """What :meth:`ServiceLife.begin` and :meth:`ServiceLife.end` did at one meter."""

    meter: str
    request: Request | None
    said: str = ""
    """Why there is no request."""
    failed: bool = False
    """There should have been one."""


class ServiceLife:
    """The service of every contract: looked at, begun and ended."""

    def __init__(self, books: Books, issuing: Issuing, now: Callable[[], float]) -> None:
        self._register = books.register
        self._requests = books.requests
        self._book = books.service
        self._issuing = issuing
        self._now = now

    def lives(self, code: str) -> list[Life]:
        """Of one contract, at each meter that hangs at its supply point or ever served by it."""
        contract = self._register.contract(code)
        if contract.accepted_on is None:
            return []
        found = []
        for meter in self._register.meters():
            requests = self._requests.all(meter.id)
            hangs_there = meter.supply_point == contract.supply_point and meter.removed_on is None
            if (contract.is_served and hangs_there) or _ever_served(contract, requests):
                found.append(life_of(contract, meter, requests, self._now()))
        return found

    def all(self) -> list[Life]:
        """Of all contracts, in the order of their codes."""
        codes = sorted(contract.code for contract in self._register.contracts())
        return [life for code in codes for life in self.lives(code)]

    async def begin(self, code: str, by: str, reason: str = "") -> list[Told]:
        """Have credentials set in every meter of the supply point that has none of this contract.

        Once more is harmless: where they are set, or on their way, nothing is issued.
        """
        contract = self._register.contract(code)
        self._book.require(contract)
        done = []
        for meter in self._register.meters_at(contract.supply_point):
            life = life_of(contract, meter, self._requests.all(meter.id), self._now())
            if life.stage is Stage.ACCEPTED:
                done.append(await self._issue("broute.set_credentials", meter.id, by, reason))
            else:
                done.append(Told(meter.id, None, life.stage.value))
        if not done:
            raise MeterError(f"supply point {contract.supply_point} has no meter")
        return done

    async def end(self, code: str, by: str, reason: EndReason, note: str = "") -> list[Told]:
        """The service is over: every meter that may hold credentials of this contract is told.

        The contract goes on, or has ended by itself. Once more for the same reason is harmless,
        and reaches for the meters that have not proved it.
        """
        self._book.end(self._now(), by, code, reason, note)
        done = []
        for life in self.lives(code):
            if life.stage is not Stage.ENDING:
                done.append(Told(life.meter, None, life.stage.value))
            elif _waits_for_another(life):
                done.append(Told(life.meter, None, life.to_do))
            else:
                why = f"service of {code} ended: {reason}"
                done.append(await self._issue(REVOKE, life.meter, by, why))
        return done

    async def _issue(self, command: str, meter: str, by: str, reason: str) -> Told:
        """One meter that cannot be told keeps no other one waiting."""
        try:
            return Told(meter, await self._issuing.issue(command, meter, by=by, reason=reason))
        except NotPermittedError:
            raise
        except MeterError as failure:
            return Told(meter, None, str(failure), failed=True)


def _waits_for_another(life: Life) -> bool:
    """A revocation, or the next customer's password, is on its way."""
    last = life.request
    if last is None or not last.is_open:
        return False
    return last.command == REVOKE or last.contract != life.contract


def life_of(
    contract: ContractRecord, meter: MeterRecord, requests: Sequence[Request], now: float
) -> Life:
    """The service of a contract with an accepted application at one meter.

    ``requests`` are the meter's, oldest first.
    """
    changes = [each for each in requests if each.command in CHANGES_CREDENTIALS]
    last = changes[-1] if changes else None
    if meter.removed_on is not None:
        return Life(contract.code, meter.id, Stage.ENDED, _opens(meter.removed_on), request=last)
    if not contract.is_served:
        return _ending(contract, meter, changes, now)
    since: float | None
    if meter.holds(contract.code):
        stage, since = _stage(contract, meter, changes), meter.settled_at
    else:
        stage, since = Stage.ACCEPTED, _opens(contract.accepted_on)
    to_do, stuck = _next_step(contract, meter, stage, requests)
    late = since is not None and now - since > WITHIN_S.get(stage, float("inf"))
    if stage is Stage.POSTED and late and not to_do:
        to_do = f"the home has not joined: headend issue broute.status --meter {meter.id}"
    if last is not None and last.is_open:
        late, stuck = False, _is_overdue(last, now)
    return Life(contract.code, meter.id, stage, since, to_do, bool(to_do) and (late or stuck), last)


def _stage(contract: ContractRecord, meter: MeterRecord, changes: Sequence[Request]) -> Stage:
    """Of a meter that holds credentials of this contract."""
    match meter.credentials:
        case Credentials.ACTIVE:
            return Stage.ACTIVE
        case Credentials.POSTED:
            return Stage.POSTED
        case _:
            proved = [
                each.command
                for each in changes
                if each.contract == contract.code and each.state in OBEYED
            ]
            again = len(proved) > 1 and proved[-1] == "broute.rewrite_password"
            return Stage.REWRITTEN if again else Stage.PROVISIONED


def _next_step(
    contract: ContractRecord, meter: MeterRecord, stage: Stage, requests: Sequence[Request]
) -> tuple[str, bool]:
    """What somebody has to do, and whether nothing goes on until then."""
    last = next((each for each in reversed(requests) if each.command in CHANGES_CREDENTIALS), None)
    begin = f"headend service begin {contract.code}"
    again = (
        begin
        if stage is Stage.ACCEPTED
        else f"headend issue broute.rewrite_password --meter {meter.id}"
    )
    if last is not None and last.is_open:
        return _awaited(last), False
    if last is not None and last.state in FAILED:
        return f"{_failed(last)}: {again}", True
    doubt = _doubt(meter, requests) if stage is not Stage.ACCEPTED else ""
    if doubt:
        return f"{doubt}: headend issue broute.set_credentials --meter {meter.id}", True
    match stage:
        case Stage.ACCEPTED:
            return begin, False
        case Stage.PROVISIONED | Stage.REWRITTEN if last is not None:
            return f"headend letter {last.id[:8]}", False
        case _:
            return "", False


def _ending(
    contract: ContractRecord, meter: MeterRecord, changes: Sequence[Request], now: float
) -> Life:
    """Of a service that is over."""
    over_on = min(filter(None, (contract.ended_on, contract.service_ended_on)))
    since = _opens(over_on)
    last = changes[-1] if changes else None
    mine = [each for each in changes if _is_of(each, contract)]
    if not (meter.holds(contract.code) or _may_be_obeyed(mine, changes)):
        ended_at = meter.settled_at if meter.contract == contract.code else since
        return Life(contract.code, meter.id, Stage.ENDED, ended_at, request=last)
    end = f"headend service end {contract.code}"
    late = now - since > WITHIN_S[Stage.ENDING]
    if last is None or last in mine or last.state in OBEYED:
        to_do = end
    elif last.is_open:
        to_do = _awaited(last)
        late = _is_overdue(last, now)
    else:
        to_do, late = f"{_failed(last)}: {end}", True
    return Life(contract.code, meter.id, Stage.ENDING, since, to_do, late, last)


def _may_be_obeyed(mine: Sequence[Request], changes: Sequence[Request]) -> bool:
    """A password was on its way that nothing proved since has taken the place of."""
    proved = [each.number for each in changes if each.state in (State.DONE, State.POSTED)]
    doubtful = (*OPEN, State.UNKNOWN, State.UNPROVEN)
    return any(each.state in doubtful and each.number > max(proved, default=0) for each in mine)


def _doubt(meter: MeterRecord, requests: Sequence[Request]) -> str:
    """Why the credentials have to be set again, by what the meter said of itself since."""
    said: bytes | None = None
    for each in requests:
        if each.command == "broute.status" and each.state is State.DONE:
            said = each.result
        elif each.command in CHANGES_CREDENTIALS and each.state in OBEYED:
            said = None
    if said is None:
        return ""
    told = peek(said)
    if told.details.get("provisioned") is False:
        return "the meter holds no credentials"
    if told.credential_version != meter.credential_version:
        return "the meter holds others than those that it proved"
    if told.details.get("set_again") is True:
        return "its communication unit was replaced (U-22)"
    return ""


def _awaited(request: Request) -> str:
    if request.state is State.ON_SITE:
        return f"{request.command} {request.id[:8]} is on a work order"
    return f"{request.command} {request.id[:8]} has no answer yet: headend poll"


def _failed(request: Request) -> str:
    return f"{request.command} {request.id[:8]} is {request.state.value}: {request.said}"


def _is_overdue(request: Request, now: float) -> bool:
    return now - (request.not_before + CLOCK_SLACK_S) > ANSWER_WITHIN_S


def _is_of(request: Request, contract: ContractRecord) -> bool:
    return request.command in CREDENTIAL_COMMANDS and request.contract == contract.code


def _ever_served(contract: ContractRecord, requests: Sequence[Request]) -> bool:
    return any(_is_of(each, contract) for each in requests)


def _opens(day: date | None) -> float:
    """The midnight, JST, that opens it."""
    return 0.0 if day is None else float(slot_start(first_slot_of(day)))
