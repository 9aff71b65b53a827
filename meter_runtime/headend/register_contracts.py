"""Contracts, supply points and meters, and what is known of each meter's credentials.

A supply point has one contract at a time and any number of meters, each with a route-B ID of its
own. What a meter's credentials are worth is kept with the meter as the last thing that was
*settled*; a command that is under way is :mod:`~meter_runtime.headend.register_requests`' business.
"""

import enum
import re
import secrets
from dataclasses import dataclass
from datetime import date
from sqlite3 import Row

from meter_runtime.clock import jst_day
from meter_runtime.errors import MeterError, UsageError, nearest
from meter_runtime.headend.audit import AuditLog
from meter_runtime.headend.authority import Role
from meter_runtime.headend.register_schema import Database
from meter_runtime.headend.register_staff import Staff

_CODE = re.compile(r"[0-9A-Za-z][0-9A-Za-z._-]{0,63}")
_ROUTE_B_ID = re.compile(r"[0-9A-F]{32}")
_MAX_TEXT = 200


class Credentials(enum.StrEnum):
    """How far a meter's credentials have come."""

    NONE = "none"
    REQUESTED = "requested"
    """Signed, sealed and stored here."""
    ISSUED = "issued"
    """With the Relay Server, or further."""
    CONFIRMED = "confirmed"
    """The meter has proved that it holds them."""
    POSTED = "letter posted"
    ACTIVE = "active"
    """The home has joined by them since."""
    REVOKED = "revoked"


class EndReason(enum.StrEnum):
    """Why the service to a home ends: what the terms of service (article 19) know, no other."""

    NOTICE = "notice"
    """The customer gave notice."""
    MOVED_OUT = "moved-out"
    """It is no longer his supply point (article 5 (1))."""
    NO_METER = "no-meter"
    """No meter that can serve can stay there (article 5 (2))."""
    NO_HEMS = "no-hems"
    """There is no HEMS (article 5 (3))."""
    MISUSE = "misuse"
    """What article 18 forbids."""


@dataclass(frozen=True, slots=True)
class SupplyPoint:
    """Where the grid ends and a home begins."""

    id: str
    address: str


@dataclass(frozen=True, slots=True)
class ContractRecord:
    """What the customer agreed to, under the code that every source names it by."""

    code: str
    customer: str
    supply_point: str
    renewables: bool = False
    switching: bool = False
    capacity_a: int | None = None
    accepted_on: date | None = None
    """When the application for the B-route was accepted; None where there is none."""
    updated_on: date = date.min
    ended_on: date | None = None
    service_ended_on: date | None = None
    """When the service to the home was ended; it may be applied for once more."""
    service_end: EndReason | None = None
    service_end_note: str = ""

    @property
    def is_served(self) -> bool:
        """The home may have the B-route now."""
        over = self.ended_on is not None or self.service_ended_on is not None
        return self.accepted_on is not None and not over


@dataclass(frozen=True, slots=True)
class MeterRecord:
    """A meter; ``contract`` is the one its credentials were made for."""

    id: str
    supply_point: str
    route_b_id: str
    credentials: Credentials
    credential_version: int | None
    contract: str | None
    settled_at: float | None = None
    """When ``credentials`` became what they are; None where nobody wrote it down."""
    hung_on: date | None = None
    """None: whatever it has measured was measured here."""
    removed_on: date | None = None
    replaced_by: str | None = None

    def holds(self, contract: str) -> bool:
        """Whether it is known to hold credentials of this contract, and hangs there."""
        over = (Credentials.NONE, Credentials.REVOKED)
        is_theirs = self.contract == contract and self.credentials not in over
        return is_theirs and self.removed_on is None


