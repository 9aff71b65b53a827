"""Requests: every command that was issued, its counter, and what became of it.

A counter is drawn, the command signed and sealed, and all of it stored in one transaction; only
then may the envelope leave. So a crash costs a counter at worst and never uses one twice.

Counters are kept for each issuer *and meter*, as the meters keep theirs: what one meter says of
its counter never moves another one's.
"""

import enum
import re
from collections.abc import Iterable
from dataclasses import dataclass, field
from sqlite3 import Row

from meter_runtime.errors import MeterError
from meter_runtime.headend.register_schema import Database

MAX_COUNTER = 2**63 - 1
"""What the database holds; the wire would bear twice as much."""

_ID_DIGITS = 32
_ID_BEGINS = re.compile(rf"[0-9A-Fa-f]{{4,{_ID_DIGITS}}}")

CREDENTIAL_COMMANDS = frozenset({"broute.set_credentials", "broute.rewrite_password"})
"""Those that bring a new password, and a letter."""

CHANGES_CREDENTIALS = CREDENTIAL_COMMANDS | {"broute.revoke"}


class State(enum.StrEnum):
    """How far a request has come."""

    PREPARED = "prepared"
    """Stored here, not yet at the Relay Server."""
    SENT = "sent"
    ON_SITE = "on site"
    """Not for the Relay Server: a work order takes it to the meter."""
    DONE = "done"
    """The meter's own signed OK, and its proof where there is something to prove."""
    REFUSED = "refused"
    UNPROVEN = "unproven"
    """The meter says OK and its proof is of another password."""
    UNKNOWN = "unknown"
    """Its time is over and no answer came: it may have been obeyed."""
    SUPERSEDED = "superseded"
    """A later request took its place."""
    POSTED = "posted"
    """Done, and the letter is on its way."""


OPEN = (State.PREPARED, State.SENT, State.ON_SITE)


@dataclass(frozen=True, slots=True)
class Request:
    """One row. ``proof`` is what a meter that holds the password will answer; ``draft`` is the
    letter's, sealed.
    """

    id: str
    """The command's id, 32 hex digits."""
    command: str
    meter: str
    issuer: str
    counter: int
    not_before: int
    expiry: int
    by: str
    reason: str
    contract: str | None
    """Whose: the contract that was in force at the meter's supply point."""
    envelope: bytes = field(repr=False)
    proof: bytes | None = field(default=None, repr=False)
    draft: bytes | None = field(default=None, repr=False)
    state: State = State.PREPARED
    code: str | None = None
    """The answer's."""
    said: str = ""
    """What is to be said of it to a person."""
    result: bytes | None = field(default=None, repr=False)
    answered_at: float | None = None
    number: int = 0
    """In the order in which they were issued, from 1; given by :meth:`Requests.add`."""

    @property
    def is_open(self) -> bool:
        return self.state in OPEN


