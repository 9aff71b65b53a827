"""Who on the utility's side may do what.

One table of roles. Only employees who are responsible for the B-route handle its credentials: no
other role, an administrator's included, issues a ``broute.*`` command or posts a letter. Nobody
gives roles to himself. Which commands an *issuing key* may sign is another question, and the
meter's own trust file answers it.

Whether the person at the keyboard is the one he names is not checked here: it is the business of
whoever gives out accounts on the machine. The audit log keeps both names.
"""

import enum
from collections.abc import Iterable
from fnmatch import fnmatchcase

from meter_runtime.errors import MeterError, UsageError, nearest


class Role(enum.StrEnum):
    """What a member of the staff is responsible for."""

    ADMINISTRATOR = "administrator"
    """Staff and their roles."""
    REGISTRAR = "registrar"
    """Contracts, supply points, meters, and the sources of the unit selection."""
    BROUTE = "broute"
    """B-route credentials, from the command to the letter."""
    OPERATOR = "operator"
    """The meter's readings, supply, clock and units."""
    KEYS = "keys"
    """The issuing keys."""


class NotPermittedError(MeterError):
    """This person may not do this."""


_COMMANDS = {
    "broute.*": Role.BROUTE,
    "register.*": Role.OPERATOR,
    "history.*": Role.OPERATOR,
    "switch.*": Role.OPERATOR,
    "limit.*": Role.OPERATOR,
    "clock.*": Role.OPERATOR,
    "inventory.*": Role.OPERATOR,
    "config.*": Role.OPERATOR,
    "self_test": Role.OPERATOR,
    "keys.*": Role.KEYS,
}


def role_for(command: str) -> Role | None:
    """Who issues it; None where nobody does."""
    roles = (role for pattern, role in _COMMANDS.items() if fnmatchcase(command, pattern))
    return next(roles, None)


def parse_roles(names: Iterable[str]) -> frozenset[Role]:
    """The roles; UsageError with the nearest one for a name that is none."""
    known = {role.value: role for role in Role}
    found = set()
    for name in names:
        if name not in known:
            raise UsageError(f'no role is called "{name}"; {nearest(name, known)}')
        found.add(known[name])
    if not found:
        raise UsageError(f"a person needs a role; known: {', '.join(sorted(known))}")
    return frozenset(found)


def require(name: str, roles: frozenset[Role], wanted: Role | None, what: str) -> None:
    """Raises :class:`NotPermittedError` where none of the roles is the wanted one."""
    if wanted is None:
        raise NotPermittedError(f"{what}: nobody may do this")
    if wanted not in roles:
        raise NotPermittedError(
            f'{what}: {name} may not do this; it takes the role "{wanted.value}"'
        )
