"""Issuing commands, and fetching what the meters answer.

A command leaves in one order and no other: the person's right to it is checked; counter, signature,
sealed envelope, expected proof and letter draft are made and stored in one transaction; then the
envelope is put on the Relay Server. After a crash :meth:`Issuing.poll` puts it there again: the
same id, the same bytes.

A password is in clear in :meth:`Issuing._credentials` and nowhere else. From there it goes into the
envelope sealed to the meter, into the proof that the meter is expected to give, and into the draft
sealed to the letter key.

The business side opens connections to the relay only. Answers are judged by
:mod:`~meter_runtime.headend.answers`.
"""

import secrets
import string
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from http import HTTPStatus
from typing import Any, Protocol

from meter_runtime.aroute import commands, results
from meter_runtime.aroute.commands import CommandSpec
from meter_runtime.aroute.envelope import COMMAND_ID_SIZE, Command, seal
from meter_runtime.aroute.identity import SigningKey
from meter_runtime.comm.contracts import LinkCredentials
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.headend.answers import MEANINGS, Answers, MeterKeys
from meter_runtime.headend.authority import NotPermittedError, role_for
from meter_runtime.headend.letters import DraftSealer
from meter_runtime.headend.register_books import Books
from meter_runtime.headend.register_contracts import (
    ContractRecord,
    Credentials,
    MeterRecord,
)
from meter_runtime.headend.register_requests import (
    CHANGES_CREDENTIALS,
    CREDENTIAL_COMMANDS,
    OPEN,
    Request,
    State,
)
from meter_runtime.headend.relay_client import RelayRefusedError
from meter_runtime.secret import Secret

VALID_S = 86_400
"""How long a command may be obeyed, where nobody says otherwise."""
MAX_VALID_S = 30 * 86_400
CLOCK_SLACK_S = 300
"""A meter's clock may be this much behind ours."""
ANSWER_GRACE_S = 300
"""An answer given at the last moment is still on its way for so long."""
LATE_ANSWER_S = 30 * 86_400
"""As long after its expiry an answer may still be found; the relay keeps it no longer."""
MAX_REASON = 128

PASSWORD_LENGTH = 12
PASSWORD_ALPHABET = string.ascii_uppercase + string.digits
"""62 bits in 12 characters."""


class Relay(Protocol):
    """The business side's way to the Relay Server."""

    async def put(
        self, request_id: str, envelope: bytes, *, meter_id: str, expiry: int
    ) -> None: ...

    async def result(self, request_id: str) -> bytes | None: ...


class Keyring(MeterKeys, Protocol):
    """Keys of the meters and of this issuer, and what the meters trust it with."""

    def issuer_key(self, meter_id: str) -> SigningKey: ...

    def permits(self, command: str) -> bool: ...


@dataclass(frozen=True, slots=True)
class _Wanted:
    """What somebody asks to be issued."""

    spec: CommandSpec
    meter_id: str
    by: str
    reason: str
    given: dict[str, Any]
    valid_s: float


@dataclass(frozen=True, slots=True)
class _Content:
    """What goes into one command, and what is kept to judge its answer."""

    arguments: Mapping[str, Any]
    proof: bytes | None = None
    draft: bytes | None = None