class Requests:
    """The table, and the counters beside it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def next_counter(self, issuer: str, meter: str) -> int:
        """Drawn, inside the transaction that stores what it is drawn for."""
        row = self._database.one(
            "INSERT INTO counter VALUES (:issuer, :meter, 1) ON CONFLICT DO UPDATE"
            " SET last = last + 1 WHERE last < :most RETURNING last",
            issuer=issuer,
            meter=meter,
            most=MAX_COUNTER,
        )
        if row is None:
            raise MeterError(
                f"meter {meter}: the counter of issuer {issuer} is used up; the meter needs"
                " another issuer"
            )
        counter: int = row["last"]
        return counter

    def raise_counter(self, issuer: str, meter: str, to: int) -> None:
        """The meter has seen this one; ours never goes back."""
        self._database.write(
            "INSERT INTO counter VALUES (:issuer, :meter, :to) ON CONFLICT DO UPDATE"
            " SET last = excluded.last WHERE last < excluded.last",
            issuer=issuer,
            meter=meter,
            to=min(to, MAX_COUNTER),
        )

    def add(self, request: Request) -> None:
        """Keep a new request, inside the transaction in which its counter was drawn."""
        self._database.write(
            "INSERT INTO request (id, command, meter, issuer, counter, not_before, expiry,"
            " requested_by, reason, contract, envelope, proof, draft, state) VALUES (:id,"
            " :command, :meter, :issuer, :counter, :not_before, :expiry, :requested_by, :reason,"
            " :contract, :envelope, :proof, :draft, :state)",
            id=request.id,
            command=request.command,
            meter=request.meter,
            issuer=request.issuer,
            counter=request.counter,
            not_before=request.not_before,
            expiry=request.expiry,
            requested_by=request.by,
            reason=request.reason,
            contract=request.contract,
            envelope=request.envelope,
            proof=request.proof,
            draft=request.draft,
            state=request.state,
        )

    def all(self, meter: str | None = None) -> list[Request]:
        rows = self._database.all(
            "SELECT * FROM request WHERE :meter IS NULL OR meter = :meter ORDER BY number",
            meter=meter,
        )
        return [_request(row) for row in rows]

    def in_state(self, states: Iterable[State]) -> list[Request]:
        wanted = {f"state_{index}": state for index, state in enumerate(states)}
        marks = ", ".join(f":{name}" for name in wanted)
        rows = self._database.all(
            f"SELECT * FROM request WHERE state IN ({marks}) ORDER BY number",  # noqa: S608 - placeholders
            **wanted,
        )
        return [_request(row) for row in rows]

    def find(self, beginning: str) -> Request:
        """The request whose id begins so: 4 hex digits at least, and only one fits."""
        rows = []
        if _ID_BEGINS.fullmatch(beginning):
            rows = self._database.all(
                "SELECT * FROM request WHERE id BETWEEN :least AND :most LIMIT 2",
                least=beginning.lower(),
                most=beginning.lower().ljust(_ID_DIGITS, "f"),
            )
        if len(rows) != 1:
            how = "more than one request's id begins" if rows else "no request's id begins"
            raise MeterError(f'{how} with "{beginning}"; headend requests lists them')
        return _request(rows[0])

    def open_change(self, command: str, meter: str) -> Request | None:
        """The open request that this command would get in the way of.

        A revocation waits for nobody: it has the higher counter, so what it overtakes is stale.
        """
        hindering = {"broute.revoke"}
        if command != "broute.revoke":
            hindering |= CREDENTIAL_COMMANDS
        return next(
            (each for each in self.all(meter) if each.is_open and each.command in hindering), None
        )

    def open_order(self, meter: str) -> Request | None:
        """The request that somebody is on his way with: what is issued after it makes it stale."""
        return next((each for each in self.all(meter) if each.state is State.ON_SITE), None)

    def later_credentials(self, request: Request) -> Request | None:
        """A later request that may have changed the same meter's credentials."""
        harmless = (State.REFUSED, State.SUPERSEDED)
        return next(
            (
                each
                for each in self.all(request.meter)
                if each.number > request.number
                and each.command in CHANGES_CREDENTIALS
                and each.state not in harmless
            ),
            None,
        )

    def move(self, request: Request, state: State) -> None:
        self._database.write(
            "UPDATE request SET state = :state WHERE number = :number",
            number=request.number,
            state=state,
        )

    def answered(
        self, request: Request, *, at: float, state: State, code: str, said: str, result: bytes
    ) -> None:
        self._database.write(
            "UPDATE request SET state = :state, code = :code, said = :said, result = :result,"
            " answered_at = :at WHERE number = :number",
            number=request.number,
            at=at,
            state=state,
            code=code,
            said=said,
            result=result,
        )

    def note(self, request: Request, state: State, said: str) -> None:
        """Something became of it without an answer; nothing, where it has moved on meanwhile."""
        self._database.write(
            "UPDATE request SET state = :state, said = :said WHERE number = :number"
            " AND state = :was",
            number=request.number,
            state=state,
            said=said,
            was=request.state,
        )

    def destroy_draft(self, request: Request) -> None:
        """Nothing of the letter is left in the row; the database's scrub() does the rest."""
        self._database.write(
            "UPDATE request SET draft = NULL WHERE number = :number", number=request.number
        )


def _request(row: Row) -> Request:
    values = {name: row[name] for name in row.keys()}  # noqa: SIM118 - a Row iterates values
    values["by"] = values.pop("requested_by")
    return Request(**(values | {"state": State(values["state"])}))
