"""When the service to a contract's home begins and ends, as the register has it.

What the meters know of it, and how far each of them has come, is
:mod:`~meter_runtime.headend.service_life`'s business.
"""

from datetime import date, timedelta

from meter_runtime.clock import jst_day
from meter_runtime.errors import MeterError, UsageError
from meter_runtime.headend.audit import AuditLog
from meter_runtime.headend.authority import NotPermittedError, Role
from meter_runtime.headend.register_contracts import (
    ContractRecord,
    EndReason,
    MeterRecord,
    Register,
)
from meter_runtime.headend.register_schema import Database
from meter_runtime.headend.register_staff import Staff

_MAX_NOTE = 200


class ServiceBook:
    """The first day and the last one of each customer's service."""

    def __init__(
        self, database: Database, audit: AuditLog, staff: Staff, register: Register
    ) -> None:
        self._database = database
        self._audit = audit
        self._staff = staff
        self._register = register

    def require(self, contract: ContractRecord) -> None:
        """Raises :class:`MeterError` where this customer's home is not to be served."""
        code, anew = contract.code, f"'headend contract apply {contract.code}'"
        if contract.ended_on is not None:
            raise MeterError(f"contract {code} ended on {contract.ended_on}")
        if contract.accepted_on is None:
            raise MeterError(
                f"contract {code}: no application for the B-route was accepted; see {anew}"
            )
        if contract.service_ended_on is not None:
            raise MeterError(
                f"contract {code}: its service ended on {contract.service_ended_on}; a new"
                f" application takes {anew}"
            )

    def served_from(self, contract: ContractRecord, meter: MeterRecord) -> date:
        """First day whose history this customer, once accepted, is told by this meter.

        The day on which his application was accepted, or a later one: the day after the last
        customer left, and after the meter was hung. Those days have values of somebody else's.
        Only the day of acceptance, and that nothing from before another meter is told, is
        published; that half a day is rather lost than told is inferred.
        """
        left_on = [
            known.ended_on
            for known in self._register.contracts()
            if known.supply_point == contract.supply_point
            and known.code != contract.code
            and known.ended_on is not None
        ]
        taken = [*left_on, *filter(None, (meter.hung_on,))]
        free_from = max(taken) + timedelta(days=1) if taken else date.min
        return max(contract.accepted_on or date.min, free_from)

    def end(self, at: float, by: str, code: str, reason: EndReason, note: str = "") -> None:
        """The service is over from today; once more for the same reason changes nothing."""
        try:
            self._staff.require(by, Role.BROUTE, "service end")
        except NotPermittedError:
            self._staff.refused(at, by, "service end", code)
            raise
        if len(note) > _MAX_NOTE or not note.isprintable():
            raise UsageError(f"a note has at most {_MAX_NOTE} printable characters")
        with self._database.transaction():
            known = self._register.contract(code)
            if known.accepted_on is None:
                raise UsageError(f"contract {code} has no service that could end")
            if known.service_end is reason:
                return
            if known.service_end is not None:
                raise UsageError(
                    f"contract {code}: its service ended on {known.service_ended_on}, for"
                    f' "{known.service_end}"'
                )
            today = jst_day(at).isoformat()
            self._database.write(
                "UPDATE contract SET service_ended_on = :today, service_end = :reason,"
                " service_end_note = :note, updated_on = :today WHERE code = :code",
                today=today,
                reason=reason,
                note=note,
                code=code,
            )
            self._audit.append(at, by, "service ended", code, reason=reason, note=note)
        self._audit.seal()