class Issuing:
    """The New System as an issuer."""

    def __init__(
        self,
        issuer: str,
        books: Books,
        keyring: Keyring,
        *,
        drafts: DraftSealer,
        relay: Relay,
        now: Callable[[], float],
    ) -> None:
        self._issuer = issuer
        self._database = books.database
        self._audit = books.audit
        self._staff = books.staff
        self._register = books.register
        self._requests = books.requests
        self._service = books.service
        self._keyring = keyring
        self._drafts = drafts
        self._relay = relay
        self._now = now
        self._answers = Answers(issuer, books, keyring, now)

    async def issue(
        self,
        name: str,
        meter_id: str,
        *,
        by: str,
        reason: str = "",
        arguments: Mapping[str, Any] | None = None,
        valid_s: float = VALID_S,
        on_site: bool = False,
    ) -> Request:
        """Sign, seal, store and send a command; the request as it stands then.

        ``arguments`` are those of :mod:`~meter_runtime.aroute.commands`; a password, an ID, a day
        and a proof key are not among them: they are drawn here or stand in the register. Where the
        relay is out of reach the request stays *prepared*, and :meth:`poll` sends it. One that is
        ``on_site`` is for a work order, and never goes to the relay.
        """
        spec = commands.COMMANDS.get(name)
        if spec is None:
            raise UsageError(f'no command is called "{name}"; {nearest(name, commands.COMMANDS)}')
        wanted = _Wanted(spec, meter_id, by, reason, dict(arguments or {}), valid_s)
        self._check(wanted)
        with self._database.transaction():
            request = self._prepare(wanted)
            if on_site:
                self._requests.note(request, State.ON_SITE, "")
        self._audit.seal()
        return self._requests.find(request.id) if on_site else await self._send(request)

    def take(self, message: bytes) -> Request:
        """Judge an answer that was brought from the meter; the request as it stands then.

        Raises :class:`MeterError` for what names no request of ours, and where it proves nothing.
        """
        result = results.peek(message)
        if result.command_id is None:
            raise MeterError(
                f"meter {result.meter_id}: {result.code.value} names no request, so it settles"
                f" none; {MEANINGS[result.code]}"
            )
        request = self._requests.find(result.command_id.hex())
        self._answers.judge(request, message)
        judged = self._requests.find(request.id)
        if judged.result != message:
            # What was settled before stays settled; the same answer may come by two ways.
            raise MeterError(
                f"request {request.id[:8]} is {judged.state.value}, and this answer changes"
                f" nothing{f': {judged.said}' if judged.said else ''}"
            )
        return judged

    async def poll(self, only: str | None = None) -> list[Request]:
        """Send what was not sent, fetch what was answered; the requests that this looked at.

        ``only`` is one request's id. Raises :class:`MeterError` where the relay is out of reach.
        """
        looked_at = []
        for request in self._requests.in_state((*OPEN, State.UNKNOWN)):
            if only is not None and request.id != only:
                continue
            over = self._now() > request.expiry + LATE_ANSWER_S
            if request.state is State.UNKNOWN and over:
                self._answers.forget_draft(request)
                continue
            looked_at.append(await self._look_at(request))
        return looked_at

    def _check(self, wanted: _Wanted) -> None:
        name = wanted.spec.name
        try:
            self._staff.require(wanted.by, role_for(name), name)
        except NotPermittedError:
            self._staff.refused(self._now(), wanted.by, name, wanted.meter_id)
            raise
        if not self._keyring.permits(name):
            raise UsageError(
                f"{name}: the meters take it from the control side alone; see 'headend send'"
            )
        if not 0 < wanted.valid_s <= MAX_VALID_S:
            raise UsageError("a command is valid for 1 second to 30 days")
        if len(wanted.reason) > MAX_REASON or not wanted.reason.isprintable():
            raise UsageError(f"a reason has at most {MAX_REASON} printable characters")

    def _prepare(self, wanted: _Wanted) -> Request:
        """Everything up to the durable row; within the transaction."""
        now, name = self._now(), wanted.spec.name
        meter = self._register.meter(wanted.meter_id)
        contract = self._register.contract_at(meter.supply_point)
        if name in CHANGES_CREDENTIALS:
            hindering = self._requests.open_change(name, meter.id)
            if hindering is not None:
                raise MeterError(
                    f"meter {meter.id}: {hindering.command} {hindering.id[:8]} is still open;"
                    " wait for its answer with 'headend poll', or for its end"
                )
        order = self._requests.open_order(meter.id)
        if order is not None and name != "broute.revoke":
            raise MeterError(
                f"meter {meter.id}: work order {order.id[:8]} is on its way, and a later command"
                " would make it stale; wait for its result, or 'headend work-order --recall' it"
            )
        command_id = secrets.token_bytes(COMMAND_ID_SIZE)
        content = self._content(wanted.spec, command_id.hex(), meter, contract, wanted.given)
        command = Command(
            name=name,
            meter_id=meter.id,
            command_id=command_id,
            issuer=self._issuer,
            counter=self._requests.next_counter(self._issuer, meter.id),
            not_before=max(0, int(now) - CLOCK_SLACK_S),
            expiry=int(now + wanted.valid_s),
            arguments=content.arguments,
            reason=wanted.reason,
        )
        sealing = self._keyring.meter_keys(meter.id).sealing
        self._requests.add(
            Request(
                id=command_id.hex(),
                command=name,
                meter=meter.id,
                issuer=self._issuer,
                counter=command.counter,
                not_before=command.not_before,
                expiry=command.expiry,
                by=wanted.by,
                reason=wanted.reason,
                contract=None if contract is None else contract.code,
                envelope=seal(command, self._keyring.issuer_key(meter.id), sealing),
                proof=content.proof,
                draft=content.draft,
            )
        )
        self._audit.append(
            now,
            wanted.by,
            name,
            meter.id,
            request=command_id.hex(),
            counter=command.counter,
            reason=wanted.reason,
        )
        return self._requests.find(command_id.hex())

    def _content(
        self,
        spec: CommandSpec,
        request_id: str,
        meter: MeterRecord,
        contract: ContractRecord | None,
        given: dict[str, Any],
    ) -> _Content:
        if spec.name not in CREDENTIAL_COMMANDS:
            typed = commands.parse_arguments(spec, given)
            return _Content(commands.plain_arguments(typed))
        if given:
            raise UsageError(
                f"{spec.name} takes no arguments here: ID and password are drawn, and the day is"
                " the contract's"
            )
        return self._credentials(spec, request_id, meter, contract)

    def _credentials(
        self,
        spec: CommandSpec,
        request_id: str,
        meter: MeterRecord,
        contract: ContractRecord | None,
    ) -> _Content:
        """A new password, in the three forms in which it leaves this function."""
        if contract is None:
            raise MeterError(f"supply point {meter.supply_point} has no contract in force")
        self._service.require(contract)
        served_from = self._service.served_from(contract, meter)
        if meter.removed_on is not None:
            raise MeterError(f"meter {meter.id} was removed on {meter.removed_on}")
        if spec.name == "broute.rewrite_password" and meter.credentials is Credentials.REVOKED:
            raise MeterError(
                f"meter {meter.id}: its credentials are revoked; issue broute.set_credentials"
            )
        password = Secret(
            "".join(secrets.choice(PASSWORD_ALPHABET) for _ in range(PASSWORD_LENGTH))
        )
        link = LinkCredentials(meter.route_b_id, password)
        proof_key = secrets.token_bytes(commands.PROOF_KEY_BYTES)
        # With every password goes the first day that is this customer's: it is the same day again
        # for the same customer, and never the last one's for a new customer.
        arguments: commands.Arguments
        if spec.name == "broute.set_credentials":
            arguments = commands.SetCredentials(
                id=link.route_b_id,
                password=password,
                accepted_on=served_from,
                proof_key=proof_key,
            )
        else:
            arguments = commands.RewritePassword(
                password=password, proof_key=proof_key, accepted_on=served_from
            )
        return _Content(
            commands.plain_arguments(arguments),
            results.proof_of(proof_key, link),
            self._drafts.seal(request_id, link),
        )

    async def _send(self, request: Request) -> Request:
        try:
            await self._relay.put(
                request.id, request.envelope, meter_id=request.meter, expiry=request.expiry
            )
        except MeterError as failure:
            self._requests.note(request, request.state, str(failure))
        else:
            self._requests.note(request, State.SENT, "")
        return self._requests.find(request.id)

    async def _look_at(self, request: Request) -> Request:
        now = self._now()
        if request.state is State.PREPARED and now < request.expiry:
            request = await self._send(request)
            if request.state is State.PREPARED:
                return request
        message = await self._answer_to(request)
        if message is not None:
            self._answers.judge(request, message)
            request = self._requests.find(request.id)
        if request.is_open and now > request.expiry + ANSWER_GRACE_S:
            said = "no answer within its time; it may have been obeyed: ask broute.status"
            self._answers.note(request, State.UNKNOWN, said)
        return self._requests.find(request.id)

    async def _answer_to(self, request: Request) -> bytes | None:
        if request.state is State.ON_SITE:
            return None
        try:
            return await self._relay.result(request.id)
        except RelayRefusedError as refused:
            if refused.status != HTTPStatus.NOT_FOUND:
                raise
        # A relay that lost its spool is given the same request again.
        if self._now() < request.expiry:
            await self._send(request)
        return None
