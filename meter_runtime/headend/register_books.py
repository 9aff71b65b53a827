"""The New System's books: everything that is kept in its database, opened together."""

from dataclasses import dataclass
from pathlib import Path

from meter_runtime.headend.audit import AuditLog
from meter_runtime.headend.register_contracts import Register
from meter_runtime.headend.register_requests import Requests
from meter_runtime.headend.register_schema import Database
from meter_runtime.headend.register_service import ServiceBook
from meter_runtime.headend.register_sources import Sources
from meter_runtime.headend.register_staff import Staff


@dataclass(frozen=True, slots=True)
class Books:
    """One database, and what its tables mean."""

    database: Database
    audit: AuditLog
    staff: Staff
    register: Register
    sources: Sources
    requests: Requests
    service: ServiceBook

    @classmethod
    def open(cls, database_file: Path, audit_head: Path) -> "Books":
        """The books in this file, which is made where it is missing."""
        database = Database.open(database_file)
        audit = AuditLog(database, audit_head)
        staff = Staff(database, audit)
        register = Register(database, audit, staff)
        return cls(
            database,
            audit,
            staff,
            register,
            Sources(database, audit, staff),
            Requests(database),
            ServiceBook(database, audit, staff, register),
        )