class Register:
    """What the New System knows of customers and meters."""

    def __init__(self, database: Database, audit: AuditLog, staff: Staff) -> None:
        self._database = database
        self._audit = audit
        self._staff = staff

    def supply_points(self) -> list[SupplyPoint]:
        rows = self._database.all("SELECT * FROM supply_point ORDER BY id")
        return [SupplyPoint(*row) for row in rows]

    def add_supply_point(self, at: float, by: str, point: SupplyPoint) -> None:
        self._staff.require(by, Role.REGISTRAR, "supply-point")
        _check_code("supply point", point.id)
        _check_text("address", point.address)
        with self._database.transaction():
            if any(point.id == known.id for known in self.supply_points()):
                raise UsageError(f'there is a supply point "{point.id}" already')
            self._database.write(
                "INSERT INTO supply_point VALUES (:id, :address)",
                id=point.id,
                address=point.address,
            )
            self._audit.append(at, by, "supply point", point.id)
        self._audit.seal()

    def supply_point(self, point: str) -> SupplyPoint:
        points = {known.id: known for known in self.supply_points()}
        if point not in points:
            raise UsageError(f'no supply point is called "{point}"; {nearest(point, points)}')
        return points[point]

    def contracts(self) -> list[ContractRecord]:
        return [_contract(row) for row in self._database.all("SELECT * FROM contract")]

    def find_contract(self, code: str) -> ContractRecord | None:
        row = self._database.one("SELECT * FROM contract WHERE code = :code", code=code)
        return None if row is None else _contract(row)

    def contract(self, code: str) -> ContractRecord:
        """UsageError with the nearest one."""
        found = self.find_contract(code)
        if found is None:
            codes = [known.code for known in self.contracts()]
            raise UsageError(f'no contract has the code "{code}"; {nearest(code, codes)}')
        return found

    def contract_at(self, point: str) -> ContractRecord | None:
        """Whoever lives there now."""
        row = self._database.one(
            "SELECT * FROM contract WHERE supply_point = :point AND ended_on IS NULL", point=point
        )
        return None if row is None else _contract(row)

    def add_contract(self, at: float, by: str, contract: ContractRecord) -> None:
        """A new one, from today."""
        self._staff.require(by, Role.REGISTRAR, "contract")
        _check_code("contract", contract.code)
        _check_text("customer", contract.customer)
        with self._database.transaction():
            if self.find_contract(contract.code) is not None:
                raise UsageError(f'there is a contract "{contract.code}" already')
            self.supply_point(contract.supply_point)
            present = self.contract_at(contract.supply_point)
            if present is not None:
                raise UsageError(
                    f"supply point {contract.supply_point} has contract {present.code};"
                    f" end it first: headend contract end {present.code} --by NAME"
                )
            self._database.write(
                "INSERT INTO contract (code, customer, supply_point, renewables, switching,"
                " capacity_a, accepted_on, updated_on) VALUES (:code, :customer, :supply_point,"
                " :renewables, :switching, :capacity_a, :accepted_on, :updated_on)",
                code=contract.code,
                customer=contract.customer,
                supply_point=contract.supply_point,
                renewables=contract.renewables,
                switching=contract.switching,
                capacity_a=contract.capacity_a,
                accepted_on=_written(contract.accepted_on),
                updated_on=_written(jst_day(at)),
            )
            accepted = _written(contract.accepted_on)
            self._audit.append(at, by, "contract", contract.code, accepted_on=accepted)
        self._audit.seal()

    def apply_for_broute(self, at: float, by: str, code: str, accepted_on: date) -> None:
        """The customer's application was accepted: nothing from before that day is served.

        A service that was ended may begin anew, once no meter serves by it any longer.
        """
        self._staff.require(by, Role.REGISTRAR, "contract")
        with self._database.transaction():
            known = self.contract(code)
            if known.ended_on is not None:
                raise UsageError(f"contract {code} has ended")
            if known.service_ended_on is not None:
                self._check_anew(known, accepted_on)
            self._database.write(
                "UPDATE contract SET accepted_on = :day, updated_on = :today,"
                " service_ended_on = NULL, service_end = NULL, service_end_note = NULL"
                " WHERE code = :code",
                day=_written(accepted_on),
                today=_written(jst_day(at)),
                code=code,
            )
            self._audit.append(at, by, "contract", code, accepted_on=_written(accepted_on))
        self._audit.seal()

    def end_contract(self, at: float, by: str, code: str) -> list[MeterRecord]:
        """The customer leaves; the meters at which his credentials still hold."""
        self._staff.require(by, Role.REGISTRAR, "contract")
        with self._database.transaction():
            if self.contract(code).ended_on is not None:
                raise UsageError(f"contract {code} has ended already")
            self._database.write(
                "UPDATE contract SET ended_on = :today, updated_on = :today WHERE code = :code",
                today=_written(jst_day(at)),
                code=code,
            )
            self._audit.append(at, by, "contract ended", code)
        self._audit.seal()
        return [meter for meter in self.meters() if meter.holds(code)]

    def _check_anew(self, ended: ContractRecord, accepted_on: date) -> None:
        if ended.service_ended_on is not None and accepted_on < ended.service_ended_on:
            raise UsageError(
                f"contract {ended.code}: its service ended on {ended.service_ended_on}; a new"
                " application is not older than that"
            )
        for meter in self.meters():
            if meter.holds(ended.code):
                raise MeterError(
                    f"contract {ended.code}: meter {meter.id} still serves by its former"
                    f" application; see 'headend service show {ended.code}'"
                )

    def meters(self) -> list[MeterRecord]:
        return [_meter(row) for row in self._database.all("SELECT * FROM meter ORDER BY id")]

    def meter(self, meter_id: str) -> MeterRecord:
        """UsageError with the nearest one."""
        row = self._database.one("SELECT * FROM meter WHERE id = :id", id=meter_id)
        if row is None:
            known = [meter.id for meter in self.meters()]
            raise UsageError(
                f'no meter "{meter_id}" is registered; {nearest(meter_id, known)}'
                " Add it: headend meter add"
            )
        return _meter(row)

    def meters_at(self, point: str) -> list[MeterRecord]:
        """Those that hang there now."""
        here = (meter for meter in self.meters() if meter.supply_point == point)
        return [meter for meter in here if meter.removed_on is None]

    def add_meter(
        self,
        at: float,
        by: str,
        meter_id: str,
        point: str,
        route_b_id: str | None = None,
        *,
        hung_on: date | None = None,
    ) -> MeterRecord:
        """A meter at a supply point; its route-B ID is drawn where it has none yet.

        ``hung_on`` where it has measured elsewhere before.
        """
        self._staff.require(by, Role.REGISTRAR, "meter")
        _check_code("meter", meter_id)
        drawn = secrets.token_hex(16).upper() if route_b_id is None else route_b_id
        if not _ROUTE_B_ID.fullmatch(drawn):
            raise UsageError("a route-B ID has 32 characters 0-9 A-F")
        with self._database.transaction():
            self.supply_point(point)
            self._hang(meter_id, point, drawn, hung_on)
            self._audit.append(at, by, "meter", meter_id, supply_point=point)
        self._audit.seal()
        return self.meter(meter_id)

    def replace_meter(self, at: float, by: str, old: str, new: str) -> MeterRecord:
        """``new`` hangs in the place of ``old`` from today, with a route-B ID of its own.

        Keys and credentials of ``old`` went with it: ``new`` is enrolled and provisioned as any.
        """
        self._staff.require(by, Role.REGISTRAR, "meter")
        _check_code("meter", new)
        today = jst_day(at)
        with self._database.transaction():
            former = self.meter(old)
            if former.removed_on is not None:
                raise UsageError(f"meter {old} was removed on {former.removed_on}")
            self._hang(new, former.supply_point, secrets.token_hex(16).upper(), today)
            self._database.write(
                "UPDATE meter SET removed_on = :today, replaced_by = :new WHERE id = :old",
                today=_written(today),
                new=new,
                old=old,
            )
            self._audit.append(at, by, "meter replaced", old, replaced_by=new)
        self._audit.seal()
        return self.meter(new)

    def _hang(self, meter_id: str, point: str, route_b_id: str, hung_on: date | None) -> None:
        for known in self.meters():
            if known.id == meter_id:
                raise UsageError(f'there is a meter "{meter_id}" already')
            if known.route_b_id == route_b_id:
                raise UsageError(f"meter {known.id} has this route-B ID")
        self._database.write(
            "INSERT INTO meter (id, supply_point, route_b_id, credentials, hung_on)"
            " VALUES (:id, :point, :route_b_id, :none, :hung_on)",
            id=meter_id,
            point=point,
            route_b_id=route_b_id,
            none=Credentials.NONE,
            hung_on=_written(hung_on),
        )

    def settle(
        self,
        at: float,
        meter_id: str,
        credentials: Credentials,
        version: int,
        contract: str | None,
    ) -> None:
        """What the meter proved, inside the transaction that stores the proof."""
        self._database.write(
            "UPDATE meter SET credentials = :credentials, credential_version = :version,"
            " contract = :contract, settled_at = :at WHERE id = :id",
            at=at,
            id=meter_id,
            credentials=credentials,
            version=version,
            contract=contract,
        )


