"""The staff: names and roles, and the one question asked of them."""

import re
from dataclasses import dataclass

from meter_runtime.errors import UsageError, nearest
from meter_runtime.headend.audit import AuditLog
from meter_runtime.headend.authority import NotPermittedError, Role, parse_roles, require
from meter_runtime.headend.register_schema import Database

_NAME = re.compile(r"[^\s\x00-\x1f\x7f][^\x00-\x1f\x7f]{0,63}")


@dataclass(frozen=True, slots=True)
class Person:
    """A member of the staff."""

    name: str
    roles: frozenset[Role]


class Staff:
    """Who works here."""

    def __init__(self, database: Database, audit: AuditLog) -> None:
        self._database = database
        self._audit = audit

    def people(self) -> list[Person]:
        rows = self._database.all("SELECT * FROM staff ORDER BY name")
        return [Person(row["name"], parse_roles(row["roles"].split())) for row in rows]

    def person(self, name: str) -> Person:
        """UsageError with the nearest name for somebody nobody knows."""
        people = {person.name: person for person in self.people()}
        if not people:
            raise UsageError(
                "nobody works here yet; begin with 'headend staff add NAME --role administrator'"
            )
        if name not in people:
            raise UsageError(f'nobody here is called "{name}"; {nearest(name, people)}')
        return people[name]

    def require(self, name: str, role: Role | None, what: str) -> None:
        """Raises :class:`NotPermittedError`, :class:`UsageError` for somebody unknown."""
        require(name, self.person(name).roles, role, what)

    def refused(self, at: float, name: str, what: str, subject: str) -> None:
        """Write down that somebody tried what he may not."""
        with self._database.transaction():
            self._audit.append(at, name, "refused", subject, tried=what)
        self._audit.seal()

    def add(self, at: float, name: str, roles: frozenset[Role], by: str | None) -> Person:
        """Take somebody on, or give him other roles.

        ``by`` is an administrator, and not himself. The first person of all is an administrator,
        whom nobody could appoint.
        """
        if not _NAME.fullmatch(name):
            raise UsageError("a name has 1 to 64 characters, no control characters among them")
        with self._database.transaction():
            if not self.people():
                if roles != {Role.ADMINISTRATOR}:
                    raise UsageError(
                        "the first person is an administrator and nothing else;"
                        " add --role administrator"
                    )
            elif by is None:
                raise UsageError("somebody must answer for it; add --by ADMINISTRATOR")
            else:
                self.require(by, Role.ADMINISTRATOR, "staff")
                if by == name:
                    raise NotPermittedError(f"staff: {name} may not give roles to himself")
            said = " ".join(sorted(roles))
            self._database.write(
                "INSERT INTO staff VALUES (:name, :roles)"
                " ON CONFLICT (name) DO UPDATE SET roles = excluded.roles",
                name=name,
                roles=said,
            )
            self._audit.append(at, by or name, "staff", name, roles=said)
        self._audit.seal()
        return Person(name, roles)