def _contract(row: Row) -> ContractRecord:
    return ContractRecord(
        row["code"],
        row["customer"],
        row["supply_point"],
        bool(row["renewables"]),
        bool(row["switching"]),
        row["capacity_a"],
        _read(row["accepted_on"]),
        date.fromisoformat(row["updated_on"]),
        _read(row["ended_on"]),
        _read(row["service_ended_on"]),
        None if row["service_end"] is None else EndReason(row["service_end"]),
        row["service_end_note"] or "",
    )


def _meter(row: Row) -> MeterRecord:
    return MeterRecord(
        row["id"],
        row["supply_point"],
        row["route_b_id"],
        Credentials(row["credentials"]),
        row["credential_version"],
        row["contract"],
        row["settled_at"],
        _read(row["hung_on"]),
        _read(row["removed_on"]),
        row["replaced_by"],
    )


def _read(day: str | None) -> date | None:
    return None if day is None else date.fromisoformat(day)


def _written(day: date | None) -> str | None:
    return None if day is None else day.isoformat()


def _check_code(what: str, code: str) -> None:
    if not _CODE.fullmatch(code):
        raise UsageError(f"{what}: 1 to 64 letters, digits, - _ . and a letter or digit first")


def _check_text(what: str, text: str) -> None:
    if not 0 < len(text.strip()) <= _MAX_TEXT or not text.isprintable():
        raise MeterError(f"{what}: 1 to {_MAX_TEXT} printable characters")
